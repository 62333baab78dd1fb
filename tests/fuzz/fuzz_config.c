/* What a user writes as a configuration. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/strbuf.h"
#include "core/config/config_parse.h"
#include "core/config/config_value.h"

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

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool fact)
{
	if (!fact)
		abort();
}

static void check_sharing(const struct gs_sharing *sharing)
{
	require(!sharing->present || sharing->resource_count > 0);
	for (size_t i = 0; i < sharing->resource_count; i++) {
		const struct gs_sharing_resource *entry = &sharing->resources[i];
		require(entry->replicas >= 1 && entry->replicas <= GS_REPLICAS_MAX);
		require(strncmp(entry->name, "nvidia.com/", 11) == 0 && strlen(entry->name) <= GS_RESOURCE_NAME_MAX);
		require(!entry->rename || strlen(entry->rename) <= GS_RESOURCE_NAME_MAX);
		require(entry->devices.kind != GS_SELECT_COUNT || entry->devices.count > 0);
		require((entry->devices.kind == GS_SELECT_LIST) == (entry->devices.list_length > 0));
		require(entry->line > 0 && entry->column > 0);
	}
}

/* What was accepted must be what the rest of the program relies on; what was refused must say why, on one line. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct gs_config_source source = {.name = "fuzz.yaml", .text = (const char *)data, .length = size};
	struct gs_config config, again;
	struct gs_diagnostics diags = {0};
	int result = gs_config_parse(&source, NULL, NULL, NULL, 0, &config, &diags);
	require((result < 0) == (diags.error_count > 0));
	for (size_t i = 0; i < diags.count; i++) {
		require(!strchr(diags.items[i].text, '\n') && !strchr(diags.items[i].text, '\033'));
		require(*diags.items[i].message && diags.items[i].line >= 0);
	}
	gs_diagnostics_free(&diags);
	if (result < 0)
		return 0;
	check_sharing(&config.time_slicing);
	require(!config.mps.present && config.flags.mig_strategy == GS_MIG_NONE);
	require(config.flags.nvidia_dev_root && config.flags.plugin.device_list_strategy);
	require(gs_config_parse(&source, NULL, NULL, NULL, 0, &again, NULL) == 0);
	require(is_same_config(&config, &again));
	gs_config_free(&again);
	gs_config_free(&config);
	return 0;
}
