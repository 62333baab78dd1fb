/* gpushare mig: creates single instances beside those that exist, and destroys them. */
#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "cli/mig.h"

static enum mig_outcome need_mig_on(const struct mig_call *call, const struct gs_mig_board *board)
{
	mig_fail(call, "MIG is off on GPU %u; turn it on with gpushare mig enable -i %u", board->index, board->index);
	return MIG_FAILED;
}

/* create
 * ---- */

/* The list, with --at's ":START" behind its only entry; NULL after a message was printed. */
static char *list_with_start(struct mig_call *call)
{
	const char *list = call->arguments->operands[0], *start = mig_option(call, "at"), *in = mig_option(call, "in");
	bool several = strchr(list, ',') || strchr(list, ':');
	if (in && (!*in || strspn(in, "0123456789") != strlen(in)))
		mig_misuse(call,
			   "--in %s: write the id of a GPU instance, such as --in 2; gpushare mig list shows them", in);
	else if (in && start)
		mig_misuse(call, "--at is the place of a GPU instance, and with --in none is created; leave one out");
	else if (start && several)
		mig_misuse(call, "--at is for one instance; with several write each place behind its profile, such as "
				 "1g.10gb:0,3g.40gb:4");
	else
		return start ? gs_printf("%s:%s", list, start) : gs_strdup(list);
	return NULL;
}

static const struct gs_mig_instance *find_by_id(const struct gs_mig_board *board, const char *id)
{
	for (size_t i = 0; i < board->layout.count; i++) {
		char text[16];
		snprintf(text, sizeof text, "%u", board->layout.instances[i].id);
		if (strcmp(text, id) == 0)
			return &board->layout.instances[i];
	}
	return NULL;
}

/* "2c.3g.40gb can begin at compute slice 0". */
static void add_starts(const struct gs_mig_profile *profile, uint8_t size, struct gs_strbuf *text)
{
	char name[GS_MIG_NAME_SIZE];
	uint32_t all = (1u << profile->compute_slices) - 1;
	bool any = false;
	gs_strbuf_printf(text, "%s%s can begin at compute slice ", text->length ? ", " : "",
			 gs_mig_compute_name(profile, size, name));
	for (uint32_t start = 0; start + size <= profile->compute_slices; start++) {
		uint8_t found;
		if (!gs_mig_compute_arrange(profile->compute_slices, all & ~(((1u << size) - 1) << start), &size, 1,
					    &found))
			continue;
		gs_strbuf_printf(text, "%s%u", any ? "/" : "", start);
		any = true;
	}
}

/* Too little is free; or it is in the wrong place, since larger ones can't begin anywhere. */
static enum mig_outcome no_room(const struct mig_call *call, const struct gs_mig_instance *instance,
				const struct gs_mig_profile *profile, uint32_t taken, const uint8_t *sizes,
				size_t count)
{
	GS_AUTO_STRBUF struct gs_strbuf starts = {0}, used = {0};
	uint32_t wanted = 0, told = 0;
	int busy = __builtin_popcount(taken);
	for (size_t i = 0; i < count && i < GS_MIG_COMPUTE_MAX; i++)
		wanted += sizes[i];
	if (count + instance->compute_count > GS_MIG_COMPUTE_MAX || wanted + (uint32_t)busy > profile->compute_slices) {
		mig_fail(call, "GPU instance %u (%s) has no room for that: %d of its %u compute slices %s taken",
			 instance->id, profile->name, busy, profile->compute_slices, busy == 1 ? "is" : "are");
		return MIG_FAILED;
	}
	for (size_t i = 0; i < count; told |= 1u << sizes[i], i++)
		if (sizes[i] > 1 && !(told & 1u << sizes[i]))
			add_starts(profile, sizes[i], &starts);
	for (unsigned i = 0; i < profile->compute_slices; i++)
		if (taken & 1u << i)
			gs_strbuf_printf(&used, "%s%u", used.length ? "," : "", i);
	mig_fail(call, "GPU instance %u (%s) has no place for that: %s, and of its slices %s %s taken", instance->id,
		 profile->name, starts.data, used.length ? used.data : "none", busy == 1 ? "is" : "are");
	return MIG_FAILED;
}

/* Compute instances in a GPU instance that is there. */
static enum mig_outcome plan_create_in(struct mig_call *call, struct gs_mig_task *task, const char *list)
{
	const struct gs_mig_board *board = task->board;
	const char *id = mig_option(call, "in");
	const struct gs_mig_instance *instance = find_by_id(board, id);
	struct gs_mig_wish wish = {0};
	uint8_t sizes[GS_MIG_COMPUTE_MAX], starts[GS_MIG_COMPUTE_MAX];
	uint32_t taken = 0;
	size_t count = 0;
	bool fits = true;

	if (!instance || instance->profile >= board->gpu.profile_count) {
		mig_fail(call, "--in %s: GPU %u has no such GPU instance; see gpushare mig list -i %u", id,
			 board->index, board->index);
		return MIG_FAILED;
	}
	enum mig_outcome outcome = mig_read_list(call, board, list, &wish);
	if (outcome != MIG_DONE)
		return outcome;
	const struct gs_mig_profile *profile = &board->gpu.profiles[instance->profile];
	for (size_t i = 0; i < wish.count; i++) {
		if (wish.items[i].profile != instance->profile) {
			mig_fail(call, "GPU instance %u is a %s: write compute instances of that, such as 1c.%s",
				 instance->id, profile->name, profile->name);
			return MIG_FAILED;
		}
		for (size_t k = 0; k < wish.items[i].compute_count; k++, count++)
			if (count < GS_MIG_COMPUTE_MAX)
				sizes[count] = wish.items[i].compute[k];
	}
	for (size_t i = 0; i < instance->compute_count; i++)
		taken |= ((1u << instance->compute[i].slices) - 1) << instance->compute[i].start;
	fits = count + instance->compute_count <= GS_MIG_COMPUTE_MAX &&
	       gs_mig_compute_arrange(profile->compute_slices, taken, sizes, count, starts);
	if (!fits)
		return no_room(call, instance, profile, taken, sizes, count);
	for (size_t i = 0; i < count; i++)
		task->plan.steps[task->plan.step_count++] = (struct gs_mig_step){.kind = GS_MIG_CREATE_COMPUTE,
										 .profile = instance->profile,
										 .place = instance->place,
										 .instance_id = instance->id,
										 .compute = {sizes[i]},
										 .compute_start = {starts[i]},
										 .compute_count = 1};
	task->plan.compute_created = (uint32_t)count;
	return MIG_DONE;
}

/* Instances that exist stay, so the end of a process would not help. */
static enum mig_outcome refuse_to_add(const struct mig_call *call, const struct gs_mig_task *task)
{
	mig_fail(call, "GPU %u: %s; nothing was changed", task->board->index, task->plan.reason);
	return MIG_FAILED;
}

enum mig_outcome mig_plan_create(struct mig_call *call, struct gs_mig_task *tasks, struct gs_strbuf *reason)
{
	GS_AUTO_FREE char *list = list_with_start(call);
	enum mig_outcome outcome = list ? mig_outcome_of(mig_narrow(call, true)) : MIG_MISUSED;
	for (size_t i = 0; i < call->change.boards.count && outcome == MIG_DONE; i++) {
		const struct gs_mig_board *board = &call->change.boards.items[i];
		struct gs_mig_wish wish = {0};
		if (!call->chosen[i])
			continue;
		if (!board->enabled)
			return need_mig_on(call, board);
		if (mig_option(call, "in")) {
			outcome = plan_create_in(call, &tasks[i], list);
			continue;
		}
		outcome = mig_read_list(call, board, list, &wish);
		if (outcome == MIG_DONE &&
		    gs_mig_plan_make(&board->gpu, &board->layout, &wish, GS_MIG_ADD, &tasks[i].plan) < 0)
			outcome = refuse_to_add(call, &tasks[i]);
	}
	return outcome;
}

/* destroy
 * ---- */

/* Adds the step; `compute` is a position, or -1 for the whole GPU instance. Refuses an instance that is in use, or that
 * the command line named before. */
static enum mig_outcome add_destroy(struct mig_call *call, struct gs_mig_task *task, size_t position, int compute,
				    struct gs_strbuf *reason)
{
	const struct gs_mig_board *board = task->board;
	const struct gs_mig_instance *instance = &board->layout.instances[position];
	bool whole = compute < 0;
	bool busy = instance->busy;
	struct gs_mig_step step = {.kind = whole ? GS_MIG_DESTROY_INSTANCE : GS_MIG_DESTROY_COMPUTE,
				   .profile = instance->profile,
				   .place = instance->place,
				   .instance_id = instance->id,
				   .compute_count = whole ? instance->compute_count : 1};
	for (size_t i = 0; i < task->plan.step_count; i++) {
		const struct gs_mig_step *other = &task->plan.steps[i];
		if (other->instance_id != instance->id || (!whole && other->kind == GS_MIG_DESTROY_COMPUTE &&
							   other->compute_id != instance->compute[compute].id))
			continue;
		return mig_outcome_of(
			mig_misuse(call, "GPU %u: GPU instance %u is named twice", board->index, instance->id));
	}
	for (size_t i = 0; i < step.compute_count; i++) {
		const struct gs_mig_compute *from = &instance->compute[whole ? i : (size_t)compute];
		step.compute[i] = from->slices;
		step.compute_start[i] = from->start;
		step.compute_id = whole ? 0 : from->id;
	}
	if (!whole) {
		bool any = false;
		for (size_t i = 0; i < instance->compute_count; i++)
			any |= instance->compute[i].busy;
		busy = any ? instance->compute[compute].busy : busy;
	}
	if (busy) {
		gs_mig_change_note(&call->change, board, position);
		gs_strbuf_printf(reason, "GPU %u: GPU instance %u (%s) is in use by %s", board->index, instance->id,
				 mig_profile_name(board, instance), instance->holder);
		return MIG_BLOCKED;
	}
	if (task->plan.step_count == GS_MIG_STEPS_MAX)
		return MIG_FAILED;
	task->plan.steps[task->plan.step_count++] = step;
	*(whole ? &task->plan.destroyed : &task->plan.compute_destroyed) += 1;
	return MIG_DONE;
}

static enum mig_outcome destroy_uuid(struct mig_call *call, struct gs_mig_task *tasks, const char *uuid,
				     struct gs_strbuf *reason)
{
	for (size_t i = 0; i < call->change.boards.count; i++) {
		const struct gs_mig_board *board = &call->change.boards.items[i];
		for (size_t j = 0; j < board->layout.count; j++) {
			for (size_t k = 0; k < board->layout.instances[j].compute_count; k++) {
				if (strcmp(board->uuids[j][k], uuid) != 0)
					continue;
				if (call->chosen[i])
					return add_destroy(call, &tasks[i], j,
							   board->layout.instances[j].compute_count > 1 ? (int)k : -1,
							   reason);
				mig_fail(call, "%s is on GPU %zu, which -i does not name; nothing was changed", uuid,
					 i);
				return MIG_FAILED;
			}
		}
	}
	mig_fail(call, "no MIG device of this node has the UUID %s; see gpushare mig list", uuid);
	return MIG_FAILED;
}

/* "9" or "9/0". */
static enum mig_outcome destroy_id(struct mig_call *call, struct gs_mig_task *task, const char *name,
				   struct gs_strbuf *reason)
{
	const struct gs_mig_board *board = task->board;
	unsigned gi = 0, ci = 0;
	bool compute = sscanf(name, "%3u/%3u", &gi, &ci) == 2;
	for (size_t i = 0; i < board->layout.count; i++) {
		const struct gs_mig_instance *instance = &board->layout.instances[i];
		if (instance->id != gi)
			continue;
		if (!compute)
			return add_destroy(call, task, i, -1, reason);
		for (size_t k = 0; k < instance->compute_count; k++)
			if (instance->compute[k].id == ci)
				return add_destroy(call, task, i, (int)k, reason);
	}
	mig_fail(call, "GPU %u has no instance %s; see gpushare mig list -i %u", board->index, name, board->index);
	return MIG_FAILED;
}

static enum mig_outcome destroy_all(struct mig_call *call, struct gs_mig_task *task, struct gs_strbuf *reason)
{
	enum mig_outcome outcome = MIG_DONE;
	for (size_t i = 0; i < task->board->layout.count && outcome == MIG_DONE; i++)
		outcome = add_destroy(call, task, i, -1, reason);
	return outcome;
}

static enum mig_outcome destroy_named(struct mig_call *call, struct gs_mig_task *tasks, const char *name,
				      struct gs_strbuf *reason)
{
	if (strncmp(name, "MIG-", 4) == 0)
		return destroy_uuid(call, tasks, name, reason);
	enum mig_outcome outcome = mig_outcome_of(mig_narrow(call, true));
	for (size_t i = 0; i < call->change.boards.count && outcome == MIG_DONE; i++)
		if (call->chosen[i])
			outcome = destroy_id(call, &tasks[i], name, reason);
	return outcome;
}

/* The names of the command line one after the other: calls `each` until it does not return MIG_DONE. */
static enum mig_outcome each_name(struct mig_call *call, struct gs_mig_task *tasks, struct gs_strbuf *reason,
				  enum mig_outcome (*each)(struct mig_call *call, struct gs_mig_task *tasks,
							   const char *name, struct gs_strbuf *reason))
{
	enum mig_outcome outcome = MIG_DONE;
	for (int i = 0; i < call->arguments->operand_count && outcome == MIG_DONE; i++) {
		for (const char *at = call->arguments->operands[i]; at && outcome == MIG_DONE;) {
			const char *comma = strchr(at, ',');
			GS_AUTO_FREE char *name = comma ? gs_strndup(at, (size_t)(comma - at)) : gs_strdup(at);
			outcome = each(call, tasks, name, reason);
			at = comma ? comma + 1 : NULL;
		}
	}
	return outcome;
}

/* An id has at most three digits. */
static size_t id_digits(const char *text)
{
	size_t digits = strspn(text, "0123456789");
	return digits <= 3 ? digits : 0;
}

static enum mig_outcome check_name(struct mig_call *call, struct gs_mig_task *tasks, const char *name,
				   struct gs_strbuf *reason)
{
	size_t gi = id_digits(name), ci = gi && name[gi] == '/' ? id_digits(name + gi + 1) : 0;
	if (!*name)
		return mig_outcome_of(
			mig_misuse(call, "an entry of the list is empty; name instances by id or UUID, with commas"));
	if (strncmp(name, "MIG-", 4) == 0 || (gi && !name[gi]) || (ci && !name[gi + 1 + ci]))
		return MIG_DONE;
	return mig_outcome_of(mig_misuse(call,
					 "\"%s\" is no instance; write an id (9), GPU and compute instance (9/0), or a "
					 "UUID (MIG-...), as gpushare mig list shows them",
					 name));
}

enum mig_outcome mig_plan_destroy(struct mig_call *call, struct gs_mig_task *tasks, struct gs_strbuf *reason)
{
	bool all = mig_option(call, "all");
	if (all == (call->arguments->operand_count > 0))
		return mig_outcome_of(mig_misuse(call, "name instances by id or UUID, or say --all"));
	enum mig_outcome outcome = all ? mig_outcome_of(mig_narrow(call, true)) : MIG_DONE;
	for (size_t i = 0; all && i < call->change.boards.count && outcome == MIG_DONE; i++)
		if (call->chosen[i])
			outcome = destroy_all(call, &tasks[i], reason);
	if (outcome == MIG_DONE)
		outcome = each_name(call, tasks, reason, check_name);
	return outcome == MIG_DONE ? each_name(call, tasks, reason, destroy_named) : outcome;
}
