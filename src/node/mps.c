/* Sharing by MPS in the daemon: the control daemons that the plan needs, and the compute mode of their GPUs.
 *
 * A GPU's compute mode as it was is kept in STATE-DIR/mps.json before it is changed, so that it is restored also when
 * this process died in between. Modes are set one after the other, on a worker thread: NVML may block. */
#include <errno.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/driver_root.h"
#include "base/file.h"
#include "base/log.h"
#include "gpu/nvml.h"
#include "core/usage/usage.h"
#include "node/node_internal.h"
#include "strategy/mps.h"
#include "mps/mps_daemons.h"
#include "mps/mps_control.h"
#include "mps/mps_end.h"
#include "mps/mps_process.h"
#include "mps/mps_record.h"
#include "strategy/strategies.h"

enum request_kind { REQUEST_EXCLUSIVE, REQUEST_RESTORE, REQUEST_KEEP };

/* A mode to be set, or a control daemon to be recorded. */
struct request {
	struct request *next;
	enum request_kind kind;
	char gpu[GS_UUID_SIZE]; /* of a mode */
	char *directory;        /* of a control daemon */
	struct mps_identity identity;
};

struct node_mps {
	struct node *node;
	struct gs_mps_daemons *daemons; /* NULL: another node daemon has the root */
	char *root;
	int root_lock;
	uv_timer_t lock_again;
	struct gs_mps_record record; /* the worker's, from the first request on */

	struct request *first; /* waiting; the first one is under way while `working` */
	bool working;
	struct gs_error err;
	bool failed;
	json_t *left; /* the modes that an earlier daemon changed, as the loop's own copy; NULL: they were looked at */
	bool put_off; /* until MIG goes off */

	json_t *unrestored;   /* by the GPU's UUID: why its mode is not yet as it was before */
	json_t *put_off_gpus; /* by the GPU's UUID: its mode is restored when MIG goes off */
	uv_timer_t retry;
	unsigned retry_ms;
	unsigned timers; /* to be closed */
};

enum { RETRY_FIRST_MS = 1000, RETRY_MOST_MS = 60000, LOCK_AGAIN_MS = 2000 };

/* --- one request, on a worker thread --- */

static void carry_out(const struct gs_nvml *nvml, void *user)
{
	struct node_mps *mps = user;
	const struct request *request = mps->first;
	mps->put_off = false;
	if (request->kind == REQUEST_KEEP)
		mps->failed = gs_mps_record_daemon(&mps->record, request->directory, &request->identity, &mps->err) < 0;
	else if (!nvml)
		mps->failed = gs_fail(&mps->err, GS_ERROR_SYSTEM, ENODEV, "the NVIDIA driver is not there") < 0;
	else if (request->kind == REQUEST_EXCLUSIVE)
		mps->failed = gs_mps_make_exclusive(&mps->record, nvml, request->gpu, &mps->err) < 0;
	else {
		int done = gs_mps_restore(&mps->record, nvml, request->gpu, &mps->err);
		mps->failed = done < 0;
		mps->put_off = done > 0;
	}
}

static void work_on(struct node_mps *mps);
static void request_mode(void *user, const char *gpu, bool exclusive);
static void on_changed(void *user);

static void on_retry(uv_timer_t *timer)
{
	struct node_mps *mps = timer->data;
	const char *gpu;
	json_t *reason;
	mps->retry_ms = mps->retry_ms * 2 < RETRY_MOST_MS ? mps->retry_ms * 2 : RETRY_MOST_MS;
	json_object_foreach(mps->unrestored, gpu, reason) request_mode(mps, gpu, false);
}

/* A mode that cannot be restored now is tried again, and until then nobody gets the GPU: one process would have it alone. */
static void note_restored(struct node_mps *mps, const struct request *request)
{
	bool was = json_object_get(mps->unrestored, request->gpu);
	bool is = mps->failed && request->kind == REQUEST_RESTORE;
	if (is && !was)
		gs_log(GS_LOG_WARNING, "MPS: the compute mode could not be restored; trying again",
		       GS_STR("gpu", request->gpu), GS_STR("error", mps->err.text));
	if (!is) {
		json_object_del(mps->unrestored, request->gpu);
		mps->retry_ms = RETRY_FIRST_MS;
	} else {
		json_object_set_new(mps->unrestored, request->gpu, json_string(mps->err.text));
		uv_timer_start(&mps->retry, on_retry, mps->retry_ms, 0);
	}
	if (is != was)
		on_changed(mps);
}

static void free_request(struct request *request)
{
	free(request->directory);
	free(request);
}

static void after_request(void *user)
{
	struct node_mps *mps = user;
	struct request *request = mps->first;
	mps->first = request->next;
	if (request->kind == REQUEST_KEEP && mps->failed) {
		gs_log(GS_LOG_WARNING, "MPS: a control daemon may not be known as this one's at the next start",
		       GS_STR("directory", request->directory), GS_STR("error", mps->err.text));
	} else if (request->kind != REQUEST_KEEP && mps->daemons) {
		gs_mps_mode_set(mps->daemons, request->gpu, mps->failed ? &mps->err : NULL);
		note_restored(mps, request);
		if (mps->put_off)
			json_object_set_new(mps->put_off_gpus, request->gpu, json_true());
		gpus_rescan(mps->node->gpus); /* for what is said of compute modes */
	}
	free_request(request);
	mps->working = false; /* only now: what was asked for meanwhile must not change the answer */
	work_on(mps);
}

static void free_mps(struct node_mps *mps)
{
	if (mps->working || mps->daemons || mps->timers > 0)
		return;
	for (struct request *request = mps->first, *next; request; request = next) {
		next = request->next;
		free_request(request);
	}
	free(mps->root);
	gs_mps_record_free(&mps->record);
	json_decref(mps->unrestored);
	json_decref(mps->left);
	json_decref(mps->put_off_gpus);
	free(mps);
}

static void work_on(struct node_mps *mps)
{
	if (mps->working)
		return;
	if (!mps->node) { /* stopping */
		free_mps(mps);
		return;
	}
	if (!mps->first)
		return;
	mps->working = true;
	gpus_work(mps->node->gpus, carry_out, after_request, mps);
}

static void add_request(struct node_mps *mps, struct request *request)
{
	struct request **end = &mps->first;
	while (*end)
		end = &(*end)->next;
	*end = request;
	work_on(mps);
}

static void request_mode(void *user, const char *gpu, bool exclusive)
{
	struct request *request = gs_calloc(1, sizeof *request);
	request->kind = exclusive ? REQUEST_EXCLUSIVE : REQUEST_RESTORE;
	snprintf(request->gpu, sizeof request->gpu, "%s", gpu);
	add_request(user, request);
}

static void request_keep(void *user, const char *directory, const struct mps_identity *identity)
{
	struct request *request = gs_calloc(1, sizeof *request);
	request->kind = REQUEST_KEEP;
	request->directory = gs_strdup(directory);
	request->identity = *identity;
	add_request(user, request);
}

/* --- wiring --- */

static void on_changed(void *user)
{
	struct node_mps *mps = user;
	if (mps->node && !mps->node->stopping)
		node_publish_health(mps->node);
}

/* What runs below the root without a record of this daemon is somebody else's. */
static bool is_needed(const struct node *node, const char *record_path)
{
	return node->config.mps.present || access(record_path, F_OK) == 0;
}

/* For the next start, as long as there is something to find. */
static void record_root(struct node_mps *mps, size_t known_count)
{
	struct gs_error err;
	const struct node *node = mps->node;
	if (!node->config.mps.present && !known_count && !json_object_size(mps->record.modes))
		unlink(mps->record.path);
	else if (gs_mps_record_root(&mps->record, mps->root, &err) < 0)
		gs_log(GS_LOG_WARNING, "MPS: where it runs can't be kept for the next start",
		       GS_STR("error", err.text));
}

/* The control daemons. One node daemon has the root: another one would end what this one started. False when it has not. */
static bool start_daemons(struct node_mps *mps)
{
	const struct node *node = mps->node;
	struct gs_error err;
	if (node->config.mps.present && *mps->root && gs_make_directories(mps->root, 0755, &err) < 0)
		gs_log(GS_LOG_WARNING, "MPS: flags.mpsRoot can't be made", GS_STR("error", err.text));
	mps->root_lock = gs_try_lock_directory(mps->root, &err);
	if (mps->root_lock < 0 && err.code == EWOULDBLOCK)
		return false;
	const char *const roots[] = {node->config.flags.plugin.container_driver_root,
				     node->config.flags.nvidia_driver_root, NULL};
	GS_AUTO_FREE char *program = gs_driver_command(roots, MPS_CONTROL_PROGRAM);
	size_t known_count;
	struct gs_mps_known *known = gs_mps_record_known(&mps->record, &known_count);
	const struct gs_mps_options options = {
		.root = mps->root,
		.known = known,
		.known_count = known_count,
		.program = program,
		.cgroups = node->options->host_cgroups,
		.user = mps,
		.changed = on_changed,
		.set_mode = request_mode,
		.keep = request_keep,
	};
	record_root(mps, known_count);
	mps->left = json_deep_copy(mps->record.modes);
	mps->daemons = gs_mps_new(&mps->node->loop, &options);
	gs_mps_known_free(known, known_count);
	return true;
}

static struct node_mps *start(struct node *node)
{
	GS_AUTO_FREE char *record_path = gs_printf("%s/mps.json", node->options->state_dir);
	if (!is_needed(node, record_path))
		return NULL;
	struct node_mps *mps = gs_calloc(1, sizeof *mps);
	mps->node = node;
	mps->root = gs_mps_root(node->config.flags.mps_root ? node->config.flags.mps_root : "");
	mps->root_lock = -1;
	mps->unrestored = json_object();
	mps->put_off_gpus = json_object();
	mps->retry_ms = RETRY_FIRST_MS;
	uv_timer_init(&node->loop, &mps->retry);
	uv_timer_init(&node->loop, &mps->lock_again);
	mps->retry.data = mps->lock_again.data = mps;
	mps->timers = 2;
	struct gs_error problem = {0};
	gs_mps_record_open(&mps->record, node->options->state_dir, &problem);
	if (problem.source != GS_ERROR_NONE)
		gs_log(GS_LOG_WARNING, "MPS: compute modes that were changed before stay as they are",
		       GS_STR("error", problem.text));
	if (!start_daemons(mps))
		gs_log(GS_LOG_WARNING, "MPS: another gpushare node uses flags.mpsRoot; waiting for its end",
		       GS_STR("root", mps->root));
	return mps;
}

static void on_lock_again(uv_timer_t *timer)
{
	struct node_mps *mps = timer->data;
	if (start_daemons(mps)) {
		node_mps_apply(mps->node);
		on_changed(mps);
	} else {
		uv_timer_start(timer, on_lock_again, LOCK_AGAIN_MS, 0);
	}
}

/* GPUs whose mode was changed by an earlier daemon and that nobody wants so any more; once. Each request may be carried out
 * while the next one is made, so this goes through a copy of the record. */
static void restore_others(struct node_mps *mps, const struct gs_mps_specs *specs)
{
	const char *gpu;
	json_t *mode;
	json_object_foreach(mps->left, gpu, mode)
	{
		bool used = false;
		for (size_t i = 0; i < specs->count; i++)
			used |= specs->items[i].exclusive && strcmp(specs->items[i].gpu, gpu) == 0;
		if (!used && !gs_mps_holds(mps->daemons, gpu, gpu))
			request_mode(mps, gpu, false);
	}
	json_decref(mps->left);
	mps->left = NULL;
}

/* By one server for all its shares, as a whole. */
static bool is_used(const struct gs_mps_specs *specs, const char *gpu)
{
	for (size_t i = 0; i < specs->count; i++)
		if (specs->items[i].exclusive && strcmp(specs->items[i].gpu, gpu) == 0)
			return true;
	return false;
}

static bool has_mig(const struct gs_inventory *inventory, const char *gpu)
{
	for (size_t i = 0; i < inventory->gpu_count; i++)
		if (strcmp(inventory->gpus[i].uuid, gpu) == 0)
			return inventory->gpus[i].mig_enabled;
	return false;
}

/* What could not be restored while MIG was on. Where MPS has the GPU again, it restores the mode itself at its end. */
static void restore_put_off(struct node_mps *mps, const struct gs_mps_specs *specs)
{
	const char *gpu;
	json_t *mark;
	void *next;
	json_object_foreach_safe(mps->put_off_gpus, next, gpu, mark)
	{
		char uuid[GS_UUID_SIZE]; /* the key goes with its entry */
		snprintf(uuid, sizeof uuid, "%s", gpu);
		if (has_mig(&mps->node->inventory, uuid))
			continue;
		json_object_del(mps->put_off_gpus, uuid);
		if (!is_used(specs, uuid) && !gs_mps_holds(mps->daemons, uuid, uuid))
			request_mode(mps, uuid, false);
	}
}

/* Where the config does not fit a device, it is given to nobody, and who has it from an earlier daemon goes on. */
static void keep_for_misfits(struct node_mps *mps, struct gs_mps_specs *specs)
{
	const struct node *node = mps->node;
	for (size_t i = 0; i < gs_mps_count(mps->daemons); i++) {
		struct gs_mps_status status = gs_mps_status(mps->daemons, i);
		for (uint32_t j = 0; status.wanted && j < node->inventory.device_count; j++)
			if (gs_plan_misfit(&node->plan, j) &&
			    strcmp(node->inventory.devices[j].uuid, status.spec->device) == 0)
				*GS_VEC_PUSH(specs) = *status.spec;
	}
}

void node_mps_apply(struct node *node)
{
	if (!node->mps)
		node->mps = start(node);
	struct node_mps *mps = node->mps;
	if (!mps)
		return;
	if (!mps->daemons) {
		if (!uv_is_active((uv_handle_t *)&mps->lock_again))
			uv_timer_start(&mps->lock_again, on_lock_again, LOCK_AGAIN_MS, 0);
		return;
	}
	struct gs_mps_specs specs;
	gs_mps_specs_of(&node->plan, &node->inventory, &specs);
	keep_for_misfits(mps, &specs);
	gs_mps_want(mps->daemons, specs.items, specs.count);
	restore_others(mps, &specs);
	restore_put_off(mps, &specs);
	GS_VEC_FREE(&specs);
}

static bool has_daemons(const struct node *node)
{
	return node->mps && node->mps->daemons;
}

static const char root_is_taken[] =
	"another gpushare node uses flags.mpsRoot; stop it, or give this one another directory";

void node_mps_look(struct node *node, const char *gpu)
{
	if (has_daemons(node))
		gs_mps_look(node->mps->daemons, gpu);
}

/* The device as MPS shares it; NULL: MPS does not. */
static const struct gs_resource_device *shared_device(const struct node *node, uint32_t device)
{
	for (size_t i = 0; i < node->plan.resource_count; i++)
		for (size_t j = 0; j < node->plan.resources[i].device_count; j++) {
			const struct gs_resource_device *on = &node->plan.resources[i].devices[j];
			if (on->device == device)
				return on->strategy == &gs_strategy_mps ? on : NULL;
		}
	return NULL;
}

/* By one server for all its shares. */
static bool has_one_server(const struct node *node, uint32_t device)
{
	const struct gs_resource_device *on = shared_device(node, device);
	return on && !on->own_servers;
}

bool node_mps_ready(const struct node *node, uint32_t which, const char **reason)
{
	const struct gs_device *device = &node->inventory.devices[which];
	*reason = "";
	if (node->mps && !node->mps->daemons) {
		*reason = root_is_taken;
		return !shared_device(node, which);
	}
	if (has_one_server(node, which)) {
		*reason = "its MPS control daemon is being started";
		return has_daemons(node) && gs_mps_is_ready(node->mps->daemons, device->uuid, reason);
	}
	const char *gpu = node->inventory.gpus[device->gpu].uuid;
	if (has_daemons(node) && gs_mps_holds(node->mps->daemons, device->uuid, gpu))
		*reason = "the last clients of an MPS control daemon that is no longer wanted are being waited for";
	else if (node->mps && json_object_get(node->mps->unrestored, gpu))
		*reason = "the compute mode that it had before MPS could not be restored yet";
	return !**reason;
}

bool node_mps_share_ready(const struct node *node, const struct gs_resource_device *on, const struct gs_share *share)
{
	char key[GS_MPS_KEY_SIZE];
	if (on->strategy != &gs_strategy_mps || !on->own_servers)
		return true;
	gs_mps_key(&node->inventory, on, share, key);
	return has_daemons(node) && gs_mps_is_share_ready(node->mps->daemons, key);
}

void node_mps_problems(const struct node *node, json_t *problems)
{
	const char *gpu;
	json_t *reason;
	if (!node->mps)
		return;
	if (!node->mps->daemons) {
		GS_AUTO_FREE char *text = gs_printf("MPS: %s (%s)", root_is_taken, node->mps->root);
		json_array_append_new(problems, json_string(text));
		return;
	}
	for (size_t i = 0; i < gs_mps_count(node->mps->daemons); i++) {
		struct gs_mps_status status = gs_mps_status(node->mps->daemons, i);
		if (status.state == GS_MPS_READY || !*status.reason)
			continue;
		GS_AUTO_FREE char *text = gs_printf("MPS on %s: %s", status.spec->key, status.reason);
		json_array_append_new(problems, json_string(text));
	}
	json_object_foreach(node->mps->unrestored, gpu, reason)
	{
		GS_AUTO_FREE char *text = gs_printf("the compute mode that %s had before MPS could not be restored: %s",
						    gpu, json_string_value(reason));
		json_array_append_new(problems, json_string(text));
	}
}

/* A share's own daemon is in "<device>-<replica>". */
static uint32_t replica_of(const struct gs_mps_spec *spec)
{
	size_t length = strlen(spec->device);
	return strlen(spec->key) > length ? (uint32_t)strtoul(spec->key + length + 1, NULL, 10) : GS_USAGE_NONE;
}

void node_mps_fill(const struct node *node, struct gs_usage *usage)
{
	usage->mps_count = has_daemons(node) ? gs_mps_count(node->mps->daemons) : 0;
	usage->mps = gs_calloc(usage->mps_count, sizeof *usage->mps);
	for (size_t i = 0; i < usage->mps_count; i++) {
		struct gs_mps_status status = gs_mps_status(node->mps->daemons, i);
		const struct gs_mps_spec *spec = status.spec;
		usage->mps[i] = (struct gs_usage_mps){
			.key = spec->key,
			.replica = replica_of(spec),
			.device = spec->device,
			.gpu = spec->gpu,
			.state = gs_mps_state_name(status.state),
			.reason = status.reason,
			.pipe_directory = status.pipe_directory,
			.pid = status.pid,
			.servers = status.servers,
			.server_count = status.server_count,
			.starts = status.starts,
			.faults = status.faults,
			.thread_percentage = spec->thread_percentage,
			.priority = spec->priority,
			.memory_limit_bytes = spec->memory_bytes,
			.multi_user = status.multi_user,
		};
	}
}

static void on_daemons_freed(void *user)
{
	struct node_mps *mps = user;
	mps->daemons = NULL;
	mps->node = NULL;
	free_mps(mps);
}

static void on_timer_closed(uv_handle_t *handle)
{
	struct node_mps *mps = handle->data;
	mps->timers--;
	free_mps(mps);
}

void node_mps_stop(struct node *node)
{
	struct node_mps *mps = node->mps;
	node->mps = NULL;
	if (!mps)
		return;
	uv_close((uv_handle_t *)&mps->retry, on_timer_closed);
	uv_close((uv_handle_t *)&mps->lock_again, on_timer_closed);
	/* The next daemon may begin: this one touches nothing below the root any more. */
	if (mps->root_lock >= 0)
		close(mps->root_lock);
	if (!mps->daemons) {
		mps->node = NULL;
		return;
	}
	if (gs_mps_count(mps->daemons) > 0)
		gs_log(GS_LOG_INFO, "MPS control daemons go on, so that no client ends; `gpushare mps stop` ends them",
		       GS_INT("daemons", gs_mps_count(mps->daemons)));
	gs_mps_free(mps->daemons, on_daemons_freed, mps);
}
