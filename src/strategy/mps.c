/* Several processes on one device at the same time, through NVIDIA's Multi-Process Service: one server holds the device and
 * runs the work of its clients side by side. Memory is bounded for each client, multiprocessors can be; a fatal fault of one
 * client is that of all clients of its server. */
#include "strategy/mps.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/quantity.h"
#include "core/share/container_edit.h"
#include "strategy/strategies.h"

#define MIB ((uint64_t)1 << 20)

static const struct gs_sharing *section(const struct gs_config *config)
{
	return &config->mps;
}

unsigned gs_mps_clients_max(const struct gs_gpu *gpu, const struct gs_device *device, int cuda_version)
{
	enum { BEFORE_VOLTA = 16, VOLTA = 48, CUDA_13_1 = 60, COMPUTE_SLICES = 7 };
	unsigned most = gpu->compute_major < 7 ? BEFORE_VOLTA : cuda_version >= 13010 ? CUDA_13_1 : VOLTA;
	unsigned slices = device->mig ? (unsigned)strtoul(device->mig_profile, NULL, 10) : COMPUTE_SLICES;
	if (!slices || slices >= COMPUTE_SLICES)
		return most;
	return most * slices / COMPUTE_SLICES;
}

static void plan(const struct gs_sharing_resource *entry, const struct gs_inventory *inventory, uint32_t device,
		 struct gs_resource *resource)
{
	struct gs_share *shares = gs_resource_add_device(resource, inventory, device, entry->replicas);
	uint64_t memory = entry->memory_limit_bytes ? (uint64_t)entry->memory_limit_bytes
						    : inventory->devices[device].memory_bytes / entry->replicas;
	for (uint32_t i = 0; i < entry->replicas; i++) {
		shares[i].memory_bytes = memory / MIB * MIB; /* the daemon counts in MiB */
		shares[i].compute_permille = gs_sharing_thread_percentage(entry) * 10;
	}
	struct gs_resource_device *added = &resource->devices[resource->device_count - 1];
	added->priority = entry->priority;
	added->own_servers = entry->isolation == GS_MPS_PER_SHARE;
	added->oversubscribe = entry->oversubscribe;
	added->overcommit = entry->overcommit || entry->oversubscribe;
	added->line = entry->line;
}

/* What the shares of one device come to, over all resources. */
struct sum {
	uint64_t memory_bytes, permille;
	uint32_t shares;
	bool oversubscribe, overcommit, own_servers, shared_server;
	int line; /* of the last entry */
};

static void place(char text[32], int line)
{
	text[0] = '\0';
	if (line)
		snprintf(text, 32, " (line %d)", line);
}

static void check_limit(const struct gs_inventory *inventory, const struct gs_resource *resource,
			const struct gs_resource_device *on, struct gs_plan *plan)
{
	const struct gs_device *device = &inventory->devices[on->device];
	uint64_t limit = resource->shares[on->first_share].memory_bytes;
	char where[32], wanted[32], there[32];
	place(where, on->line);
	gs_format_quantity((int64_t)limit, wanted, sizeof wanted);
	gs_format_quantity((int64_t)(device->memory_bytes / MIB * MIB), there, sizeof there);
	if (!limit && !device->memory_bytes)
		gs_plan_note(plan,
			     "sharing.mps%s: the driver does not tell how much memory device %s has, so shares of %s "
			     "there have no memory limit; set memoryLimit",
			     where, device->index, resource->name);
	else if (!limit)
		gs_plan_refuse(plan, inventory, on->device,
			       "sharing.mps%s: a share of %s on device %s would have less than 1Mi of memory; use "
			       "fewer replicas, or set memoryLimit",
			       where, resource->name, device->index);
	else if (device->memory_bytes && limit > device->memory_bytes)
		gs_plan_refuse(plan, inventory, on->device,
			       "sharing.mps%s: memoryLimit %s is more than device %s has (%s); lower it", where, wanted,
			       device->index, there);
}

static void check_clients(const struct sum *sum, const struct gs_inventory *inventory, uint32_t which,
			  struct gs_plan *plan)
{
	const struct gs_device *device = &inventory->devices[which];
	const struct gs_gpu *gpu = &inventory->gpus[device->gpu];
	unsigned most = gs_mps_clients_max(gpu, device, inventory->cuda_version);
	char where[32], capability[32] = "unknown";
	if (sum->shares <= most)
		return;
	place(where, sum->line);
	if (gpu->compute_major)
		snprintf(capability, sizeof capability, "%d.%d", gpu->compute_major, gpu->compute_minor);
	gs_plan_refuse(plan, inventory, which,
		       "sharing.mps%s: %u shares on device %s, and MPS takes %u clients there (compute capability %s, "
		       "CUDA %d.%d); use at most %u replicas",
		       where, sum->shares, device->index, most, capability, inventory->cuda_version / 1000,
		       inventory->cuda_version % 1000 / 10, most);
}

static void check_sum(const struct sum *sum, const struct gs_inventory *inventory, uint32_t which, struct gs_plan *plan)
{
	const struct gs_device *device = &inventory->devices[which];
	char where[32], wanted[32], there[32];
	place(where, sum->line);
	gs_format_quantity((int64_t)sum->memory_bytes, wanted, sizeof wanted);
	gs_format_quantity((int64_t)(device->memory_bytes / MIB * MIB), there, sizeof there);
	check_clients(sum, inventory, which, plan);
	if (sum->own_servers && sum->shared_server)
		gs_plan_refuse(plan, inventory, which,
			       "sharing.mps%s: device %s has shares with isolation shared and per-share; use one of "
			       "them on a device",
			       where, device->index);
	if (!sum->oversubscribe && device->memory_bytes && sum->memory_bytes > device->memory_bytes)
		gs_plan_refuse(plan, inventory, which,
			       "sharing.mps%s: the memory limits of the shares on device %s add up to %s, and it has "
			       "%s; lower memoryLimit or replicas, or set oversubscribe: true",
			       where, device->index, wanted, there);
	if (!sum->overcommit && sum->permille > 1000)
		gs_plan_refuse(plan, inventory, which,
			       "sharing.mps%s: the thread percentages of the shares on device %s add up to %" PRIu64
			       " (an entry without activeThreadPercentage takes up to 100); lower "
			       "activeThreadPercentage, or set overcommit: true",
			       where, device->index, sum->permille / 10);
}

static void check(const struct gs_inventory *inventory, struct gs_plan *whole)
{
	GS_AUTO_FREE struct sum *sums = gs_calloc(inventory->device_count, sizeof *sums);

	for (size_t i = 0; i < whole->resource_count; i++) {
		const struct gs_resource *resource = &whole->resources[i];
		for (size_t j = 0; j < resource->device_count; j++) {
			const struct gs_resource_device *on = &resource->devices[j];
			struct sum *sum = &sums[on->device];
			if (on->strategy != &gs_strategy_mps)
				continue;
			check_limit(inventory, resource, on, whole);
			sum->memory_bytes += resource->shares[on->first_share].memory_bytes * on->share_count;
			sum->permille += (uint64_t)resource->shares[on->first_share].compute_permille * on->share_count;
			sum->shares += on->share_count;
			sum->oversubscribe |= on->oversubscribe;
			sum->overcommit |= on->overcommit;
			*(on->own_servers ? &sum->own_servers : &sum->shared_server) = true;
			sum->line = on->line;
		}
	}
	for (uint32_t i = 0; i < inventory->device_count; i++)
		if (sums[i].shares)
			check_sum(&sums[i], inventory, i, whole);
}

void gs_mps_key(const struct gs_inventory *inventory, const struct gs_resource_device *on, const struct gs_share *share,
		char key[GS_MPS_KEY_SIZE])
{
	const char *uuid = inventory->devices[on->device].uuid;
	size_t used = 0;
	/* Old MIG UUIDs have slashes. */
	for (; uuid[used] && used < GS_UUID_SIZE - 1; used++)
		key[used] = uuid[used] == '/' ? '_' : uuid[used];
	key[used] = '\0';
	if (on->own_servers)
		snprintf(key + used, GS_MPS_KEY_SIZE - used, "-%u", share->replica);
}

/* The daemon's /dev/shm, which its clients need: the folder below the root when that is what this process has there. */
static char *shared_memory(const char *root)
{
	struct stat mine, below;
	GS_AUTO_FREE char *path = gs_printf("%s/shm", root);
	bool is_below = stat("/dev/shm", &mine) == 0 && stat(path, &below) == 0 && mine.st_dev == below.st_dev &&
			mine.st_ino == below.st_ino;
	return is_below ? GS_STEAL(path) : gs_strdup("/dev/shm");
}

static int edit(const struct gs_config *config, const struct gs_inventory *inventory,
		const struct gs_resource *resource, const uint32_t *shares, size_t count,
		struct gs_container_edit *edit, struct gs_error *err)
{
	const struct gs_resource_device *on = gs_resource_device_of(resource, shares[0]);
	uint64_t memory_bytes = 0;
	uint32_t permille = 0;
	char key[GS_MPS_KEY_SIZE], text[64];

	for (size_t i = 0; i < count; i++) {
		if (gs_resource_device_of(resource, shares[i]) != on || (i && on->own_servers))
			return gs_fail(
				err, GS_ERROR_INPUT, 0,
				"%zu shares of %s were asked for, and a process can be a client of one MPS server "
				"only; ask for 1",
				count, resource->name);
		memory_bytes += resource->shares[shares[i]].memory_bytes;
		permille += resource->shares[shares[i]].compute_permille;
	}
	gs_mps_key(inventory, on, &resource->shares[shares[0]], key);
	GS_AUTO_FREE char *host = gs_printf("%s/%s/pipe", config->flags.mps_root, key);
	GS_AUTO_FREE char *inside = gs_printf("/mps/%s/pipe", resource->name);
	GS_AUTO_FREE char *memory = shared_memory(config->flags.mps_root);
	gs_container_edit_env(edit, "CUDA_MPS_PIPE_DIRECTORY", inside);
	/* A client only connects to sockets there, and that takes no right to write on the mount (docs/mps.md). */
	gs_container_edit_mount(edit, host, inside, true);
	gs_container_edit_mount(edit, memory, "/dev/shm", false);
	/* A container sees its one device as number 0. One entry that the driver can't follow (a device that the process
	 * does not see, a size of nothing) takes all limits of the client along, so there is this one or none. */
	if (memory_bytes >= MIB) {
		snprintf(text, sizeof text, "0=%" PRIu64 "M", memory_bytes / MIB);
		gs_container_edit_env(edit, "CUDA_MPS_PINNED_DEVICE_MEM_LIMIT", text);
	}
	snprintf(text, sizeof text, "%u", permille / 10 < 100 ? permille / 10 : 100);
	gs_container_edit_env(edit, "CUDA_MPS_ACTIVE_THREAD_PERCENTAGE", text);
	if (on->priority)
		gs_container_edit_env(edit, "CUDA_MPS_CLIENT_PRIORITY", "1");
	return 0;
}

/* Adds a device's daemon, or lets the one that is there give the most that a share on it may have: what a client may have
 * beyond that is bounded by its container's environment. */
static void want(struct gs_mps_specs *specs, const struct gs_inventory *inventory, const struct gs_resource_device *on,
		 const struct gs_share *share)
{
	const struct gs_device *device = &inventory->devices[on->device];
	char key[GS_MPS_KEY_SIZE];
	gs_mps_key(inventory, on, share, key);
	struct gs_mps_spec *spec = NULL;
	for (size_t i = 0; i < specs->count; i++)
		if (strcmp(specs->items[i].key, key) == 0)
			spec = &specs->items[i];
	if (!spec) {
		spec = GS_VEC_PUSH(specs);
		*spec = (struct gs_mps_spec){.priority = on->priority, .exclusive = !device->mig && !on->own_servers};
		/* With MIG on, drivers refuse compute modes. */
		spec->exclusive &= !inventory->gpus[device->gpu].mig_enabled;
		/* Before Volta the driver refuses users other than root then (kubernetes-sigs/dra-driver-nvidia-gpu#1153). */
		spec->multi_user = inventory->gpus[device->gpu].compute_major >= 7;
		snprintf(spec->key, sizeof spec->key, "%s", key);
		snprintf(spec->device, sizeof spec->device, "%s", device->uuid);
		snprintf(spec->gpu, sizeof spec->gpu, "%s", inventory->gpus[device->gpu].uuid);
	}
	if (share->compute_permille / 10 > spec->thread_percentage)
		spec->thread_percentage = share->compute_permille / 10;
	if (share->memory_bytes > spec->memory_bytes)
		spec->memory_bytes = share->memory_bytes;
	if (on->priority < spec->priority)
		spec->priority = on->priority;
}

void gs_mps_specs_of(const struct gs_plan *whole, const struct gs_inventory *inventory, struct gs_mps_specs *specs)
{
	*specs = (struct gs_mps_specs){0};
	for (size_t i = 0; i < whole->resource_count; i++) {
		const struct gs_resource *resource = &whole->resources[i];
		for (size_t j = 0; j < resource->device_count; j++) {
			const struct gs_resource_device *on = &resource->devices[j];
			for (uint32_t k = 0; on->strategy == &gs_strategy_mps && k < on->share_count; k++) {
				want(specs, inventory, on, &resource->shares[on->first_share + k]);
				if (!on->own_servers)
					break; /* all are alike */
			}
		}
	}
}

const struct gs_strategy gs_strategy_mps = {
	.name = "mps",
	.section = section,
	.one_share_per_request = true,
	.several_entries = true,
	.sets_compute_mode = true,
	.plan = plan,
	.check = check,
	.edit = edit,
};
