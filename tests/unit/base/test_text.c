/* Growing strings, suggestions, UTF-8, timestamps, errors and log lines. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/error.h"
#include "base/log.h"
#include "base/strbuf.h"
#include "base/suggest.h"
#include "base/text.h"
#include "base/timestamp.h"
#include "base/utf8.h"

static void test_strbuf(void **state)
{
	struct gs_strbuf buffer = {0};
	GS_AUTO_FREE char *empty = gs_strbuf_take(&buffer);
	assert_string_equal(empty, "");
	for (int i = 0; i < 1000; i++)
		gs_strbuf_printf(&buffer, "%d,", i % 10);
	gs_strbuf_add(&buffer, "end");
	gs_strbuf_add_char(&buffer, '!');
	gs_strbuf_add_bytes(&buffer, "\0x", 2);
	assert_int_equal(buffer.length, 2006);
	assert_memory_equal(buffer.data + 1998, "9,end!\0x", 9);
	gs_strbuf_free(&buffer);
	assert_null(buffer.data);
}

static void test_suggest(void **state)
{
	static const char *const words[] = {"migStrategy", "mpsRoot", "name", "rename", "replicas"};
	assert_string_equal(gs_suggest("migStratgy", words, 5), "migStrategy");
	assert_string_equal(gs_suggest("MIGSTRATEGY", words, 5), "migStrategy");
	assert_string_equal(gs_suggest("migStartegy", words, 5), "migStrategy"); /* a swap */
	assert_string_equal(gs_suggest("replica", words, 5), "replicas");
	assert_string_equal(gs_suggest("nam", words, 5), "name");
	assert_null(gs_suggest("zzz", words, 5));
	assert_null(gs_suggest("", words, 5));
	assert_null(gs_suggest("name", words, 0));
	char longer[200];
	memset(longer, 'a', sizeof longer);
	longer[199] = '\0';
	assert_null(gs_suggest(longer, words, 5));
}

static void test_utf8(void **state)
{
	static const struct {
		const char *text;
		size_t length;
	} cases[] = {{"a", 1},
		     {"\xc3\xa9", 2},
		     {"\xe2\x82\xac", 3},
		     {"\xf0\x9f\x98\x80", 4},
		     {"\xf4\x8f\xbf\xbf", 4},
		     {"\x80", 0},
		     {"\xc0\x80", 0},
		     {"\xc1\xbf", 0},
		     {"\xe0\x9f\xbf", 0},
		     {"\xed\xa0\x80", 0},
		     {"\xf0\x8f\xbf\xbf", 0},
		     {"\xf4\x90\x80\x80", 0},
		     {"\xf5\x80\x80\x80", 0},
		     {"\xe2\x82", 0},
		     {"\xe2", 0},
		     {"\xff", 0},
		     {"\xc3(", 0}};
	for (size_t i = 0; i < GS_ARRAY_LENGTH(cases); i++)
		assert_int_equal(gs_utf8_length(cases[i].text, strlen(cases[i].text)), cases[i].length);
	assert_int_equal(gs_utf8_length("", 0), 0);
	assert_int_equal(gs_utf8_control("\x1b", 1), 1);
	assert_int_equal(gs_utf8_control("\x7f", 1), 1);
	assert_int_equal(gs_utf8_control("\xc2\x9b", 2), 2);
	assert_int_equal(gs_utf8_control("\xc2\xa0", 2), 0);
	assert_int_equal(gs_utf8_control("a", 1), 0);
	char text[] = "\x1b[2J\xe2\x82\xac\xff\xc2\x9b.\n\xe2\x82";
	gs_utf8_make_plain(text);
	assert_string_equal(text, "?[2J\xe2\x82\xac???.???");
}

static void test_timestamp(void **state)
{
	const struct timespec when = {.tv_sec = 1795428000, .tv_nsec = 7890999};
	char text[GS_TIMESTAMP_SIZE];
	assert_string_equal(gs_timestamp(when, 0, text), "2026-11-23T10:00:00Z");
	assert_string_equal(gs_timestamp(when, 3, text), "2026-11-23T10:00:00.007Z");
	assert_string_equal(gs_timestamp(when, 9, text), "2026-11-23T10:00:00.007890999Z");
	/* Beyond what the C library knows as a year: anything, but whole. */
	gs_timestamp((struct timespec){.tv_sec = INT64_MAX}, 9, text);
	assert_true(strlen(text) < sizeof text);
}

static void test_errors(void **state)
{
	struct gs_error err = {0};
	assert_int_equal(gs_fail(&err, GS_ERROR_NVML, 15, "GPU %d is lost", 3), -1);
	assert_int_equal(err.source, GS_ERROR_NVML);
	assert_int_equal(err.code, 15);
	assert_int_equal(gs_error_prefix(&err, "reading %s", "power"), -1);
	assert_string_equal(err.text, "reading power: GPU 3 is lost");
	assert_int_equal(err.code, 15);
	errno = ENOENT;
	assert_int_equal(gs_fail_errno(&err, "cannot open %s", "x"), -1);
	assert_int_equal(err.code, ENOENT);
	assert_int_equal(errno, ENOENT);
	assert_string_equal(err.text, "cannot open x: No such file or directory");
	assert_int_equal(gs_fail(NULL, GS_ERROR_INPUT, 0, "nobody cares"), -1);
	assert_int_equal(gs_error_prefix(NULL, "nobody"), -1);
}

/* However a text falls on the buffer's end, what is left is UTF-8. */
static void test_errors_are_cut_between_characters(void **state)
{
	for (size_t pad = 0; pad < 5; pad++) {
		struct gs_error err;
		GS_AUTO_STRBUF struct gs_strbuf text = {0};
		for (size_t i = 0; i < pad; i++)
			gs_strbuf_add_char(&text, 'x');
		for (int i = 0; i < 400; i++)
			gs_strbuf_add(&text, i % 2 ? "\xe2\x82\xac" : "\xf0\x9f\x98\x80");
		gs_fail(&err, GS_ERROR_INPUT, 0, "%s", text.data);
		for (int round = 0; round < 4; round++) {
			size_t length = strlen(err.text);
			assert_in_range(length, sizeof err.text - 5, sizeof err.text - 1);
			for (size_t at = 0; at < length;) {
				size_t step = gs_utf8_length(err.text + at, length - at);
				assert_int_not_equal(step, 0);
				at += step;
			}
			gs_error_prefix(&err, "%d", round);
		}
	}
}

/* What the logger writes for one event, owned by the caller. */
static char *logged(bool json, const char *message, const char *key, const char *value)
{
	int ends[2];
	char buffer[8192];
	assert_int_equal(pipe(ends), 0);
	int kept = dup(STDERR_FILENO);
	dup2(ends[1], STDERR_FILENO);
	gs_log_configure(GS_LOG_INFO, json);
	gs_log(GS_LOG_DEBUG, "not shown");
	gs_log(GS_LOG_WARNING, message, GS_STR(key, value), GS_INT("xid", -79));
	dup2(kept, STDERR_FILENO);
	close(kept);
	close(ends[1]);
	size_t length = 0;
	for (ssize_t got; (got = read(ends[0], buffer + length, sizeof buffer - length)) > 0;)
		length += (size_t)got;
	close(ends[0]);
	return gs_strndup(buffer, length);
}

static void test_log_text(void **state)
{
	GS_AUTO_FREE char *line = logged(false, "gpu unhealthy", "gpu", "GPU-1");
	assert_non_null(strstr(line, "Z WARNING gpu unhealthy gpu=GPU-1 xid=-79\n"));
	GS_AUTO_FREE char *forged = logged(false, "m", "k", "a\nERROR forged\x1b[0m=\"\xc2\x9b");
	assert_non_null(strstr(forged, "k=\"a\\nERROR forged\\u001b[0m=\\\"\\u009b\" xid=-79\n"));
	assert_ptr_equal(strchr(forged, '\n'), forged + strlen(forged) - 1);
	GS_AUTO_FREE char *missing = logged(false, "m", "k", NULL);
	assert_non_null(strstr(missing, "k=\"\" xid"));
}

/* Any bytes, any length: one line of JSON that a strict parser takes. */
static void test_log_json_is_json(void **state)
{
	static const char *const fillings[] = {"x", "\"", "\\", "\n", "\x01", "\xe2\x82\xac", "\xff", "\xc2\x85"};
	for (size_t f = 0; f < GS_ARRAY_LENGTH(fillings); f++) {
		for (size_t size = 3900; size < 4120; size += 3) {
			GS_AUTO_STRBUF struct gs_strbuf value = {0};
			size_t width = fillings[f][0] == 'x'                          ? 1
				       : fillings[f][0] == '\xe2'                     ? 3
				       : fillings[f][0] & 0x80 || fillings[f][0] == 1 ? 6
										      : 2;
			for (size_t i = 0; i < size; i += width)
				gs_strbuf_add(&value, fillings[f]);
			GS_AUTO_FREE char *line = logged(true, "m", "k", value.data);
			json_error_t error;
			json_t *json = json_loads(line, 0, &error);
			if (!json)
				fail_msg("%s at %d: ...%s", error.text, error.position, line + strlen(line) - 40);
			assert_true(strlen(line) <= 4096 && line[strlen(line) - 1] == '\n');
			const json_t *number = json_object_get(json, "xid");
			assert_true(!number || json_integer_value(number) == -79);
			json_decref(json);
		}
	}
}

static void assert_decoded(const char *bytes, size_t length, const char *expected)
{
	struct gs_error err = {0};
	GS_AUTO_FREE char *text = gs_text_decode(bytes, &length, &err);
	if (!text)
		fail_msg("%s", err.text);
	assert_string_equal(text, expected);
	assert_int_equal(length, strlen(expected));
}

#define DECODED(bytes, expected) assert_decoded(bytes, sizeof bytes - 1, expected)

static void test_text_of_other_editors(void **state)
{
	DECODED("", "");
	DECODED("a\xff", "a\xff");
	DECODED("\xEF\xBB\xBFversion: v1\r\n", "version: v1\r\n");
	DECODED("\xFF\xFE", "");
	DECODED("\xFF\xFE"
		"a\0\n\0\xE4\0\xAC\x20\x3D\xD8\x00\xDE",
		"a\n\u00e4\u20ac\U0001F600");
	DECODED("\xFE\xFF\0a\x20\xAC\xD8\x3D\xDE\x00", "a\u20ac\U0001F600");
}

static void test_text_that_cannot_be_read(void **state)
{
	static const struct {
		const char *bytes;
		size_t length;
		const char *words;
	} cases[] = {
		{"\xFF\xFE\0\0a\0\0\0", 8, "UTF-32"},
		{"\0\0\xFE\xFF\0\0\0a", 8, "UTF-32"},
		{"\xFF\xFE"
		 "a\0b",
		 5, "cut off"},
		{"\xFF\xFE\n\0\x3D\xD8", 6, "half a character on line 2"},
		{"\xFF\xFE\x3D\xD8"
		 "a\0",
		 6, "half a character on line 1"},
		{"\xFE\xFF\xDE\0\0a", 6, "half a character on line 1"},
	};
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		size_t length = cases[i].length;
		struct gs_error err = {0};
		assert_null(gs_text_decode(cases[i].bytes, &length, &err));
		assert_non_null(strstr(err.text, cases[i].words));
	}
}

static void test_trim(void **state)
{
	char text[] = " \t a b\r\n", blank[] = "  ", none[] = "";
	assert_string_equal(gs_trim(text), "a b");
	assert_string_equal(gs_trim(blank), "");
	assert_string_equal(gs_trim(none), "");
}

static void test_log_levels(void **state)
{
	enum gs_log_level level = GS_LOG_ERROR;
	assert_true(gs_log_level_by_name("debug", &level));
	assert_int_equal(level, GS_LOG_DEBUG);
	assert_true(gs_log_level_by_name("error", &level));
	assert_int_equal(level, GS_LOG_ERROR);
	assert_false(gs_log_level_by_name("loud", &level));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_strbuf),
		cmocka_unit_test(test_suggest),
		cmocka_unit_test(test_utf8),
		cmocka_unit_test(test_timestamp),
		cmocka_unit_test(test_errors),
		cmocka_unit_test(test_errors_are_cut_between_characters),
		cmocka_unit_test(test_log_text),
		cmocka_unit_test(test_log_json_is_json),
		cmocka_unit_test(test_log_levels),
		cmocka_unit_test(test_text_of_other_editors),
		cmocka_unit_test(test_text_that_cannot_be_read),
		cmocka_unit_test(test_trim),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
