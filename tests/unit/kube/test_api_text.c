#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "kube/api/api_text.h"

/* --- lines --- */

static void assert_next(struct api_lines *lines, const char *expected)
{
	size_t length = 0;
	const char *line = api_lines_next(lines, &length);
	if (!expected) {
		assert_null(line);
		return;
	}
	assert_non_null(line);
	assert_string_equal(line, expected);
	assert_int_equal(length, strlen(expected));
}

static void add(struct api_lines *lines, const char *text)
{
	assert_int_equal(api_lines_add(lines, text, strlen(text)), 0);
}

static void lines_come_in_any_pieces(void **state)
{
	struct api_lines lines = {0};

	assert_next(&lines, NULL);
	add(&lines, "on");
	assert_next(&lines, NULL);
	add(&lines, "e\r\n\n\r\ntwo\nthr");
	assert_next(&lines, "one");
	assert_next(&lines, "two");
	assert_next(&lines, NULL);
	add(&lines, "ee");
	assert_next(&lines, NULL);
	add(&lines, "\n");
	assert_next(&lines, "three");
	assert_next(&lines, NULL);
	api_lines_free(&lines);
}

static void a_byte_at_a_time_is_the_same(void **state)
{
	static const char text[] = "{\"a\":1}\n\n{\"b\":\"\\n\"}\r\nrest";
	struct api_lines lines = {0};
	char seen[64] = "";

	for (size_t i = 0; i < strlen(text); i++) {
		assert_int_equal(api_lines_add(&lines, text + i, 1), 0);
		size_t length;
		for (const char *line; (line = api_lines_next(&lines, &length));) {
			strcat(seen, line);
			strcat(seen, "|");
		}
	}
	assert_string_equal(seen, "{\"a\":1}|{\"b\":\"\\n\"}|");
	api_lines_free(&lines);
}

static void lines_have_an_end(void **state)
{
	struct api_lines lines = {0};
	GS_AUTO_FREE char *bytes = gs_malloc(API_LINE_BYTES_MAX + 1);
	memset(bytes, 'x', API_LINE_BYTES_MAX + 1);

	assert_int_equal(api_lines_add(&lines, bytes, API_LINE_BYTES_MAX + 1), -1);
	assert_int_equal(api_lines_add(&lines, bytes, API_LINE_BYTES_MAX - 1), 0);
	assert_int_equal(api_lines_add(&lines, "xx", 2), -1);
	assert_int_equal(api_lines_add(&lines, "\n", 1), 0);
	size_t length;
	assert_non_null(api_lines_next(&lines, &length));
	assert_int_equal(length, API_LINE_BYTES_MAX - 1);
	/* What was taken makes room again, and the large buffer goes. */
	assert_next(&lines, NULL);
	assert_int_equal(lines.capacity, 0);
	add(&lines, "next\n");
	assert_next(&lines, "next");
	api_lines_free(&lines);
}

/* --- events --- */

static int read_event(const char *line, struct api_event *event)
{
	struct gs_error err = {0};
	int result = api_event_read(line, strlen(line), event, &err);
	assert_true(result == 0 || *err.text);
	return result;
}

static void events_are_read(void **state)
{
	static const char *const lines[] = {
		"{\"type\":\"ADDED\",\"object\":{\"metadata\":{\"resourceVersion\":\"12\"}}}",
		"{\"object\":{\"metadata\":{\"resourceVersion\":\"13\"}},\"type\":\"MODIFIED\",\"more\":[1]}",
		"{\"type\":\"DELETED\",\"object\":{\"metadata\":{\"resourceVersion\":\"14\"}}}",
		"{\"type\":\"BOOKMARK\",\"object\":{\"kind\":\"Node\",\"metadata\":{\"resourceVersion\":\"15\"}}}",
	};
	static const char *const versions[] = {"12", "13", "14", "15"};

	for (int i = 0; i < 4; i++) {
		struct api_event event;
		assert_int_equal(read_event(lines[i], &event), 0);
		assert_int_equal(event.type, API_ADDED + i);
		assert_string_equal(event.resource_version, versions[i]);
		api_event_free(&event);
		assert_null(event.object);
	}
}

static void errors_are_read_whatever_they_lack(void **state)
{
	struct api_event event;

	assert_int_equal(read_event("{\"type\":\"ERROR\",\"object\":{\"code\":410,\"message\":\"too old\"}}", &event),
			 0);
	assert_int_equal(event.type, API_ERROR);
	assert_int_equal(event.code, 410);
	assert_string_equal(event.message, "too old");
	api_event_free(&event);
	static const char *const odd[] = {
		"{\"type\":\"ERROR\",\"object\":{}}",
		"{\"type\":\"ERROR\",\"object\":{\"code\":\"410\",\"message\":7}}",
		"{\"type\":\"ERROR\",\"object\":{\"code\":-1}}",
		"{\"type\":\"ERROR\",\"object\":{\"code\":4000000000}}",
	};
	for (size_t i = 0; i < GS_ARRAY_LENGTH(odd); i++) {
		assert_int_equal(read_event(odd[i], &event), 0);
		assert_int_equal(event.code, 0);
		assert_non_null(event.message);
		api_event_free(&event);
	}
}

static void what_is_no_event_is_refused(void **state)
{
	static const char *const lines[] = {
		"",
		"garbage",
		"{",
		"[]",
		"17",
		"null",
		"{}",
		"{\"type\":\"ADDED\"}",
		"{\"type\":\"ADDED\",\"object\":7}",
		"{\"type\":7,\"object\":{}}",
		"{\"type\":\"added\",\"object\":{\"metadata\":{\"resourceVersion\":\"1\"}}}",
		"{\"type\":\"ADDED\",\"object\":{}}",
		"{\"type\":\"ADDED\",\"object\":{\"metadata\":7}}",
		"{\"type\":\"ADDED\",\"object\":{\"metadata\":{\"resourceVersion\":12}}}",
		"{\"type\":\"ADDED\",\"object\":{\"metadata\":{\"resourceVersion\":\"\"}}}",
		"{\"type\":\"ADDED\",\"object\":{\"metadata\":{\"resourceVersion\":\"1&watch=0\"}}}",
		"{\"type\":\"ADDED\",\"object\":{\"metadata\":{\"resourceVersion\":\"111111111111111111111\"}}}",
		"{\"type\":\"ADDED\",\"object\":{\"metadata\":{\"resourceVersion\":\"1\"}}} {}",
	};

	for (size_t i = 0; i < GS_ARRAY_LENGTH(lines); i++) {
		struct api_event event;
		assert_int_equal(read_event(lines[i], &event), -1);
	}
}

/* --- refusals --- */

static void assert_message(const char *body, size_t length, const char *expected)
{
	GS_AUTO_FREE char *message = api_error_message(body, length);
	assert_string_equal(message, expected);
}

static void a_refusal_gives_its_reason(void **state)
{
	static const char status[] = "{\"kind\":\"Status\",\"message\":\"nodes \\\"a\\\" is forbidden\",\"code\":403}";
	assert_message(status, strlen(status), "nodes \"a\" is forbidden");
	assert_message("<html>\n<body>", 13, "<html>");
	assert_message("", 0, "it gave no reason");
	assert_message("\nlate", 5, "it gave no reason");
	assert_message("{\"message\":7}", 13, "{\"message\":7}");
	assert_message("\x1b[31mred\xff", 9, "?[31mred?");
	assert_message("{\"message\":\"a\\u0000b\"}", 22, "{\"message\":\"a\\u0000b\"}");
	char all[1000];
	memset(all, 'x', sizeof all);
	GS_AUTO_FREE char *message = api_error_message(all, sizeof all);
	assert_int_equal(strlen(message), 300);
}

static void waits_double_and_scatter(void **state)
{
	assert_int_equal(api_backoff_ms(0, 0), 250);
	assert_int_equal(api_backoff_ms(0, UINT32_MAX), 750);
	assert_int_equal(api_backoff_ms(1, 0), 500);
	assert_int_equal(api_backoff_ms(6, 0), 16000);
	assert_int_equal(api_backoff_ms(7, 0), 30000);
	assert_int_equal(api_backoff_ms(UINT32_MAX, UINT32_MAX), 90000);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(lines_come_in_any_pieces),
		cmocka_unit_test(a_byte_at_a_time_is_the_same),
		cmocka_unit_test(lines_have_an_end),
		cmocka_unit_test(events_are_read),
		cmocka_unit_test(errors_are_read_whatever_they_lack),
		cmocka_unit_test(what_is_no_event_is_refused),
		cmocka_unit_test(a_refusal_gives_its_reason),
		cmocka_unit_test(waits_double_and_scatter),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
