#include "core/config/config.h"

#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "core/config/config_value.h"

void gs_config_init(struct gs_config *config)
{
	struct gs_error err;
	*config = (struct gs_config){0};
	config->time_slicing.fail_requests_greater_than_one = GS_UNSET;
	config->mps.fail_requests_greater_than_one = GS_UNSET;
	config->kubernetes.api = GS_UNSET;
	for (size_t i = 0; i < gs_config_key_count; i++) {
		const struct gs_config_key *key = &gs_config_keys[i];
		/* A default that its own key refuses is a mistake in the table. */
		if (key->fallback && !gs_config_key_in_list(key) &&
		    gs_value_from_text(key, config, key->fallback, &err))
			abort();
	}
	config->flags.nvidia_dev_root = gs_strdup(config->flags.nvidia_driver_root);
}

void gs_config_free(struct gs_config *config)
{
	for (size_t i = 0; i < gs_config_key_count; i++)
		if (!gs_config_key_in_list(&gs_config_keys[i]))
			gs_value_free(&gs_config_keys[i], config);
	*config = (struct gs_config){0};
}

unsigned gs_sharing_thread_percentage(const struct gs_sharing_resource *entry)
{
	if (entry->active_thread_percentage)
		return entry->active_thread_percentage;
	return entry->replicas < 100 ? 100 / entry->replicas : 1;
}
