#include "mps/mps_modes.h"

#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/backoff.h"
#include "base/log.h"
#include "core/share/inventory.h"

enum { RETRY_FIRST_MS = 1000, RETRY_MOST_MS = 60000 };

enum request_kind { REQUEST_EXCLUSIVE, REQUEST_RESTORE, REQUEST_KEEP };

/* A mode to be set, or a control daemon to be recorded. */
struct request {
	struct request *next;
	enum request_kind kind;
	char gpu[GS_UUID_SIZE]; /* of a mode */
	char *directory;        /* of a control daemon */
	struct mps_identity identity;
};

struct gs_mps_modes {
	struct gs_mps_modes_options options;
	struct gs_mps_record record; /* the worker's, from the first request on */
	bool stopped;

	struct request *first; /* waiting; the first one is under way while `working` */
	bool working;
	struct gs_error err;
	bool failed;
	bool put_off; /* until MIG goes off */

	json_t *left; /* the modes that an earlier process changed, as the loop's own copy; NULL: they were looked at */
	json_t *unrestored;   /* by the GPU's UUID: why its mode is not yet as it was before */
	json_t *put_off_gpus; /* by the GPU's UUID: its mode is restored when MIG goes off */
	uv_timer_t retry;
	unsigned retries; /* in a row */
};

/* --- one request, on a worker thread --- */

static void carry_out(const struct gs_nvml *nvml, void *user)
{
	struct gs_mps_modes *modes = user;
	const struct request *request = modes->first;
	modes->put_off = false;
	if (request->kind == REQUEST_KEEP)
		modes->failed =
			gs_mps_record_daemon(&modes->record, request->directory, &request->identity, &modes->err) < 0;
	else if (!nvml)
		modes->failed = gs_fail(&modes->err, GS_ERROR_SYSTEM, ENODEV, "the NVIDIA driver is not there") < 0;
	else if (request->kind == REQUEST_EXCLUSIVE)
		modes->failed = gs_mps_make_exclusive(&modes->record, nvml, request->gpu, &modes->err) < 0;
	else {
		int done = gs_mps_restore(&modes->record, nvml, request->gpu, &modes->err);
		modes->failed = done < 0;
		modes->put_off = done > 0;
	}
}

/* --- the queue, on the loop --- */

static void on_retry(uv_timer_t *timer)
{
	struct gs_mps_modes *modes = timer->data;
	const char *gpu;
	json_t *reason;
	modes->retries++;
	json_object_foreach(modes->unrestored, gpu, reason) gs_mps_modes_request(modes, gpu, false);
}

static void note_restored(struct gs_mps_modes *modes, const struct request *request)
{
	bool was = json_object_get(modes->unrestored, request->gpu);
	bool is = modes->failed && request->kind == REQUEST_RESTORE;
	if (is && !was)
		gs_log(GS_LOG_WARNING, "MPS: the compute mode could not be restored; trying again",
		       GS_STR("gpu", request->gpu), GS_STR("error", modes->err.text));
	if (!is) {
		json_object_del(modes->unrestored, request->gpu);
		modes->retries = 0;
	} else {
		json_object_set_new(modes->unrestored, request->gpu, json_string(modes->err.text));
		uv_timer_start(&modes->retry, on_retry, gs_backoff_ms(RETRY_FIRST_MS, RETRY_MOST_MS, modes->retries),
			       0);
	}
	if (is != was)
		modes->options.changed(modes->options.user);
}

static void free_request(struct request *request)
{
	free(request->directory);
	free(request);
}

static void work_on(struct gs_mps_modes *modes);

static void after_request(void *user)
{
	struct gs_mps_modes *modes = user;
	struct request *request = modes->first;
	modes->first = request->next;
	if (request->kind == REQUEST_KEEP && modes->failed) {
		gs_log(GS_LOG_WARNING, "MPS: a control daemon may not be known as this one's at the next start",
		       GS_STR("directory", request->directory), GS_STR("error", modes->err.text));
	} else if (request->kind != REQUEST_KEEP && !modes->stopped) {
		if (modes->put_off)
			json_object_set_new(modes->put_off_gpus, request->gpu, json_true());
		modes->options.set(modes->options.user, request->gpu, modes->failed ? &modes->err : NULL);
		note_restored(modes, request);
	}
	free_request(request);
	modes->working = false; /* only now: what was asked for meanwhile must not change the answer */
	work_on(modes);
}

static void work_on(struct gs_mps_modes *modes)
{
	if (modes->working || modes->stopped || !modes->first)
		return;
	modes->working = true;
	modes->options.work(modes->options.user, carry_out, after_request, modes);
}

static void add_request(struct gs_mps_modes *modes, struct request *request)
{
	struct request **end = &modes->first;
	while (*end)
		end = &(*end)->next;
	*end = request;
	work_on(modes);
}

void gs_mps_modes_request(struct gs_mps_modes *modes, const char *gpu, bool exclusive)
{
	struct request *request = gs_calloc(1, sizeof *request);
	request->kind = exclusive ? REQUEST_EXCLUSIVE : REQUEST_RESTORE;
	snprintf(request->gpu, sizeof request->gpu, "%s", gpu);
	add_request(modes, request);
}

void gs_mps_modes_keep(struct gs_mps_modes *modes, const char *directory, const struct mps_identity *identity)
{
	struct request *request = gs_calloc(1, sizeof *request);
	request->kind = REQUEST_KEEP;
	request->directory = gs_strdup(directory);
	request->identity = *identity;
	add_request(modes, request);
}

/* --- modes to restore --- */

/* Each request may be carried out while the next one is made, so this goes through a copy of the record. */
void gs_mps_modes_restore_left(struct gs_mps_modes *modes, bool (*is_used)(void *user, const char *gpu), void *user)
{
	const char *gpu;
	json_t *mode;
	json_object_foreach(modes->left, gpu, mode)
	{
		if (!is_used(user, gpu))
			gs_mps_modes_request(modes, gpu, false);
	}
	json_decref(modes->left);
	modes->left = NULL;
}

void gs_mps_modes_restore_put_off(struct gs_mps_modes *modes, bool (*has_mig)(void *user, const char *gpu),
				  bool (*is_used)(void *user, const char *gpu), void *user)
{
	const char *gpu;
	json_t *mark;
	void *next;
	json_object_foreach_safe(modes->put_off_gpus, next, gpu, mark)
	{
		char uuid[GS_UUID_SIZE]; /* the key goes with its entry */
		snprintf(uuid, sizeof uuid, "%s", gpu);
		if (has_mig(user, uuid))
			continue;
		json_object_del(modes->put_off_gpus, uuid);
		if (!is_used(user, uuid))
			gs_mps_modes_request(modes, uuid, false);
	}
}

const char *gs_mps_modes_unrestored(const struct gs_mps_modes *modes, const char *gpu)
{
	return json_string_value(json_object_get(modes->unrestored, gpu));
}

void gs_mps_modes_each_unrestored(const struct gs_mps_modes *modes,
				  void (*tell)(void *user, const char *gpu, const char *why), void *user)
{
	const char *gpu;
	json_t *why;
	json_object_foreach(modes->unrestored, gpu, why) tell(user, gpu, json_string_value(why));
}

/* --- its life --- */

struct gs_mps_modes *gs_mps_modes_new(const struct gs_mps_modes_options *options)
{
	struct gs_mps_modes *modes = gs_calloc(1, sizeof *modes);
	struct gs_error problem = {0};
	modes->options = *options;
	modes->unrestored = json_object();
	modes->put_off_gpus = json_object();
	uv_timer_init(options->loop, &modes->retry);
	modes->retry.data = modes;
	gs_mps_record_open(&modes->record, options->state_dir, &problem);
	if (problem.source != GS_ERROR_NONE)
		gs_log(GS_LOG_WARNING, "MPS: compute modes that were changed before stay as they are",
		       GS_STR("error", problem.text));
	modes->left = json_deep_copy(modes->record.modes);
	return modes;
}

const struct gs_mps_record *gs_mps_modes_record(const struct gs_mps_modes *modes)
{
	return &modes->record;
}

void gs_mps_modes_record_root(struct gs_mps_modes *modes, const char *root)
{
	struct gs_error err;
	if (!root)
		unlink(modes->record.path);
	else if (gs_mps_record_root(&modes->record, root, &err) < 0)
		gs_log(GS_LOG_WARNING, "MPS: where it runs can't be kept for the next start",
		       GS_STR("error", err.text));
}

void gs_mps_modes_stop(struct gs_mps_modes *modes)
{
	modes->stopped = true;
	uv_close((uv_handle_t *)&modes->retry, NULL);
}

void gs_mps_modes_free(struct gs_mps_modes *modes)
{
	if (!modes || modes->working)
		return;
	for (struct request *request = modes->first, *next; request; request = next) {
		next = request->next;
		free_request(request);
	}
	gs_mps_record_free(&modes->record);
	json_decref(modes->unrestored);
	json_decref(modes->left);
	json_decref(modes->put_off_gpus);
	free(modes);
}
