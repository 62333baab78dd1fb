/* Joins processes to shares, so that the figures of a GPU add up to its whole. */
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/vec.h"
#include "core/usage/usage.h"

static struct gs_figure read_figure(bool valid, uint64_t value, int64_t at_ms)
{
	return (struct gs_figure){
		.value = valid ? value : 0, .at_ms = at_ms, .source = valid ? GS_SOURCE_NVML : GS_SOURCE_UNKNOWN};
}

/* --- what runs where --- */

/* The GPU's own device, or its MIG device with these ids; GS_USAGE_NONE: there is none. */
static uint32_t find_device(const struct gs_inventory *inventory, uint32_t gpu, uint32_t gpu_instance,
			    uint32_t compute_instance)
{
	uint32_t whole = GS_USAGE_NONE;
	for (uint32_t i = 0; i < inventory->device_count; i++) {
		const struct gs_device *device = &inventory->devices[i];
		if (device->gpu != gpu)
			continue;
		if (!device->mig)
			whole = i;
		else if (device->gpu_instance == gpu_instance && device->compute_instance == compute_instance)
			return i;
	}
	return whole;
}

static void read_gpu(struct gs_usage *usage, uint32_t which, const struct gs_gpu_sample *sample)
{
	struct gs_usage_gpu *gpu = &usage->gpus[which];
	int64_t at_ms = sample->at_ms;
	uint32_t whole = find_device(usage->inventory, which, UINT32_MAX, UINT32_MAX);
	gpu->memory_used_bytes = read_figure(sample->valid & GS_SAMPLE_MEMORY, sample->memory_used_bytes, at_ms);
	gpu->utilization_percent =
		read_figure(sample->valid & GS_SAMPLE_UTILIZATION, sample->utilization_percent, at_ms);
	gpu->temperature_c = read_figure(sample->valid & GS_SAMPLE_TEMPERATURE, sample->temperature_c, at_ms);
	gpu->power_mw = read_figure(sample->valid & GS_SAMPLE_POWER, sample->power_mw, at_ms);
	gpu->processes_known = sample->valid & GS_SAMPLE_PROCESSES;
	if (whole != GS_USAGE_NONE)
		usage->devices[whole].memory_used_bytes = gpu->memory_used_bytes;
	for (size_t i = 0; i < sample->mig_count; i++) {
		const struct gs_mig_sample *mig = &sample->migs[i];
		uint32_t device = find_device(usage->inventory, which, mig->gpu_instance, mig->compute_instance);
		if (device != whole && device != GS_USAGE_NONE)
			usage->devices[device].memory_used_bytes =
				read_figure(mig->memory_valid, mig->memory_used_bytes, at_ms);
	}
}

/* --- claims --- */

struct claims {
	GS_VEC(struct gs_usage_claim) list;
	size_t before; /* of other GPUs */
};

/* The share of this GPU with this id; GS_USAGE_NONE: there is none. */
static uint32_t find_share(const struct gs_usage *usage, uint32_t gpu, const char *id, size_t length)
{
	uint32_t first = 0;
	for (size_t i = 0; i < usage->plan->resource_count; i++) {
		const struct gs_resource *resource = &usage->plan->resources[i];
		int64_t at = gs_resource_find(resource, id, length);
		if (at >= 0 && usage->inventory->devices[resource->shares[at].device].gpu == gpu)
			return first + (uint32_t)at;
		first += (uint32_t)resource->share_count;
	}
	return GS_USAGE_NONE;
}

/* A name is not believed against the driver, which knows on which MIG device a process is. */
static bool can_run_on(const struct gs_usage *usage, const struct gs_usage_process *process, uint32_t share)
{
	const struct gs_device *devices = usage->inventory->devices;
	uint32_t device = usage->shares[share].share->device;
	return device == process->device || !devices[device].mig || process->device == GS_USAGE_NONE ||
	       !devices[process->device].mig;
}

static void read_claims(struct gs_usage *usage, struct gs_usage_process *process, struct claims *claims)
{
	uint32_t which = (uint32_t)(process - usage->processes);
	const char *at = process->sample->shares ? process->sample->shares : "";
	for (size_t names = 0; *(at += strspn(at, ",")) && names < GS_USAGE_NAMES_MAX; names++) {
		size_t length = strcspn(at, ",");
		uint32_t share = find_share(usage, process->gpu, at, length);
		at += length;
		if (share == GS_USAGE_NONE)
			continue;
		if (process->claims && claims->list.count - claims->before >= GS_USAGE_CLAIMS_MAX)
			break;
		process->claims = true;
		*GS_VEC_PUSH(&claims->list) = (struct gs_usage_claim){share, which};
	}
}

static int compare_claims(const void *a, const void *b)
{
	const struct gs_usage_claim *x = a, *y = b;
	if (x->share != y->share)
		return x->share < y->share ? -1 : 1;
	return (x->process > y->process) - (x->process < y->process);
}

/* Sorts them, keeps each once, and tells the shares which are theirs. */
static void settle_claims(struct gs_usage *usage, struct claims *claims)
{
	struct gs_usage_claim *list = claims->list.items;
	size_t count = 0;
	if (claims->list.count)
		qsort(list, claims->list.count, sizeof *list, compare_claims);
	for (size_t i = 0; i < claims->list.count; i++) {
		if (count && compare_claims(&list[count - 1], &list[i]) == 0)
			continue;
		struct gs_usage_share *share = &usage->shares[list[i].share];
		if (!share->claim_count++)
			share->first_claim = count;
		list[count++] = list[i];
	}
	usage->claims = list;
	usage->claim_count = count;
}

/* Whether processes of several containers name a share: the kubelet gives it to one. Who is in no container is root's. */
static bool is_contested(const struct gs_usage *usage, const struct gs_usage_share *share)
{
	const struct gs_place *first = NULL;
	for (size_t i = 0; i < share->claim_count; i++) {
		const struct gs_usage_claim *claim = &usage->claims[share->first_claim + i];
		const struct gs_place *place = &usage->processes[claim->process].sample->place;
		if (place->kind == GS_PLACE_HOST)
			continue;
		if (first && !gs_place_equal(first, place))
			return true;
		first = place;
	}
	return false;
}

static void choose_shares(struct gs_usage *usage)
{
	for (size_t i = 0; i < usage->share_count; i++)
		usage->shares[i].contested = is_contested(usage, &usage->shares[i]);
	for (size_t i = 0; i < usage->claim_count; i++) {
		const struct gs_usage_claim *claim = &usage->claims[i];
		struct gs_usage_process *process = &usage->processes[claim->process];
		if (process->share == GS_USAGE_NONE && !usage->shares[claim->share].contested &&
		    can_run_on(usage, process, claim->share))
			process->share = claim->share;
	}
}

static void add_process(struct gs_usage *usage, uint32_t gpu, const struct gs_process_sample *sample, int64_t at_ms,
			struct claims *claims)
{
	struct gs_usage_process *process = &usage->processes[usage->process_count++];
	*process = (struct gs_usage_process){
		.sample = sample,
		.gpu = gpu,
		.device = find_device(usage->inventory, gpu, sample->gpu_instance, sample->compute_instance),
		.share = GS_USAGE_NONE,
		.memory_bytes = read_figure(sample->memory_valid, sample->memory_bytes, at_ms),
		.sm_permille = read_figure(sample->utilization_valid, sample->utilization_percent * 10, at_ms),
	};
	read_claims(usage, process, claims);
}

/* --- sums --- */

static void add_figure(struct gs_figure *sum, const struct gs_figure *part)
{
	if (sum->source == GS_SOURCE_UNKNOWN)
		return;
	sum->value += part->value;
	if (part->source == GS_SOURCE_UNKNOWN)
		*sum = (struct gs_figure){0};
}

/* No process is no use where the list of processes is known. */
static void sum_processes(struct gs_usage *usage, const struct gs_gpu_sample *const *samples)
{
	for (size_t i = 0; i < usage->group_count; i++) {
		const struct gs_usage_group *group = &usage->groups[i];
		const struct gs_usage_gpu *gpu = &usage->gpus[group->on->gpu];
		const struct gs_gpu_sample *sample = samples[group->on->gpu];
		for (uint32_t j = 0; gpu->processes_known && j < group->on->share_count; j++) {
			struct gs_usage_share *share = &usage->shares[group->first_share + j];
			if (!share->contested)
				share->memory_bytes = share->sm_permille =
					(struct gs_figure){.at_ms = sample->at_ms, .source = GS_SOURCE_PROCESSES};
		}
	}
	for (size_t i = 0; i < usage->process_count; i++) {
		const struct gs_usage_process *process = &usage->processes[i];
		if (process->share == GS_USAGE_NONE)
			continue;
		add_figure(&usage->shares[process->share].memory_bytes, &process->memory_bytes);
		add_figure(&usage->shares[process->share].sm_permille, &process->sm_permille);
	}
}

/* value * numerator / denominator, with numerator <= denominator. */
static uint64_t scale(uint64_t value, uint64_t numerator, uint64_t denominator)
{
	return (uint64_t)((unsigned __int128)value * numerator / denominator);
}

void gs_usage_balance(uint64_t total, uint64_t idle, uint64_t *parts, size_t count, struct gs_balance *balance)
{
	uint64_t sum = 0, attributed = 0;
	for (size_t i = 0; i < count; i++)
		if (__builtin_add_overflow(sum, parts[i], &sum))
			sum = UINT64_MAX;
	for (size_t i = 0; i < count; i++) {
		if (sum > total)
			parts[i] = scale(parts[i], total, sum);
		/* More than 2^64 in all, which no GPU has: what comes last is cut off. */
		if (parts[i] > total - attributed)
			parts[i] = total - attributed;
		attributed += parts[i];
	}
	uint64_t most = total - attributed;
	idle = idle < most ? idle : most;
	/* The bytes that rounding took from the parts are in use, and count for no share. */
	if (sum > total)
		idle = 0;
	balance->total.value = total;
	balance->attributed.value = attributed;
	balance->idle.value = idle;
	balance->unattributed.value = most - idle;
}

enum kind { MEMORY, SM };

static struct gs_figure *figure_of(struct gs_usage_share *share, enum kind kind)
{
	return kind == MEMORY ? &share->memory_bytes : &share->sm_permille;
}

static void balance_gpu(struct gs_usage *usage, uint32_t which, enum kind kind, uint64_t total, uint64_t idle,
			int64_t at_ms, struct gs_balance *balance)
{
	GS_VEC(struct gs_figure *) figures = {0};
	for (size_t i = 0; i < usage->group_count; i++) {
		const struct gs_usage_group *group = &usage->groups[i];
		for (uint32_t j = 0; group->on->gpu == which && j < group->on->share_count; j++) {
			struct gs_figure *figure = figure_of(&usage->shares[group->first_share + j], kind);
			if (figure->source != GS_SOURCE_UNKNOWN && figure->value)
				*GS_VEC_PUSH(&figures) = figure;
		}
	}
	uint64_t *parts = gs_calloc(figures.count, sizeof *parts);
	for (size_t i = 0; i < figures.count; i++)
		parts[i] = figures.items[i]->value;
	*balance = (struct gs_balance){
		.total = {.at_ms = at_ms, .source = GS_SOURCE_NVML},
		.attributed = {.at_ms = at_ms, .source = GS_SOURCE_PROCESSES},
		.unattributed = {.at_ms = at_ms, .source = GS_SOURCE_REST},
		.idle = {.at_ms = at_ms, .source = GS_SOURCE_REST},
	};
	gs_usage_balance(total, idle, parts, figures.count, balance);
	for (size_t i = 0; i < figures.count; i++)
		figures.items[i]->value = parts[i];
	free(parts);
	GS_VEC_FREE(&figures);
}

static void balance_all(struct gs_usage *usage, const struct gs_gpu_sample *const *samples)
{
	for (uint32_t i = 0; i < usage->inventory->gpu_count; i++) {
		const struct gs_gpu_sample *sample = samples[i];
		struct gs_usage_gpu *gpu = &usage->gpus[i];
		if (sample && sample->valid & GS_SAMPLE_MEMORY)
			balance_gpu(usage, i, MEMORY, sample->memory_total_bytes, sample->memory_free_bytes,
				    sample->at_ms, &gpu->memory_bytes);
		if (sample && sample->valid & GS_SAMPLE_UTILIZATION && sample->utilization_percent <= 100)
			balance_gpu(usage, i, SM, 1000, 1000 - sample->utilization_percent * 10, sample->at_ms,
				    &gpu->sm_permille);
	}
}

void gs_usage_attribute(struct gs_usage *usage, const struct gs_gpu_sample *const *samples)
{
	struct claims claims = {0};
	size_t count = 0;
	if (!samples)
		return;
	for (uint32_t i = 0; i < usage->inventory->gpu_count; i++)
		count += samples[i] ? samples[i]->process_count : 0;
	usage->processes = gs_calloc(count, sizeof *usage->processes);
	for (uint32_t i = 0; i < usage->inventory->gpu_count; i++) {
		const struct gs_gpu_sample *sample = samples[i];
		usage->gpus[i].first_process = (uint32_t)usage->process_count;
		if (!sample)
			continue;
		read_gpu(usage, i, sample);
		claims.before = claims.list.count;
		for (size_t j = 0; j < sample->process_count; j++)
			add_process(usage, i, &sample->processes[j], sample->at_ms, &claims);
		usage->gpus[i].process_count = (uint32_t)sample->process_count;
	}
	settle_claims(usage, &claims);
	choose_shares(usage);
	sum_processes(usage, samples);
	balance_all(usage, samples);
}
