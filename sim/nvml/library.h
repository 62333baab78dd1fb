/* Inside of the simulated libnvidia-ml.so.1: how a call begins and what every file of it shares.
 *
 * Each exported function starts with NVML_CALL or NVML_DEVICE_CALL, which do what is the same for all: trace it, let a
 * planned fault answer instead, refuse it before nvmlInit, check its arguments, find the GPU, and keep the node open
 * until the function returns even if another thread shuts the library down. */
#ifndef GPUSHARE_SIM_NVML_LIBRARY_H
#define GPUSHARE_SIM_NVML_LIBRARY_H

#include <stdbool.h>

#include "base/cleanup.h"

/* The library's only visible symbols are those that this header declares. */
#pragma GCC visibility push(default)
#include "gpushare/nvml.h"
/* Asked for by nvidia-smi; not part of the documented interface. sim/nvml/export_table.c. */
nvmlReturn_t nvmlInternalGetExportTable(const void **table, const void *id);
#pragma GCC visibility pop

#include "sim/mig.h"
#include "sim/models.h"
#include "sim/state.h"

struct nvml_session;

/* One call under way. */
struct nvml_call {
	nvmlReturn_t code;            /* why it ends at once, or NVML_SUCCESS */
	struct nvml_session *session; /* held; NULL before nvmlInit */
	struct sim_node *node;
	uint32_t slot; /* of the GPU; the rest is set by NVML_DEVICE_CALL only */
	nvmlDevice_t device;
	struct sim_gpu gpu; /* as it was when the call began */
	const struct sim_model *model;
	/* Of a handle that names a MIG instance; serial 0: it names a whole GPU. */
	struct sim_mig_name instance;
	const struct sim_mig_model *mig_model;
	const struct sim_mig_profile *profile; /* of the GPU instance */
	struct sim_mig_gi gi;
	struct sim_mig_compute compute; /* when instance.compute_instance is one */
};

nvmlReturn_t nvml_enter(struct nvml_call *call, const char *function, bool arguments_ok);
nvmlReturn_t nvml_enter_device(struct nvml_call *call, const char *function, nvmlDevice_t device, bool arguments_ok);
/* As nvml_enter_device, and takes the handle of a MIG device too; that call answers NOT_SUPPORTED to one. */
nvmlReturn_t nvml_enter_any_device(struct nvml_call *call, const char *function, nvmlDevice_t device,
				   bool arguments_ok);
nvmlReturn_t nvml_enter_gpu_instance(struct nvml_call *call, const char *function, nvmlGpuInstance_t instance,
				     bool arguments_ok);
nvmlReturn_t nvml_enter_compute_instance(struct nvml_call *call, const char *function, nvmlComputeInstance_t instance,
					 bool arguments_ok);
void nvml_leave(struct nvml_call *call);

/* Declares `call` and returns from the function when the call must not go on. `arguments_ok` is about pointers etc. */
#define NVML_CALL(call, arguments_ok)                                      \
	GS_CLEANUP(nvml_leave) struct nvml_call call;                      \
	if (nvml_enter(&(call), __func__, (arguments_ok)) != NVML_SUCCESS) \
	return (call).code
#define NVML_DEVICE_CALL(call, device, arguments_ok)                                        \
	GS_CLEANUP(nvml_leave) struct nvml_call call;                                       \
	if (nvml_enter_device(&(call), __func__, (device), (arguments_ok)) != NVML_SUCCESS) \
	return (call).code

/* For calls that a MIG device answers as well. */
#define NVML_ANY_DEVICE_CALL(call, device, arguments_ok)                                        \
	GS_CLEANUP(nvml_leave) struct nvml_call call;                                           \
	if (nvml_enter_any_device(&(call), __func__, (device), (arguments_ok)) != NVML_SUCCESS) \
	return (call).code
#define NVML_INSTANCE_CALL(call, instance, arguments_ok)                                            \
	GS_CLEANUP(nvml_leave) struct nvml_call call;                                               \
	if (nvml_enter_gpu_instance(&(call), __func__, (instance), (arguments_ok)) != NVML_SUCCESS) \
	return (call).code
#define NVML_COMPUTE_CALL(call, instance, arguments_ok)                                                 \
	GS_CLEANUP(nvml_leave) struct nvml_call call;                                                   \
	if (nvml_enter_compute_instance(&(call), __func__, (instance), (arguments_ok)) != NVML_SUCCESS) \
	return (call).code

/* Whether the call's handle names a MIG instance. */
static inline bool nvml_is_mig(const struct nvml_call *call)
{
	return call->instance.serial != 0;
}

/* Whether the board counts memory errors now. */
static inline bool nvml_has_ecc(const struct nvml_call *call)
{
	return call->model->ecc && !call->gpu.ecc_off;
}

/* Changes the call's GPU by `apply`; NO_PERMISSION when the caller is not root, which is who NVML lets change settings. */
nvmlReturn_t nvml_change(const struct nvml_call *call, void apply(struct sim_gpu *gpu, void *user), void *user);

/* Handles: one per board that was ever plugged, so that a handle of a board that is gone never means its successor. */
nvmlDevice_t nvml_handle(uint32_t slot, const struct sim_gpu *gpu);
/* Handles of a MIG device, a GPU instance and a compute instance; each place on a board has one, which means the last
 * instance there that it was given out for. */
nvmlDevice_t nvml_mig_handle(const struct sim_gpu *gpu, const struct sim_mig_name *name);
nvmlGpuInstance_t nvml_gpu_instance_handle(const struct sim_gpu *gpu, const struct sim_mig_name *name);
nvmlComputeInstance_t nvml_compute_instance_handle(const struct sim_gpu *gpu, const struct sim_mig_name *name);
/* The position of the call's MIG device among those of its GPU. */
nvmlReturn_t nvml_mig_index(const struct nvml_call *call, uint32_t *index);
/* Whether the handle is one of ours and its board is in reach: SUCCESS, INVALID_ARGUMENT or GPU_IS_LOST. */
nvmlReturn_t nvml_resolve(struct sim_node *node, nvmlDevice_t device, uint32_t *slot, struct sim_gpu *gpu);
/* GPUs that are there, in NVML's order: fills at most SIM_GPUS_MAX slots, returns how many. */
uint32_t nvml_present(struct sim_node *node, uint32_t slots[SIM_GPUS_MAX]);

/* How long memory is read or written while a kernel runs, of its time: a guess, to keep one figure below the other. */
#define NVML_MEMORY_BUSY(busy_permille) ((busy_permille)*2 / 5)

/* Copies text with its NUL, or answers INSUFFICIENT_SIZE. */
nvmlReturn_t nvml_copy_text(char *to, uint32_t length, const char *text);
/* "00000000:3B:00.0" into at least 32 bytes. */
void nvml_bus_id(const struct sim_gpu *gpu, char *text);
/* "domain:bus:device.function" or "bus:device.function", in hexadecimal, of the domain 0 then. False: it is neither. */
struct nvml_bus_address {
	uint32_t domain, bus, device, function;
};
bool nvml_parse_bus_id(const char *text, struct nvml_bus_address *address);
void nvml_fill_pci(const struct sim_gpu *gpu, nvmlPciInfo_t *pci);
/* NVML's own clients disagree about a struct's version word (some give the bare number, or the size of a struct of
 * another release), so only the number counts. */
bool nvml_version_is(uint32_t word, uint32_t number);
/* Microseconds of CLOCK_REALTIME, as NVML stamps samples, of a moment on sim_now_ns's clock. */
uint64_t nvml_timestamp_us(uint64_t monotonic_ns);

#endif
