#include "core/labels/labels.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/vec.h"

#define PREFIX       "nvidia.com/"
#define GPU_RESOURCE PREFIX "gpu"
#define MIG_RESOURCE PREFIX "mig-"

/* --- rules of Kubernetes (https://kubernetes.io/docs/concepts/overview/working-with-objects/labels) --- */

static bool is_alphanumeric(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}

static bool is_inner(char c)
{
	return is_alphanumeric(c) || c == '-' || c == '_' || c == '.';
}

static bool is_name(const char *text, size_t length)
{
	if (length == 0 || length > GS_LABEL_VALUE_MAX || !is_alphanumeric(text[0]) ||
	    !is_alphanumeric(text[length - 1]))
		return false;
	for (size_t i = 0; i < length; i++)
		if (!is_inner(text[i]))
			return false;
	return true;
}

bool gs_label_key_valid(const char *key)
{
	size_t prefix = strlen(PREFIX);
	return strncmp(key, PREFIX, prefix) == 0 && is_name(key + prefix, strlen(key + prefix));
}

void gs_label_sanitise(const char *text, char value[GS_LABEL_VALUE_MAX + 1])
{
	size_t length = 0;
	bool blank = false;
	for (; *text && length < GS_LABEL_VALUE_MAX; text++) {
		if (isspace((unsigned char)*text)) {
			blank = length > 0;
		} else if (is_inner(*text) && (length > 0 || is_alphanumeric(*text))) {
			if (blank)
				value[length++] = '-';
			blank = false;
			if (length < GS_LABEL_VALUE_MAX)
				value[length++] = *text;
		}
	}
	while (length > 0 && !is_alphanumeric(value[length - 1]))
		length--;
	value[length] = '\0';
}

/* --- the node, and groups of alike devices --- */

static const struct gs_gpu_facts *facts_of_gpu(const struct gs_label_facts *facts, const char *uuid)
{
	static const struct gs_gpu_facts unknown;
	const struct gs_gpu_facts *known = gs_label_facts_of_gpu(facts, uuid);
	return known ? known : &unknown;
}

/* How devices are shared: what most of a group have describes the group. */
struct sharing {
	const char *strategy;
	uint32_t replicas;
	bool marked; /* shared under its own name, so that the product's name tells */
};

/* GPUs of one model, or MIG devices of one profile. */
struct group {
	char resource[GS_LABEL_KEY_SIZE]; /* the prefix of the labels' keys */
	char product[2 * GS_LABEL_VALUE_MAX];
	size_t count;
	struct sharing sharing;
	uint64_t memory_mib;
	bool memory_known;
	int compute_major, compute_minor;
	bool has_slices;
	struct gs_mig_facts slices;
};

struct context {
	const struct gs_config *config;
	const struct gs_inventory *inventory;
	const struct gs_plan *plan;
	const struct gs_label_facts *facts;
	const struct group *group;
	const char *key; /* of the label, without its prefix */
};

/* Whether a sharing entry publishes under this name without renaming: then the name alone does not tell that it is
 * shared. */
static bool keeps_name(const struct gs_config *config, const char *resource)
{
	for (size_t s = 0; s < GS_SECTION_COUNT; s++) {
		const struct gs_sharing *sharing = gs_sharing_of(config, &gs_sharing_sections[s]);
		for (size_t i = 0; sharing->present && i < sharing->resource_count; i++)
			if (strcmp(sharing->resources[i].name, resource) == 0)
				return true;
	}
	return false;
}

static struct sharing sharing_of_device(const struct context *context, uint32_t device)
{
	for (size_t i = 0; i < context->plan->resource_count; i++) {
		const struct gs_resource *resource = &context->plan->resources[i];
		for (size_t j = 0; j < resource->device_count; j++) {
			const struct gs_resource_device *planned = &resource->devices[j];
			if (planned->device != device)
				continue;
			if (!planned->replicated || planned->share_count < 2)
				return (struct sharing){"none", 1, false};
			return (struct sharing){planned->strategy->name, planned->share_count,
						keeps_name(context->config, resource->name)};
		}
	}
	/* Not published: a GPU whose MIG devices are published in its place. */
	return (struct sharing){"none", 0, false};
}

static bool sharing_equal(const struct sharing *a, const struct sharing *b)
{
	return strcmp(a->strategy, b->strategy) == 0 && a->replicas == b->replicas && a->marked == b->marked;
}

/* The sharing that most devices have; of equally many the greater number of replicas, then the strategy's name. */
static struct sharing most_common(const struct sharing *all, size_t count)
{
	struct sharing best = {"none", 0, false};
	size_t best_votes = 0;
	for (size_t i = 0; i < count; i++) {
		size_t votes = 0;
		for (size_t j = 0; j < count; j++)
			votes += sharing_equal(&all[i], &all[j]);
		int order = (votes > best_votes) - (votes < best_votes);
		if (!order)
			order = (all[i].replicas > best.replicas) - (all[i].replicas < best.replicas);
		if (!order)
			order = strcmp(best.strategy, all[i].strategy);
		if (!order)
			order = all[i].marked - best.marked;
		if (order > 0) {
			best = all[i];
			best_votes = votes;
		}
	}
	return best;
}

static uint64_t mebibytes(uint64_t bytes)
{
	return bytes >> 20;
}

/* The model's GPUs. As in GFD, those with MIG enabled count, but how the others are shared is what replicas tell. */
static void describe_gpus(const struct context *context, const char *model, struct group *group)
{
	const struct gs_inventory *inventory = context->inventory;
	GS_AUTO_FREE struct sharing *all = gs_calloc(inventory->device_count, sizeof *all);
	size_t count = 0;
	*group = (struct group){.resource = GPU_RESOURCE};
	for (uint32_t i = 0; i < inventory->device_count; i++) {
		const struct gs_gpu *gpu = &inventory->gpus[inventory->devices[i].gpu];
		if (inventory->devices[i].mig || strcmp(gpu->name, model) != 0)
			continue;
		group->count++;
		if (!gpu->mig_enabled)
			all[count++] = sharing_of_device(context, i);
		if (mebibytes(gpu->memory_bytes) > group->memory_mib) {
			group->memory_mib = mebibytes(gpu->memory_bytes);
			group->memory_known = true;
		}
		if (gpu->compute_major > group->compute_major ||
		    (gpu->compute_major == group->compute_major && gpu->compute_minor > group->compute_minor)) {
			group->compute_major = gpu->compute_major;
			group->compute_minor = gpu->compute_minor;
		}
	}
	group->sharing = most_common(all, count);
	gs_label_sanitise(model, group->product);
}

/* The model that gpu.* describe. */
static const char *main_model(const struct gs_inventory *inventory)
{
	const char *best = NULL;
	size_t best_count = 0;
	uint64_t best_memory = 0;
	for (size_t i = 0; i < inventory->gpu_count; i++) {
		const char *model = inventory->gpus[i].name;
		size_t count = 0;
		uint64_t memory = 0;
		for (size_t j = 0; j < inventory->gpu_count; j++) {
			if (strcmp(inventory->gpus[j].name, model) != 0)
				continue;
			count++;
			if (inventory->gpus[j].memory_bytes > memory)
				memory = inventory->gpus[j].memory_bytes;
		}
		if (!best || count > best_count ||
		    (count == best_count &&
		     (memory > best_memory || (memory == best_memory && strcmp(model, best) < 0)))) {
			best = model;
			best_count = count;
			best_memory = memory;
		}
	}
	return best;
}

/* A total order of sizes, so that which device describes a group does not depend on their order. */
static int compare_slices(const struct gs_mig_facts *a, const struct gs_mig_facts *b)
{
	const uint64_t left[] = {a->memory_mib,      a->multiprocessors, a->slices_gi,
				 a->slices_ci,       a->engines_copy,    a->engines_decoder,
				 a->engines_encoder, a->engines_jpeg,    a->engines_ofa};
	const uint64_t right[] = {b->memory_mib,      b->multiprocessors, b->slices_gi,
				  b->slices_ci,       b->engines_copy,    b->engines_decoder,
				  b->engines_encoder, b->engines_jpeg,    b->engines_ofa};
	for (size_t i = 0; i < GS_ARRAY_LENGTH(left); i++)
		if (left[i] != right[i])
			return left[i] < right[i] ? -1 : 1;
	return 0;
}

/* "1g.10gb.me" of "1g.10gb+me": as the resource's name has it. */
static void dot_profile(const char *profile, char dotted[GS_LABEL_KEY_SIZE])
{
	snprintf(dotted, GS_LABEL_KEY_SIZE, "%s", profile);
	for (char *c = dotted; *c; c++)
		if (*c == '+' || *c == ',')
			*c = '.';
}

/* "NVIDIA-A100-SXM4-80GB-MIG-1g.10gb.me", with room for the mark if there will be one. */
static void name_mig_product(const char *model, const char *profile, bool marked, char product[2 * GS_LABEL_VALUE_MAX])
{
	char clean_model[GS_LABEL_VALUE_MAX + 1], clean_profile[GS_LABEL_VALUE_MAX + 1], dotted[GS_LABEL_KEY_SIZE];
	dot_profile(profile, dotted);
	gs_label_sanitise(model, clean_model);
	gs_label_sanitise(dotted, clean_profile);
	/* The profile is what tells products apart, so a long model's name is what gives way. */
	size_t room = GS_LABEL_VALUE_MAX - strlen("-MIG-") - (marked ? strlen("-SHARED") : 0);
	size_t profile_length = strlen(clean_profile) < room ? strlen(clean_profile) : room;
	size_t model_length = strlen(clean_model);
	if (model_length > room - profile_length)
		for (model_length = room - profile_length;
		     model_length && !is_alphanumeric(clean_model[model_length - 1]);)
			model_length--;
	snprintf(product, 2 * GS_LABEL_VALUE_MAX, "%.*s-MIG-%.*s", (int)model_length, clean_model, (int)profile_length,
		 clean_profile);
}

/* MIG devices of one profile, on GPUs of every model. The product is that of most of them, as with whole GPUs. */
static void describe_profile(const struct context *context, const char *profile, struct group *group)
{
	const struct gs_inventory *inventory = context->inventory;
	GS_AUTO_FREE struct sharing *all = gs_calloc(inventory->device_count, sizeof *all);
	*group = (struct group){0};
	char dotted[GS_LABEL_KEY_SIZE];
	dot_profile(profile, dotted);
	snprintf(group->resource, sizeof group->resource, MIG_RESOURCE "%s", dotted);
	const char *best = "";
	size_t best_count = 0;
	for (uint32_t i = 0; i < inventory->device_count; i++) {
		const struct gs_device *device = &inventory->devices[i];
		if (!device->mig || strcmp(device->mig_profile, profile) != 0)
			continue;
		all[group->count++] = sharing_of_device(context, i);
		const char *model = inventory->gpus[device->gpu].name;
		size_t count = 0;
		for (uint32_t j = 0; j < inventory->device_count; j++)
			count += inventory->devices[j].mig && strcmp(inventory->devices[j].mig_profile, profile) == 0 &&
				 strcmp(inventory->gpus[inventory->devices[j].gpu].name, model) == 0;
		if (count > best_count || (count == best_count && strcmp(model, best) < 0)) {
			best = model;
			best_count = count;
		}
		if (mebibytes(device->memory_bytes) > group->memory_mib)
			group->memory_mib = mebibytes(device->memory_bytes);
		const struct gs_mig_facts *facts = gs_label_facts_of_mig(context->facts, device->uuid);
		if (facts && (!group->has_slices || compare_slices(facts, &group->slices) > 0)) {
			group->has_slices = true;
			group->slices = *facts;
		}
	}
	if (group->has_slices && group->slices.memory_mib)
		group->memory_mib = group->slices.memory_mib;
	group->memory_known = group->memory_mib > 0;
	group->sharing = most_common(all, group->count);
	name_mig_product(best, profile, group->sharing.marked, group->product);
}

/* --- the table --- */

enum { OF_NODE = 1, OF_GPU = 2, OF_MIG = 4 };

/* One label. Of groups, `key` is what comes after the resource's name. */
struct kind {
	unsigned of;
	const char *key;
	const char *example;
	const char *meaning; /* one sentence, no full stop */
	/* False: the label is left out. The value is made valid afterwards. */
	bool (*value)(const struct context *context, struct gs_strbuf *out);
};

static bool number(struct gs_strbuf *out, uint64_t value)
{
	gs_strbuf_printf(out, "%llu", (unsigned long long)value);
	return true;
}

static bool text(struct gs_strbuf *out, const char *value)
{
	gs_strbuf_add(out, value);
	return true;
}

/* The nth part of the driver's version; "" for the third of two. Nothing unless there are two or three. */
static bool driver_part(const struct context *context, int which, struct gs_strbuf *out)
{
	const char *version = context->facts->driver_version;
	int dots = 0;
	for (const char *c = version; *c; c++)
		dots += *c == '.';
	if (dots < 1 || dots > 2)
		return false;
	for (; which > 0 && version; which--) {
		version = strchr(version, '.');
		version = version ? version + 1 : NULL;
	}
	if (version)
		gs_strbuf_add_bytes(out, version, strcspn(version, "."));
	return true;
}

static bool driver_major(const struct context *context, struct gs_strbuf *out)
{
	return driver_part(context, 0, out);
}

static bool driver_minor(const struct context *context, struct gs_strbuf *out)
{
	return driver_part(context, 1, out);
}

static bool driver_revision(const struct context *context, struct gs_strbuf *out)
{
	return driver_part(context, 2, out);
}

static bool driver_full(const struct context *context, struct gs_strbuf *out)
{
	return *context->facts->driver_version && text(out, context->facts->driver_version);
}

static bool cuda_major(const struct context *context, struct gs_strbuf *out)
{
	int version = context->facts->cuda_version;
	return version > 0 && number(out, (uint64_t)version / 1000);
}

static bool cuda_minor(const struct context *context, struct gs_strbuf *out)
{
	int version = context->facts->cuda_version;
	return version > 0 && number(out, (uint64_t)version % 1000 / 10);
}

static bool cuda_full(const struct context *context, struct gs_strbuf *out)
{
	int version = context->facts->cuda_version;
	gs_strbuf_printf(out, "%d.%d", version / 1000, version % 1000 / 10);
	return version > 0;
}

static bool timestamp(const struct context *context, struct gs_strbuf *out)
{
	int64_t seconds = context->facts->started_seconds;
	return !context->config->flags.gfd.no_timestamp && seconds > 0 && number(out, (uint64_t)seconds);
}

static bool machine(const struct context *context, struct gs_strbuf *out)
{
	return text(out, *context->facts->machine ? context->facts->machine : "unknown");
}

static bool present(const struct context *context, struct gs_strbuf *out)
{
	return text(out, "true");
}

static bool mode(const struct context *context, struct gs_strbuf *out)
{
	const struct gs_inventory *inventory = context->inventory;
	uint32_t class = facts_of_gpu(context->facts, inventory->gpus[0].uuid)->pci_class;
	for (size_t i = 1; i < inventory->gpu_count; i++)
		if (facts_of_gpu(context->facts, inventory->gpus[i].uuid)->pci_class != class)
			class = 0;
	return text(out, class == 0x030000 ? "graphics" : class == 0x030200 ? "compute" : "unknown");
}

static bool clique(const struct context *context, struct gs_strbuf *out)
{
	const struct gs_gpu_facts *first = NULL;
	for (size_t i = 0; i < context->facts->gpu_count; i++) {
		const struct gs_gpu_facts *facts = &context->facts->gpus[i];
		if (!facts->fabric)
			continue;
		if (first && (strcmp(first->fabric_cluster, facts->fabric_cluster) != 0 ||
			      first->fabric_clique != facts->fabric_clique))
			return false;
		first = facts;
	}
	if (!first)
		return false;
	gs_strbuf_printf(out, "%s.%u", first->fabric_cluster, first->fabric_clique);
	return true;
}

static bool mig_capable(const struct context *context, struct gs_strbuf *out)
{
	bool capable = false;
	for (size_t i = 0; i < context->inventory->gpu_count; i++)
		capable |= context->inventory->gpus[i].mig_capable;
	return text(out, capable ? "true" : "false");
}

static bool mig_strategy(const struct context *context, struct gs_strbuf *out)
{
	enum gs_mig_strategy strategy = context->config->flags.mig_strategy;
	return strategy != GS_MIG_NONE && text(out, strategy == GS_MIG_SINGLE ? "single" : "mixed");
}

/* Whether a device is shared by the strategy that this label tells of. */
static bool strategy_capable(const struct context *context, struct gs_strbuf *out)
{
	bool capable = false;
	for (size_t i = 0; i < context->plan->resource_count; i++)
		for (size_t j = 0; j < context->plan->resources[i].device_count; j++) {
			const char *label = context->plan->resources[i].devices[j].strategy->capable_label;
			capable |= label && strcmp(label, context->key) == 0;
		}
	return text(out, capable ? "true" : "false");
}

static bool is_vgpu(const struct context *context)
{
	for (size_t i = 0; i < context->inventory->gpu_count; i++)
		if (facts_of_gpu(context->facts, context->inventory->gpus[i].uuid)->vgpu)
			return true;
	return false;
}

static bool vgpu_present(const struct context *context, struct gs_strbuf *out)
{
	return text(out, is_vgpu(context) ? "true" : "false");
}

static bool vgpu_version(const struct context *context, struct gs_strbuf *out)
{
	const char *version = context->facts->vgpu_host_driver_version;
	return is_vgpu(context) && *version && text(out, version);
}

static bool vgpu_branch(const struct context *context, struct gs_strbuf *out)
{
	const char *branch = context->facts->vgpu_host_driver_branch;
	return is_vgpu(context) && *branch && text(out, branch);
}

static bool product(const struct context *context, struct gs_strbuf *out)
{
	const struct group *group = context->group;
	/* Without room for the mark, the name gives way: that a product is shared matters more than its last letters. */
	bool marked = group->sharing.marked;
	size_t room = GS_LABEL_VALUE_MAX - (marked ? strlen("-SHARED") : 0);
	gs_strbuf_printf(out, "%.*s%s", (int)room, group->product, marked ? "-SHARED" : "");
	return *group->product != '\0';
}

static bool count(const struct context *context, struct gs_strbuf *out)
{
	return number(out, context->group->count);
}

static bool replicas(const struct context *context, struct gs_strbuf *out)
{
	return number(out, context->group->sharing.replicas);
}

static bool sharing_strategy(const struct context *context, struct gs_strbuf *out)
{
	return text(out, context->group->sharing.strategy);
}

static bool memory(const struct context *context, struct gs_strbuf *out)
{
	return context->group->memory_known && number(out, context->group->memory_mib);
}

/* NVIDIA's name of the architecture. */
static const char *family_of(int major, int minor)
{
	static const struct {
		int major, below; /* minors less than this; 0: all */
		const char *name;
	} families[] = {
		{1, 0, "tesla"},      {2, 0, "fermi"},      {3, 0, "kepler"}, {5, 0, "maxwell"},      {6, 0, "pascal"},
		{7, 5, "volta"},      {7, 0, "turing"},     {8, 9, "ampere"}, {8, 0, "ada-lovelace"}, {9, 0, "hopper"},
		{10, 0, "blackwell"}, {12, 0, "blackwell"}, {13, 0, "rubin"},
	};
	for (size_t i = 0; i < GS_ARRAY_LENGTH(families); i++)
		if (families[i].major == major && (!families[i].below || minor < families[i].below))
			return families[i].name;
	return "undefined";
}

static bool family(const struct context *context, struct gs_strbuf *out)
{
	int major = context->group->compute_major;
	return major > 0 && text(out, family_of(major, context->group->compute_minor));
}

static bool compute_major(const struct context *context, struct gs_strbuf *out)
{
	return context->group->compute_major > 0 && number(out, (uint64_t)context->group->compute_major);
}

static bool compute_minor(const struct context *context, struct gs_strbuf *out)
{
	return context->group->compute_major > 0 && number(out, (uint64_t)context->group->compute_minor);
}

#define SLICE_VALUE(member)                                                                      \
	static bool member(const struct context *context, struct gs_strbuf *out)                 \
	{                                                                                        \
		return context->group->has_slices && number(out, context->group->slices.member); \
	}
SLICE_VALUE(multiprocessors)
SLICE_VALUE(slices_gi)
SLICE_VALUE(slices_ci)
SLICE_VALUE(engines_copy)
SLICE_VALUE(engines_decoder)
SLICE_VALUE(engines_encoder)
SLICE_VALUE(engines_jpeg)
SLICE_VALUE(engines_ofa)

static const struct kind kinds[] = {
	{OF_NODE, "gpu.present", "true", "The node has at least one GPU; NVIDIA's operator sets the same", present},
	{OF_NODE, "gpu.machine", "DGXA100-920-23687-2530-000",
	 "Product name of the machine, from `flags.gfd.machineTypeFile`; `unknown` if it has none", machine},
	{OF_NODE, "gpu.mode", "compute",
	 "`compute` if all GPUs are 3D controllers, `graphics` if all can drive displays, else `unknown`", mode},
	{OF_NODE, "gpu.clique", "7b968a6d-c8aa-45e1-9e07-e1e51be99c31.1",
	 "NVLink fabric and clique, if all GPUs that are on a fabric are on the same", clique},
	{OF_NODE, "cuda.driver-version.full", "550.54.15", "Version of the driver", driver_full},
	{OF_NODE, "cuda.driver-version.major", "550", "Its first part", driver_major},
	{OF_NODE, "cuda.driver-version.minor", "54", "Its second part", driver_minor},
	{OF_NODE, "cuda.driver-version.revision", "15", "Its third part; empty if it has two", driver_revision},
	{OF_NODE, "cuda.driver.major", "550", "As cuda.driver-version.major; the older name", driver_major},
	{OF_NODE, "cuda.driver.minor", "54", "As cuda.driver-version.minor; the older name", driver_minor},
	{OF_NODE, "cuda.driver.rev", "15", "As cuda.driver-version.revision; the older name", driver_revision},
	{OF_NODE, "cuda.runtime-version.full", "12.4", "The newest CUDA that the driver runs", cuda_full},
	{OF_NODE, "cuda.runtime-version.major", "12", "Its first part", cuda_major},
	{OF_NODE, "cuda.runtime-version.minor", "4", "Its second part", cuda_minor},
	{OF_NODE, "cuda.runtime.major", "12", "As cuda.runtime-version.major; the older name", cuda_major},
	{OF_NODE, "cuda.runtime.minor", "4", "As cuda.runtime-version.minor; the older name", cuda_minor},
	{OF_NODE, "gfd.timestamp", "1795410000",
	 "When the daemon started, in seconds since 1970; not with `flags.gfd.noTimestamp`", timestamp},
	{OF_NODE, "mig.capable", "true", "Whether any GPU can be split with MIG", mig_capable},
	{OF_NODE, "mig.strategy", "mixed", "`flags.migStrategy`: `single` or `mixed`; not with `none`", mig_strategy},
	{OF_NODE, "mps.capable", "false", "Whether any device is shared with MPS", strategy_capable},
	{OF_NODE, "vgpu.present", "false", "Whether a hypervisor lends the node a virtual GPU", vgpu_present},
	{OF_NODE, "vgpu.host-driver-version", "550.54.10", "The hypervisor's driver", vgpu_version},
	{OF_NODE, "vgpu.host-driver-branch", "r550_40", "The branch of the hypervisor's driver", vgpu_branch},

	{OF_GPU | OF_MIG, "product", "NVIDIA-A100-SXM4-80GB-SHARED",
	 "Model; `-MIG-PROFILE` for a MIG device, `-SHARED` if it is shared and keeps its resource's name", product},
	{OF_GPU | OF_MIG, "count", "8", "How many there are, shared or not", count},
	{OF_GPU | OF_MIG, "replicas", "4", "Shares of each; 1 if not shared, 0 if all GPUs have MIG enabled", replicas},
	{OF_GPU | OF_MIG, "sharing-strategy", "time-slicing", "`none`, `time-slicing` or `mps`", sharing_strategy},
	{OF_GPU | OF_MIG, "memory", "81920", "Memory of each, in MiB", memory},
	{OF_GPU, "family", "ampere", "Architecture", family},
	{OF_GPU, "compute.major", "8", "Compute capability, first part", compute_major},
	{OF_GPU, "compute.minor", "0", "Compute capability, second part", compute_minor},
	{OF_MIG, "multiprocessors", "14", "Multiprocessors of each", multiprocessors},
	{OF_MIG, "slices.gi", "1", "Slices of the GPU instance", slices_gi},
	{OF_MIG, "slices.ci", "1", "Slices of the compute instance", slices_ci},
	{OF_MIG, "engines.copy", "1", "Copy engines of each", engines_copy},
	{OF_MIG, "engines.decoder", "0", "Video decoders of each", engines_decoder},
	{OF_MIG, "engines.encoder", "0", "Video encoders of each", engines_encoder},
	{OF_MIG, "engines.jpeg", "0", "JPEG decoders of each", engines_jpeg},
	{OF_MIG, "engines.ofa", "0", "Optical flow accelerators of each", engines_ofa},
};

/* --- building --- */

/* Adds or replaces. A key that is no key (a profile that NVML made up) is left out. */
static void set_label(struct gs_labels *labels, const char *key, const char *value)
{
	struct gs_label *label = NULL;
	if (!gs_label_key_valid(key))
		return;
	for (size_t i = 0; !label && i < labels->count; i++)
		if (strcmp(labels->items[i].key, key) == 0)
			label = &labels->items[i];
	if (!label && labels->count == GS_LABELS_MAX)
		return;
	if (!label)
		label = GS_VEC_PUSH(labels);
	snprintf(label->key, sizeof label->key, "%s", key);
	gs_label_sanitise(value, label->value);
}

static void add_labels(struct context context, unsigned of, const struct group *group, struct gs_labels *labels)
{
	context.group = group;
	for (size_t i = 0; i < GS_ARRAY_LENGTH(kinds); i++) {
		GS_AUTO_STRBUF struct gs_strbuf value = {0};
		char key[2 * GS_LABEL_KEY_SIZE];
		context.key = kinds[i].key;
		if (!(kinds[i].of & of) || !kinds[i].value(&context, &value))
			continue;
		snprintf(key, sizeof key, "%s%s%s", group ? group->resource : PREFIX, group ? "." : "", kinds[i].key);
		set_label(labels, key, value.data ? value.data : "");
	}
}

/* The next profile after `last` in the order of names; NULL: none. */
static const char *next_profile(const struct gs_inventory *inventory, const char *last)
{
	const char *next = NULL;
	for (size_t i = 0; i < inventory->device_count; i++) {
		const struct gs_device *device = &inventory->devices[i];
		if (device->mig && strcmp(device->mig_profile, last) > 0 &&
		    (!next || strcmp(device->mig_profile, next) < 0))
			next = device->mig_profile;
	}
	return next;
}

/* With migStrategy single the MIG devices take the place of the GPUs, so gpu.* describe them; a layout that the strategy
 * does not allow is marked, for every scheduler to see. */
static void add_single(const struct context *context, struct gs_labels *labels)
{
	const struct gs_inventory *inventory = context->inventory;
	size_t enabled = 0, empty = 0;
	for (uint32_t i = 0; i < inventory->gpu_count; i++) {
		size_t devices = 0;
		for (size_t j = 0; j < inventory->device_count; j++)
			devices += inventory->devices[j].mig && inventory->devices[j].gpu == i;
		enabled += inventory->gpus[i].mig_enabled;
		empty += inventory->gpus[i].mig_enabled && !devices;
	}
	if (!enabled)
		return;
	const char *profile = next_profile(inventory, "");
	struct group group = {0};
	if (empty || enabled < inventory->gpu_count || !profile || next_profile(inventory, profile)) {
		group.sharing = (struct sharing){"", 0, false};
		group.memory_known = true;
		name_mig_product(main_model(inventory), "INVALID", false, group.product);
	} else {
		describe_profile(context, profile, &group);
	}
	snprintf(group.resource, sizeof group.resource, "%s", GPU_RESOURCE);
	add_labels(*context, OF_MIG, &group, labels);
}

static int compare_labels(const void *a, const void *b)
{
	return strcmp(((const struct gs_label *)a)->key, ((const struct gs_label *)b)->key);
}

void gs_labels_build(const struct gs_config *config, const struct gs_inventory *inventory, const struct gs_plan *plan,
		     const struct gs_label_facts *facts, struct gs_labels *labels)
{
	const struct context context = {.config = config, .inventory = inventory, .plan = plan, .facts = facts};
	if (inventory->gpu_count == 0)
		return;
	struct group group;
	add_labels(context, OF_NODE, NULL, labels);
	describe_gpus(&context, main_model(inventory), &group);
	add_labels(context, OF_GPU, &group, labels);
	if (config->flags.mig_strategy == GS_MIG_SINGLE)
		add_single(&context, labels);
	if (config->flags.mig_strategy == GS_MIG_MIXED) {
		for (const char *profile = ""; (profile = next_profile(inventory, profile));) {
			describe_profile(&context, profile, &group);
			add_labels(context, OF_MIG, &group, labels);
		}
	}
	qsort(labels->items, labels->count, sizeof *labels->items, compare_labels);
}

void gs_labels_free(struct gs_labels *labels)
{
	GS_VEC_FREE(labels);
}

bool gs_labels_equal(const struct gs_labels *a, const struct gs_labels *b)
{
	if (a->count != b->count)
		return false;
	for (size_t i = 0; i < a->count; i++)
		if (strcmp(a->items[i].key, b->items[i].key) != 0 || strcmp(a->items[i].value, b->items[i].value) != 0)
			return false;
	return true;
}

void gs_labels_feature_file(const struct gs_labels *labels, struct gs_strbuf *out)
{
	for (size_t i = 0; i < labels->count; i++)
		gs_strbuf_printf(out, "%s=%s\n", labels->items[i].key, labels->items[i].value);
}

/* --- documentation --- */

static void add_table(struct gs_strbuf *out, const char *title, const char *key_begin, unsigned of, bool with_mig)
{
	gs_strbuf_printf(out, "\n### %s\n\n| label | example | meaning |\n|---|---|---|\n", title);
	for (size_t i = 0; i < GS_ARRAY_LENGTH(kinds); i++) {
		if (!(kinds[i].of & of))
			continue;
		gs_strbuf_printf(out, "| `%s%s` | `%s` | %s%s |\n", key_begin, kinds[i].key, kinds[i].example,
				 kinds[i].meaning, with_mig && !(kinds[i].of & OF_MIG) ? " (of the whole GPU)" : "");
	}
}

void gs_labels_markdown(struct gs_strbuf *out)
{
	gs_strbuf_add(out, "## Every label\n");
	add_table(out, "Of the node", PREFIX, OF_NODE, false);
	add_table(out, "Of its GPUs", GPU_RESOURCE ".", OF_GPU, false);
	add_table(out, "Of its GPUs, with migStrategy single and MIG enabled", GPU_RESOURCE ".", OF_GPU | OF_MIG, true);
	add_table(out, "Of each MIG profile, with migStrategy mixed", MIG_RESOURCE "PROFILE.", OF_MIG, false);
}
