/* NVML calls that partition a GPU: profiles, placements, GPU instances and compute instances. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sim/nvml/library.h"

/* How the driver chooses a place; GPUSHARE_SIM_MIG_PLACEMENT says otherwise. */
static enum sim_mig_choice choice(void)
{
	const char *wanted = getenv("GPUSHARE_SIM_MIG_PLACEMENT");
	if (wanted && strcmp(wanted, "lowest") == 0)
		return SIM_MIG_LOWEST;
	return wanted && strcmp(wanted, "highest") == 0 ? SIM_MIG_HIGHEST : SIM_MIG_AS_DRIVER;
}

/* The position of a profile in the model's table by id: INVALID_ARGUMENT when there is none, NOT_SUPPORTED when there
 * is no MIG. Mode-independent. */
static nvmlReturn_t find_profile(struct nvml_call *call, uint32_t id, uint32_t *position)
{
	call->mig_model = sim_mig_model_of(call->model);
	if (!call->mig_model)
		return NVML_ERROR_NOT_SUPPORTED;
	for (uint32_t i = 0; i < call->mig_model->profile_count; i++)
		if (call->mig_model->profiles[i].id == id) {
			call->profile = &call->mig_model->profiles[i];
			*position = i;
			return NVML_SUCCESS;
		}
	return NVML_ERROR_INVALID_ARGUMENT;
}

/* As above by NVML_GPU_INSTANCE_PROFILE_*; one that this model lacks is NOT_SUPPORTED. */
static nvmlReturn_t find_profile_number(struct nvml_call *call, uint32_t number)
{
	call->mig_model = sim_mig_model_of(call->model);
	if (number >= NVML_GPU_INSTANCE_PROFILE_COUNT)
		return NVML_ERROR_INVALID_ARGUMENT;
	for (uint32_t i = 0; call->mig_model && i < call->mig_model->profile_count; i++)
		if (call->mig_model->profiles[i].number == number) {
			call->profile = &call->mig_model->profiles[i];
			return NVML_SUCCESS;
		}
	return NVML_ERROR_NOT_SUPPORTED;
}

/* GPU instance profiles. */

nvmlReturn_t nvmlDeviceGetGpuInstanceProfileInfo(nvmlDevice_t device, uint32_t number,
						 nvmlGpuInstanceProfileInfo_t *info)
{
	NVML_DEVICE_CALL(call, device, info != NULL);
	nvmlReturn_t code = find_profile_number(&call, number);
	if (code != NVML_SUCCESS)
		return code;
	*info = (nvmlGpuInstanceProfileInfo_t){
		.id = call.profile->id,
		.sliceCount = call.profile->slices,
		.instanceCount = call.profile->count,
		.multiprocessorCount = call.profile->multiprocessors,
		.copyEngineCount = call.profile->copy_engines,
		.decoderCount = call.profile->decoders,
		.encoderCount = call.profile->encoders,
		.jpegCount = call.profile->jpegs,
		.ofaCount = call.profile->ofas,
		.memorySizeMB = call.profile->memory_mib,
	};
	return NVML_SUCCESS;
}

static nvmlReturn_t fill_profile(const struct sim_mig_profile *profile, nvmlGpuInstanceProfileInfo_v2_t *info)
{
	nvmlGpuInstanceProfileInfo_v3_t *third = (void *)info;
	if (nvml_version_is(info->version, 3)) {
		*third = (nvmlGpuInstanceProfileInfo_v3_t){
			.version = info->version,
			.id = profile->id,
			.sliceCount = profile->slices,
			.instanceCount = profile->count,
			.multiprocessorCount = profile->multiprocessors,
			.copyEngineCount = profile->copy_engines,
			.decoderCount = profile->decoders,
			.encoderCount = profile->encoders,
			.jpegCount = profile->jpegs,
			.ofaCount = profile->ofas,
			.memorySizeMB = profile->memory_mib,
			.capabilities = profile->capabilities,
		};
		snprintf(third->name, sizeof third->name, "MIG %s", profile->name);
		return NVML_SUCCESS;
	}
	if (!nvml_version_is(info->version, 2))
		return NVML_ERROR_ARGUMENT_VERSION_MISMATCH;
	*info = (nvmlGpuInstanceProfileInfo_v2_t){
		.version = info->version,
		.id = profile->id,
		.sliceCount = profile->slices,
		.instanceCount = profile->count,
		.multiprocessorCount = profile->multiprocessors,
		.copyEngineCount = profile->copy_engines,
		.decoderCount = profile->decoders,
		.encoderCount = profile->encoders,
		.jpegCount = profile->jpegs,
		.ofaCount = profile->ofas,
		.memorySizeMB = profile->memory_mib,
	};
	snprintf(info->name, sizeof info->name, "MIG %s", profile->name);
	return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetGpuInstanceProfileInfoV(nvmlDevice_t device, uint32_t number,
						  nvmlGpuInstanceProfileInfo_v2_t *info)
{
	NVML_DEVICE_CALL(call, device, info != NULL);
	nvmlReturn_t code = find_profile_number(&call, number);
	return code == NVML_SUCCESS ? fill_profile(call.profile, info) : code;
}

nvmlReturn_t nvmlDeviceGetGpuInstanceProfileInfoByIdV(nvmlDevice_t device, uint32_t profile_id,
						      nvmlGpuInstanceProfileInfo_v2_t *info)
{
	NVML_DEVICE_CALL(call, device, info != NULL);
	uint32_t position;
	nvmlReturn_t code = find_profile(&call, profile_id, &position);
	return code == NVML_SUCCESS ? fill_profile(call.profile, info) : code;
}

/* All places that an instance may ever have, taken or not. Callers need no MIG mode for it, and no room need be told. */
static nvmlReturn_t fill_placements(uint32_t starts, uint32_t size, nvmlGpuInstancePlacement_t *placements,
				    uint32_t *count)
{
	*count = 0;
	for (uint32_t start = 0; start < 32; start++) {
		if (!(starts >> start & 1))
			continue;
		if (placements)
			placements[*count] = (nvmlGpuInstancePlacement_t){.start = start, .size = size};
		++*count;
	}
	return NVML_SUCCESS;
}

static nvmlReturn_t possible_placements(struct nvml_call *call, uint32_t profile_id,
					nvmlGpuInstancePlacement_t *placements, uint32_t *count)
{
	uint32_t position;
	nvmlReturn_t code = find_profile(call, profile_id, &position);
	if (code != NVML_SUCCESS)
		return code;
	return fill_placements(call->profile->starts, call->profile->size, placements, count);
}

nvmlReturn_t nvmlDeviceGetGpuInstancePossiblePlacements(nvmlDevice_t device, uint32_t profile_id,
							nvmlGpuInstancePlacement_t *placements, uint32_t *count)
{
	NVML_DEVICE_CALL(call, device, count != NULL);
	return possible_placements(&call, profile_id, placements, count);
}

nvmlReturn_t nvmlDeviceGetGpuInstancePossiblePlacements_v2(nvmlDevice_t device, uint32_t profile_id,
							   nvmlGpuInstancePlacement_t *placements, uint32_t *count)
{
	NVML_DEVICE_CALL(call, device, count != NULL);
	return possible_placements(&call, profile_id, placements, count);
}

/* With MIG off nothing can be made, and drivers say so by "0/7" rather than by an error. */
nvmlReturn_t nvmlDeviceGetGpuInstanceRemainingCapacity(nvmlDevice_t device, uint32_t profile_id, uint32_t *count)
{
	NVML_DEVICE_CALL(call, device, count != NULL);
	struct sim_mig mig;
	uint32_t position;
	nvmlReturn_t code = find_profile(&call, profile_id, &position);
	if (code != NVML_SUCCESS)
		return code;
	if (!sim_mig_get(call.node, call.slot, &mig))
		return NVML_ERROR_NOT_SUPPORTED;
	*count = call.gpu.mig_mode ? sim_mig_remaining(call.mig_model, &mig, position) : 0;
	return NVML_SUCCESS;
}

/* GPU instances. */

static nvmlReturn_t create_instance(struct nvml_call *call, uint32_t profile_id, const uint32_t *start,
				    nvmlGpuInstance_t *instance)
{
	struct sim_mig_name made;
	uint32_t position;
	nvmlReturn_t code = find_profile(call, profile_id, &position);
	if (code != NVML_SUCCESS)
		return code;
	if (!call->gpu.mig_mode)
		return NVML_ERROR_NOT_SUPPORTED;
	if (!sim_may_partition())
		return NVML_ERROR_NO_PERMISSION;
	code = sim_mig_create(call->node, call->slot, position, start, choice(), &made);
	if (code != NVML_SUCCESS)
		return code;
	*instance = nvml_gpu_instance_handle(&call->gpu, &made);
	return *instance ? NVML_SUCCESS : NVML_ERROR_MEMORY;
}

nvmlReturn_t nvmlDeviceCreateGpuInstance(nvmlDevice_t device, uint32_t profile_id, nvmlGpuInstance_t *instance)
{
	NVML_DEVICE_CALL(call, device, instance != NULL);
	return create_instance(&call, profile_id, NULL, instance);
}

nvmlReturn_t nvmlDeviceCreateGpuInstanceWithPlacement(nvmlDevice_t device, uint32_t profile_id,
						      const nvmlGpuInstancePlacement_t *placement,
						      nvmlGpuInstance_t *instance)
{
	NVML_DEVICE_CALL(call, device, placement && instance);
	return create_instance(&call, profile_id, &placement->start, instance);
}

nvmlReturn_t nvmlGpuInstanceDestroy(nvmlGpuInstance_t instance)
{
	NVML_INSTANCE_CALL(call, instance, true);
	return sim_may_partition() ? sim_mig_destroy(call.node, &call.instance) : NVML_ERROR_NO_PERMISSION;
}

static nvmlReturn_t read_instances(struct nvml_call *call, struct sim_mig *mig)
{
	if (!call->gpu.mig_mode || !sim_mig_get(call->node, call->slot, mig))
		return NVML_ERROR_NOT_SUPPORTED;
	return sim_may_partition() ? NVML_SUCCESS : NVML_ERROR_NO_PERMISSION;
}

nvmlReturn_t nvmlDeviceGetGpuInstances(nvmlDevice_t device, uint32_t profile_id, nvmlGpuInstance_t *instances,
				       uint32_t *count)
{
	NVML_DEVICE_CALL(call, device, instances && count);
	struct sim_mig mig;
	uint32_t position;
	nvmlReturn_t code = find_profile(&call, profile_id, &position);
	if (code == NVML_SUCCESS)
		code = read_instances(&call, &mig);
	if (code != NVML_SUCCESS)
		return code;
	*count = 0;
	for (uint32_t id = 0; id < SIM_MIG_INSTANCES_MAX; id++) {
		if (!mig.gis[id].serial || mig.gis[id].profile != position || *count >= call.profile->count)
			continue;
		struct sim_mig_name name = {call.slot, id, SIM_MIG_NONE, mig.gis[id].serial};
		instances[*count] = nvml_gpu_instance_handle(&call.gpu, &name);
		if (!instances[(*count)++])
			return NVML_ERROR_MEMORY;
	}
	return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetGpuInstanceById(nvmlDevice_t device, uint32_t id, nvmlGpuInstance_t *instance)
{
	NVML_DEVICE_CALL(call, device, instance != NULL);
	struct sim_mig mig;
	if (!call.gpu.mig_mode || !sim_mig_get(call.node, call.slot, &mig))
		return NVML_ERROR_NOT_SUPPORTED;
	if (id >= SIM_MIG_INSTANCES_MAX || !mig.gis[id].serial)
		return NVML_ERROR_NOT_FOUND;
	struct sim_mig_name name = {call.slot, id, SIM_MIG_NONE, mig.gis[id].serial};
	*instance = nvml_gpu_instance_handle(&call.gpu, &name);
	return *instance ? NVML_SUCCESS : NVML_ERROR_MEMORY;
}

nvmlReturn_t nvmlGpuInstanceGetInfo(nvmlGpuInstance_t instance, nvmlGpuInstanceInfo_t *info)
{
	NVML_INSTANCE_CALL(call, instance, info != NULL);
	*info = (nvmlGpuInstanceInfo_t){
		.device = nvml_handle(call.slot, &call.gpu),
		.id = call.instance.gpu_instance,
		.profileId = call.profile->id,
		.placement = {.start = call.gi.start, .size = call.gi.size},
	};
	return NVML_SUCCESS;
}

/* Compute instance profiles; their number is their id. */

static nvmlReturn_t find_compute(struct nvml_call *call, uint32_t number, nvmlReturn_t absent)
{
	if (number >= NVML_COMPUTE_INSTANCE_PROFILE_COUNT)
		return NVML_ERROR_INVALID_ARGUMENT;
	return sim_mig_compute_of(call->mig_model, call->profile, number, &call->compute) ? NVML_SUCCESS : absent;
}

nvmlReturn_t nvmlGpuInstanceGetComputeInstanceProfileInfo(nvmlGpuInstance_t instance, uint32_t number, uint32_t engine,
							  nvmlComputeInstanceProfileInfo_t *info)
{
	NVML_INSTANCE_CALL(call, instance, info && engine < NVML_COMPUTE_INSTANCE_ENGINE_PROFILE_COUNT);
	nvmlReturn_t code = find_compute(&call, number, NVML_ERROR_NOT_SUPPORTED);
	if (code != NVML_SUCCESS)
		return code;
	*info = (nvmlComputeInstanceProfileInfo_t){
		.id = number,
		.sliceCount = call.compute.slices,
		.instanceCount = call.compute.count,
		.multiprocessorCount = call.compute.multiprocessors,
		.sharedCopyEngineCount = call.profile->copy_engines,
		.sharedDecoderCount = call.profile->decoders,
		.sharedEncoderCount = call.profile->encoders,
		.sharedJpegCount = call.profile->jpegs,
		.sharedOfaCount = call.profile->ofas,
	};
	return NVML_SUCCESS;
}

nvmlReturn_t nvmlGpuInstanceGetComputeInstanceProfileInfoV(nvmlGpuInstance_t instance, uint32_t number, uint32_t engine,
							   nvmlComputeInstanceProfileInfo_v2_t *info)
{
	NVML_INSTANCE_CALL(call, instance, info && engine < NVML_COMPUTE_INSTANCE_ENGINE_PROFILE_COUNT);
	nvmlReturn_t code = find_compute(&call, number, NVML_ERROR_NOT_SUPPORTED);
	if (code != NVML_SUCCESS)
		return code;
	bool third = nvml_version_is(info->version, 3);
	if (!third && !nvml_version_is(info->version, 2))
		return NVML_ERROR_ARGUMENT_VERSION_MISMATCH;
	*info = (nvmlComputeInstanceProfileInfo_v2_t){
		.version = info->version,
		.id = number,
		.sliceCount = call.compute.slices,
		.instanceCount = call.compute.count,
		.multiprocessorCount = call.compute.multiprocessors,
		.sharedCopyEngineCount = call.profile->copy_engines,
		.sharedDecoderCount = call.profile->decoders,
		.sharedEncoderCount = call.profile->encoders,
		.sharedJpegCount = call.profile->jpegs,
		.sharedOfaCount = call.profile->ofas,
	};
	snprintf(info->name, sizeof info->name, "MIG %s", call.compute.name);
	if (third) /* the second version and one word more */
		((nvmlComputeInstanceProfileInfo_v3_t *)info)->capabilities = call.profile->capabilities;
	return NVML_SUCCESS;
}

nvmlReturn_t nvmlGpuInstanceGetComputeInstanceRemainingCapacity(nvmlGpuInstance_t instance, uint32_t profile_id,
								uint32_t *count)
{
	NVML_INSTANCE_CALL(call, instance, count != NULL);
	nvmlReturn_t code = find_compute(&call, profile_id, NVML_ERROR_INVALID_ARGUMENT);
	if (code == NVML_SUCCESS)
		*count = sim_mig_compute_remaining(&call.gi, &call.compute);
	return code;
}

nvmlReturn_t nvmlGpuInstanceGetComputeInstancePossiblePlacements(nvmlGpuInstance_t instance, uint32_t profile_id,
								 nvmlComputeInstancePlacement_t *placements,
								 uint32_t *count)
{
	NVML_INSTANCE_CALL(call, instance, count != NULL);
	nvmlReturn_t code = find_compute(&call, profile_id, NVML_ERROR_INVALID_ARGUMENT);
	if (code != NVML_SUCCESS)
		return code;
	/* The two kinds of placement have one layout. */
	return fill_placements(call.compute.starts, call.compute.slices, (void *)placements, count);
}

/* Compute instances. */

static nvmlReturn_t create_compute(struct nvml_call *call, uint32_t profile_id, const uint32_t *start,
				   nvmlComputeInstance_t *compute)
{
	struct sim_mig_name made;
	nvmlReturn_t code = find_compute(call, profile_id, NVML_ERROR_INVALID_ARGUMENT);
	if (code != NVML_SUCCESS)
		return code;
	if (!sim_may_partition())
		return NVML_ERROR_NO_PERMISSION;
	code = sim_mig_create_compute(call->node, &call->instance, profile_id, start, &made);
	if (code != NVML_SUCCESS)
		return code;
	*compute = nvml_compute_instance_handle(&call->gpu, &made);
	return *compute ? NVML_SUCCESS : NVML_ERROR_MEMORY;
}

nvmlReturn_t nvmlGpuInstanceCreateComputeInstance(nvmlGpuInstance_t instance, uint32_t profile_id,
						  nvmlComputeInstance_t *compute)
{
	NVML_INSTANCE_CALL(call, instance, compute != NULL);
	return create_compute(&call, profile_id, NULL, compute);
}

nvmlReturn_t nvmlGpuInstanceCreateComputeInstanceWithPlacement(nvmlGpuInstance_t instance, uint32_t profile_id,
							       const nvmlComputeInstancePlacement_t *placement,
							       nvmlComputeInstance_t *compute)
{
	NVML_INSTANCE_CALL(call, instance, placement && compute);
	return create_compute(&call, profile_id, &placement->start, compute);
}

nvmlReturn_t nvmlComputeInstanceDestroy(nvmlComputeInstance_t compute)
{
	NVML_COMPUTE_CALL(call, compute, true);
	return sim_may_partition() ? sim_mig_destroy_compute(call.node, &call.instance) : NVML_ERROR_NO_PERMISSION;
}

nvmlReturn_t nvmlGpuInstanceGetComputeInstances(nvmlGpuInstance_t instance, uint32_t profile_id,
						nvmlComputeInstance_t *computes, uint32_t *count)
{
	NVML_INSTANCE_CALL(call, instance, computes && count);
	nvmlReturn_t code = find_compute(&call, profile_id, NVML_ERROR_INVALID_ARGUMENT);
	if (code != NVML_SUCCESS)
		return code;
	if (!sim_may_partition())
		return NVML_ERROR_NO_PERMISSION;
	*count = 0;
	for (uint32_t id = 0; id < SIM_MIG_COMPUTES_MAX; id++) {
		const struct sim_mig_ci *ci = &call.gi.cis[id];
		if (!ci->serial || ci->profile != profile_id || *count >= call.compute.count)
			continue;
		struct sim_mig_name name = {call.slot, call.instance.gpu_instance, id, ci->serial};
		computes[*count] = nvml_compute_instance_handle(&call.gpu, &name);
		if (!computes[(*count)++])
			return NVML_ERROR_MEMORY;
	}
	return NVML_SUCCESS;
}

nvmlReturn_t nvmlGpuInstanceGetComputeInstanceById(nvmlGpuInstance_t instance, uint32_t id,
						   nvmlComputeInstance_t *compute)
{
	NVML_INSTANCE_CALL(call, instance, compute != NULL);
	if (id >= SIM_MIG_COMPUTES_MAX || !call.gi.cis[id].serial)
		return NVML_ERROR_NOT_FOUND;
	struct sim_mig_name name = {call.slot, call.instance.gpu_instance, id, call.gi.cis[id].serial};
	*compute = nvml_compute_instance_handle(&call.gpu, &name);
	return *compute ? NVML_SUCCESS : NVML_ERROR_MEMORY;
}

static void fill_compute(const struct nvml_call *call, nvmlComputeInstanceInfo_t *info)
{
	const struct sim_mig_ci *ci = &call->gi.cis[call->instance.compute_instance];
	struct sim_mig_name parent = {call->slot, call->instance.gpu_instance, SIM_MIG_NONE, call->gi.serial};
	*info = (nvmlComputeInstanceInfo_t){
		.device = nvml_handle(call->slot, &call->gpu),
		.gpuInstance = nvml_gpu_instance_handle(&call->gpu, &parent),
		.id = call->instance.compute_instance,
		.profileId = ci->profile,
		.placement = {.start = ci->start, .size = ci->size},
	};
}

nvmlReturn_t nvmlComputeInstanceGetInfo(nvmlComputeInstance_t compute, nvmlComputeInstanceInfo_t *info)
{
	NVML_COMPUTE_CALL(call, compute, info != NULL);
	nvmlComputeInstanceInfo_t whole;
	fill_compute(&call, &whole);
	memcpy(info, &whole, offsetof(nvmlComputeInstanceInfo_t, placement));
	return NVML_SUCCESS;
}

nvmlReturn_t nvmlComputeInstanceGetInfo_v2(nvmlComputeInstance_t compute, nvmlComputeInstanceInfo_t *info)
{
	NVML_COMPUTE_CALL(call, compute, info != NULL);
	fill_compute(&call, info);
	return NVML_SUCCESS;
}
