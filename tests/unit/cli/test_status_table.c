/* The table of `gpushare status`, from documents as a daemon sends them and as none would. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "cli/status_table.h"

enum { WIDTH_MAX = 100 };

static char *table_of(const char *text)
{
	json_t *status = json_loads(text, 0, NULL);
	assert_non_null(status);
	struct gs_strbuf table = {0};
	gs_status_table(status, &table);
	json_decref(status);
	return gs_strbuf_take(&table);
}

/* The line that starts with the text. Owned by the caller. */
static char *line_of(const char *table, const char *start)
{
	for (const char *line = table; *line; line = strchr(line, '\n') + 1)
		if (strncmp(line, start, strlen(start)) == 0)
			return gs_strndup(line, strcspn(line, "\n"));
	print_error("no line starts with \"%s\" in:\n%s", start, table);
	fail();
	return NULL;
}

#define SHARE(id, state, allocated, holders)                                                \
	"{\"id\": \"GPU-1::" id "\", \"resource\": \"nvidia.com/gpu\", \"state\": \"" state \
	"\", \"lastAllocated\": " allocated ", \"holders\": [" holders "]}"
#define HOLDER(name) \
	"{\"pid\": 4194304, \"name\": \"" name "\", \"memoryBytes\": 17609785344, \"utilizationPercent\": 40}"
#define GPU(shares)                                                                                              \
	"{\"gpus\": [{\"index\": 0, \"name\": \"NVIDIA RTX PRO 6000 Blackwell Server Edition\", \"health\": "    \
	"\"Healthy\", "                                                                                          \
	"\"memory\": {\"usedBytes\": 192200000000, \"totalBytes\": 193273528320}, \"utilizationPercent\": 100, " \
	"\"shares\": [" shares "], \"processes\": [{\"pid\": 7, \"name\": \"stray\", \"memoryBytes\": null}]}]}"
#define GIVEN "\"2026-01-01T00:00:00Z\""

static void test_columns_line_up(void **state)
{
	GS_AUTO_FREE char *table = table_of(
		GPU(SHARE("0", "Healthy", GIVEN, HOLDER("fifteen-letters")) "," SHARE("1", "Healthy", "null", "")));
	GS_AUTO_FREE char *header = line_of(table, "SHARE"), *gpu = line_of(table, "GPU 0"),
			  *held = line_of(table, "  ::0"), *stray = line_of(table, "  -"),
			  *idle = line_of(table, "  ::1");
	ptrdiff_t resource = strstr(header, "RESOURCE") - header, process = strstr(header, "PROCESS") - header;
	assert_ptr_equal(strstr(gpu, "NVIDIA RTX"), gpu + resource);
	assert_ptr_equal(strstr(held, "nvidia.com/gpu"), held + resource);
	assert_ptr_equal(strstr(idle, "nvidia.com/gpu"), idle + resource);
	assert_ptr_equal(strstr(stray, "no share"), stray + resource);
	assert_ptr_equal(strstr(gpu, "Healthy"), gpu + process);
	assert_ptr_equal(strstr(held, "4194304 fifteen-letters"), held + process);
	assert_ptr_equal(strstr(idle, "free"), idle + process);
	/* Numbers end where their headings do. */
	ptrdiff_t memory_end = strstr(header, "MEMORY") + 6 - header;
	assert_ptr_equal(strstr(gpu, "179.0 of 180.0 GiB") + 18, gpu + memory_end);
	assert_ptr_equal(strstr(held, "16.4 GiB") + 8, held + memory_end);
	assert_int_equal(strlen(gpu), strlen(header));
	assert_int_equal(strlen(held), strlen(header));
	assert_int_equal(strlen(stray), strlen(header));
	assert_true(strlen(header) <= WIDTH_MAX);
}

static void test_idle_shares_are_one_row_a_kind(void **state)
{
	GS_AUTO_FREE char *table =
		table_of(GPU(SHARE("0", "Healthy", GIVEN, "") "," SHARE("1", "Healthy", "null", "") "," SHARE(
			"2", "Healthy", "null", "") "," SHARE("3", "Unhealthy", "null", "") "," SHARE("4", "Unhealthy",
												      GIVEN, "")));
	GS_AUTO_FREE char *given = line_of(table, "  ::0 "), *free_ones = line_of(table, "  ::1-2 "),
			  *sick = line_of(table, "  ::3-4 ");
	assert_non_null(strstr(given, " given out, no process"));
	assert_non_null(strstr(free_ones, " 2 free"));
	assert_non_null(strstr(sick, " 2 unhealthy"));
}

static void test_small_memory_is_not_nothing(void **state)
{
	GS_AUTO_FREE char *table =
		table_of("{\"gpus\": [{\"memory\": {\"usedBytes\": 20971520, \"totalBytes\": 1073741824}}, "
			 "{\"index\": 1, \"memory\": {\"usedBytes\": null, \"totalBytes\": 1073741824}}]}");
	assert_non_null(strstr(table, "20 MiB of 1.0 GiB"));
	assert_non_null(strstr(table, " - of 1.0 GiB"));
}

static void test_names_do_not_steer_the_terminal(void **state)
{
	GS_AUTO_FREE char *table =
		table_of("{\"problems\": [\"kubelet says \\u001b[2J\\nboo\"], \"gpus\": [{\"reason\": \"\\u009b1m\", "
			 "\"processes\": [{\"pid\": 7, \"name\": \"\\u001b[2Jna\\u00efve\"}]}]}");
	assert_null(strchr(table, '\033'));
	assert_non_null(strstr(table, "! kubelet says ?[2J?boo\n"));
	assert_non_null(strstr(table, "  ?1m\n"));
	GS_AUTO_FREE char *row = line_of(table, "  -"), *header = line_of(table, "SHARE");
	assert_non_null(strstr(row, "7 ?[2Jna\xc3\xafve"));
	assert_int_equal(strlen(row), strlen(header) + 1); /* i with two dots is two bytes and one column */
}

static void test_the_api_server_has_a_line(void **state)
{
	GS_AUTO_FREE char *table = table_of("{\"kubernetes\": {\"state\": \"Retrying\", \"nodeName\": \"n\\u001b1\", "
					    "\"server\": \"https://10.0.0.1:443\", \"waiting\": 2}}");
	assert_non_null(strstr(table, "API server: Retrying node n?1 at https://10.0.0.1:443, 2 changes to deliver\n"));
	GS_AUTO_FREE char *without = table_of("{\"kubernetes\": null}");
	assert_null(strstr(without, "API server"));
}

static void test_any_document_has_a_table(void **state)
{
	static const char *const documents[] = {
		"{}",
		"[]",
		"{\"gpus\": 3}",
		"{\"gpus\": [3, null, \"x\", {}]}",
		"{\"problems\": [3]}",
		"{\"kubernetes\": 3}",
		"{\"kubernetes\": {}}",
		"{\"resources\": [3, {}]}",
		"{\"gpus\": [{\"index\": \"x\", \"shares\": [3, {}, {\"holders\": [3, {}]}], \"processes\": {}, "
		"\"memory\": []}]}",
		"{\"gpus\": [{\"shares\": [{\"id\": 3}, {\"id\": \"::\"}, {\"id\": \"x\"}, {\"id\": \"x\"}]}]}",
		"{\"gpus\": [{\"memory\": {\"usedBytes\": -9223372036854775808, \"totalBytes\": 9223372036854775807}, "
		"\"utilizationPercent\": 1e308}]}",
	};
	for (size_t i = 0; i < sizeof documents / sizeof *documents; i++) {
		GS_AUTO_FREE char *table = table_of(documents[i]);
		assert_int_equal(table[strlen(table) - 1], '\n');
	}
}

static const char mig_document[] =
	"{\"gpus\": [{\"index\": 0, \"name\": \"A100\", \"health\": \"Healthy\", \"reason\": \"\", \"memory\": {}, "
	"\"migDevices\": [{\"index\": \"0:0\", \"uuid\": \"MIG-a\", \"reason\": \"\"}, {\"index\": \"0:1\", \"uuid\": "
	"\"MIG-b\", \"reason\": \"\"}, {\"index\": \"0:2\", \"uuid\": \"MIG-c\", \"reason\": \"XID 48\"}], \"shares\": "
	"["
	"{\"id\": \"MIG-a\", \"device\": \"MIG-a\", \"resource\": \"nvidia.com/mig-1g.10gb\", \"state\": \"Healthy\"},"
	"{\"id\": \"MIG-b\", \"device\": \"MIG-b\", \"resource\": \"nvidia.com/mig-1g.10gb\", \"state\": \"Healthy\"},"
	"{\"id\": \"MIG-c::0\", \"device\": \"MIG-c\", \"resource\": \"nvidia.com/mig-1g.10gb\", \"state\": "
	"\"Healthy\"},"
	"{\"id\": \"MIG-c::1\", \"device\": \"MIG-c\", \"resource\": \"nvidia.com/mig-1g.10gb\", \"state\": "
	"\"Healthy\"}]}]}";

static void test_mig_devices_have_their_index(void **state)
{
	GS_AUTO_FREE char *table = table_of(mig_document);
	GS_AUTO_FREE char *whole = line_of(table, "  0:0-0:1 "), *replicas = line_of(table, "  0:2::0-1 "),
			  *reason = line_of(table, "  0:2: XID 48");
	assert_non_null(strstr(whole, "2 free"));
	assert_non_null(strstr(replicas, "2 free"));
	assert_non_null(strstr(reason, "XID 48"));
}

/* Held by pods: on a GPU, with a process and without one; and a share that was given out once and is free again. */
static void test_pods_are_holders(void **state)
{
	static const char document[] =
		"{\"gpus\": [{\"index\": 0, \"name\": \"A100\", \"health\": \"Healthy\", \"memory\": {}, \"shares\": ["
		"{\"id\": \"G::0\", \"resource\": \"r\", \"state\": \"Healthy\", \"holders\": [{\"pid\": 7, \"name\": "
		"\"python\"}, {\"pid\": 8, \"name\": \"python\"}], \"pods\": [{\"namespace\": \"a\", \"name\": "
		"\"p-0\", "
		"\"container\": \"main\"}]},"
		"{\"id\": \"G::1\", \"resource\": \"r\", \"state\": \"Unhealthy\", \"holders\": [], \"pods\": "
		"[{\"namespace\": \"a\", \"name\": \"p-1\", \"container\": \"main\"}, {\"namespace\": \"b\", \"name\": "
		"\"p-2\", \"container\": \"c\"}]},"
		"{\"id\": \"G::2\", \"resource\": \"r\", \"state\": \"Healthy\", \"lastAllocated\": " GIVEN
		", \"holders\": [], \"pods\": []}]}]}";
	GS_AUTO_FREE char *table = table_of(document);
	GS_AUTO_FREE char *header = line_of(table, "SHARE"), *process = line_of(table, "  ::0"),
			  *waiting = line_of(table, "  ::1"), *free_again = line_of(table, "  ::2");
	ptrdiff_t column = strstr(header, "POD") - header;
	assert_string_equal(process + column, "a/p-0/main");
	assert_string_equal(waiting + column, "a/p-1/main, b/p-2/c");
	assert_non_null(strstr(process, "7 python"));
	assert_non_null(strstr(waiting, "no process, unhealthy"));
	assert_non_null(strstr(free_again, " free"));
	GS_AUTO_FREE char *second = line_of(strstr(table, "7 python"), "  ::0");
	assert_non_null(strstr(second, "8 python"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_columns_line_up),
		cmocka_unit_test(test_idle_shares_are_one_row_a_kind),
		cmocka_unit_test(test_small_memory_is_not_nothing),
		cmocka_unit_test(test_names_do_not_steer_the_terminal),
		cmocka_unit_test(test_the_api_server_has_a_line),
		cmocka_unit_test(test_any_document_has_a_table),
		cmocka_unit_test(test_mig_devices_have_their_index),
		cmocka_unit_test(test_pods_are_holders),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
