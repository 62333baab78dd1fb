/* GPUs with MIG as text for people, and as JSON for programs. */
#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/utf8.h"
#include "cli/mig.h"

enum { PICTURE_WIDTH = 72, CELL_SIZE = 64 };

static void format_bytes(uint64_t bytes, char text[CELL_SIZE])
{
	snprintf(text, CELL_SIZE, "%.2f GiB", (double)bytes / (1024.0 * 1024 * 1024));
}

static void add_heading(const struct gs_mig_board *board, struct gs_strbuf *out)
{
	gs_strbuf_printf(out, "GPU %u  %s  %s  ", board->index, board->name, board->uuid);
	if (!board->capable)
		gs_strbuf_add(out, "no MIG\n");
	else if (board->enabled == board->pending)
		gs_strbuf_add(out, board->enabled ? "MIG on\n" : "MIG off\n");
	else
		gs_strbuf_printf(out, "MIG %s, and %s after a reset\n", board->enabled ? "on" : "off",
				 board->pending ? "on" : "off");
}

/* Says why there is nothing else to show; false: there is something. */
static bool add_problem(const struct gs_mig_board *board, struct gs_strbuf *out)
{
	if (!board->problem[0])
		return false;
	gs_strbuf_printf(out, "GPU %u  %s  can't be read: %s\n", board->index, board->uuid, board->problem);
	return true;
}

const char *mig_profile_name(const struct gs_mig_board *board, const struct gs_mig_instance *instance)
{
	return instance->profile < board->gpu.profile_count ? board->gpu.profiles[instance->profile].name : "?";
}

/* Overwrites a part of a line of the picture, at most up to `end`. */
static void put(char *line, size_t at, size_t end, const char *text)
{
	for (; *text && at < end; text++)
		line[at++] = *text;
}

static void add_picture(const struct gs_mig_board *board, struct gs_strbuf *out)
{
	char scale[PICTURE_WIDTH + 2], names[PICTURE_WIDTH + 2], states[PICTURE_WIDTH + 2];
	size_t slices = board->gpu.slice_count ? board->gpu.slice_count : 1, width = PICTURE_WIDTH / slices;
	size_t total = width * slices;

	memset(scale, ' ', total + 1);
	memset(names, '.', total + 1);
	scale[total + 1] = names[total + 1] = '\0';
	names[total] = ' ';
	memcpy(states, names, sizeof states);
	for (size_t i = 0; i < slices; i++) {
		char number[8];
		snprintf(number, sizeof number, "%zu", i);
		put(scale, i * width + 1, total, number);
	}
	for (size_t i = 0; i < board->layout.count; i++) {
		const struct gs_mig_instance *instance = &board->layout.instances[i];
		size_t from = instance->place.start * width, to = from + instance->place.size * width;
		if (to > total)
			continue;
		memset(names + from, ' ', to - from);
		memset(states + from, ' ', to - from);
		names[from] = names[to] = states[from] = states[to] = '|';
		put(names, from + 1, to, mig_profile_name(board, instance));
		put(states, from + 1, to, instance->busy ? "in use" : "idle");
	}
	char *const lines[] = {scale, names, states};
	for (size_t i = 0; i < GS_ARRAY_LENGTH(lines); i++)
		for (size_t end = total + 1; end && lines[i][end - 1] == ' ';)
			lines[i][--end] = '\0';
	gs_strbuf_printf(out, "  %s\n  %s\n  %s\n", scale, names, states);
}

/* At the layout's position, of a compute instance or of the GPU instance as a whole. */
static const char *holder_of(const struct gs_mig_board *board, const struct gs_mig_instance *instance, uint32_t compute)
{
	for (size_t i = 0; i < board->process_count; i++)
		if (board->processes[i].instance == instance->id && board->processes[i].compute == compute)
			return board->processes[i].who;
	return "";
}

static void add_row(struct gs_strbuf *out, const char *gi, const char *ci, const char *profile, const char *slices,
		    const char *memory, const char *uuid, const char *who)
{
	gs_strbuf_printf(out, "  %-3s %-3s %-13s %-7s %-10s %-41s %s", gi, ci, profile, slices, memory, uuid, who);
	while (out->length && out->data[out->length - 1] == ' ')
		out->data[--out->length] = '\0';
	gs_strbuf_add_char(out, '\n');
}

static void add_instance(const struct gs_mig_board *board, size_t position, struct gs_strbuf *out)
{
	const struct gs_mig_instance *instance = &board->layout.instances[position];
	bool known = instance->profile < board->gpu.profile_count;
	const struct gs_mig_profile *profile = known ? &board->gpu.profiles[instance->profile] : NULL;
	unsigned start = instance->place.start, last = start + instance->place.size - 1;
	char gi[16], ci[16], slices[32], memory[CELL_SIZE] = "", name[GS_MIG_NAME_SIZE] = "?";

	snprintf(gi, sizeof gi, "%u", instance->id);
	snprintf(slices, sizeof slices, start == last ? "%u" : "%u-%u", start, last);
	if (profile)
		format_bytes(profile->memory_bytes, memory);
	if (!instance->compute_count)
		add_row(out, gi, "-", profile ? profile->name : name, slices, memory, "no compute instance",
			instance->holder);
	for (size_t k = 0; k < instance->compute_count; k++) {
		const struct gs_mig_compute *compute = &instance->compute[k];
		const char *who = holder_of(board, instance, compute->id);
		snprintf(ci, sizeof ci, "%u", compute->id);
		if (profile)
			gs_mig_compute_name(profile, compute->slices, name);
		add_row(out, gi, ci, name, slices, memory, board->uuids[position][k],
			*who ? who : (compute->busy ? instance->holder : "-"));
	}
}

void mig_table_layout(const struct gs_mig_board *board, struct gs_strbuf *out)
{
	if (add_problem(board, out))
		return;
	add_heading(board, out);
	if (!board->enabled)
		return;
	add_picture(board, out);
	if (board->layout.count)
		add_row(out, "GI", "CI", "PROFILE", "SLICES", "MEMORY", "UUID", "USED BY");
	else
		gs_strbuf_add(out, "  no instances\n");
	for (size_t i = 0; i < board->layout.count; i++)
		add_instance(board, i, out);
}

void mig_table_profiles(const struct gs_mig_board *board, struct gs_strbuf *out)
{
	if (add_problem(board, out))
		return;
	add_heading(board, out);
	if (board->capable && !board->profiles_known)
		gs_strbuf_add(out, "  this driver tells the profiles only while MIG is on\n");
	if (!board->profiles_known)
		return;
	gs_strbuf_printf(out, "  %-3s %-14s %-5s %-11s %4s %4s %4s %4s %5s %4s  %s\n", "ID", "PROFILE", "FREE",
			 "MEMORY", "SM", "COPY", "DEC", "ENC", "JPEG", "OFA", "SLICES");
	for (size_t i = 0; i < board->gpu.profile_count; i++) {
		const struct gs_mig_profile *profile = &board->gpu.profiles[i];
		char room[32], memory[CELL_SIZE];
		snprintf(room, sizeof room, "%u/%u",
			 board->enabled ? gs_mig_room(&board->gpu, &board->layout, (uint8_t)i) : 0, profile->max_count);
		format_bytes(profile->memory_bytes, memory);
		gs_strbuf_printf(out, "  %-3u %-14s %-5s %-11s %4u", profile->id, profile->name, room, memory,
				 profile->multiprocessors);
		for (size_t k = 0; k < GS_MIG_ENGINES; k++)
			gs_strbuf_printf(out, " %*u", k == GS_MIG_JPEG ? 5 : 4, profile->engines[k]);
		gs_strbuf_printf(out, "  %u at ", profile->placements[0].size);
		for (size_t k = 0; k < profile->placement_count; k++)
			gs_strbuf_printf(out, "%s%u", k ? "," : "", profile->placements[k].start);
		gs_strbuf_add_char(out, '\n');
	}
}

/* Steps
 * ---- */

static void step_name(const struct gs_mig_board *board, const struct gs_mig_step *step, char *text, size_t size)
{
	GS_AUTO_STRBUF struct gs_strbuf names = {0};
	for (size_t i = 0; i < step->compute_count && step->profile < board->gpu.profile_count; i++) {
		char name[GS_MIG_NAME_SIZE];
		gs_mig_compute_name(&board->gpu.profiles[step->profile], step->compute[i], name);
		gs_strbuf_printf(&names, "%s%s", i ? " + " : "", name);
	}
	if (!names.length)
		gs_strbuf_printf(&names, "%s",
				 step->profile < board->gpu.profile_count ? board->gpu.profiles[step->profile].name
									  : "an instance of unknown profile");
	snprintf(text, size, "%s", names.data);
}

static void add_step(const struct gs_mig_board *board, const struct gs_mig_step *step, bool done, struct gs_strbuf *out)
{
	const char *create = done ? "created" : "create", *destroy = done ? "destroyed" : "destroy";
	char name[256], slices[48];
	unsigned start = step->place.start, last = start + step->place.size - 1;
	step_name(board, step, name, sizeof name);
	snprintf(slices, sizeof slices, start == last ? "slice %u" : "slices %u-%u", start, last);
	gs_strbuf_printf(out, "GPU %u: ", board->index);
	switch (step->kind) {
	case GS_MIG_CREATE_INSTANCE:
		gs_strbuf_printf(out, "%s %s on %s\n", create, name, slices);
		return;
	case GS_MIG_DESTROY_INSTANCE:
		gs_strbuf_printf(out, "%s %s on %s (GPU instance %u)\n", destroy, name, slices, step->instance_id);
		return;
	case GS_MIG_CREATE_COMPUTE:
		gs_strbuf_printf(out, "%s %s in GPU instance %u\n", create, name, step->instance_id);
		return;
	case GS_MIG_DESTROY_COMPUTE:
		gs_strbuf_printf(out, "%s %s (compute instance %u of GPU instance %u)\n", destroy, name,
				 step->compute_id, step->instance_id);
		return;
	}
}

static void add_summary(const struct gs_mig_task *task, bool done, struct gs_strbuf *out)
{
	const struct gs_mig_board *board = task->board;
	unsigned busy = 0, stay = board->layout.count - task->plan.destroyed;
	for (size_t i = 0; i < board->layout.count; i++)
		busy += board->layout.instances[i].busy;
	gs_strbuf_printf(out, "GPU %u: %u created, %u destroyed, %u left alone", board->index, task->plan.created,
			 task->plan.destroyed, stay);
	if (busy)
		gs_strbuf_printf(out, " (%u in use)", busy);
	if (task->plan.compute_created || task->plan.compute_destroyed)
		gs_strbuf_printf(out, "; in those that stay, %u compute instances created and %u destroyed",
				 task->plan.compute_created, task->plan.compute_destroyed);
	gs_strbuf_add(out, done ? "\n" : "; nothing is done yet\n");
}

static void add_mode(const struct gs_mig_task *task, bool done, struct gs_strbuf *out)
{
	const struct gs_mig_board *board = task->board;
	const char *mode = task->enabled ? "on" : "off";
	if (done && task->when_restarted)
		gs_strbuf_printf(
			out,
			"GPU %u: MIG is noted as %s, and will be so after a restart of the machine, or a reset of "
			"the GPU\n",
			board->index, mode);
	else if (task->when_restarted && board->process_count)
		gs_strbuf_printf(out, "GPU %u: leave turning MIG %s to a restart, since %s runs on it\n", board->index,
				 mode, board->processes[0].who);
	else
		gs_strbuf_printf(out, "GPU %u: %s MIG %s%s\n", board->index, done ? "turned" : "turn", mode,
				 task->when_restarted ? ", or after a restart where it needs a reset" : "");
}

void mig_table_task(const struct gs_mig_task *task, bool done, struct gs_strbuf *out)
{
	const struct gs_mig_board *board = task->board;
	bool mode = !task->keeps_mode && (task->enabled != board->enabled || task->enabled != board->pending);
	if (mode && task->enabled)
		add_mode(task, done, out);
	for (size_t i = 0; i < task->plan.step_count; i++)
		add_step(board, &task->plan.steps[i], done, out);
	if (mode && !task->enabled)
		add_mode(task, done, out);
	if (task->plan.step_count)
		add_summary(task, done, out);
}

/* JSON
 * ---- */

/* The names of processes and drivers need not be UTF-8. */
static json_t *text_json(const char *text)
{
	json_t *value = json_string(text);
	return value ? value : json_string("?");
}

static json_t *gpu_json(const struct gs_mig_board *board)
{
	json_t *gpu = json_pack("{s:i, s:o, s:o, s:o, s:b, s:b, s:b}", "index", (int)board->index, "uuid",
				text_json(board->uuid), "name", text_json(board->name), "pciBusId",
				text_json(board->pci_bus_id), "migCapable", board->capable, "migEnabled",
				board->enabled, "migPending", board->pending);
	if (board->problem[0])
		json_object_set_new(gpu, "problem", text_json(board->problem));
	return gpu;
}

static json_t *instance_json(const struct gs_mig_board *board, size_t position)
{
	const struct gs_mig_instance *instance = &board->layout.instances[position];
	bool known = instance->profile < board->gpu.profile_count;
	json_t *computes = json_array();
	for (size_t k = 0; k < instance->compute_count; k++) {
		const struct gs_mig_compute *compute = &instance->compute[k];
		char name[GS_MIG_NAME_SIZE] = "?";
		if (known)
			gs_mig_compute_name(&board->gpu.profiles[instance->profile], compute->slices, name);
		json_array_append_new(computes,
				      json_pack("{s:i, s:s, s:o, s:i, s:i, s:b}", "id", (int)compute->id, "profile",
						name, "uuid", text_json(board->uuids[position][k]), "start",
						compute->start, "slices", compute->slices, "inUse", compute->busy));
	}
	json_t *item = json_pack(
		"{s:i, s:s, s:I, s:i, s:i, s:b, s:o, s:o}", "id", (int)instance->id, "profile",
		mig_profile_name(board, instance), "profileId", (json_int_t)board->profile_ids[position], "start",
		instance->place.start, "size", instance->place.size, "inUse", instance->busy, "usedBy",
		instance->busy ? text_json(instance->holder) : json_null(), "computeInstances", computes);
	if (known)
		json_object_set_new(item, "memoryBytes",
				    json_integer((json_int_t)board->gpu.profiles[instance->profile].memory_bytes));
	return item;
}

json_t *mig_json_layout(const struct gs_mig_board *board)
{
	json_t *gpu = gpu_json(board), *instances = json_array(), *processes = json_array();
	for (size_t i = 0; i < board->layout.count; i++)
		json_array_append_new(instances, instance_json(board, i));
	for (size_t i = 0; i < board->process_count; i++) {
		const struct gs_mig_process *process = &board->processes[i];
		json_t *item = json_pack("{s:i, s:o}", "pid", process->pid, "description", text_json(process->who));
		if (process->instance != GS_MIG_WHOLE_GPU)
			json_object_set_new(item, "gpuInstance", json_integer(process->instance));
		if (process->compute != GS_MIG_WHOLE_GPU)
			json_object_set_new(item, "computeInstance", json_integer(process->compute));
		json_array_append_new(processes, item);
	}
	json_object_set_new(gpu, "slices", json_integer(board->gpu.slice_count));
	json_object_set_new(gpu, "instances", instances);
	json_object_set_new(gpu, "processes", processes);
	return gpu;
}

json_t *mig_json_profiles(const struct gs_mig_board *board)
{
	static const char *const engines[] = {"copyEngines", "decoders", "encoders", "jpegDecoders", "opticalFlow"};
	json_t *gpu = gpu_json(board), *profiles = json_array();
	for (size_t i = 0; i < board->gpu.profile_count; i++) {
		const struct gs_mig_profile *profile = &board->gpu.profiles[i];
		json_t *starts = json_array();
		for (size_t k = 0; k < profile->placement_count; k++)
			json_array_append_new(starts, json_integer(profile->placements[k].start));
		json_t *item = json_pack(
			"{s:I, s:o, s:i, s:i, s:I, s:i, s:i, s:i, s:o}", "id", (json_int_t)profile->id, "name",
			text_json(profile->name), "free",
			(int)(board->enabled ? gs_mig_room(&board->gpu, &board->layout, (uint8_t)i) : 0), "total",
			(int)profile->max_count, "memoryBytes", (json_int_t)profile->memory_bytes, "multiprocessors",
			(int)profile->multiprocessors, "computeSlices", (int)profile->compute_slices, "slices",
			profile->placements[0].size, "starts", starts);
		for (size_t k = 0; k < GS_MIG_ENGINES; k++)
			json_object_set_new(item, engines[k], json_integer(profile->engines[k]));
		json_array_append_new(profiles, item);
	}
	json_object_set_new(gpu, "profiles", profiles);
	return gpu;
}

json_t *mig_json_task(const struct gs_mig_task *task)
{
	static const char *const kinds[] = {"create", "destroy", "createCompute", "destroyCompute"};
	const struct gs_mig_board *board = task->board;
	json_t *steps = json_array();
	for (size_t i = 0; i < task->plan.step_count; i++) {
		const struct gs_mig_step *step = &task->plan.steps[i];
		char name[256];
		step_name(board, step, name, sizeof name);
		json_t *item = json_pack("{s:s, s:s, s:i, s:i}", "action", kinds[step->kind], "profile", name, "start",
					 step->place.start, "size", step->place.size);
		if (step->kind != GS_MIG_CREATE_INSTANCE)
			json_object_set_new(item, "gpuInstance", json_integer(step->instance_id));
		if (step->kind == GS_MIG_DESTROY_COMPUTE)
			json_object_set_new(item, "computeInstance", json_integer(step->compute_id));
		json_array_append_new(steps, item);
	}
	return json_pack("{s:i, s:o, s:b, s:b, s:b, s:i, s:i, s:o}", "index", (int)board->index, "uuid",
			 text_json(board->uuid), "migEnabled", board->enabled, "migWanted", task->enabled, "atRestart",
			 task->when_restarted, "created", (int)task->plan.created, "destroyed",
			 (int)task->plan.destroyed, "steps", steps);
}
