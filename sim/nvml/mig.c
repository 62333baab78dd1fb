/* NVML calls about MIG mode, and about MIG devices: the compute instances of a GPU as things to run on. */
#include "sim/nvml/library.h"

nvmlReturn_t nvmlDeviceGetMigMode(nvmlDevice_t device, uint32_t *current, uint32_t *pending)
{
	NVML_DEVICE_CALL(call, device, current && pending);
	if (!call.model->mig_capable)
		return NVML_ERROR_NOT_SUPPORTED;
	*current = call.gpu.mig_mode;
	*pending = call.gpu.mig_pending;
	return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceSetMigMode(nvmlDevice_t device, uint32_t mode, nvmlReturn_t *activation)
{
	NVML_DEVICE_CALL(call, device, activation && mode <= NVML_DEVICE_MIG_ENABLE);
	if (!call.model->mig_capable)
		return NVML_ERROR_NOT_SUPPORTED;
	if (!sim_may_partition())
		return NVML_ERROR_NO_PERMISSION;
	return sim_mig_set_mode(call.node, call.slot, mode == NVML_DEVICE_MIG_ENABLE, activation);
}

nvmlReturn_t nvmlDeviceGetMaxMigDeviceCount(nvmlDevice_t device, uint32_t *count)
{
	NVML_DEVICE_CALL(call, device, count != NULL);
	const struct sim_mig_model *model = sim_mig_model_of(call.model);
	*count = model && call.gpu.mig_mode ? model->devices : 0;
	return NVML_SUCCESS;
}

/* The index-th compute instance that can be seen of a GPU, by id of its GPU instance and its own. */
static bool find_nth(const struct sim_gpu *gpu, const struct sim_mig *mig, uint32_t index, struct sim_mig_name *name)
{
	for (uint32_t gi = 0; gi < SIM_MIG_INSTANCES_MAX; gi++)
		for (uint32_t ci = 0; mig->gis[gi].serial && ci < SIM_MIG_COMPUTES_MAX; ci++) {
			if (!mig->gis[gi].cis[ci].serial || !sim_may_see(gpu, gi, ci) || index--)
				continue;
			name->gpu_instance = gi;
			name->compute_instance = ci;
			name->serial = mig->gis[gi].cis[ci].serial;
			return true;
		}
	return false;
}

nvmlReturn_t nvmlDeviceGetMigDeviceHandleByIndex(nvmlDevice_t device, uint32_t index, nvmlDevice_t *mig_device)
{
	NVML_DEVICE_CALL(call, device, mig_device != NULL);
	struct sim_mig mig;
	struct sim_mig_name name = {.gpu = call.slot};
	if (!call.model->mig_capable || !sim_mig_get(call.node, call.slot, &mig))
		return NVML_ERROR_NOT_SUPPORTED;
	if (!call.gpu.mig_mode || !find_nth(&call.gpu, &mig, index, &name))
		return NVML_ERROR_NOT_FOUND;
	*mig_device = nvml_mig_handle(&call.gpu, &name);
	return *mig_device ? NVML_SUCCESS : NVML_ERROR_MEMORY;
}

nvmlReturn_t nvml_mig_index(const struct nvml_call *call, uint32_t *index)
{
	struct sim_mig mig;
	struct sim_mig_name name;
	if (!sim_mig_get(call->node, call->slot, &mig))
		return NVML_ERROR_NOT_SUPPORTED;
	for (*index = 0; find_nth(&call->gpu, &mig, *index, &name); ++*index)
		if (name.serial == call->instance.serial)
			return NVML_SUCCESS;
	return NVML_ERROR_INVALID_ARGUMENT; /* destroyed since the call began */
}

nvmlReturn_t nvmlDeviceIsMigDeviceHandle(nvmlDevice_t device, uint32_t *is_mig)
{
	NVML_ANY_DEVICE_CALL(call, device, is_mig != NULL);
	*is_mig = nvml_is_mig(&call);
	return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetDeviceHandleFromMigDeviceHandle(nvmlDevice_t mig, nvmlDevice_t *device)
{
	NVML_ANY_DEVICE_CALL(call, mig, device != NULL);
	if (!nvml_is_mig(&call))
		return NVML_ERROR_INVALID_ARGUMENT;
	*device = nvml_handle(call.slot, &call.gpu);
	return *device ? NVML_SUCCESS : NVML_ERROR_MEMORY;
}

nvmlReturn_t nvmlDeviceGetGpuInstanceId(nvmlDevice_t mig, uint32_t *id)
{
	NVML_ANY_DEVICE_CALL(call, mig, id != NULL);
	if (!nvml_is_mig(&call))
		return NVML_ERROR_INVALID_ARGUMENT;
	*id = call.instance.gpu_instance;
	return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetComputeInstanceId(nvmlDevice_t mig, uint32_t *id)
{
	NVML_ANY_DEVICE_CALL(call, mig, id != NULL);
	if (!nvml_is_mig(&call))
		return NVML_ERROR_INVALID_ARGUMENT;
	*id = call.instance.compute_instance;
	return NVML_SUCCESS;
}

/* Of a whole board NVML answers NOT_SUPPORTED to these, not INVALID_ARGUMENT. */
static nvmlReturn_t fill_attributes(const struct nvml_call *call, nvmlDeviceAttributes_t *attributes)
{
	if (!nvml_is_mig(call))
		return NVML_ERROR_NOT_SUPPORTED;
	*attributes = (nvmlDeviceAttributes_t){
		.multiprocessorCount = call->compute.multiprocessors,
		.sharedCopyEngineCount = call->profile->copy_engines,
		.sharedDecoderCount = call->profile->decoders,
		.sharedEncoderCount = call->profile->encoders,
		.sharedJpegCount = call->profile->jpegs,
		.sharedOfaCount = call->profile->ofas,
		.gpuInstanceSliceCount = call->profile->slices,
		.computeInstanceSliceCount = call->compute.slices,
		.memorySizeMB = call->profile->memory_mib,
	};
	return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetAttributes(nvmlDevice_t mig, nvmlDeviceAttributes_t *attributes)
{
	NVML_ANY_DEVICE_CALL(call, mig, attributes != NULL);
	return fill_attributes(&call, attributes);
}

nvmlReturn_t nvmlDeviceGetAttributes_v2(nvmlDevice_t mig, nvmlDeviceAttributes_t *attributes)
{
	NVML_ANY_DEVICE_CALL(call, mig, attributes != NULL);
	return fill_attributes(&call, attributes);
}
