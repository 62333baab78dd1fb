#include "monitor/sampler.h"

#include <stdlib.h>

#include "base/alloc.h"

enum { PATIENCE_MS = 2000 };

struct asker {
	sampler_done *done;
	void *user;
	struct asker *next;
};

struct sampler {
	uv_loop_t *loop;
	struct asker *askers;
	uv_timer_t patience; /* of the askers with the sampling under way; not active: it has run out */
	bool closed;         /* that timer */
	void (*stopped)(void *user);
	void *stopped_user;

	/* The sampling under way. */
	bool working;
	uv_work_t work;
	const struct gs_nvml *nvml;
	struct gs_inventory inventory;
	struct gs_gpu_sample *samples;
};

struct sampler *sampler_new(uv_loop_t *loop)
{
	struct sampler *sampler = gs_calloc(1, sizeof *sampler);
	sampler->loop = loop;
	uv_timer_init(loop, &sampler->patience);
	sampler->patience.data = sampler->work.data = sampler;
	return sampler;
}

static void answer_all(struct sampler *sampler, const struct gs_inventory *inventory,
		       const struct gs_gpu_sample *samples)
{
	struct asker *askers = sampler->askers;
	sampler->askers = NULL;
	while (askers) {
		struct asker *asker = askers;
		askers = asker->next;
		asker->done(asker->user, inventory, samples);
		free(asker);
	}
}

static void answer_nothing(struct sampler *sampler)
{
	const struct gs_inventory nothing = {0};
	answer_all(sampler, &nothing, NULL);
}

static void on_out_of_patience(uv_timer_t *timer)
{
	answer_nothing(timer->data);
}

static void run(uv_work_t *work)
{
	struct sampler *sampler = work->data;
	if (!sampler->nvml)
		return;
	gs_nvml_hold(sampler->nvml);
	for (size_t i = 0; i < sampler->inventory.gpu_count; i++)
		gs_sample_read(sampler->nvml, sampler->inventory.gpus[i].uuid, "/proc", &sampler->samples[i]);
	gs_nvml_release(sampler->nvml);
}

static void free_when_stopped(struct sampler *sampler)
{
	if (sampler->working || !sampler->closed)
		return;
	sampler->stopped(sampler->stopped_user);
	free(sampler);
}

static void after_run(uv_work_t *work, int status)
{
	struct sampler *sampler = work->data;
	sampler->working = false;
	if (!sampler->stopped)
		uv_timer_stop(&sampler->patience);
	answer_all(sampler, &sampler->inventory, sampler->samples);
	for (size_t i = 0; i < sampler->inventory.gpu_count; i++)
		gs_sample_free(&sampler->samples[i]);
	free(sampler->samples);
	gs_inventory_free(&sampler->inventory);
	if (sampler->stopped)
		free_when_stopped(sampler);
}

static void start(struct sampler *sampler, const struct gs_nvml *nvml, const struct gs_inventory *inventory)
{
	sampler->nvml = nvml;
	gs_inventory_copy(&sampler->inventory, inventory);
	sampler->samples = gs_calloc(inventory->gpu_count, sizeof *sampler->samples);
	sampler->working = true;
	uv_timer_start(&sampler->patience, on_out_of_patience, PATIENCE_MS, 0);
	uv_queue_work(sampler->loop, &sampler->work, run, after_run);
}

bool sampler_hangs(const struct sampler *sampler)
{
	return sampler->working && !uv_is_active((const uv_handle_t *)&sampler->patience);
}

void sampler_ask(struct sampler *sampler, const struct gs_nvml *nvml, const struct gs_inventory *inventory,
		 sampler_done *done, void *user)
{
	struct asker *asker = gs_calloc(1, sizeof *asker);
	*asker = (struct asker){.done = done, .user = user, .next = sampler->askers};
	sampler->askers = asker;
	if (!sampler->working)
		start(sampler, nvml, inventory);
	else if (sampler_hangs(sampler))
		uv_timer_start(&sampler->patience, on_out_of_patience, 0, 0);
}

static void on_closed(uv_handle_t *handle)
{
	struct sampler *sampler = handle->data;
	sampler->closed = true;
	free_when_stopped(sampler);
}

void sampler_stop(struct sampler *sampler, void (*stopped)(void *user), void *user)
{
	sampler->stopped = stopped;
	sampler->stopped_user = user;
	answer_nothing(sampler);
	uv_close((uv_handle_t *)&sampler->patience, on_closed);
}
