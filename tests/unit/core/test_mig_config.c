#include "base/strbuf.h"
#include "core/mig/mig_config.h"
#include "core/mig/mig_plan.h"
#include "fixture.h"
#include "mig_fixture.h"

enum { A100_40_ID = 0x20B010DE, A100_80_ID = 0x20B210DE, T4_ID = 0x1EB810DE };

static void expect_errors(const char *text, const char *const *lines)
{
	struct gs_mig_config config;
	struct gs_diagnostics diags = {0};

	assert_int_equal(gs_mig_config_parse("mig.yaml", text, strlen(text), &config, &diags), -1);
	assert_int_equal(config.count, 0);
	for (size_t i = 0; i < diags.count; i++) {
		if (!lines[i])
			fail_msg("unexpected: %s", diags.items[i].text);
		assert_string_equal(diags.items[i].text, lines[i]);
	}
	assert_null(lines[diags.count]);
	gs_diagnostics_free(&diags);
}

#define EXPECT_ERRORS(text, ...) expect_errors((text), (const char *const[]){__VA_ARGS__, NULL})

/* One entry under version and a name, each of its lines given without indentation. */
#define ENTRY(text) "version: v1\nmig-configs:\n  a:\n  - " text "\n"

static void test_errors_have_a_place(void **state)
{
	(void)state;
	EXPECT_ERRORS("", "mig.yaml: the file is empty; write version: v1 and mig-configs");
	EXPECT_ERRORS("[]", "mig.yaml:1:1: a MIG configuration is a map with version and mig-configs");
	EXPECT_ERRORS("version: v2\nmig-config: {}\n", "mig.yaml:1:1: the file lacks \"mig-configs\"",
		      "mig.yaml:1:10: version must be v1, not v2",
		      "mig.yaml:2:1: unknown key \"mig-config\" in the file; did you mean \"mig-configs\"?");
	EXPECT_ERRORS("version: v1\nmig-configs: {}\n",
		      "mig.yaml:2:14: mig-configs must name at least one configuration");
	EXPECT_ERRORS("version: v1\nmig-configs: {a: []}\n",
		      "mig.yaml:2:18: configuration a must be a list with at least one entry; begin each with \"- \"");
	EXPECT_ERRORS(
		"apiVersion: v1\nkind: ConfigMap\nversion: v1\nmig-configs: {a: [{devices: all, mig-enabled: false}]}",
		"mig.yaml:2:7: this ConfigMap has no data; add data with a key such as config.yaml that holds the "
		"configuration");
	EXPECT_ERRORS("kind: ConfigMap\ndata:\n  config.yaml: |\n    version: v1\n    mig-configs:\n      a: []\n",
		      "mig.yaml:6:10: configuration a must be a list with at least one entry; begin each with \"- \"");
}

static void test_errors_of_an_entry(void **state)
{
	(void)state;
	EXPECT_ERRORS(ENTRY("{}"), "mig.yaml:4:5: an entry lacks \"devices\"",
		      "mig.yaml:4:5: an entry lacks \"mig-enabled\"");
	EXPECT_ERRORS(ENTRY("{devices: al, mig-enabled: maybe, mig-device: {}}"),
		      "mig.yaml:4:15: devices must be all, or a list of GPU indexes such as [0, 1]",
		      "mig.yaml:4:32: mig-enabled must be true or false",
		      "mig.yaml:4:39: unknown key \"mig-device\" in an entry; did you mean \"mig-devices\"?");
	EXPECT_ERRORS(ENTRY("{devices: [0, -1, x, 0, \"1\", 99999], mig-enabled: false}"),
		      "mig.yaml:4:19: a GPU index must be a whole number in digits, not \"-1\"",
		      "mig.yaml:4:23: a GPU index must be a whole number in digits, not \"x\"",
		      "mig.yaml:4:26: GPU 0 is listed twice",
		      "mig.yaml:4:29: a GPU index must be a number, but \"1\" in quotes is text; remove the quotes",
		      "mig.yaml:4:34: a GPU index is 99999; at most 1024 is possible");
	EXPECT_ERRORS(ENTRY("{devices: all, mig-enabled: true}"),
		      "mig.yaml:4:5: an entry with mig-enabled: true lacks \"mig-devices\"; write {} for MIG without "
		      "instances");
	EXPECT_ERRORS(ENTRY("{devices: all, mig-enabled: false, mig-devices: {1g.10gb: 7}}"),
		      "mig.yaml:4:53: mig-devices are given, but mig-enabled is false; remove one of them");
	EXPECT_ERRORS(ENTRY("{devices: all, mig-enabled: true, mig-devices: {1g.10: 7, 1g.10gb: many, 1g.5gb: -1}}"),
		      "mig.yaml:4:53: \"1g.10\" is no MIG profile; write one such as 1g.10gb, 1g.10gb+me or 1c.3g.40gb",
		      "mig.yaml:4:72: 1g.10gb must be a whole number in digits, not \"many\"",
		      "mig.yaml:4:86: 1g.5gb must be a whole number in digits, not \"-1\"");
	EXPECT_ERRORS(
		ENTRY("{devices: all, mig-enabled: true, mig-devices: {7x1g.10gb: 1, 1g.10gb.me: 1, 1g.5gb x 2: 1, "
		      "nvidia.com/mig-1C.3G.40GB: 1}}"),
		"mig.yaml:4:53: \"7x1g.10gb\" is no MIG profile; did you mean \"1g.10gb\": 7?",
		"mig.yaml:4:67: \"1g.10gb.me\" is no MIG profile; did you mean \"1g.10gb+me\"?",
		"mig.yaml:4:82: \"1g.5gb x 2\" is no MIG profile; did you mean \"1g.5gb\": 2?",
		"mig.yaml:4:97: \"nvidia.com/mig-1C.3G.40GB\" is no MIG profile; did you mean \"1c.3g.40gb\"?");
	EXPECT_ERRORS(ENTRY("{devices: all, mig-enabled: true, mig-devices: {1g.10gb: 0}}"),
		      "mig.yaml:4:52: every count in mig-devices is 0; write {} for MIG without instances");
	EXPECT_ERRORS(ENTRY("{devices: all, mig-enabled: false, device-filter: [A100, 0x20B010DE]}"),
		      "mig.yaml:4:56: device-filter \"A100\" is no PCI device id; write one such as \"0x20B210DE\"");
}

static struct gs_mig_config parse(const char *text)
{
	struct gs_mig_config config;
	struct gs_diagnostics diags = {0};
	if (gs_mig_config_parse("mig.yaml", text, strlen(text), &config, &diags))
		fail_msg("%s", diags.items[0].text);
	assert_int_equal(diags.count, 0);
	gs_diagnostics_free(&diags);
	return config;
}

static void test_what_mig_parted_takes(void **state)
{
	(void)state;
	struct gs_mig_config config =
		parse("version: v1\n"
		      "mig-configs:\n"
		      "  off:\n"
		      "    - devices: all\n"
		      "      mig-enabled: false\n"
		      "  mixed:\n"
		      "    - device-filter: [\" 0x20B010DE\", \"0x20b210de:0x146310DE \"]\n"
		      "      devices: [0,1]\n"
		      "      mig-enabled: yes\n"
		      "      mig-devices:\n"
		      "        \"1g.10gb\": 2\n"
		      "        1c.3g.40gb: 3\n"
		      "        1g.10gb+me: 1\n"
		      "    - {devices: [2], device-filter: \"\", mig-enabled: true, mig-devices: {}}\n");
	assert_int_equal(config.count, 2);
	const struct gs_mig_entry *off = &config.items[0].entries[0], *mixed = config.items[1].entries;
	assert_true(off->all_devices && !off->enabled && !off->count_count && !off->filter_count);
	assert_int_equal(config.items[1].entry_count, 2);
	assert_int_equal(mixed->device_count, 2);
	assert_true(mixed->enabled && mixed[1].enabled);
	assert_int_equal(mixed->filter_count, 2);
	assert_int_equal(mixed->filters[0].device, 0x20B010DE);
	assert_true(mixed->filters[0].any_subsystem);
	assert_int_equal(mixed->filters[1].subsystem, 0x146310DE);
	assert_false(mixed->filters[1].any_subsystem);
	assert_int_equal(mixed->count_count, 3);
	assert_string_equal(mixed->counts[1].profile, "1c.3g.40gb");
	assert_int_equal(mixed->counts[1].count, 3);
	assert_int_equal(mixed->counts[1].line, 12);
	assert_int_equal(mixed[1].count_count + mixed[1].filter_count, 0);

	/* As it is mounted from a ConfigMap. */
	struct gs_mig_config wrapped =
		parse("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: mig}\ndata:\n  config.yaml: |\n"
		      "    version: v1\n    mig-configs:\n      a:\n      - devices: all\n"
		      "        mig-enabled: false\n");
	assert_int_equal(wrapped.count, 1);
	assert_int_equal(wrapped.items[0].line, 8);
	assert_string_equal(wrapped.file, "mig.yaml");
	gs_mig_config_free(&wrapped);

	GS_AUTO_FREE char *text = gs_mig_config_text(&config);
	struct gs_mig_config again = parse(text);
	GS_AUTO_FREE char *text_again = gs_mig_config_text(&again);
	assert_string_equal(text, text_again);
	gs_mig_config_free(&again);
	gs_mig_config_free(&config);
}

static void test_files_of_other_editors(void **state)
{
	struct gs_mig_config config = parse(
		"\xef\xbb\xbfversion: v1\r\nmig-configs:\r\n  a: [{devices: all, mig-enabled: false}]\r\n---\r\n");
	assert_int_equal(config.count, 1);
	gs_mig_config_free(&config);
}

static void test_find(void **state)
{
	(void)state;
	struct gs_mig_config config = parse(ENTRY("{devices: all, mig-enabled: false}"));
	struct gs_error err;
	assert_ptr_equal(gs_mig_config_find(&config, NULL, &err), &config.items[0]);
	assert_ptr_equal(gs_mig_config_find(&config, "a", &err), &config.items[0]);
	assert_null(gs_mig_config_find(&config, "zzz", &err));
	assert_string_equal(err.text, "mig.yaml: there is no MIG configuration \"zzz\"; there is a");
	gs_mig_config_free(&config);
}

struct node {
	struct gs_mig_gpu a100_40, a100_80;
	struct gs_mig_node_gpu gpus[3];
};

/* An A100 with 80 GB, one with 40 GB, and a T4. */
static void node_open(struct node *node)
{
	node->a100_40 = mig_fixture("A100-40GB");
	node->a100_80 = mig_fixture("A100-80GB");
	node->gpus[0] = (struct gs_mig_node_gpu){.mig = &node->a100_80, .pci_device = A100_80_ID};
	node->gpus[1] = (struct gs_mig_node_gpu){.mig = &node->a100_40, .pci_device = A100_40_ID};
	node->gpus[2] = (struct gs_mig_node_gpu){.pci_device = T4_ID};
}

static void expect_targets(const char *file, const char *const *wanted)
{
	struct node node;
	struct gs_mig_target targets[3];
	struct gs_mig_config config = parse(file);
	struct gs_diagnostics diags = {0};

	node_open(&node);
	if (gs_mig_config_resolve(&config, &config.items[0], node.gpus, 3, targets, &diags)) {
		for (size_t i = 0; i < diags.count; i++)
			assert_string_equal(diags.items[i].text, wanted[i]);
		assert_null(wanted[diags.count]);
	} else {
		for (size_t i = 0; i < 3; i++) {
			GS_AUTO_FREE char *text = !targets[i].named ? gs_strdup("as it is")
						  : !targets[i].enabled
							  ? gs_strdup("off")
							  : gs_mig_wish_text(node.gpus[i].mig, &targets[i].wish);
			assert_string_equal(text, wanted[i]);
		}
	}
	gs_diagnostics_free(&diags);
	gs_mig_config_free(&config);
}

#define EXPECT_TARGETS(file, ...) expect_targets((file), (const char *const[]){__VA_ARGS__, NULL})

static void test_targets(void **state)
{
	(void)state;
	EXPECT_TARGETS(ENTRY("{devices: all, mig-enabled: false}"), "off", "off", "as it is");
	EXPECT_TARGETS(ENTRY("{devices: [0], mig-enabled: true, mig-devices: {1c.3g.40gb: 4, 1g.10gb: 1}}"),
		       "1x 1g.10gb, 4x 1c.3g.40gb", "as it is", "as it is");
	EXPECT_TARGETS(ENTRY("{devices: all, device-filter: 0x20B210DE, mig-enabled: true, mig-devices: {}}"),
		       "nothing", "as it is", "as it is");
	/* The same name is another profile on another GPU. */
	EXPECT_TARGETS(ENTRY("{devices: all, mig-enabled: true, mig-devices: {1g.10gb: 4}}"), "4x 1g.10gb",
		       "4x 1g.10gb", "as it is");
	/* Twice the same is not a contradiction; indexes of other nodes' GPUs are none of this one's. */
	EXPECT_TARGETS(
		ENTRY("{devices: [0], mig-enabled: true, mig-devices: {1g.10gb: 1}}\n"
		      "  - {devices: [0], mig-enabled: true, mig-devices: {1g.10gb: 1}}\n"
		      "  - {devices: [7], device-filter: 0x233010DE, mig-enabled: true, mig-devices: {1g.1gb: 1}}"),
		"1x 1g.10gb", "as it is", "as it is");
}

/* The notes of a configuration, and whether it is about this node. */
static void expect_notes(const char *file, bool matched, const char *const *notes)
{
	struct node node;
	struct gs_mig_target targets[3];
	struct gs_mig_config config = parse(file);
	struct gs_diagnostics diags = {0};
	node_open(&node);
	assert_int_equal(gs_mig_config_resolve(&config, &config.items[0], node.gpus, 3, targets, &diags), 0);
	for (size_t i = 0; i < diags.count; i++) {
		assert_true(diags.items[i].warning);
		assert_string_equal(diags.items[i].text, notes[i]);
	}
	assert_null(notes[diags.count]);
	assert_int_equal(gs_mig_config_is_matched(&config.items[0], node.gpus, 3, targets), matched);
	gs_diagnostics_free(&diags);
	gs_mig_config_free(&config);
}

#define EXPECT_NOTES(file, matched, ...) expect_notes((file), (matched), (const char *const[]){__VA_ARGS__, NULL})

static void test_what_a_node_lacks_is_noted(void **state)
{
	(void)state;
	static const char several[] = ENTRY("{devices: [0, 3, 1, 4], mig-enabled: true, mig-devices: {1g.10gb: 4}}");
	EXPECT_TARGETS(several, "4x 1g.10gb", "4x 1g.10gb", "as it is");
	EXPECT_NOTES(several, true,
		     "mig.yaml:4:19: warning: this node has no GPU 3, 4, and these are passed over; it has 3, numbered "
		     "from 0");
	EXPECT_NOTES(
		ENTRY("{devices: [7], mig-enabled: false}"), false,
		"mig.yaml:4:16: warning: this node has no GPU 7, and these are passed over; it has 3, numbered from 0");
	/* A filter that matches nothing is told where a GPU is left out; a file for several models is no news. */
	EXPECT_NOTES(ENTRY("{devices: all, device-filter: 0x233010DE, mig-enabled: false}"), false,
		     "mig.yaml:4:5: warning: the device-filter of this entry matches no GPU of this node");
	EXPECT_NOTES(ENTRY("{devices: [0], mig-enabled: false}\n  - {devices: [1], device-filter: 0x233010DE, "
			   "mig-enabled: false}"),
		     false, "mig.yaml:5:5: warning: the device-filter of this entry matches no GPU of this node");
	EXPECT_NOTES(ENTRY("{devices: all, device-filter: [0x20B210DE, 0x20B010DE], mig-enabled: false}\n"
			   "  - {devices: all, device-filter: 0x233010DE, mig-enabled: false}"),
		     true, NULL);
	EXPECT_NOTES(ENTRY("{devices: [0], mig-enabled: false}"), true, NULL);
}

static void test_targets_refused(void **state)
{
	(void)state;
	EXPECT_TARGETS(ENTRY("{devices: [2], mig-enabled: true, mig-devices: {}}"),
		       "mig.yaml:4:16: GPU 2 can't do MIG; remove it from devices");
	EXPECT_TARGETS(ENTRY("{devices: [0], mig-enabled: true, mig-devices: {1g.5gb: 1}}"),
		       "mig.yaml:4:53: GPU 0: this GPU has no MIG profile \"1g.5gb\"; did you mean \"1g.10gb\"? It has "
		       "1g.10gb "
		       "(id 19), 1g.10gb+me (id 20), 1g.20gb (id 15), 2g.20gb (id 14), 3g.40gb (id 9), 4g.40gb (id 5), "
		       "7g.80gb (id 0)");
	EXPECT_TARGETS(
		ENTRY("{devices: [0], mig-enabled: true, mig-devices: {3g.40gb: 7}}"),
		"mig.yaml:4:53: GPU 0: at most 2 of 3g.40gb (id 9 on this GPU) fit on one GPU, not 7; 7 fit of 1g.10gb "
		"(id 19)");
	EXPECT_TARGETS(ENTRY("{devices: [0], mig-enabled: true, mig-devices: {1g.10gb: 200}}"),
		       "mig.yaml:4:53: GPU 0: at most 7 of 1g.10gb (id 19 on this GPU) fit on one GPU, not 200");
	EXPECT_TARGETS(ENTRY("{devices: [0], mig-enabled: true, mig-devices: {1g.10gb: 1}}\n  - {devices: all, "
			     "mig-enabled: false}"),
		       "mig.yaml:5:5: GPU 0 is wanted otherwise by the entry in line 4; let one entry speak of it");
}

static void expect_generated(const struct gs_mig_node_gpu *gpus, size_t count, const char *wanted)
{
	struct gs_mig_config config;
	struct gs_strbuf text = {0};

	gs_mig_config_generate(gpus, count, &config);
	for (size_t i = 0; i < config.count; i++) {
		gs_strbuf_printf(&text, "%s:", config.items[i].name);
		for (size_t k = 0; k < config.items[i].entry_count; k++) {
			const struct gs_mig_entry *entry = &config.items[i].entries[k];
			assert_true(entry->all_devices);
			for (size_t f = 0; f < entry->filter_count; f++)
				gs_strbuf_printf(&text, " %x", entry->filters[f].device);
			gs_strbuf_add(&text, entry->enabled ? "" : " off");
			for (size_t n = 0; n < entry->count_count; n++)
				gs_strbuf_printf(&text, " %ux%s", entry->counts[n].count, entry->counts[n].profile);
		}
		gs_strbuf_add(&text, "\n");
	}
	assert_string_equal(text.data ? text.data : "", wanted);
	gs_strbuf_free(&text);
	/* Each can be written, read and meant for every GPU here. */
	GS_AUTO_FREE char *file = gs_mig_config_text(&config);
	struct gs_mig_config again = {0};
	struct gs_mig_target targets[8];
	if (config.count)
		again = parse(file);
	assert_int_equal(again.count, config.count);
	for (size_t i = 0; i < again.count; i++)
		assert_int_equal(gs_mig_config_resolve(&again, &again.items[i], gpus, count, targets, NULL), 0);
	gs_mig_config_free(&again);
	gs_mig_config_free(&config);
}

static void test_generated(void **state)
{
	(void)state;
	struct node node;
	node_open(&node);
	expect_generated(
		node.gpus, 1,
		"all-disabled: off\nall-enabled:\nall-balanced: 2x1g.10gb 1x2g.20gb 1x3g.40gb\n"
		"all-1g.10gb: 7x1g.10gb\nall-1g.10gb.me: 1x1g.10gb+me\nall-1g.20gb: 4x1g.20gb\n"
		"all-2g.20gb: 3x2g.20gb\nall-3g.40gb: 2x3g.40gb\nall-4g.40gb: 1x4g.40gb\nall-7g.80gb: 1x7g.80gb\n");
	expect_generated(node.gpus + 2, 1, "");

	struct gs_mig_gpu a30 = mig_fixture("A30");
	struct gs_mig_node_gpu gpu = {.mig = &a30};
	expect_generated(&gpu, 1,
			 "all-disabled: off\nall-enabled:\nall-balanced: 2x1g.6gb 1x2g.12gb\nall-1g.6gb: 4x1g.6gb\n"
			 "all-1g.6gb.me: 1x1g.6gb+me\nall-2g.12gb: 2x2g.12gb\nall-2g.12gb.me: 1x2g.12gb+me\n"
			 "all-4g.24gb: 1x4g.24gb\n");
	struct gs_mig_gpu rtx = mig_fixture("RTX-PRO-6000");
	gpu.mig = &rtx;
	expect_generated(&gpu, 1,
			 "all-disabled: off\nall-enabled:\nall-balanced: 2x1g.24gb 1x2g.48gb\nall-1g.24gb: 4x1g.24gb\n"
			 "all-1g.24gb.me: 1x1g.24gb+me\nall-1g.24gb.gfx: 4x1g.24gb+gfx\n"
			 "all-1g.24gb.me.all: 1x1g.24gb+me.all\nall-1g.24gb-me: 4x1g.24gb-me\nall-2g.48gb: 2x2g.48gb\n"
			 "all-2g.48gb.gfx: 2x2g.48gb+gfx\nall-2g.48gb.me.all: 1x2g.48gb+me.all\n"
			 "all-2g.48gb-me: 2x2g.48gb-me\nall-4g.96gb: 1x4g.96gb\nall-4g.96gb.gfx: 1x4g.96gb+gfx\n");
}

/* Each of them is possible on every GPU that there is. */
static void test_generated_fit(void **state)
{
	(void)state;
	static const char *const models[] = {"A100-40GB",  "A100-80GB",  "A30",         "H100-80GB",
					     "H200-141GB", "B200-180GB", "RTX-PRO-6000"};
	static const struct gs_mig_layout empty;

	for (size_t i = 0; i < GS_ARRAY_LENGTH(models); i++) {
		struct gs_mig_gpu mig = mig_fixture(models[i]);
		struct gs_mig_node_gpu gpu = {.mig = &mig};
		struct gs_mig_config config;
		gs_mig_config_generate(&gpu, 1, &config);
		assert_int_equal(config.count, 3 + mig.profile_count);
		for (size_t k = 0; k < config.count; k++) {
			struct gs_mig_target target;
			struct gs_mig_plan plan;
			assert_int_equal(gs_mig_config_resolve(&config, &config.items[k], &gpu, 1, &target, NULL), 0);
			assert_int_equal(gs_mig_plan_make(&mig, &empty, &target.wish, GS_MIG_BECOME, &plan), 0);
			assert_int_equal(plan.created > 0, k >= 2);
		}
		gs_mig_config_free(&config);
	}
}

static void test_generated_for_different_gpus(void **state)
{
	(void)state;
	struct node node;
	node_open(&node);
	expect_generated(
		node.gpus, 3,
		"all-disabled: off\nall-enabled:\n"
		"all-balanced: 20b210de 2x1g.10gb 1x2g.20gb 1x3g.40gb 20b010de 2x1g.5gb 1x2g.10gb 1x3g.20gb\n"
		"all-1g.10gb: 20b210de 7x1g.10gb 20b010de 4x1g.10gb\nall-1g.10gb.me: 20b210de 1x1g.10gb+me\n"
		"all-1g.20gb: 20b210de 4x1g.20gb\nall-2g.20gb: 20b210de 3x2g.20gb\nall-3g.40gb: 20b210de 2x3g.40gb\n"
		"all-4g.40gb: 20b210de 1x4g.40gb\nall-7g.80gb: 20b210de 1x7g.80gb\nall-1g.5gb: 20b010de 7x1g.5gb\n"
		"all-1g.5gb.me: 20b010de 1x1g.5gb+me\nall-2g.10gb: 20b010de 3x2g.10gb\n"
		"all-3g.20gb: 20b010de 2x3g.20gb\nall-4g.20gb: 20b010de 1x4g.20gb\nall-7g.40gb: 20b010de 1x7g.40gb\n");
}

static void test_described(void **state)
{
	(void)state;
	struct node node;
	struct gs_mig_target targets[3] = {{.named = true, .enabled = true}, {.named = true}, {.named = false}};
	struct gs_mig_config config = {0};

	node_open(&node);
	assert_int_equal(gs_mig_parse_list(&node.a100_80, "1c.3g.40gb,2c.3g.40gb,3g.40gb", &targets[0].wish, NULL), 0);
	gs_mig_config_describe(&config, "current", node.gpus, targets, 3);
	GS_AUTO_FREE char *text = gs_mig_config_text(&config);
	assert_string_equal(text,
			    "version: v1\nmig-configs:\n  \"current\":\n"
			    "    - devices: [0]\n      mig-enabled: true\n      mig-devices:\n        \"3g.40gb\": 1\n"
			    "        \"2c.3g.40gb\": 1\n        \"1c.3g.40gb\": 1\n"
			    "    - devices: [1]\n      mig-enabled: false\n");
	gs_mig_config_free(&config);
	gs_mig_config_describe(&config, "current", node.gpus, targets, 0);
	assert_int_equal(config.count, 0);
	gs_mig_config_free(&config);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_errors_have_a_place),
		cmocka_unit_test(test_errors_of_an_entry),
		cmocka_unit_test(test_what_mig_parted_takes),
		cmocka_unit_test(test_files_of_other_editors),
		cmocka_unit_test(test_find),
		cmocka_unit_test(test_targets),
		cmocka_unit_test(test_what_a_node_lacks_is_noted),
		cmocka_unit_test(test_targets_refused),
		cmocka_unit_test(test_generated),
		cmocka_unit_test(test_generated_fit),
		cmocka_unit_test(test_generated_for_different_gpus),
		cmocka_unit_test(test_described),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
