/* The configuration: what is accepted, what is refused and with which words and places, and what wins over what. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/strbuf.h"
#include "core/config/config_explain.h"
#include "core/config/config_parse.h"
#include "core/config/config_tree.h"
#include "core/config/config_value.h"
#include "strategy/strategies.h"

static int parse(const char *text, struct gs_config *config, struct gs_diagnostics *diags)
{
	struct gs_config_source source = {.name = "f", .text = text, .length = strlen(text)};
	*diags = (struct gs_diagnostics){0};
	return gs_config_parse(&source, NULL, NULL, NULL, 0, config, diags);
}

static void assert_valid(const char *text, struct gs_config *config)
{
	struct gs_diagnostics diags;
	if (parse(text, config, &diags))
		fail_msg("refused: %s\n%s", text, diags.count ? diags.items[0].text : "without a reason");
	gs_diagnostics_free(&diags);
}

/* Some diagnostic begins with `place` and contains `words`. */
static void assert_refused(const char *text, const char *place, const char *words)
{
	struct gs_config config;
	struct gs_diagnostics diags;
	memset(&config, 0x5a, sizeof config);
	struct gs_config before = config;
	assert_int_equal(parse(text, &config, &diags), -1);
	assert_memory_equal(&config, &before, sizeof config);
	bool found = false;
	for (size_t i = 0; i < diags.count; i++)
		found |= strncmp(diags.items[i].text, place, strlen(place)) == 0 && strstr(diags.items[i].text, words);
	if (!found)
		fail_msg("want \"%s ... %s\" for:\n%s\ngot %s", place, words, text,
			 diags.count ? diags.items[0].text : "nothing");
	gs_diagnostics_free(&diags);
}

#define LETTERS_40 "1234567890123456789012345678901234567890"
#define MPS        "sharing:\n  mps:\n    resources:\n    - {name: gpu, replicas: 4, "
#define SLICING    "sharing:\n  timeSlicing:\n    resources:\n"

static void test_main_job(void **state)
{
	struct gs_config config;
	assert_valid("version: v1\nsharing:\n  timeSlicing:\n    renameByDefault: false\n    resources:\n    - name: "
		     "nvidia.com/gpu\n"
		     "      replicas: 4\n",
		     &config);
	assert_true(config.time_slicing.present);
	assert_false(config.mps.present);
	assert_int_equal(config.time_slicing.resource_count, 1);
	const struct gs_sharing_resource *entry = &config.time_slicing.resources[0];
	assert_string_equal(entry->name, "nvidia.com/gpu");
	assert_null(entry->rename);
	assert_int_equal(entry->replicas, 4);
	assert_int_equal(entry->devices.kind, GS_SELECT_ALL);
	assert_int_equal(entry->line, 6);
	assert_int_equal(entry->column, 7);
	assert_int_equal(config.time_slicing.fail_requests_greater_than_one, GS_UNSET);
	gs_config_free(&config);
}

/* Whether all values are the same. */
static bool is_same_config(const struct gs_config *a, const struct gs_config *b)
{
	for (size_t i = 0; i < gs_config_key_count; i++) {
		GS_AUTO_STRBUF struct gs_strbuf left = {0}, right = {0};
		if (gs_config_key_in_list(&gs_config_keys[i]))
			continue;
		gs_value_format(&gs_config_keys[i], a, &left);
		gs_value_format(&gs_config_keys[i], b, &right);
		if (left.length != right.length || (left.length && memcmp(left.data, right.data, left.length) != 0))
			return false;
	}
	return true;
}

static void test_empty_is_defaults(void **state)
{
	static const char *const texts[] = {"",
					    "\n",
					    "# nothing\n",
					    "---\n",
					    "{}",
					    "null",
					    "version:\n",
					    "\xef\xbb\xbfversion: v1\n",
					    "\xef\xbb\xbfversion: v1\nflags: {}\n",
					    "version: v1\r\nflags: {}\r\n",
					    "version: v1 \t\n",
					    "version: v1\n---\n",
					    "version: v1\n---\n# the end\n---\n...\n",
					    "# a chart's\n---\n---\nversion: v1\n",
					    "kind: ConfigMap\ndata: {a: \"\\uFEFFversion: v1\\nflags: {}\\n---\\n\"}\n",
					    "version: \"\"\n",
					    "flags: {plugin: {}}\n"};
	struct gs_config defaults, config;
	gs_config_init(&defaults);
	assert_string_equal(defaults.flags.nvidia_dev_root, "/");
	assert_true(defaults.flags.fail_on_init_error);
	assert_int_equal(defaults.flags.plugin.device_list_strategy, GS_DEVICE_LIST_ENVVAR);
	assert_int_equal(defaults.flags.gfd.sleep_interval_ns, 60000000000);
	for (size_t i = 0; i < GS_ARRAY_LENGTH(texts); i++) {
		assert_valid(texts[i], &config);
		assert_true(is_same_config(&defaults, &config));
		gs_config_free(&config);
	}
	gs_config_free(&defaults);
}

static void test_values(void **state)
{
	struct gs_config config;
	assert_valid(
		"flags:\n  nvidiaDriverRoot: /run/nvidia\n  failOnInitError: off\n  plugin:\n    passDeviceSpecs: yes\n"
		"    deviceListStrategy: [volume-mounts, cdi-cri]\n    deviceIDStrategy: index\n"
		"    sharedDevicesAllocationPolicy: spread\n  gfd: {sleepInterval: infinite, outputFile: \"\"}\n"
		"imex: {channelIDs: [0], required: true}\n",
		&config);
	assert_string_equal(config.flags.nvidia_driver_root, "/run/nvidia");
	assert_string_equal(config.flags.nvidia_dev_root, "/run/nvidia");
	assert_false(config.flags.fail_on_init_error);
	assert_true(config.flags.plugin.pass_device_specs);
	assert_int_equal(config.flags.plugin.device_list_strategy,
			 GS_DEVICE_LIST_VOLUME_MOUNTS | GS_DEVICE_LIST_CDI_CRI);
	assert_int_equal(config.flags.plugin.device_id_strategy, GS_DEVICE_ID_INDEX);
	assert_int_equal(config.flags.plugin.allocation_policy, GS_POLICY_SPREAD);
	assert_true(config.flags.gfd.sleep_interval_ns == INT64_MAX);
	assert_string_equal(config.flags.gfd.output_file, "");
	assert_int_equal(config.imex_channel_count, 1);
	assert_int_equal(config.imex_channel_ids[0], 0);
	assert_true(config.imex_required);
	gs_config_free(&config);
}

static void test_space_around_words_means_nothing(void **state)
{
	struct gs_config config;
	assert_valid("version: \"v1 \"\nflags:\n  migStrategy: \" mixed\"\n  plugin: {deviceListStrategy: "
		     "[\"envvar\", \" cdi-cri\\t\"]}\n"
		     "  gfd: {sleepInterval: \" 5s \"}\n" SLICING
		     "    - {name: \" gpu \", replicas: 2, devices: [\" 0\", \"1 \"]}\n",
		     &config);
	assert_int_equal(config.flags.mig_strategy, GS_MIG_MIXED);
	assert_int_equal(config.flags.plugin.device_list_strategy, GS_DEVICE_LIST_ENVVAR | GS_DEVICE_LIST_CDI_CRI);
	assert_int_equal(config.flags.gfd.sleep_interval_ns, 5000000000);
	assert_string_equal(config.time_slicing.resources[0].name, "nvidia.com/gpu");
	assert_string_equal(config.time_slicing.resources[0].devices.list[1], "1");
	gs_config_free(&config);
}

static void test_utf16_is_read(void **state)
{
	static const char ascii[] = "version: v1\r\nkind: ConfigMap\r\ndata:\r\n  a: |\r\n    versio: v1\r\n";
	char wide[2 * sizeof ascii] = "\xff\xfe";
	for (size_t i = 0; ascii[i]; i++)
		wide[2 + 2 * i] = ascii[i];
	struct gs_config config;
	struct gs_diagnostics diags = {0};
	struct gs_config_source source = {.name = "f", .text = wide, .length = 2 * strlen(ascii) + 2};
	assert_int_equal(gs_config_parse(&source, NULL, NULL, NULL, 0, &config, &diags), -1);
	assert_non_null(strstr(diags.items[0].text, "f:5:5: unknown key \"versio\""));
	gs_diagnostics_free(&diags);
	source.length--;
	assert_int_equal(gs_config_parse(&source, NULL, NULL, NULL, 0, &config, &diags), -1);
	assert_non_null(strstr(diags.items[0].text, "f:1:1: the file is UTF-16 that is cut off"));
	gs_diagnostics_free(&diags);
}

static void test_sharing_entries(void **state)
{
	struct gs_config config;
	assert_valid(SLICING
		     "    - {name: gpu, rename: gpu-small, replicas: 1, devices: [0, \"0:1\", 1:2]}\n"
		     "    - {name: gpu, replicas: 65536, devices: [MIG-GPU-01234567-89ab-cdef-0123-456789abcdef/1/0]}\n"
		     "    - {name: mig-1g.10gb, replicas: 2, devices: 3}\n",
		     &config);
	const struct gs_sharing_resource *entries = config.time_slicing.resources;
	assert_int_equal(config.time_slicing.resource_count, 3);
	assert_string_equal(entries[0].rename, "nvidia.com/gpu-small");
	assert_int_equal(entries[0].devices.list_length, 3);
	assert_string_equal(entries[0].devices.list[2], "1:2"); /* not YAML 1.1's base 60 */
	assert_int_equal(entries[1].replicas, GS_REPLICAS_MAX);
	assert_int_equal(entries[2].devices.kind, GS_SELECT_COUNT);
	assert_int_equal(entries[2].devices.count, 3);
	gs_config_free(&config);
}

static void test_anchors_and_merge_keys(void **state)
{
	struct gs_config config;
	assert_valid(SLICING "    - &a {name: gpu, replicas: 3, devices: [0]}\n    - {<<: *a, devices: [1]}\n",
		     &config);
	assert_int_equal(config.time_slicing.resources[1].replicas, 3);
	assert_string_equal(config.time_slicing.resources[1].devices.list[0], "1");
	gs_config_free(&config);
}

static void test_refusals(void **state)
{
	static const struct {
		const char *text, *place, *words;
	} cases[] = {
		{"version: v2", "f:1:10:", "unknown version \"v2\""},
		{"flags:\n  renameByDefault: true", "f:2:3:", "it belongs under sharing.timeSlicing"},
		{"timeSlicing: {}", "f:1:1:", "it belongs under sharing,"},
		{"flags: {migStratgy: none}", "f:1:9:", "did you mean \"migStrategy\"?"},
		{"flags: {pasDeviceSpecs: true}", "f:1:9:", "\"passDeviceSpecs\", which belongs under flags.plugin"},
		{"zzz: 1", "f:1:1:", "known here: version, flags, resources, sharing, imex"},
		{"flags.migStrategy: none", "f:1:1:", "unknown key"},
		{"flags: {migStrategy: bad}", "f:1:22:", "write one of: none"},
		{"flags: {migStrategy: mixd}", "f:1:22:", "did you mean \"mixed\"?"},
		{"flags: {plugin: {deviceIDStrategy: uid}}", "f:1:36:", "did you mean \"uuid\"? One of: uuid, index"},
		{"flags: {migStrategy: [none]}", "f:1:22:", "must be a single value, not a list"},
		{"flags: 3", "f:1:8:", "must be a mapping"},
		{"- 1", "f:1:1:", "must be a mapping"},
		{"flags: {failOnInitError: \"true\"}", "f:1:26:", "remove the quotes"},
		{"flags: {failOnInitError: 1}", "f:1:26:", "must be true or false"},
		{"flags: {nvidiaDriverRoot: run}", "f:1:27:", "begin it with /"},
		{"flags: {nvidiaDriverRoot: \"/a\\nb\"}", "f:1:27:", "control character"},
		{"flags: {deviceDiscoveryStrategy: tegra}", "f:1:34:", "through NVML only"},
		{"flags: {plugin: {deviceListStrategy: \"envvar,cdi-cri\"}}",
		 "f:1:38:", "write a list: [envvar,cdi-cri]"},
		{"flags: {plugin: {deviceListStrategy: []}}", "f:1:38:", "empty list"},
		{"flags: {plugin: {deviceListStrategy: [envvar, cdi]}}", "f:1:47:", "which does not exist"},
		{"flags: {gfd: {sleepInterval: 5 min}}", "f:1:30:", "sleepInterval: "},
		{"imex: {channelIDs: [1]}", "f:1:20:", "[] or [0] only"},
		{"resources: {gpus: [{pattern: \"*\"}]}", "f:1:20:", "has no \"name\""},
		{"sharing: {timeSlicing: {}}", "f:1:24:", "no resources specified"},
		{"sharing: {timeSlicing: {resources: []}}", "f:1:36:", "no resources specified"},
		{MPS "memoryLimit: 8GB?}", "f:4:45:", "memoryLimit: "},
		{MPS "memoryLimit: -1Gi}", "f:4:45:", "memoryLimit: "},
		{MPS "memoryLimit: 0}", "f:4:45:", "write more than nothing"},
		{MPS "memoryLimit: 1e30Gi}", "f:4:45:", "memoryLimit: "},
		{MPS "memoryLimit: 8}", "f:4:45:", "memoryLimit 8 is less than 1Mi; write a unit, as 8Gi"},
		{MPS "memoryLimit: 1048575}", "f:4:45:", "memoryLimit 1048575 is less than 1Mi"},
		{MPS "memoryLimit: [1Gi]}", "f:4:45:", "must be a single value"},
		{MPS "activeThreadPercentage: 0}", "f:4:56:", "from 1 to 100"},
		{MPS "activeThreadPercentage: 101}", "f:4:56:", "from 1 to 100"},
		{MPS "priority: 2}", "f:4:42:", "from 0 to 1"},
		{MPS "isolation: none}", "f:4:43:", "per-share"},
		{MPS "memorylimit: 8Gi}", "f:4:32:", "did you mean \"memoryLimit\"?"},
		{MPS "rename: a}\n    - {name: gpu, replicas: 2, rename: a}", "f:5:7:", "rename"},
		{MPS "}\nflags: {mpsRoot: \"\"}", "f:5:18:", "mpsRoot is empty"},
		{MPS "}\nflags: {mpsRoot: run/mps}", "f:5:18:", "begin it with /"},
		{MPS "}\nflags: {mpsRoot: /" LETTERS_40 "xx/}",
		 "f:5:18:", "has 43 bytes; with sharing.mps at most 42 are"},
		{MPS "isolation: per-share}\nflags: {mpsRoot: /" LETTERS_40 "}", "f:5:18:", "at most 40 are"},
		{"sharing: {mps: {resources: [{name: gpu, replicas: 11, isolation: per-share}]}}\nflags: {mpsRoot: "
		 "/" LETTERS_40 "}",
		 "f:2:18:", "at most 39 are"},
		{SLICING "    - {replicas: 2}", "f:4:7:", "has no \"name\""},
		{SLICING "    - {name: gpu}", "f:4:7:", "has no \"replicas\""},
		{SLICING "    - {name: gpu, replicas: 0}", "f:4:29:", "from 1 to 65536"},
		{SLICING "    - {name: gpu, replicas: 010}", "f:4:29:", "write it without the 0"},
		{SLICING "    - {name: gpu, replicas: -1}", "f:4:29:", "from 1 to 65536"},
		{SLICING "    - {name: gpu, replicas: 1e9}", "f:4:29:", "from 1 to 65536"},
		{SLICING "    - {name: gpu, replicas: 1000000000}", "f:4:29:", "from 1 to 65536"},
		{SLICING "    - {name: gpu, replicas: 99999999999999999999999}", "f:4:29:", "from 1 to 65536"},
		{SLICING "    - {name: gpu, replicas: 65537}", "f:4:29:", "from 1 to 65536"},
		{SLICING "    - {name: gpu, replicas: \"4\"}", "f:4:29:", "remove the quotes"},
		{SLICING "    - {name: gpu, replicas: 4.5}", "f:4:29:", "whole number"},
		{SLICING "    - {name: gpu, replicas: 4, memoryLimit: 4Gi}",
		 "f:4:32:", "time-slicing does not bound memory"},
		{SLICING "    - {name: GPU, replicas: 4}", "f:4:14:", "not allowed in Kubernetes"},
		{SLICING "    - {name: -gpu, replicas: 4}", "f:4:14:", "not allowed in Kubernetes"},
		{SLICING "    - {name: gpu., replicas: 4}", "f:4:14:", "not allowed in Kubernetes"},
		{SLICING "    - {name: \"\", replicas: 4}", "f:4:14:", "not allowed in Kubernetes"},
		{SLICING "    - {name: amd.com/gpu, replicas: 4}", "f:4:14:", "other than nvidia.com"},
		{SLICING "    - {name: a234567890123456789012345678901234567890123456789012x, replicas: 4}",
		 "f:4:14:", "64 characters"},
		{SLICING "    - {name: gpu, replicas: 4, devices: none}", "f:4:41:", "write all, a number above 0"},
		{SLICING "    - {name: gpu, replicas: 4, devices: 0}", "f:4:41:", "write a list"},
		{SLICING "    - {name: gpu, replicas: 4, devices: []}", "f:4:41:", "empty list"},
		{SLICING "    - {name: gpu, replicas: 4, devices: [0, GPU-1]}", "f:4:45:", "is no device"},
		{SLICING "    - {name: gpu, replicas: 4, devices: [0, 0]}", "f:4:45:", "listed twice"},
		{SLICING "    - {name: gpu, replicas: 4}\n    - {name: nvidia.com/gpu, replicas: 2, devices: [1]}",
		 "f:5:7:", "on line 4 column 7 shares already"},
		{SLICING
		 "    - {name: gpu, replicas: 4, devices: [1]}\n    - {name: gpu, replicas: 2, devices: [2, 1]}",
		 "f:5:7:", "(devices: 1)"},
		{"sharing:\n  timeSlicing: {resources: [{name: gpu, replicas: 4}]}\n  mps: {resources: [{name: gpu, "
		 "replicas: 4}]}\n",
		 "f:3:21:", "the entry of sharing.timeSlicing on line 2 column 29 shares already"},
		{"sharing:\n  mps:\n    renameByDefault: true\n    resources:\n    - {name: gpu, replicas: 2}\n"
		 "    - {name: gpu, rename: nvidia.com/gpu.shared, replicas: 2}\n",
		 "f:6:7:", "`rename` of its own"},
		{"flags: {}\nflags: {}\n", "f:2:1:", "the first is on line 1 column 1"},
		{"a: [1", "f:2:1:", "this is not YAML"}, /* where the input ends */
		{"flags:\n\tmigStrategy: none\n", "f:2:1:", "a tab is used"},
		{"version: v1\n---\nversion: v1\n", "f:2:1:", "second YAML document"},
		{"version: v1\n---\n\n---\nversion: v1\n", "f:4:1:", "second YAML document"},
		{"version: \xff\n", "f:1:10:", "not UTF-8"},
		{"version: !thing v1\n", "f:1:10:", "tag !thing"},
		{"version: \"\\0\"\n", "f:1:10:", "NUL"},
		{"flags: &a {x: *a}\n", "f:1:15:", "stands inside what it names"},
		{"flags: *b\n", "f:1:8:", "does not exist"},
		{"[a]: b\n", "f:1:1:", "must be a word"},
		{"kind: Pod\n", "f:1:7:", "this is a Kubernetes Pod"},
		{"kind: ConfigMap\n", "f:1:7:", "has no data"},
	};
	for (size_t i = 0; i < GS_ARRAY_LENGTH(cases); i++)
		assert_refused(cases[i].text, cases[i].place, cases[i].words);
}

static void test_shared_suffix_counts(void **state)
{
	/* 57 characters with the prefix: fine alone, 64 with .shared */
	assert_refused("sharing:\n  timeSlicing:\n    renameByDefault: true\n    resources:\n"
		       "    - {name: a23456789012345678901234567890123456789012345x, replicas: 4}",
		       "f:5:7:", "more than 63 characters");
}

static void test_all_errors_at_once(void **state)
{
	struct gs_config config;
	struct gs_diagnostics diags;
	assert_int_equal(
		parse("zzz: 1\nversion: v3\nflags: {migStrategy: x, failOnInitError: 7}\nimex: {required: 3}\n",
		      &config, &diags),
		-1);
	assert_int_equal(diags.error_count, 5);
	for (size_t i = 1; i < diags.count; i++)
		assert_true(diags.items[i - 1].line <= diags.items[i].line);
	gs_diagnostics_free(&diags);
}

static void test_many_errors_are_bounded(void **state)
{
	GS_AUTO_STRBUF struct gs_strbuf text = {0};
	struct gs_config config;
	struct gs_diagnostics diags;
	for (int i = 0; i < 500; i++)
		gs_strbuf_printf(&text, "qqqqqq%d: 1\n", i);
	assert_int_equal(parse(text.data, &config, &diags), -1);
	assert_int_equal(diags.count, GS_DIAGNOSTICS_MAX);
	assert_int_equal(diags.error_count, 500);
	assert_int_equal(diags.omitted, 400);
	gs_diagnostics_free(&diags);
}

static void test_messages_are_printable(void **state)
{
	struct gs_config config;
	struct gs_diagnostics diags;
	assert_int_equal(parse("\"\\e[31mred\\x85\\n\": 1\n", &config, &diags), -1);
	for (const char *p = diags.items[0].text; *p; p++)
		assert_true((unsigned char)*p >= 0x20 && *p != 0x7f);
	assert_non_null(strstr(diags.items[0].text, "?[31mred"));
	gs_diagnostics_free(&diags);
}

/* Sizes at and over each limit; `unit` is repeated. */
static void assert_limit(const char *before, const char *unit, int count, const char *after, const char *words)
{
	GS_AUTO_STRBUF struct gs_strbuf text = {0};
	gs_strbuf_add(&text, before);
	for (int i = 0; i < count; i++)
		gs_strbuf_add(&text, unit);
	gs_strbuf_add(&text, after);
	assert_refused(text.data, "f:", words);
}

static void test_limits(void **state)
{
	assert_limit("", "#", GS_TREE_BYTES_MAX + 1, "", "bytes and at most");
	assert_limit("a: ", "[", 40, "", "nested deeper");
	assert_limit("a: ", "[", 500000, "", "nested deeper");
	assert_limit("a: [", "1,", 200000, "]", "more than 100000 values");
	assert_limit("a: &a [1,2,3,4]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b]\n"
		     "d: &d [*c,*c,*c,*c,*c,*c,*c,*c,*c]\ne: &e [*d,*d,*d,*d,*d,*d,*d,*d,*d]\nf: [",
		     "*e,", 9, "]", "aliases expanded");
	/* libyaml compares each directive with all others. */
	assert_limit("%TAG !a! x:\n", "%TAG !b! y:\n", 50000, "---\nversion: v1\n",
		     "f:17:1: more than 16 lines begin with %");
	assert_limit("", "#\xE2\x80\xA8%TAG !b! y:", 17, "\n---\nversion: v1\n", "more than 16 lines begin with %");
	/* One text, read a thousand times. */
	GS_AUTO_STRBUF struct gs_strbuf copies = {0};
	gs_strbuf_add(&copies, "kind: ConfigMap\ndata:\n  k: &t \"version: v1\\n#");
	for (int i = 0; i < 10000; i++)
		gs_strbuf_add(&copies, "################################");
	gs_strbuf_add(&copies, "\"\n  k0: *t\n  k1: *t\n");
	for (int i = 2; i < 900; i++)
		gs_strbuf_printf(&copies, "  k%d: *t\n", i);
	assert_refused(copies.data, "f:", "more than 1048576 bytes, aliases expanded");
	GS_AUTO_STRBUF struct gs_strbuf lists = {0};
	gs_strbuf_add(&lists, SLICING);
	for (int entry = 0; entry < 90; entry++) {
		gs_strbuf_add(&lists, "    - {name: gpu, replicas: 1, devices: [");
		for (int i = 0; i < 1000; i++)
			gs_strbuf_printf(&lists, "%d:%d,", entry, i);
		gs_strbuf_add(&lists, "]}\n");
	}
	assert_refused(lists.data, "f:8:7:", "more than 4096 devices");
	GS_AUTO_STRBUF struct gs_strbuf keys = {0};
	for (int i = 0; i <= GS_TREE_KEYS_MAX; i++)
		gs_strbuf_printf(&keys, "k%d: 1\n", i);
	assert_refused(keys.data, "f:1001:1:", "more than 1000 keys");
}

static void test_config_map(void **state)
{
	struct gs_config config;
	assert_valid("apiVersion: v1\nkind: ConfigMap\ndata:\n  any: |\n    version: v1\n    flags: {nvidiaDriverRoot: "
		     "/x}\n",
		     &config);
	assert_string_equal(config.flags.nvidia_driver_root, "/x");
	gs_config_free(&config);
	/* The place is the outer file's, also after blank lines and with an indentation of its own. */
	assert_refused("kind: ConfigMap\ndata:\n   c: |\n\n        version: v1\n        flags:\n          bad: 1\n",
		       "f:7:11:", "unknown key \"bad\"");
	assert_refused("kind: ConfigMap\ndata: {c: \"version: v1\\nbad: 1\"}\n",
		       "f[data.c]:2:1:", "unknown key \"bad\"");
	/* The one that is not used is checked as well. */
	assert_refused("kind: ConfigMap\ndata:\n  default: \"\"\n  other: |\n    bad: 1\n",
		       "f:5:5:", "unknown key \"bad\"");
	assert_refused("kind: ConfigMap\ndata: {one: \"\", two: \"\"}\n",
		       "f:2:7:", "several configurations (one, two)");
	/* For a check of all it does not matter which one counts. */
	struct gs_config_source all = {.name = "f", .any_entry = true};
	struct gs_diagnostics diags = {0};
	all.text = "kind: ConfigMap\ndata: {one: \"\", two: \"bad: 1\"}\n";
	all.length = strlen(all.text);
	assert_int_equal(gs_config_parse(&all, NULL, NULL, NULL, 0, &config, &diags), -1);
	assert_int_equal(diags.error_count, 1);
	gs_diagnostics_free(&diags);
	all.text = "kind: ConfigMap\ndata: {one: \"\", two: \"\"}\n";
	all.length = strlen(all.text);
	assert_int_equal(gs_config_parse(&all, NULL, NULL, NULL, 0, &config, NULL), 0);
	gs_config_free(&config);
	struct gs_config_source source = {
		.name = "f",
		.text = "kind: ConfigMap\ndata: {one: \"imex: {required: true}\", default: \"\"}",
		.entry = "one"};
	source.length = strlen(source.text);
	assert_int_equal(gs_config_parse(&source, NULL, NULL, NULL, 0, &config, NULL), 0);
	assert_true(config.imex_required);
	gs_config_free(&config);
	source.entry = "three";
	assert_int_equal(gs_config_parse(&source, NULL, NULL, NULL, 0, &config, NULL), -1);
}

/* An environment as "NAME=value" lines. */
static const char *look_up(const char *name, void *user)
{
	for (const char *const *line = user; *line; line++)
		if (strncmp(*line, name, strlen(name)) == 0 && (*line)[strlen(name)] == '=')
			return *line + strlen(name) + 1;
	return NULL;
}

static void assert_mps_root(const char *root, const char *sharing, const char *words)
{
	GS_AUTO_FREE char *text = gs_printf("flags: {mpsRoot: /file}\n%s", sharing);
	GS_AUTO_FREE char *variable = gs_printf("MPS_ROOT=%s", root);
	struct gs_config_source source = {.name = "f", .text = text, .length = strlen(text)};
	const char *env[] = {variable, NULL};
	struct gs_config config;
	struct gs_diagnostics diags = {0};
	int result = gs_config_parse(&source, look_up, env, NULL, 0, &config, &diags);
	assert_int_equal(result, words ? -1 : 0);
	if (words)
		assert_non_null(strstr(diags.items[0].text, words));
	else
		gs_config_free(&config);
	gs_diagnostics_free(&diags);
}

static void test_mps_root_needs_room_for_sockets(void **state)
{
	assert_mps_root("/" LETTERS_40 "x//", MPS "}", NULL);
	assert_mps_root("/" LETTERS_40 "xx", MPS "}", "environment or command line: mpsRoot has 43 bytes");
	assert_mps_root("", MPS "}", "environment or command line: mpsRoot is empty");
	assert_mps_root("/" LETTERS_40 "xx", "", NULL);
	assert_mps_root("", "", NULL);
}

static void test_precedence(void **state)
{
	static const char text[] = "flags: {nvidiaDriverRoot: /file, failOnInitError: true, mpsRoot: /file}\n";
	struct gs_config_source source = {.name = "f", .text = text, .length = sizeof text - 1};
	const char *env[] = {"NVIDIA_DRIVER_ROOT=/env",
			     "FAIL_ON_INIT_ERROR=",
			     "MPS_ROOT=",
			     "DEVICE_LIST_STRATEGY=envvar,cdi-cri",
			     "NVIDIA_CTK_PATH=/second",
			     "NVIDIA_CDI_HOOK_PATH=/first",
			     "IMEX_CHANNEL_IDS=0",
			     NULL};
	struct gs_config_override flags[] = {{"driver-root", "/flag"}, {"pass-device-specs", ""}};
	struct gs_config_origin origins[128];
	struct gs_config config;
	assert_true(gs_config_key_count <= GS_ARRAY_LENGTH(origins));
	assert_int_equal(gs_config_parse_origins(&source, look_up, env, flags, 2, &config, origins, NULL), 0);
	assert_string_equal(config.flags.nvidia_driver_root, "/flag");
	assert_string_equal(config.flags.nvidia_dev_root, "/flag");
	assert_false(config.flags.fail_on_init_error);
	assert_string_equal(config.flags.mps_root, "");
	assert_int_equal(config.flags.plugin.device_list_strategy, GS_DEVICE_LIST_ENVVAR | GS_DEVICE_LIST_CDI_CRI);
	assert_string_equal(config.flags.plugin.nvidia_ctk_path, "/first");
	assert_true(config.flags.plugin.pass_device_specs);
	assert_int_equal(config.imex_channel_count, 1);
	assert_int_equal(origins[gs_config_key_find("flags.nvidiaDriverRoot") - gs_config_keys].kind, GS_ORIGIN_FLAG);
	assert_int_equal(origins[gs_config_key_find("flags.failOnInitError") - gs_config_keys].kind, GS_ORIGIN_ENV);
	assert_int_equal(origins[gs_config_key_find("imex.required") - gs_config_keys].kind, GS_ORIGIN_DEFAULT);
	gs_config_free(&config);
	flags[0].value = "/flag2";
	assert_int_equal(gs_config_parse_origins(&source, NULL, NULL, NULL, 0, &config, origins, NULL), 0);
	assert_string_equal(config.flags.nvidia_driver_root, "/file");
	assert_int_equal(origins[gs_config_key_find("flags.nvidiaDriverRoot") - gs_config_keys].line, 1);
	gs_config_free(&config);
}

/* Who can edit a ConfigMap need not be root on the nodes. */
static void test_a_file_that_is_not_trusted(void **state)
{
	static const struct {
		const char *text, *said; /* NULL: it is valid */
	} cases[] = {
		{"flags: {plugin: {nvidiaCTKPath: /tmp/evil}}",
		 "f:1:33: flags.plugin.nvidiaCTKPath names what is the node's own, and a ConfigMap may not: only the "
		 "daemon's --nvidia-cdi-hook-path or NVIDIA_CDI_HOOK_PATH does; remove it here"},
		{"flags: {plugin: {containerDriverRoot: /tmp}}", "flags.plugin.containerDriverRoot"},
		{"flags: {nvidiaDriverRoot: /tmp}", "flags.nvidiaDriverRoot"},
		{"flags: {nvidiaDevRoot: /tmp}", "flags.nvidiaDevRoot"},
		{"flags: {mpsRoot: /etc}", "flags.mpsRoot"},
		{"flags: {gfd: {outputFile: /etc/passwd}}", "flags.gfd.outputFile"},
		{"flags: {gfd: {machineTypeFile: /etc/shadow}}", "flags.gfd.machineTypeFile"},
		{"kubernetes: {nodeName: other}", "kubernetes.nodeName"},
		{"kubernetes: {serviceAccountDir: /tmp}", "kubernetes.serviceAccountDir"},
		{"flags: {gfd: {outputFile: \"\"}}", "flags.gfd.outputFile"},
		/* What holds without the file, and what a flag or a variable says in any case. */
		{"flags: {nvidiaDriverRoot: /, nvidiaDevRoot: /driver, mpsRoot: /run/nvidia/mps}",
		 "flags.nvidiaDevRoot"},
		{"flags: {nvidiaDriverRoot: /, mpsRoot: /run/nvidia/mps, plugin: {nvidiaCTKPath: "
		 "/usr/bin/nvidia-ctk}}"},
		{"flags: {migStrategy: single, gdsEnabled: true}"},
		{"v1: x", "unknown key"},
	};
	const char *env[] = {"NVIDIA_DRIVER_ROOT=/driver", "MPS_ROOT=/mps", NULL};
	for (size_t i = 0; i < GS_ARRAY_LENGTH(cases); i++) {
		struct gs_config_source source = {
			.name = "f", .text = cases[i].text, .length = strlen(cases[i].text), .untrusted = true};
		struct gs_diagnostics diags = {0};
		struct gs_config config;
		int result = gs_config_parse(&source, NULL, NULL, NULL, 0, &config, &diags);
		assert_int_equal(result, cases[i].said ? -1 : 0);
		if (cases[i].said)
			assert_non_null(strstr(diags.items[0].text, cases[i].said));
		if (!result)
			gs_config_free(&config);
		gs_diagnostics_free(&diags);
	}
	/* A variable wins over the file, as ever, and says what may be said. */
	static const char text[] = "flags: {nvidiaDriverRoot: /tmp, nvidiaDevRoot: /driver, mpsRoot: /tmp}";
	struct gs_config_source source = {.name = "f", .text = text, .length = strlen(text), .untrusted = true};
	struct gs_config config;
	assert_int_equal(gs_config_parse(&source, look_up, env, NULL, 0, &config, NULL), 0);
	assert_string_equal(config.flags.nvidia_driver_root, "/driver");
	assert_string_equal(config.flags.mps_root, "/mps");
	gs_config_free(&config);
	source.untrusted = false;
	assert_int_equal(gs_config_parse(&source, NULL, NULL, NULL, 0, &config, NULL), 0);
	assert_string_equal(config.flags.mps_root, "/tmp");
	gs_config_free(&config);
}

/* Each key that is a path is the node's own: a new one must be thought about. */
static void test_every_path_is_the_nodes_own(void **state)
{
	for (size_t i = 0; i < gs_config_key_count; i++)
		if (gs_config_keys[i].type == GS_KEY_PATH)
			assert_true(gs_config_keys[i].of_node);
}

/* A manifest is checked by hand before it goes to a cluster. */
static void test_a_manifest_is_told_what_it_may_not_say(void **state)
{
	static const char text[] = "kind: ConfigMap\napiVersion: v1\nmetadata: {name: c}\ndata:\n  config.yaml: |\n"
				   "    flags:\n      mpsRoot: /etc\n";
	struct gs_config_source source = {.name = "f", .text = text, .length = strlen(text)};
	struct gs_diagnostics diags = {0};
	struct gs_config config;
	assert_int_equal(gs_config_parse(&source, NULL, NULL, NULL, 0, &config, &diags), 0);
	gs_config_free(&config);
	assert_int_equal(diags.count, 1);
	assert_true(diags.items[0].warning);
	assert_int_equal(diags.items[0].line, 7);
	gs_diagnostics_free(&diags);
}

static void test_bad_environment_and_flags(void **state)
{
	struct gs_config_source source = {.name = "f", .text = "", .length = 0};
	const char *env[] = {"MIG_STRATEGY=", "PASS_DEVICE_SPECS=maybe", "DEVICE_LIST_STRATEGY=envvar,",
			     "MPS_ROOT=x",    "NVIDIA_DEV_ROOT=/\xff",   NULL};
	struct gs_config_override flags[] = {{"no-such-flag", "1"}, {"mig-strategy", "double"}};
	struct gs_config config;
	struct gs_diagnostics diags = {0};
	assert_int_equal(gs_config_parse(&source, look_up, env, flags, 2, &config, &diags), -1);
	assert_int_equal(diags.error_count, 7);
	assert_non_null(strstr(diags.items[0].text, "variable MIG_STRATEGY: migStrategy is empty"));
	gs_diagnostics_free(&diags);
}

/* What holds for every row, so that a new one cannot be half done. */
static void test_table(void **state)
{
	for (size_t i = 0; i < gs_config_key_count; i++) {
		const struct gs_config_key *key = &gs_config_keys[i];
		const char *name = gs_config_key_name(key);
		assert_ptr_equal(gs_config_key_find(key->path), key);
		assert_non_null(key->help);
		assert_non_null(key->since);
		assert_true(key->help[strlen(key->help) - 1] != '.');
		assert_true((key->type == GS_KEY_CHOICE || key->type == GS_KEY_CHOICES) == (key->choices != NULL));
		assert_true((key->type == GS_KEY_LIST) == (key->item_size > 0));
		if (name != key->path) {
			GS_AUTO_FREE char *parent = gs_strndup(key->path, (size_t)(name - key->path - 1));
			size_t length = strlen(parent);
			bool item = length > 2 && strcmp(parent + length - 2, "[]") == 0;
			if (item)
				parent[length - 2] = '\0';
			const struct gs_config_key *above = gs_config_key_find(parent);
			assert_non_null(above);
			assert_true(item == (above->type == GS_KEY_LIST));
		}
	}
	json_t *schema = gs_config_json_schema();
	assert_non_null(schema);
	json_decref(schema);
}

static void test_explain(void **state)
{
	struct gs_config_source source = {.name = "f.yaml", .text = SLICING "    - {name: gpu, replicas: 4}\n"};
	struct gs_config_origin origins[128];
	struct gs_config config;
	source.length = strlen(source.text);
	assert_int_equal(gs_config_parse_origins(&source, NULL, NULL, NULL, 0, &config, origins, NULL), 0);
	GS_AUTO_STRBUF struct gs_strbuf text = {0};
	gs_config_explain(&config, origins, "f.yaml", gs_strategies, gs_strategy_count, false, &text);
	assert_non_null(strstr(text.data, "each GPU is advertised as 4 shares of nvidia.com/gpu by time-slicing"));
	assert_non_null(strstr(text.data, "memory and faults are not isolated"));
	assert_non_null(strstr(text.data, "f.yaml:4:7"));
	json_t *json = gs_config_explain_json(&config, origins, "f.yaml", gs_strategies, gs_strategy_count, false);
	const json_t *share = json_array_get(json_object_get(json, "shares"), 0);
	assert_int_equal(json_integer_value(json_object_get(share, "replicas")), 4);
	assert_string_equal(json_string_value(json_object_get(share, "publishedAs")), "nvidia.com/gpu");
	json_decref(json);
	gs_config_free(&config);
}

/* What the sentence about a sharing entry says must be what its keys mean. */
static void test_explain_mps(void **state)
{
	static const struct {
		const char *keys, *words;
	} cases[] = {
		{"replicas: 10, memoryLimit: 8Gi",
		 "as 10 shares of nvidia.com/gpu by MPS; work runs side by side; each process may have at most 8Gi of "
		 "memory and 10 % of the multiprocessors; faults are not isolated. A container that asks for more"},
		{"replicas: 3", "at most 1/3 of the device's memory and 33 % of the multiprocessors"},
		{"replicas: 2, activeThreadPercentage: 70, priority: 1",
		 "70 % of the multiprocessors, at a priority below normal"},
		{"replicas: 2, isolation: per-share", "shares take turns; each process"},
		{"replicas: 2, isolation: per-share", "; a fault stays within its share."},
	};
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		GS_AUTO_FREE char *file = gs_printf("sharing: {mps: {resources: [{name: gpu, %s}]}}\n", cases[i].keys);
		struct gs_config_source source = {.name = "f", .text = file, .length = strlen(file)};
		struct gs_config_origin origins[128];
		struct gs_config config;
		GS_AUTO_STRBUF struct gs_strbuf text = {0};
		assert_int_equal(gs_config_parse_origins(&source, NULL, NULL, NULL, 0, &config, origins, NULL), 0);
		gs_config_explain(&config, origins, "f", gs_strategies, gs_strategy_count, false, &text);
		if (!strstr(text.data, cases[i].words))
			fail_msg("\"%s\" is not in: %s", cases[i].words, text.data);
		gs_config_free(&config);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_main_job),
		cmocka_unit_test(test_empty_is_defaults),
		cmocka_unit_test(test_values),
		cmocka_unit_test(test_space_around_words_means_nothing),
		cmocka_unit_test(test_utf16_is_read),
		cmocka_unit_test(test_sharing_entries),
		cmocka_unit_test(test_anchors_and_merge_keys),
		cmocka_unit_test(test_refusals),
		cmocka_unit_test(test_shared_suffix_counts),
		cmocka_unit_test(test_all_errors_at_once),
		cmocka_unit_test(test_many_errors_are_bounded),
		cmocka_unit_test(test_messages_are_printable),
		cmocka_unit_test(test_limits),
		cmocka_unit_test(test_config_map),
		cmocka_unit_test(test_precedence),
		cmocka_unit_test(test_mps_root_needs_room_for_sockets),
		cmocka_unit_test(test_a_file_that_is_not_trusted),
		cmocka_unit_test(test_every_path_is_the_nodes_own),
		cmocka_unit_test(test_a_manifest_is_told_what_it_may_not_say),
		cmocka_unit_test(test_bad_environment_and_flags),
		cmocka_unit_test(test_table),
		cmocka_unit_test(test_explain),
		cmocka_unit_test(test_explain_mps),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
