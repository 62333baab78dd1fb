#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/strbuf.h"
#include "node/withdraw.h"

static bool reads(const char *text)
{
	struct withdraw_request request;
	bool valid = node_withdraw_request_read((const uint8_t *)text, strlen(text), &request);
	if (valid)
		node_withdraw_request_free(&request);
	assert_null(request.document);
	return valid;
}

static void test_requests(void **state)
{
	static const char good[] = "{\"devices\": [\"GPU-1\", \"MIG-2\"], \"reason\": \"MIG\"}";
	struct withdraw_request request;
	assert_true(node_withdraw_request_read((const uint8_t *)good, sizeof good - 1, &request));
	assert_int_equal(request.count, 2);
	assert_string_equal(request.uuids[1], "MIG-2");
	assert_string_equal(request.reason, "MIG");
	node_withdraw_request_free(&request);
	static const char *const bad[] = {"",
					  "[]",
					  "{}",
					  "{\"devices\": [], \"reason\": \"x\"}",
					  "{\"devices\": [\"GPU-1\"]}",
					  "{\"devices\": [1], \"reason\": \"x\"}",
					  "{\"devices\": [\"GPU-1\"], \"reason\": 1}",
					  "{\"devices\": \"GPU-1\", \"reason\": \"x\"}"};
	for (size_t i = 0; i < GS_ARRAY_LENGTH(bad); i++)
		assert_false(reads(bad[i]));
}

/* A message of 4 MiB of empty lists would be a hundred and more in memory. */
static void test_a_large_request_is_not_even_read(void **state)
{
	GS_AUTO_STRBUF struct gs_strbuf text = {0};
	gs_strbuf_add(&text, "{\"devices\": [\"GPU-1\"], \"reason\": \"x\", \"more\": [");
	while (text.length < WITHDRAW_BYTES_MAX)
		gs_strbuf_add(&text, "[],");
	gs_strbuf_add(&text, "[]]}");
	assert_false(reads(text.data));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_requests),
		cmocka_unit_test(test_a_large_request_is_not_even_read),
	};
	return cmocka_run_group_tests_name("withdraw", tests, NULL, NULL);
}
