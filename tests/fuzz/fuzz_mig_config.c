/* What a user writes as a MIG configuration, and then what it wants of a node. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "core/mig/mig_config.h"
#include "core/mig/mig_plan.h"
#include "../unit/core/mig_fixture.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool fact)
{
	if (!fact)
		abort();
}

static void check_diagnostics(const struct gs_diagnostics *diags)
{
	for (size_t i = 0; i < diags->count; i++) {
		require(!strchr(diags->items[i].text, '\n') && !strchr(diags->items[i].text, '\033'));
		require(*diags->items[i].message && diags->items[i].line >= 0);
	}
}

static void check_entries(const struct gs_mig_named *named)
{
	require(named->entry_count > 0 && *named->name);
	for (size_t i = 0; i < named->entry_count; i++) {
		const struct gs_mig_entry *entry = &named->entries[i];
		require(entry->line > 0 && (!entry->all_devices || !entry->device_count));
		require(entry->enabled || !entry->count_count);
		for (size_t k = 0; k < entry->count_count; k++)
			require(entry->counts[k].count <= GS_MIG_CONFIG_COUNT_MAX &&
				strlen(entry->counts[k].profile) < GS_MIG_NAME_SIZE);
	}
}

/* Written and read again it wants the same. */
static void check_text(const struct gs_mig_config *config)
{
	GS_AUTO_FREE char *text = gs_mig_config_text(config);
	struct gs_mig_config again;
	require(gs_mig_config_parse("again", text, strlen(text), &again, NULL) == 0);
	GS_AUTO_FREE char *text_again = gs_mig_config_text(&again);
	require(strcmp(text, text_again) == 0);
	gs_mig_config_free(&again);
}

static void check_targets(const struct gs_mig_config *config, const struct gs_mig_named *named)
{
	static struct gs_mig_gpu a100, rtx;
	if (!a100.profile_count) {
		a100 = mig_fixture("A100-80GB");
		rtx = mig_fixture("RTX-PRO-6000");
	}
	const struct gs_mig_node_gpu gpus[] = {
		{&a100, 0x20B210DE, 0x146310DE}, {NULL, 0x1EB810DE, 0}, {&rtx, 0x2BB510DE, 0}};
	static const struct gs_mig_layout empty;
	struct gs_mig_target targets[3];
	struct gs_diagnostics diags = {0};
	struct gs_mig_plan plan;

	int result = gs_mig_config_resolve(config, named, gpus, 3, targets, &diags);
	require((result < 0) == (diags.error_count > 0));
	check_diagnostics(&diags);
	gs_diagnostics_free(&diags);
	for (size_t i = 0; i < 3 && !result; i++) {
		require(!targets[i].named || gpus[i].mig);
		if (targets[i].enabled &&
		    gs_mig_plan_make(gpus[i].mig, &empty, &targets[i].wish, GS_MIG_BECOME, &plan) == 0)
			require(plan.created == targets[i].wish.count && !plan.destroyed);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct gs_mig_config config;
	struct gs_diagnostics diags = {0};
	int result = gs_mig_config_parse("fuzz.yaml", (const char *)data, size, &config, &diags);

	require((result < 0) == (diags.error_count > 0));
	check_diagnostics(&diags);
	gs_diagnostics_free(&diags);
	for (size_t i = 0; i < config.count; i++) {
		check_entries(&config.items[i]);
		check_targets(&config, &config.items[i]);
	}
	if (!result)
		check_text(&config);
	gs_mig_config_free(&config);
	return 0;
}
