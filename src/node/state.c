#include "node/state.h"

#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/file.h"
#include "base/log.h"
#include "kube/cdi/cdi.h"
#include "node/labels.h"
#include "strategy/strategies.h"

static const char *const own_files[] = {"allocations.json", "config.json", "gpus.json",         NODE_LABELS_RECORD,
					"mig-change",       "mig.lock",    "gpushare-cdi-hook", NULL};

static bool is_of_file(const char *name, const char *file)
{
	size_t length = strlen(file);
	return !strncmp(name, file, length) && (!name[length] || name[length] == '.');
}

/* NULL: it has none. */
static const char *file_of(const struct gs_strategy *strategy)
{
	return strategy->life ? strategy->life->state_file : NULL;
}

bool node_is_state_file(const char *name)
{
	for (const char *const *file = own_files; *file; file++)
		if (is_of_file(name, *file))
			return true;
	for (size_t i = 0; i < gs_strategy_count; i++)
		if (file_of(gs_strategies[i]) && is_of_file(name, file_of(gs_strategies[i])))
			return true;
	return false;
}

static const char *base_name(const char *path)
{
	const char *slash = strrchr(path, '/');
	return slash ? slash + 1 : path;
}

static size_t tidy_specs(const char *folder)
{
	size_t removed = 0;
	for (const char *const *class = gs_cdi_classes; *class; class ++) {
		GS_AUTO_FREE char *path = gs_cdi_path(folder, *class);
		removed += gs_remove_unfinished(folder, (const char *const[]){base_name(path), NULL});
	}
	return removed;
}

/* It is written under a hidden name. */
static size_t tidy_labels(const char *path)
{
	const char *name = base_name(path);
	GS_AUTO_FREE char *hidden = gs_printf(".%s", name);
	GS_AUTO_FREE char *folder = gs_printf("%.*s", (int)(name - path), path);
	return *folder ? gs_remove_unfinished(folder, (const char *const[]){hidden, NULL}) : 0;
}

void node_state_tidy(const struct node_options *options, const struct gs_config *config)
{
	size_t removed = gs_remove_unfinished(options->state_dir, own_files) + tidy_specs(options->cdi_dir);
	for (size_t i = 0; i < gs_strategy_count; i++)
		if (file_of(gs_strategies[i]))
			removed += gs_remove_unfinished(options->state_dir,
							(const char *const[]){file_of(gs_strategies[i]), NULL});
	if (config->flags.gfd.output_file)
		removed += tidy_labels(config->flags.gfd.output_file);
	if (removed)
		gs_log(GS_LOG_INFO, "removed half-written files of processes that are gone", GS_INT("files", removed));
}
