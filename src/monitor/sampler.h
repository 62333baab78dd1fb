/* Samples of the GPUs for those who ask: one sampling at a time serves all who ask meanwhile, on a thread of its own. A
 * driver that hangs keeps that thread; no caller waits for it. */
#ifndef GPUSHARE_NODE_SAMPLER_H
#define GPUSHARE_NODE_SAMPLER_H

#include <stdbool.h>
#include <uv.h>

#include "core/share/inventory.h"
#include "gpu/sample.h"

struct sampler;

/* samples[i] belongs to inventory->gpus[i], of which there are inventory->gpu_count (it has no devices); both are valid
 * during the call. GPUs that did not answer in time are left out, and all of them when the sampler stops. */
typedef void sampler_done(void *user, const struct gs_inventory *inventory, const struct gs_gpu_sample *samples);

struct sampler *sampler_new(uv_loop_t *loop);
/* `done` is called later, on the loop's thread, within about two seconds. nvml (NULL: not there yet) must stay open until
 * `stopped` was called. */
void sampler_ask(struct sampler *sampler, const struct gs_nvml *nvml, const struct gs_inventory *inventory,
		 sampler_done *done, void *user);
/* The sampling under way has taken longer than that. */
bool sampler_hangs(const struct sampler *sampler);
/* A look at the GPUs is over, so those that hang are known: a sampling that hangs is left behind, and the next one goes
 * past them. */
void sampler_looked(struct sampler *sampler);
/* Threads that were left behind and are not back. */
unsigned sampler_left_behind(struct sampler *sampler);
/* Answers the waiting callers; when the thread is back, calls `stopped` and frees the sampler. */
void sampler_stop(struct sampler *sampler, void (*stopped)(void *user), void *user);

#endif
