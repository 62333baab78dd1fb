/* GPUs on which the driver hangs. A call into the driver can't be given up, but the thread that makes it can be left
 * behind: each GPU is touched on a thread of its own before anything else asks about it, and one that does not come
 * back is barred. Until it does, a guarded table answers each request for its handle with TIMEOUT at once, so that
 * every reader of all GPUs (inventory, probes, samples, MIG, compute modes, events) goes on with the others.
 *
 * As NVML is one library a process, so is this one state a process. All functions may be called from any thread, but
 * gs_hangs_look from one at a time. */
#ifndef GPUSHARE_GPU_HANGS_H
#define GPUSHARE_GPU_HANGS_H

#include <stdbool.h>
#include <stdint.h>

#include "core/share/inventory.h"
#include "gpu/nvml.h"

enum { GS_HANGS_PATIENCE_MS = 10000 }; /* a driver takes seconds to wake a GPU */

/* From now on the table gives no handle of a GPU that hangs. */
void gs_hangs_guard(struct gs_nvml *nvml);

/* Touches the GPUs, and returns once all came back, or none has for patience_ms; what came back before is not barred any
 * more. `known` are those of the last reading, `count` is how many NVML lists now. The number of threads that are left
 * behind has a limit; beyond it, a GPU counts as it did. */
void gs_hangs_look(const struct gs_nvml *nvml, const struct gs_inventory *known, uint32_t count, int64_t patience_ms);

/* As the last look found it: of a GPU's UUID, or of a MIG device's on it. */
bool gs_hangs_on(const char *uuid);
/* Bit i: the GPU at NVML's index i, whether it was ever read or not. */
uint64_t gs_hangs_indexes(void);
/* A thread is still with the driver: NVML must not be shut down, nor the process end by exit. */
bool gs_hangs_any(void);

/* For a command that looks once: opens NVML as gs_nvml_open_below, guards the table, and looks. */
int gs_hangs_open(const char *const *roots, struct gs_nvml **nvml, struct gs_error *err);
/* Closes it, unless a thread is still with the driver. NULL is fine. */
void gs_hangs_close(struct gs_nvml *nvml);

#endif
