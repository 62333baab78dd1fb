/* Several processes on one device at the same time, through NVIDIA's Multi-Process Service: one server holds the device and
 * runs the work of its clients side by side. Memory is bounded for each client, multiprocessors can be; a fatal fault of one
 * client is that of all clients of its server. */
#include "strategy/mps.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/driver_root.h"
#include "base/file.h"
#include "base/log.h"
#include "base/quantity.h"
#include "core/share/container_edit.h"
#include "mps/mps_clients.h"
#include "mps/mps_control.h"
#include "mps/mps_end.h"
#include "mps/mps_modes.h"
#include "mps/mps_remove.h"
#include "strategy/strategies.h"

#define MIB ((uint64_t)1 << 20)

enum { LOCK_AGAIN_MS = 2000, END_GRACE_SECONDS = 5 };

/* The instance on a node. */
struct mps {
	struct gs_strategy_node node;
	bool started; /* something is shared by MPS, or was: the rest is there */
	bool stopped;
	char *root;
	char *shared_memory; /* what the control daemons have as /dev/shm, as the host calls it */
	int root_lock;
	struct gs_mps_daemons *daemons; /* NULL: another node daemon has the root */
	struct gs_mps_modes *modes;
	uv_timer_t lock_again;
};

/* --- the plan --- */

static char *terms(const struct gs_sharing_resource *entry)
{
	char memory[48];
	if (entry->memory_limit_bytes)
		gs_format_quantity(entry->memory_limit_bytes, memory, sizeof memory);
	else
		snprintf(memory, sizeof memory, "1/%u of the device's memory", entry->replicas);
	return gs_printf("%s; each process may have at most %s%s and %u %% of the multiprocessors%s; %s",
			 entry->isolation == GS_MPS_PER_SHARE ? "shares take turns" : "work runs side by side", memory,
			 entry->memory_limit_bytes ? " of memory" : "", gs_sharing_thread_percentage(entry),
			 entry->priority ? ", at a priority below normal" : "",
			 entry->isolation == GS_MPS_PER_SHARE ? "a fault stays within its share"
							      : "faults are not isolated");
}

/* The settings of an entry that each of its devices keeps. */
struct kept {
	bool own_servers, oversubscribe, overcommit;
	unsigned priority;
	int line;
};

static const struct kept *kept_of(const struct gs_resource_device *on)
{
	return on->kept;
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
	struct kept *kept = gs_malloc(sizeof *kept);
	*kept = (struct kept){
		.priority = entry->priority,
		.own_servers = entry->isolation == GS_MPS_PER_SHARE,
		.oversubscribe = entry->oversubscribe,
		.overcommit = entry->overcommit || entry->oversubscribe,
		.line = entry->line,
	};
	added->kept = kept;
}

/* The sums of one device's shares, over all resources. */
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
	place(where, kept_of(on)->line);
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
			sum->oversubscribe |= kept_of(on)->oversubscribe;
			sum->overcommit |= kept_of(on)->overcommit;
			*(kept_of(on)->own_servers ? &sum->own_servers : &sum->shared_server) = true;
			sum->line = kept_of(on)->line;
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
	if (kept_of(on)->own_servers)
		snprintf(key + used, GS_MPS_KEY_SIZE - used, "-%u", share->replica);
}

static int edit(const void *instance, const struct gs_config *config, const struct gs_inventory *inventory,
		const struct gs_resource *resource, const uint32_t *shares, size_t count,
		struct gs_container_edit *edit, struct gs_error *err)
{
	const struct mps *mps = instance;
	const struct gs_resource_device *on = gs_resource_device_of(resource, shares[0]);
	uint64_t memory_bytes = 0;
	uint32_t permille = 0;
	char key[GS_MPS_KEY_SIZE], text[64];

	for (size_t i = 0; i < count; i++) {
		if (gs_resource_device_of(resource, shares[i]) != on || (i && kept_of(on)->own_servers))
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
	const char *memory = mps && mps->shared_memory ? mps->shared_memory : "/dev/shm";
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
	if (kept_of(on)->priority)
		gs_container_edit_env(edit, "CUDA_MPS_CLIENT_PRIORITY", "1");
	return 0;
}

/* Adds a device's daemon, or lets the existing one give the most that a share on it may have. The environment of a
 * container bounds its clients further. */
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
		*spec = (struct gs_mps_spec){.priority = kept_of(on)->priority,
					     .exclusive = !device->mig && !kept_of(on)->own_servers};
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
	if (kept_of(on)->priority < spec->priority)
		spec->priority = kept_of(on)->priority;
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
				if (!kept_of(on)->own_servers)
					break; /* all are alike */
			}
		}
	}
}

/* --- on a node --- */

static void *create(const struct gs_strategy_node *node)
{
	struct mps *mps = gs_calloc(1, sizeof *mps);
	mps->node = *node;
	mps->root_lock = -1;
	uv_timer_init(node->loop, &mps->lock_again);
	mps->lock_again.data = mps;
	return mps;
}

static void on_changed(void *user)
{
	const struct mps *mps = user;
	if (!mps->stopped)
		mps->node.changed(mps->node.user);
}

static void on_mode_set(void *user, const char *gpu, const struct gs_error *err)
{
	struct mps *mps = user;
	if (!mps->daemons)
		return;
	gs_mps_mode_set(mps->daemons, gpu, err);
	mps->node.rescan(mps->node.user);
}

static void request_mode(void *user, const char *gpu, bool exclusive)
{
	gs_mps_modes_request(((struct mps *)user)->modes, gpu, exclusive);
}

static void keep_daemon(void *user, const char *directory, const struct mps_identity *identity)
{
	gs_mps_modes_keep(((struct mps *)user)->modes, directory, identity);
}

static void work(void *user, void (*run)(const struct gs_nvml *nvml, void *of), void (*done)(void *of), void *of)
{
	const struct mps *mps = user;
	mps->node.work(mps->node.user, run, done, of);
}

/* A control daemon below the root that is in no record of this daemon is another program's. */
static bool is_needed(const struct mps *mps, const struct gs_config *config)
{
	GS_AUTO_FREE char *record = gs_printf("%s/mps.json", mps->node.state_dir);
	return config->mps.present || access(record, F_OK) == 0;
}

/* The daemon's /dev/shm, which its clients need: the folder below the root when that is what this process has there. */
static char *find_shared_memory(const char *root)
{
	struct stat mine, below;
	GS_AUTO_FREE char *path = gs_printf("%s/shm", root);
	bool is_below = stat("/dev/shm", &mine) == 0 && stat(path, &below) == 0 && mine.st_dev == below.st_dev &&
			mine.st_ino == below.st_ino;
	return is_below ? GS_STEAL(path) : gs_strdup("/dev/shm");
}

/* The control daemons. One node daemon has the root: another one would end what this one started. False when it has not. */
static bool start_daemons(struct mps *mps, const struct gs_config *config)
{
	struct gs_error err;
	if (config->mps.present && *mps->root && gs_make_directories(mps->root, 0755, &err) < 0)
		gs_log(GS_LOG_WARNING, "MPS: flags.mpsRoot can't be made", GS_STR("error", err.text));
	mps->root_lock = gs_try_lock_directory(mps->root, &err);
	if (mps->root_lock < 0 && err.code == EWOULDBLOCK)
		return false;
	const char *const roots[] = {config->flags.plugin.container_driver_root, config->flags.nvidia_driver_root,
				     NULL};
	GS_AUTO_FREE char *program = gs_driver_command(roots, MPS_CONTROL_PROGRAM);
	const struct gs_mps_record *record = gs_mps_modes_record(mps->modes);
	size_t known_count;
	struct gs_mps_known *known = gs_mps_record_known(record, &known_count);
	const struct gs_mps_options options = {
		.root = mps->root,
		.known = known,
		.known_count = known_count,
		.program = program,
		.cgroups = mps->node.cgroups,
		.user = mps,
		.changed = on_changed,
		.set_mode = request_mode,
		.keep = keep_daemon,
	};
	bool anything = config->mps.present || known_count || json_object_size(record->modes);
	gs_mps_modes_record_root(mps->modes, anything ? mps->root : NULL);
	mps->daemons = gs_mps_new(mps->node.loop, &options);
	gs_mps_known_free(known, known_count);
	return true;
}

static void start(struct mps *mps, const struct gs_config *config)
{
	const char *root = config->flags.mps_root ? config->flags.mps_root : "";
	const struct gs_mps_modes_options options = {
		.loop = mps->node.loop,
		.state_dir = mps->node.state_dir,
		.user = mps,
		.work = work,
		.set = on_mode_set,
		.changed = on_changed,
	};
	mps->started = true;
	mps->root = gs_mps_root(root);
	mps->shared_memory = find_shared_memory(root);
	mps->modes = gs_mps_modes_new(&options);
	if (!start_daemons(mps, config))
		gs_log(GS_LOG_WARNING, "MPS: another gpushare node uses flags.mpsRoot; waiting for its end",
		       GS_STR("root", mps->root));
}

/* Daemons and their clients are where they were started. */
static void keep(const void *instance, const struct gs_config *now, struct gs_config *next)
{
	const struct mps *mps = instance;
	const char *is = now->flags.mps_root, *becomes = next->flags.mps_root;
	if (!mps->started || strcmp(is ? is : "", becomes ? becomes : "") == 0)
		return;
	gs_log(GS_LOG_WARNING, "flags.mpsRoot changed; that takes effect when the daemon starts again",
	       GS_STR("root", is));
	free(next->flags.mps_root);
	next->flags.mps_root = gs_strdup(is);
}

/* --- needs of the plan --- */

/* A plan's needs, and the strategy that asks. */
struct needs {
	const struct mps *mps;
	const struct gs_inventory *inventory;
	struct gs_mps_specs specs;
};

static bool is_gpu_used(void *user, const char *gpu)
{
	const struct needs *needs = user;
	for (size_t i = 0; i < needs->specs.count; i++)
		if (needs->specs.items[i].exclusive && strcmp(needs->specs.items[i].gpu, gpu) == 0)
			return true;
	return gs_mps_holds(needs->mps->daemons, gpu, gpu);
}

static bool has_mig(void *user, const char *gpu)
{
	const struct gs_inventory *inventory = ((const struct needs *)user)->inventory;
	for (size_t i = 0; i < inventory->gpu_count; i++)
		if (strcmp(inventory->gpus[i].uuid, gpu) == 0)
			return inventory->gpus[i].mig_enabled;
	return false;
}

/* Where the config does not fit a device, no container gets it. Containers that an earlier daemon gave it to go on. */
static void keep_for_misfits(struct needs *needs, const struct gs_strategy_context *context)
{
	for (size_t i = 0; i < gs_mps_count(needs->mps->daemons); i++) {
		struct gs_mps_status status = gs_mps_status(needs->mps->daemons, i);
		for (uint32_t j = 0; status.wanted && j < context->inventory->device_count; j++)
			if (gs_plan_misfit(context->plan, j) &&
			    strcmp(context->inventory->devices[j].uuid, status.spec->device) == 0)
				*GS_VEC_PUSH(&needs->specs) = *status.spec;
	}
}

static void on_lock_again(uv_timer_t *timer)
{
	const struct mps *mps = timer->data;
	mps->node.again(mps->node.user);
}

static void activate(void *instance, const struct gs_strategy_context *context)
{
	struct mps *mps = instance;
	if (mps->stopped || (!mps->started && !is_needed(mps, context->config)))
		return;
	if (!mps->started)
		start(mps, context->config);
	else if (!mps->daemons)
		start_daemons(mps, context->config);
	if (!mps->daemons) {
		uv_timer_start(&mps->lock_again, on_lock_again, LOCK_AGAIN_MS, 0);
		return;
	}
	uv_timer_stop(&mps->lock_again);
	struct needs needs = {.mps = mps, .inventory = context->inventory};
	gs_mps_specs_of(context->plan, context->inventory, &needs.specs);
	keep_for_misfits(&needs, context);
	gs_mps_want(mps->daemons, needs.specs.items, needs.specs.count);
	gs_mps_modes_restore_left(mps->modes, is_gpu_used, &needs);
	gs_mps_modes_restore_put_off(mps->modes, has_mig, is_gpu_used, &needs);
	GS_VEC_FREE(&needs.specs);
}

static void observe(void *instance, const char *gpu)
{
	const struct mps *mps = instance;
	if (mps->daemons)
		gs_mps_look(mps->daemons, gpu);
}

/* --- ready devices --- */

static const char root_is_taken[] =
	"another gpushare node uses flags.mpsRoot; stop it, or give this one another directory";

/* The device as MPS shares it; NULL: MPS does not. */
static const struct gs_resource_device *shared_device(const struct gs_plan *whole, uint32_t device)
{
	for (size_t i = 0; i < whole->resource_count; i++)
		for (size_t j = 0; j < whole->resources[i].device_count; j++) {
			const struct gs_resource_device *on = &whole->resources[i].devices[j];
			if (on->device == device)
				return on->strategy == &gs_strategy_mps ? on : NULL;
		}
	return NULL;
}

static bool ready(const void *instance, const struct gs_strategy_context *context, uint32_t which, const char **reason)
{
	const struct mps *mps = instance;
	const struct gs_device *device = &context->inventory->devices[which];
	const struct gs_resource_device *on = shared_device(context->plan, which);
	*reason = "";
	if (mps->started && !mps->daemons) {
		*reason = root_is_taken;
		return !on;
	}
	if (on && !kept_of(on)->own_servers) { /* one server for all its shares */
		*reason = "its MPS control daemon is being started";
		return mps->daemons && gs_mps_is_ready(mps->daemons, device->uuid, reason);
	}
	const char *gpu = context->inventory->gpus[device->gpu].uuid;
	if (mps->daemons && gs_mps_holds(mps->daemons, device->uuid, gpu))
		*reason = "the last clients of an MPS control daemon that is no longer wanted are being waited for";
	else if (mps->started && gs_mps_modes_unrestored(mps->modes, gpu))
		*reason = "the compute mode that it had before MPS could not be restored yet";
	return !**reason;
}

static bool share_ready(const void *instance, const struct gs_strategy_context *context,
			const struct gs_resource_device *on, const struct gs_share *share)
{
	const struct mps *mps = instance;
	char key[GS_MPS_KEY_SIZE];
	if (!kept_of(on)->own_servers)
		return true;
	gs_mps_key(context->inventory, on, share, key);
	return mps->daemons && gs_mps_is_share_ready(mps->daemons, key);
}

/* --- problems, status, metrics --- */

struct saying {
	void (*say)(void *user, const char *text);
	void *user;
};

static void say_unrestored(void *user, const char *gpu, const char *why)
{
	const struct saying *saying = user;
	GS_AUTO_FREE char *text =
		gs_printf("the compute mode that %s had before MPS could not be restored: %s", gpu, why);
	saying->say(saying->user, text);
}

static void problems(const void *instance, void (*say)(void *user, const char *text), void *user)
{
	const struct mps *mps = instance;
	struct saying saying = {say, user};
	if (!mps->started)
		return;
	if (!mps->daemons) {
		GS_AUTO_FREE char *text = gs_printf("MPS: %s (%s)", root_is_taken, mps->root);
		say(user, text);
		return;
	}
	for (size_t i = 0; i < gs_mps_count(mps->daemons); i++) {
		struct gs_mps_status status = gs_mps_status(mps->daemons, i);
		if (status.state == GS_MPS_READY || !*status.reason)
			continue;
		GS_AUTO_FREE char *text = gs_printf("MPS on %s: %s", status.spec->key, status.reason);
		say(user, text);
	}
	gs_mps_modes_each_unrestored(mps->modes, say_unrestored, &saying);
}

/* All control daemons; owned by the caller, and valid until the loop turns. */
static struct gs_mps_status *list_daemons(const struct mps *mps, size_t *count)
{
	*count = mps->daemons ? gs_mps_count(mps->daemons) : 0;
	struct gs_mps_status *list = gs_calloc(*count, sizeof *list);
	for (size_t i = 0; i < *count; i++)
		list[i] = gs_mps_status(mps->daemons, i);
	return list;
}

static json_t *status(const void *instance, const struct gs_usage *usage)
{
	size_t count;
	GS_AUTO_FREE struct gs_mps_status *daemons = list_daemons(instance, &count);
	json_t *list = json_array();
	for (size_t i = 0; i < count; i++) {
		json_t *object = gs_mps_status_json(&daemons[i]);
		if (usage)
			json_object_set_new(object, "clients",
					    json_integer((json_int_t)gs_mps_client_count(usage, &gs_strategy_mps,
											 daemons, count, i)));
		json_array_append_new(list, object);
	}
	return list;
}

static void clients(const void *instance, const struct gs_usage *usage, gs_usage_client *tell, void *user)
{
	size_t count;
	GS_AUTO_FREE struct gs_mps_status *daemons = list_daemons(instance, &count);
	gs_mps_clients(usage, &gs_strategy_mps, daemons, count, tell, user);
}

/* One sample for each daemon; `value` NULL: 1, with its state. */
static void tell_each(const struct mps *mps, double (*value)(const struct gs_mps_status *status),
		      gs_strategy_tell *tell, void *user)
{
	for (size_t i = 0; mps->daemons && i < gs_mps_count(mps->daemons); i++) {
		struct gs_mps_status one = gs_mps_status(mps->daemons, i);
		const char *const plain[] = {"id", one.spec->key, "UUID", one.spec->device, NULL};
		const char *const with_state[] = {
			"id", one.spec->key, "UUID", one.spec->device, "state", gs_mps_state_name(one.state), NULL};
		tell(user, value ? plain : with_state, value ? value(&one) : 1);
	}
}

static double starts_of(const struct gs_mps_status *status)
{
	return status->starts;
}

static double faults_of(const struct gs_mps_status *status)
{
	return status->faults;
}

static double servers_of(const struct gs_mps_status *status)
{
	return (double)status->server_count;
}

static void tell_state(const void *instance, gs_strategy_tell *tell, void *user)
{
	tell_each(instance, NULL, tell, user);
}

static void tell_starts(const void *instance, gs_strategy_tell *tell, void *user)
{
	tell_each(instance, starts_of, tell, user);
}

static void tell_faults(const void *instance, gs_strategy_tell *tell, void *user)
{
	tell_each(instance, faults_of, tell, user);
}

static void tell_servers(const void *instance, gs_strategy_tell *tell, void *user)
{
	tell_each(instance, servers_of, tell, user);
}

static const struct gs_strategy_metric metrics[] = {
	{"gpushare_mps_daemon_state", false, "1, with the state of the MPS control daemon", tell_state},
	{"gpushare_mps_daemon_starts_total", true, "Starts of the MPS control daemon", tell_starts},
	{"gpushare_mps_daemon_faults_total", true, "Faults of clients of the MPS control daemon", tell_faults},
	{"gpushare_mps_servers", false, "MPS servers of the control daemon", tell_servers},
	{NULL},
};

/* --- its end --- */

static void stop(void *instance)
{
	struct mps *mps = instance;
	if (mps->stopped)
		return;
	mps->stopped = true;
	uv_close((uv_handle_t *)&mps->lock_again, NULL);
	if (!mps->started)
		return;
	mps->started = false;
	gs_mps_modes_stop(mps->modes);
	/* The next daemon may begin: this one touches nothing below the root any more. */
	if (mps->root_lock >= 0)
		close(mps->root_lock);
	struct gs_mps_daemons *daemons = GS_STEAL(mps->daemons);
	if (!daemons)
		return;
	if (gs_mps_count(daemons) > 0)
		gs_log(GS_LOG_INFO, "MPS control daemons go on, so that no client ends; `gpushare mps stop` ends them",
		       GS_INT("daemons", gs_mps_count(daemons)));
	gs_mps_free(daemons, NULL, NULL);
}

static void free_instance(void *instance)
{
	struct mps *mps = instance;
	gs_mps_modes_free(mps->modes);
	free(mps->root);
	free(mps->shared_memory);
	free(mps);
}

static void end_daemons(const struct gs_strategy_end *end)
{
	const struct gs_config *config = end->config;
	struct gs_error err;
	struct gs_mps_ended ended;
	GS_AUTO_FREE char *record = gs_printf("%s/mps.json", end->state_dir);
	if (access(record, F_OK) < 0 || !config->flags.mps_root)
		return;
	const char *const roots[] = {config->flags.plugin.container_driver_root, config->flags.nvidia_driver_root,
				     NULL};
	int result = gs_mps_end(config->flags.mps_root, end->state_dir, roots, END_GRACE_SECONDS, &ended, &err);
	GS_AUTO_FREE char *text =
		gs_printf("ended %zu MPS control daemons, restored %zu compute modes", ended.daemons, ended.modes);
	end->say(end->user, text);
	if (result < 0)
		end->failed(end->user, &err);
}

static void remove_folders(const struct gs_strategy_end *end, const char *root)
{
	struct gs_error err;
	size_t removed;
	if (!root || !*root)
		return;
	if (gs_mps_remove_folders(root, &removed, &err) < 0)
		end->failed(end->user, &err);
	if (!removed)
		return;
	GS_AUTO_FREE char *text = gs_printf("removed %zu folders of MPS below %s", removed, root);
	end->say(end->user, text);
}

/* The leftovers below the present root, and below the one that the record names. */
static void deactivate(const struct gs_strategy_end *end)
{
	GS_AUTO_FREE char *recorded = gs_mps_recorded_root(end->state_dir);
	end_daemons(end);
	if (!end->uninstall)
		return;
	remove_folders(end, end->config->flags.mps_root);
	remove_folders(end, recorded);
}

static const struct gs_strategy_life life = {
	.title = "MPS",
	.state_file = "mps.json",
	.status_key = "mps",
	.metrics = metrics,
	.create = create,
	.keep = keep,
	.activate = activate,
	.observe = observe,
	.ready = ready,
	.share_ready = share_ready,
	.problems = problems,
	.status = status,
	.clients = clients,
	.stop = stop,
	.free = free_instance,
	.deactivate = deactivate,
};

const struct gs_strategy gs_strategy_mps = {
	.name = "mps",
	.capable_label = "mps.capable",
	.section = &gs_sharing_sections[GS_SECTION_MPS],
	.by = "by MPS",
	.terms = terms,
	.several_shares = "gets the sum of their limits",
	.sets_compute_mode = true,
	.plan = plan,
	.check = check,
	.edit = edit,
	.life = &life,
};
