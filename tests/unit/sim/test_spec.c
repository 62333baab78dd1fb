#include "helpers.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sim/models.h"
#include "sim/spec.h"

static void good_specs(void **state)
{
	struct gs_error err;
	struct sim_spec spec = {0};
	assert_int_equal(sim_spec_parse("8xA100-80GB", &spec, &err), 0);
	assert_int_equal(spec.group_count, 1);
	assert_int_equal(spec.groups[0].count, 8);
	assert_int_equal(spec.groups[0].model, model_index("A100-80GB"));
	assert_int_equal(sim_spec_parse("2xH100-80GB,1xT4", &spec, &err), 0);
	assert_int_equal(spec.group_count, 2);
	assert_int_equal(spec.groups[1].model, model_index("T4"));
	assert_int_equal(sim_spec_parse(" 2 X h100-80gb , t4 ", &spec, &err), 0);
	assert_int_equal(spec.groups[0].count, 2);
	assert_int_equal(spec.groups[1].count, 1);
	assert_int_equal(sim_spec_parse("32xL4", &spec, &err), 0);
}

static void bad_specs_say_where_and_what(void **state)
{
	static const struct {
		const char *text, *says;
	} cases[] = {
		{"", "SPEC, character 1: a GPU model is missing"},
		{"8x", "SPEC, character 3: a GPU model is missing"},
		{"T4,", "SPEC, character 4: a GPU model is missing"},
		{",T4", "SPEC, character 1: a GPU model is missing"},
		{"8", "SPEC, character 1: an 'x'"},
		{"8 T4", "SPEC, character 1: an 'x'"},
		{"2xH100-80GB,1xT5", "SPEC, character 15: unknown GPU model 'T5'; did you mean T4?"},
		{"8xA100-8OGB", "SPEC, character 3: unknown GPU model 'A100-8OGB'; did you mean A100-80GB?"},
		{"toaster", "SPEC, character 1: unknown GPU model 'toaster'; 'gpushare sim models'"},
		{"0xT4", "SPEC, character 1: a count of 0"},
		{"33xT4", "SPEC, character 1: too many GPUs; a node holds at most 32"},
		{"4294967297xT4", "SPEC, character 1: too many GPUs; a node holds at most 32"},
		{"31xT4,2xL4", "SPEC, character 7: too many GPUs"},
		{"99999999999999999999999xT4", "a node holds at most 32"},
		{"T4 L4", "SPEC, character 4: a comma"},
		{"-1xT4", "unknown GPU model"},
		{"T4\n", "SPEC, character 3: a character"},
		{"T\xC3\xA4"
		 "4",
		 "SPEC, character 2: a character"},
	};
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		struct gs_error err = {0};
		struct sim_spec spec = {0};
		assert_int_equal(sim_spec_parse(cases[i].text, &spec, &err), -1);
		if (!strstr(err.text, cases[i].says))
			fail_msg("'%s' gave: %s", cases[i].text, err.text);
	}
}

static void a_long_name_is_refused(void **state)
{
	struct gs_error err;
	struct sim_spec spec = {0};
	char text[4096];
	memset(text, 'A', sizeof text - 1);
	text[sizeof text - 1] = '\0';
	assert_int_equal(sim_spec_parse(text, &spec, &err), -1);
}

static int parse(const char *text, struct sim_spec *spec, struct gs_error *err)
{
	memset(spec, 0, sizeof *spec);
	memset(err, 0, sizeof *err);
	return sim_spec_parse_yaml(text, strlen(text), "node.yaml", spec, err);
}

static void good_files(void **state)
{
	struct gs_error err;
	struct sim_spec spec;
	assert_int_equal(parse("driverVersion: 535.183.01\n"
			       "seed: 7\n"
			       "gpus:\n"
			       "- model: A100-80GB\n"
			       "  count: 4\n"
			       "  memory: 40Gi\n"
			       "  numaNode: 1\n"
			       "- {model: t4}\n",
			       &spec, &err),
			 0);
	assert_string_equal(spec.driver_version, "535.183.01");
	assert_int_equal(spec.seed, 7);
	assert_int_equal(spec.group_count, 2);
	assert_int_equal(spec.groups[0].count, 4);
	assert_int_equal(spec.groups[0].memory_total, 40ull << 30);
	assert_true(spec.groups[0].numa_set && spec.groups[0].numa_node == 1);
	assert_false(spec.groups[1].numa_set);
	assert_int_equal(spec.groups[1].count, 1);
}

static void files_of_other_editors(void **state)
{
	static const char *const texts[] = {
		"\xef\xbb\xbfgpus:\n- model: T4\nseed: 7\n",
		"gpus:\r\n- model: T4\r\nseed: 7\r\n---\r\n",
		"gpus:\n- model: T4\nseed: 7\n---\n---\n...\n",
	};
	struct gs_error err;
	struct sim_spec spec;
	for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
		if (parse(texts[i], &spec, &err))
			fail_msg("%s", err.text);
		assert_int_equal(spec.seed, 7);
	}
	assert_int_equal(parse("gpus:\n- model: T4\n---\n---\nseed: 7\n", &spec, &err), -1);
	assert_non_null(strstr(err.text, "node.yaml:5:1: a second document"));
}

static void bad_files_say_where_and_what(void **state)
{
	static const struct {
		const char *text, *says;
	} cases[] = {
		{"", "node.yaml: the file is empty"},
		{"- T4\n", "node.yaml:1:1: the file must be a mapping"},
		{"seed: 1\n", "node.yaml:1:1: the key gpus is missing"},
		{"gpu:\n- model: T4\n", "node.yaml:1:1: unknown key 'gpu'; did you mean 'gpus'?"},
		{"gpus: 8xT4\n", "node.yaml:1:7: gpus is a list"},
		{"gpus: []\n", "node.yaml:1:7: gpus is a list"},
		{"gpus:\n- T4\n", "node.yaml:2:3: each entry of gpus is a mapping"},
		{"gpus:\n- count: 2\n", "node.yaml:2:3: this GPU has no model"},
		{"gpus:\n- model: T5\n", "node.yaml:2:10: unknown GPU model 'T5'; did you mean T4?"},
		{"gpus:\n- model: T4\n  count: 0\n", "node.yaml:3:10: count is '0'; write a number from 1 to 32"},
		{"gpus:\n- model: T4\n  count: 2x\n", "node.yaml:3:10: count"},
		{"gpus:\n- model: T4\n  count: [1]\n", "node.yaml:3:10: count must be one value"},
		{"gpus:\n- model: T4\n  memory: 4Gb\n", "node.yaml:3:11: "},
		{"gpus:\n- model: T4\n  memory: 100Mi\n", "too little memory"},
		{"gpus:\n- model: T4\n  memory: -1\n", "node.yaml:3:11: "},
		{"gpus:\n- model: T4\n  memory: 7Ei\n", "at most 1Pi"},
		{"gpus:\n- model: T4\n  numaNode: -2\n", "node.yaml:3:13: numaNode"},
		{"gpus:\n- model: T4\n  mig: none\n", "node.yaml:3:8: a T4 has no MIG"},
		{"gpus:\n- mig: 3g.40gb,3g.40g\n  model: H100-80GB\n",
		 "node.yaml:2:8: a H100-80GB has no MIG profile '3g.40g'; did you mean 3g.40gb?"},
		{"gpus:\n- model: A30\n  mig: \"\"\n", "node.yaml:3:8: '' names no MIG profile"},
		{"gpus:\n- model: A30\n  mig: 1g.6gb@\n", "node.yaml:3:8: a 1g.6gb does not begin at memory slice ''"},
		{"gpus:\n- model: A30\n  mig: 2g.12gb@1\n", "does not begin at memory slice '1'"},
		{"gpus:\n- model: A30\n  mig: 2g.12gb@99999999999999999999\n", "does not begin at memory slice '9999"},
		{"gpus:\n- model: A30\n  mig: [1g.6gb]\n", "node.yaml:3:8: mig must be one value"},
		{"gpus:\n- model: T4\n  numanode: 0\n", "did you mean 'numaNode'?"},
		{"gpus:\n- model: T4\n  model: L4\n", "node.yaml:3:3: 'model' is there twice"},
		{"gpus:\n- model: T4\ngpus:\n- model: T4\n", "node.yaml:3:1: 'gpus' is there twice"},
		{"gpus:\n- model: T4\n  count: 20\n- model: L4\n  count: 20\n",
		 "too many GPUs; a node holds at most 32"},
		{"gpus:\n- model: T4\nseed: -1\n", "node.yaml:3:7: '-1' is no seed"},
		{"gpus:\n- model: T4\nseed: 18446744073709551616\n", "is no seed"},
		{"gpus:\n- model: T4\ndriverVersion: latest\n", "node.yaml:3:16: 'latest' is no driver version"},
		{"gpus:\n- model: T4\n---\ngpus:\n- model: T4\n", "node.yaml:4:1: a second document"},
		{"gpus:\n- model: \"T4\n", "this is no YAML"},
		{"gpus: [\n", "this is no YAML"},
		{"gpus:\n- model: \"T4\\0\"\n", "model must be one value"},
		{"gpus: [[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[\n", "node.yaml:1:38: nested deeper than 32 levels"},
		{"%TAG !a! b\n%TAG !b! b\n%TAG !c! b\n%TAG !d! b\n%TAG !e! b\n%TAG !f! b\n%TAG !g! b\n%TAG !h! b\n"
		 "%TAG !i! b\n%TAG !j! b\n%TAG !k! b\n%TAG !l! b\n%TAG !m! b\n%TAG !n! b\n%TAG !o! b\n%TAG !p! b\n"
		 "%TAG !q! b\n---\ngpus: []\n",
		 "node.yaml:17: more than 16 lines begin with %"},
		{"? [a]\n: b\n", "node.yaml:1:3: a key must be one value"},
		{"gpus: *nothing\n", "this is no YAML"},
	};
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		struct gs_error err;
		struct sim_spec spec;
		assert_int_equal(parse(cases[i].text, &spec, &err), -1);
		if (!strstr(err.text, cases[i].says))
			fail_msg("'%s' gave: %s", cases[i].text, err.text);
	}
}

static void layouts_are_of_each_group(void **state)
{
	struct gs_error err;
	struct sim_spec spec;
	assert_int_equal(parse("gpus:\n- mig: 1g.10gb@6,3G.40GB\n  model: A100-80GB\n- model: T4\n", &spec, &err), 0);
	assert_string_equal(spec.groups[0].mig, "1g.10gb@6,3G.40GB");
	assert_string_equal(spec.groups[1].mig, "");
	/* The command line's is for all that have MIG. */
	assert_int_equal(sim_spec_set_mig("none", &spec, &err), 0);
	assert_string_equal(spec.groups[0].mig, "none");
	assert_string_equal(spec.groups[1].mig, "");
	char text[600] = "1g.10gb";
	while (strlen(text) < 500)
		strcat(text, ",1g.10gb");
	assert_int_equal(sim_spec_set_mig(text, &spec, &err), -1);
	assert_non_null(strstr(err.text, "too long"));
	spec.group_count = 0;
	assert_int_equal(sim_spec_set_mig("none", &spec, &err), -1);
}

static void aliases_do_not_multiply_gpus(void **state)
{
	struct gs_error err;
	struct sim_spec spec;
	/* 64 references to one entry: refused for what they add up to. */
	char text[2048] = "gpus:\n- &g {model: T4}\n";
	for (int i = 0; i < 63; i++)
		strcat(text, "- *g\n");
	assert_int_equal(parse(text, &spec, &err), -1);
	assert_non_null(strstr(err.text, "at most 32"));
	/* An alias to the list itself must not be followed for ever. */
	assert_int_equal(parse("gpus: &a\n- *a\n", &spec, &err), -1);
}

static void versions_and_seeds(void **state)
{
	struct gs_error err;
	struct sim_spec spec = {0};
	static const char *const bad[] = {
		"",       ".",   "550",       "550.",        ".550",
		"550..1", "a.b", "1.2.3.4.5", "550.163.01 ", "1234567890123456.1234567890123456"};
	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
		assert_int_equal(sim_spec_set_driver_version(bad[i], &spec, &err), -1);
	assert_int_equal(sim_spec_set_driver_version("580.65.06", &spec, &err), 0);
	assert_int_equal(sim_spec_set_seed("18446744073709551615", &spec, &err), 0);
	assert_true(spec.seed == UINT64_MAX);
	assert_int_equal(sim_spec_set_seed("0x1", &spec, &err), -1);
	assert_int_equal(sim_spec_set_seed("", &spec, &err), -1);
}

static void a_path_is_told_from_a_spec(void **state)
{
	struct gs_error err;
	struct sim_spec spec = {0};
	assert_int_equal(sim_spec_load("2xT4", &spec, &err), 0);
	assert_int_equal(sim_spec_load("./nowhere", &spec, &err), -1);
	assert_non_null(strstr(err.text, "nowhere"));
	assert_int_equal(sim_spec_load("nowhere.yaml", &spec, &err), -1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(good_specs),
		cmocka_unit_test(bad_specs_say_where_and_what),
		cmocka_unit_test(a_long_name_is_refused),
		cmocka_unit_test(good_files),
		cmocka_unit_test(files_of_other_editors),
		cmocka_unit_test(bad_files_say_where_and_what),
		cmocka_unit_test(layouts_are_of_each_group),
		cmocka_unit_test(aliases_do_not_multiply_gpus),
		cmocka_unit_test(versions_and_seeds),
		cmocka_unit_test(a_path_is_told_from_a_spec),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
