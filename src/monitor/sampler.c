#include "monitor/sampler.h"

#include <stdlib.h>

#include "base/alloc.h"
#include "base/log.h"
#include "base/lane.h"

enum { PATIENCE_MS = 2000 };

struct asker {
	sampler_done *done;
	void *user;
	struct asker *next;
};

/* Owned by its thread until it is over. */
struct sampling {
	struct sampler *sampler;
	const struct gs_nvml *nvml;
	struct gs_inventory inventory;
	struct gs_gpu_sample *samples;
	_Atomic size_t count; /* of those that are there */
};

struct sampler {
	struct lane *lane;
	struct sampling *sampling; /* under way, or NULL */
	struct asker *askers;
	uv_timer_t patience; /* of the askers with the sampling under way; not active: it has run out */
	unsigned handles;    /* still to close */
	void (*stopped)(void *user);
	void *stopped_user;
};

struct sampler *sampler_new(uv_loop_t *loop)
{
	struct sampler *sampler = gs_calloc(1, sizeof *sampler);
	sampler->lane = lane_new(loop, "gpu-samples");
	uv_timer_init(loop, &sampler->patience);
	sampler->patience.data = sampler;
	sampler->handles = 2;
	return sampler;
}

/* With the first `count` samples. */
static void answer_all(struct sampler *sampler, const struct sampling *sampling, size_t count)
{
	const struct gs_inventory inventory = {.gpus = sampling ? sampling->inventory.gpus : NULL, .gpu_count = count};
	struct asker *askers = sampler->askers;
	sampler->askers = NULL;
	while (askers) {
		struct asker *asker = askers;
		askers = asker->next;
		asker->done(asker->user, &inventory, sampling ? sampling->samples : NULL);
		free(asker);
	}
}

static void on_out_of_patience(uv_timer_t *timer)
{
	struct sampler *sampler = timer->data;
	const struct sampling *sampling = sampler->sampling;
	answer_all(sampler, sampling, sampling ? sampling->count : 0);
}

static void run(void *user)
{
	struct sampling *sampling = user;
	if (!sampling->nvml)
		return;
	gs_nvml_hold(sampling->nvml);
	for (size_t i = 0; i < sampling->inventory.gpu_count; i++) {
		gs_sample_read(sampling->nvml, sampling->inventory.gpus[i].uuid, "/proc", &sampling->samples[i]);
		sampling->count++;
	}
	gs_nvml_release(sampling->nvml);
}

static void free_sampling(void *user)
{
	struct sampling *sampling = user;
	for (size_t i = 0; i < sampling->inventory.gpu_count; i++)
		gs_sample_free(&sampling->samples[i]);
	free(sampling->samples);
	gs_inventory_free(&sampling->inventory);
	free(sampling);
}

static void on_closed(struct sampler *sampler)
{
	if (--sampler->handles > 0)
		return;
	sampler->stopped(sampler->stopped_user);
	free(sampler);
}

static void on_lane_closed(void *user)
{
	on_closed(user);
}

static void after_run(void *user)
{
	struct sampling *sampling = user;
	struct sampler *sampler = sampling->sampler;
	sampler->sampling = NULL;
	if (!sampler->stopped)
		uv_timer_stop(&sampler->patience);
	answer_all(sampler, sampling, sampling->inventory.gpu_count);
	free_sampling(sampling);
	if (sampler->stopped)
		lane_close(sampler->lane, on_lane_closed, sampler);
}

static void start(struct sampler *sampler, const struct gs_nvml *nvml, const struct gs_inventory *inventory)
{
	struct sampling *sampling = gs_calloc(1, sizeof *sampling);
	*sampling = (struct sampling){.sampler = sampler, .nvml = nvml};
	gs_inventory_copy(&sampling->inventory, inventory);
	sampling->samples = gs_calloc(inventory->gpu_count, sizeof *sampling->samples);
	const struct lane_work work = {.run = run, .done = after_run, .drop = free_sampling, .user = sampling};
	lane_run(sampler->lane, &work);
	sampler->sampling = sampling;
	uv_timer_start(&sampler->patience, on_out_of_patience, PATIENCE_MS, 0);
}

bool sampler_hangs(const struct sampler *sampler)
{
	return sampler->sampling && !uv_is_active((const uv_handle_t *)&sampler->patience);
}

void sampler_looked(struct sampler *sampler)
{
	if (!sampler_hangs(sampler))
		return;
	lane_abandon(sampler->lane);
	if (!lane_is_busy(sampler->lane))
		sampler->sampling = NULL;
}

unsigned sampler_left_behind(struct sampler *sampler)
{
	return lane_left_behind(sampler->lane);
}

void sampler_ask(struct sampler *sampler, const struct gs_nvml *nvml, const struct gs_inventory *inventory,
		 sampler_done *done, void *user)
{
	struct asker *asker = gs_calloc(1, sizeof *asker);
	*asker = (struct asker){.done = done, .user = user, .next = sampler->askers};
	sampler->askers = asker;
	if (!sampler->sampling)
		start(sampler, nvml, inventory);
	else if (sampler_hangs(sampler))
		uv_timer_start(&sampler->patience, on_out_of_patience, 0, 0);
}

static void on_timer_closed(uv_handle_t *handle)
{
	on_closed(handle->data);
}

void sampler_stop(struct sampler *sampler, void (*stopped)(void *user), void *user)
{
	sampler->stopped = stopped;
	sampler->stopped_user = user;
	answer_all(sampler, NULL, 0);
	uv_close((uv_handle_t *)&sampler->patience, on_timer_closed);
	if (!sampler->sampling)
		lane_close(sampler->lane, on_lane_closed, sampler);
}
