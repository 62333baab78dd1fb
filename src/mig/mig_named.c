#include "mig/mig_named.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/file.h"
#include "base/strbuf.h"

enum { CONFIG_BYTES_MAX = 1024 * 1024 };

static const char *first_error(const struct gs_diagnostics *diags)
{
	for (size_t i = 0; i < diags->count; i++)
		if (!diags->items[i].warning)
			return diags->items[i].text;
	return "the configuration is not valid";
}

static enum gs_mig_outcome refuse_by(struct gs_mig_change *change, struct gs_diagnostics *diags)
{
	enum gs_mig_outcome outcome = gs_mig_change_stop(change, GS_MIG_CHANGE_REFUSED, "%s", first_error(diags));
	gs_diagnostics_free(diags);
	return outcome;
}

/* A GPU that can't be read does not keep the others from being changed, but the result names it. */
static void keep_notes(const struct gs_mig_change *change, struct gs_mig_by_name *by_name, struct gs_diagnostics *diags)
{
	struct gs_strbuf notes = {0};
	for (size_t i = 0; i < change->boards.count; i++)
		if (change->boards.items[i].problem[0])
			gs_strbuf_printf(&notes, "; GPU %u is left out, since it can't be read: %s",
					 change->boards.items[i].index, change->boards.items[i].problem);
	for (size_t i = 0; i < diags->count; i++)
		gs_strbuf_printf(&notes, "; %s", diags->items[i].message);
	free(by_name->notes);
	by_name->notes = notes.length ? gs_strbuf_take(&notes) : NULL;
	gs_diagnostics_free(diags);
}

/* Fills `file`, which stays empty where there is none. */
static enum gs_mig_outcome load(struct gs_mig_change *change, const struct gs_mig_by_name *by_name,
				struct gs_mig_config *file)
{
	struct gs_diagnostics diags = {0};
	struct gs_error err;
	size_t length;
	if (!by_name->config_path || access(by_name->config_path, F_OK) < 0)
		return GS_MIG_CHANGE_DONE;
	GS_AUTO_FREE char *text = gs_read_file_again(by_name->config_path, CONFIG_BYTES_MAX, &length, &err);
	if (!text)
		return gs_mig_change_stop(change, GS_MIG_CHANGE_FAILED, "%s", err.text);
	/* A file that is not valid may define a configuration by that name, so it is refused whatever the name is. */
	if (gs_mig_config_parse(by_name->config_path, text, length, file, &diags) < 0)
		return refuse_by(change, &diags);
	gs_diagnostics_free(&diags);
	return GS_MIG_CHANGE_DONE;
}

static enum gs_mig_outcome find_targets(struct gs_mig_change *change, struct gs_mig_by_name *by_name,
					const struct gs_mig_config *file, struct gs_mig_target *targets)
{
	GS_AUTO_FREE struct gs_mig_node_gpu *gpus = gs_mig_node_gpus(&change->boards);
	struct gs_mig_config generated = {0};
	struct gs_diagnostics diags = {0};
	struct gs_error err;
	enum gs_mig_outcome outcome = GS_MIG_CHANGE_DONE;
	gs_mig_config_generate(gpus, change->boards.count, &generated);
	const struct gs_mig_config *from = file;
	const struct gs_mig_named *named = gs_mig_config_find(file, by_name->name, &err);
	if (!named) {
		from = &generated;
		named = gs_mig_config_find(&generated, by_name->name, file->count ? NULL : &err);
	}
	if (!named) {
		outcome = gs_mig_change_stop(change, GS_MIG_CHANGE_REFUSED, "%s", err.text);
	} else if (gs_mig_config_resolve(from, named, gpus, change->boards.count, targets, &diags) < 0) {
		outcome = refuse_by(change, &diags);
	} else {
		by_name->matched = gs_mig_config_is_matched(named, gpus, change->boards.count, targets);
		keep_notes(change, by_name, &diags);
	}
	gs_mig_config_free(&generated);
	return outcome;
}

/* Some drivers list the profiles of a GPU only while MIG is on. */
static enum gs_mig_outcome need_profiles(struct gs_mig_change *change, const struct gs_mig_by_name *by_name)
{
	for (size_t i = 0; i < change->boards.count && strcmp(by_name->name, "all-disabled") != 0; i++) {
		const struct gs_mig_board *board = &change->boards.items[i];
		if (board->capable && !board->profiles_known)
			return gs_mig_change_stop(
				change, GS_MIG_CHANGE_FAILED,
				"the driver tells what GPU %u can be divided into only while MIG is on; "
				"turn it on with gpushare mig enable -i %u",
				board->index, board->index);
	}
	return GS_MIG_CHANGE_DONE;
}

enum gs_mig_outcome gs_mig_plan_by_name(struct gs_mig_change *change, void *user)
{
	struct gs_mig_by_name *by_name = user;
	struct gs_mig_config file = {0};
	GS_AUTO_FREE struct gs_mig_target *targets = gs_calloc(change->boards.count + 1, sizeof *targets);
	enum gs_mig_outcome outcome = need_profiles(change, by_name);
	if (outcome == GS_MIG_CHANGE_DONE)
		outcome = load(change, by_name, &file);
	if (outcome == GS_MIG_CHANGE_DONE)
		outcome = find_targets(change, by_name, &file, targets);
	gs_mig_config_free(&file);
	for (size_t i = 0; i < change->boards.count && outcome == GS_MIG_CHANGE_DONE; i++) {
		if (!targets[i].named)
			continue;
		change->tasks[i].when_restarted = true;
		outcome = gs_mig_change_plan(change, i, &targets[i]);
	}
	return outcome;
}

char *gs_mig_by_name_summary(const struct gs_mig_change *change, const struct gs_mig_by_name *by_name)
{
	const char *notes = by_name->notes ? by_name->notes : "";
	size_t gpus = 0, created = 0, destroyed = 0;
	for (size_t i = 0; i < change->boards.count; i++) {
		gpus += !gs_mig_task_is_done(&change->tasks[i]);
		created += change->tasks[i].plan.created;
		destroyed += change->tasks[i].plan.destroyed;
	}
	if (!gpus)
		return gs_printf("nothing was to do%s%s",
				 by_name->matched ? "" : " on the GPUs that the configuration names", notes);
	return gs_printf("%zu GPU%s changed: %zu instances created, %zu destroyed%s", gpus, gpus == 1 ? "" : "s",
			 created, destroyed, notes);
}
