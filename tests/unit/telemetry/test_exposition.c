/* Prometheus' text format, by the examples and rules of its specification. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>

#include "telemetry/exposition.h"

static const struct gs_metric gauge = {"shares", GS_GAUGE, "How \"many\"\nin C:\\DIR"};
static const struct gs_metric counter = {"faults_total", GS_COUNTER, "x"};

static void expect(struct gs_strbuf *text, const char *wanted)
{
	assert_string_equal(text->data, wanted);
	gs_strbuf_free(text);
}

static void a_metric_begins_with_help_and_type(void **state)
{
	struct gs_strbuf text = {0};
	gs_exposition_begin(&text, &gauge);
	expect(&text, "# HELP shares How \"many\"\\nin C:\\\\DIR\n# TYPE shares gauge\n");
	gs_exposition_begin(&text, &counter);
	expect(&text, "# HELP faults_total x\n# TYPE faults_total counter\n");
}

static void labels_are_quoted(void **state)
{
	struct gs_strbuf text = {0};
	gs_exposition_add(&text, &gauge, (const char *const[]){"a", "plain", "b", "\"\\\n{},= \xc3\xa4", NULL}, 1);
	expect(&text, "shares{a=\"plain\",b=\"\\\"\\\\\\n{},= \xc3\xa4\"} 1\n");
	gs_exposition_add(&text, &gauge, (const char *const[]){NULL}, 1);
	expect(&text, "shares 1\n");
	gs_exposition_add(&text, &gauge, (const char *const[]){"name", "bad \xff\xc3 bytes", NULL}, 2);
	expect(&text, "shares{name=\"bad \xef\xbf\xbd\xef\xbf\xbd bytes\"} 2\n");
}

static void values_are_as_go_reads_them(void **state)
{
	static const struct {
		double value;
		const char *text;
	} cases[] = {{0, "shares 0\n"},
		     {-1.5, "shares -1.5\n"},
		     {85899345920.0, "shares 85899345920\n"},
		     {0.006629, "shares 0.006629\n"},
		     {1795422173, "shares 1795422173\n"},
		     {1e300, "shares 1e+300\n"},
		     {INFINITY, "shares +Inf\n"},
		     {-INFINITY, "shares -Inf\n"},
		     {NAN, "shares NaN\n"}};
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct gs_strbuf text = {0};
		gs_exposition_add(&text, &gauge, NULL, cases[i].value);
		expect(&text, cases[i].text);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_metric_begins_with_help_and_type),
		cmocka_unit_test(labels_are_quoted),
		cmocka_unit_test(values_are_as_go_reads_them),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
