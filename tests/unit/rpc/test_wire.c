#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "rpc/rpc.h"
#include "rpc/wire.h"

static void assert_encodes(const char *text, const char *encoded)
{
	GS_AUTO_STRBUF struct gs_strbuf out = {0}, back = {0};
	rpc_percent_encode(&out, text, strlen(text));
	gs_strbuf_add(&out, "");
	assert_string_equal(out.data, encoded);
	rpc_percent_decode(&back, (const uint8_t *)out.data, out.length);
	gs_strbuf_add(&back, "");
	assert_string_equal(back.data, text);
}

static void test_percent_encoding(void **state)
{
	assert_encodes("", "");
	assert_encodes("plain text, ~!", "plain text, ~!");
	assert_encodes("100%", "100%25");
	assert_encodes("a\nb\r\t\x7f", "a%0Ab%0D%09%7F");
	assert_encodes("ä", "%C3%A4");
}

static void assert_decodes(const char *encoded, size_t length, const char *text)
{
	GS_AUTO_STRBUF struct gs_strbuf out = {0};
	rpc_percent_decode(&out, (const uint8_t *)encoded, length);
	gs_strbuf_add(&out, "");
	assert_string_equal(out.data, text);
}

static void test_percent_decoding_of_what_others_send(void **state)
{
	assert_decodes("%c3%A4", 6, "ä");
	assert_decodes("%", 1, "%");
	assert_decodes("%4", 2, "%4");
	assert_decodes("%4g%zz", 6, "%4g%zz");
	assert_decodes("a%00b", 5, "a?b");
	assert_decodes("a\0b", 3, "a?b");
	assert_decodes("%2541", 5, "%41");
}

static void assert_timeout(const char *text, uint64_t milliseconds)
{
	uint64_t parsed = 12345;
	assert_true(rpc_timeout_parse((const uint8_t *)text, strlen(text), &parsed));
	assert_int_equal(parsed, milliseconds);
}

static void test_timeouts(void **state)
{
	uint64_t parsed;
	static const char *const wrong[] = {"",    "S",   "1",  "123456789S", "-1S", "+1S",
					    " 1S", "1 S", "1s", "1.5S",       "1SS"};

	assert_timeout("1H", 3600000);
	assert_timeout("2M", 120000);
	assert_timeout("3S", 3000);
	assert_timeout("250m", 250);
	assert_timeout("1u", 1);
	assert_timeout("1001u", 2);
	assert_timeout("999999n", 1);
	assert_timeout("0n", 0);
	assert_timeout("99999999H", 99999999ULL * 3600 * 1000);
	for (size_t i = 0; i < GS_ARRAY_LENGTH(wrong); i++)
		assert_false(rpc_timeout_parse((const uint8_t *)wrong[i], strlen(wrong[i]), &parsed));
}

static void test_formatted_timeouts_are_understood(void **state)
{
	static const unsigned values[] = {1, 999, 45000, 99999999, 100000000, UINT32_MAX};

	for (size_t i = 0; i < GS_ARRAY_LENGTH(values); i++) {
		char text[RPC_TIMEOUT_TEXT_BYTES];
		uint64_t parsed = 0;
		rpc_timeout_format(values[i], text);
		assert_true(rpc_timeout_parse((const uint8_t *)text, strlen(text), &parsed));
		assert_in_range(parsed, values[i] / 1000 * 1000, values[i]);
	}
}

static bool is_grpc(const char *type)
{
	return rpc_content_type_is_grpc((const uint8_t *)type, strlen(type));
}

static void test_content_types(void **state)
{
	assert_true(is_grpc("application/grpc"));
	assert_true(is_grpc("application/grpc+proto"));
	assert_true(is_grpc("application/grpc;charset=utf-8"));
	assert_true(is_grpc("Application/GRPC"));
	assert_false(is_grpc(""));
	assert_false(is_grpc("application/grp"));
	assert_false(is_grpc("application/grpc-web"));
	assert_false(is_grpc("application/json"));
}

/* Feeds two messages in pieces of every size. */
static void test_messages_cut_anywhere(void **state)
{
	static const uint8_t stream[] = "\0\0\0\0\5hello\0\0\0\0\0\0\0\0\0\2ab";
	static const char *const expected[] = {"hello", "", "ab"};
	const size_t total = sizeof stream - 1;

	for (size_t piece = 1; piece <= total; piece++) {
		struct rpc_assembler assembler = {.limit = 5};
		size_t messages = 0;
		for (size_t start = 0; start < total; start += piece) {
			const uint8_t *bytes = stream + start;
			size_t length = total - start < piece ? total - start : piece;
			while (length > 0) {
				if (rpc_assembler_feed(&assembler, &bytes, &length) != RPC_ASSEMBLY_MESSAGE)
					continue;
				assert_in_range(messages, 0, 2);
				assert_int_equal(assembler.length, strlen(expected[messages]));
				if (assembler.length)
					assert_memory_equal(assembler.data, expected[messages], assembler.length);
				messages++;
				rpc_assembler_reset(&assembler);
			}
		}
		assert_int_equal(messages, 3);
		assert_int_equal(assembler.prefix_length, 0);
	}
}

static enum rpc_assembly feed(struct rpc_assembler *assembler, const char *data, size_t length)
{
	const uint8_t *bytes = (const uint8_t *)data;
	return rpc_assembler_feed(assembler, &bytes, &length);
}

static void test_messages_that_are_refused(void **state)
{
	struct rpc_assembler assembler = {.limit = 4};
	assert_int_equal(feed(&assembler, "\0\0\0\0\5", 5), RPC_ASSEMBLY_TOO_LARGE);
	assert_null(assembler.data);
	rpc_assembler_reset(&assembler);
	assert_int_equal(feed(&assembler, "\1\0\0\0\4", 5), RPC_ASSEMBLY_COMPRESSED);
	rpc_assembler_reset(&assembler);
	assert_int_equal(feed(&assembler, "\1\xff\xff\xff\xff", 5), RPC_ASSEMBLY_TOO_LARGE);
	rpc_assembler_reset(&assembler);
	assert_int_equal(feed(&assembler, "\0\0\0\0\4abc", 8), RPC_ASSEMBLY_MORE);
	rpc_assembler_reset(&assembler);
}

/* A prefix alone reserves nothing, and what is reserved is on the books. */
static void test_promises_cost_nothing(void **state)
{
	struct rpc_assembler assembler = {.limit = 1 << 30};
	assert_int_equal(feed(&assembler, "\0\0\x3f\0\0", 5), RPC_ASSEMBLY_MORE);
	assert_null(assembler.data);
	assert_int_equal(assembler.capacity, 0);
	assert_int_equal(feed(&assembler, "x", 1), RPC_ASSEMBLY_MORE);
	assert_int_equal(assembler.capacity, 0x3f0000);
	rpc_assembler_reset(&assembler);
	assert_int_equal(assembler.capacity, 0);
}

static void test_large_messages(void **state)
{
	const size_t length = 3 * 1024 * 1024 + 1;
	GS_AUTO_FREE uint8_t *stream = calloc(length + RPC_PREFIX_BYTES, 1);
	struct rpc_assembler assembler = {.limit = length};
	enum rpc_assembly result = RPC_ASSEMBLY_MORE;

	assert_non_null(stream);
	rpc_prefix_write(stream, length);
	for (size_t i = 0; i < length; i++)
		stream[RPC_PREFIX_BYTES + i] = (uint8_t)(i * 7 + i / 1000);
	for (size_t start = 0; start < length + RPC_PREFIX_BYTES; start += 100000) {
		const uint8_t *bytes = stream + start;
		size_t left = length + RPC_PREFIX_BYTES - start, piece = left < 100000 ? left : 100000;
		assert_int_equal(result, RPC_ASSEMBLY_MORE);
		result = rpc_assembler_feed(&assembler, &bytes, &piece);
	}
	assert_int_equal(result, RPC_ASSEMBLY_MESSAGE);
	assert_memory_equal(assembler.data, stream + RPC_PREFIX_BYTES, length);
	rpc_assembler_reset(&assembler);
}

static void test_status_names(void **state)
{
	assert_string_equal(rpc_status_name(RPC_OK), "OK");
	assert_string_equal(rpc_status_name(RPC_UNAUTHENTICATED), "UNAUTHENTICATED");
	assert_string_equal(rpc_status_name(17), "UNKNOWN");
	assert_string_equal(rpc_status_name(-1), "UNKNOWN");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_percent_encoding),
		cmocka_unit_test(test_percent_decoding_of_what_others_send),
		cmocka_unit_test(test_timeouts),
		cmocka_unit_test(test_formatted_timeouts_are_understood),
		cmocka_unit_test(test_content_types),
		cmocka_unit_test(test_messages_cut_anywhere),
		cmocka_unit_test(test_messages_that_are_refused),
		cmocka_unit_test(test_promises_cost_nothing),
		cmocka_unit_test(test_large_messages),
		cmocka_unit_test(test_status_names),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
