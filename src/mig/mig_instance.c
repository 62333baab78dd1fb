#include "mig/mig_instance.h"

#define FAIL(code, call) gs_nvml_fail(nvml, (code), (call), err)

struct gs_mig_record_instance gs_mig_instance_as_record(const struct gs_mig_board *board, size_t position)
{
	const struct gs_mig_instance *instance = &board->layout.instances[position];
	struct gs_mig_record_instance what = {.profile_id = board->profile_ids[position],
					      .place = instance->place,
					      .compute_count = instance->compute_count};
	for (size_t i = 0; i < instance->compute_count; i++) {
		what.compute[i].slices = instance->compute[i].slices;
		what.compute[i].start = instance->compute[i].start;
	}
	return what;
}

static int find(const struct gs_nvml *nvml, nvmlDevice_t device, uint32_t id, nvmlGpuInstance_t *handle,
		struct gs_error *err)
{
	nvmlReturn_t code = GS_NVML(nvml, DeviceGetGpuInstanceById, device, id, handle);
	if (code == NVML_ERROR_NOT_FOUND)
		return gs_fail(err, GS_ERROR_NVML, (int)code, "GPU instance %u is gone: another tool has destroyed it",
			       id);
	return code == NVML_SUCCESS ? 0 : FAIL(code, "nvmlDeviceGetGpuInstanceById");
}

/* The compute profile with so many slices; of two, the one that the driver lists first is the plain one. */
static int find_compute_profile(const struct gs_nvml *nvml, nvmlGpuInstance_t instance, uint8_t slices,
				nvmlComputeInstanceProfileInfo_t *profile, struct gs_error *err)
{
	for (uint32_t kind = 0; kind < NVML_COMPUTE_INSTANCE_PROFILE_COUNT; kind++) {
		nvmlReturn_t code = GS_NVML(nvml, GpuInstanceGetComputeInstanceProfileInfo, instance, kind,
					    NVML_COMPUTE_INSTANCE_ENGINE_PROFILE_SHARED, profile);
		if (code == NVML_SUCCESS && profile->sliceCount == slices)
			return 0;
		if (code != NVML_SUCCESS && code != NVML_ERROR_NOT_SUPPORTED && code != NVML_ERROR_INVALID_ARGUMENT)
			return FAIL(code, "nvmlGpuInstanceGetComputeInstanceProfileInfo");
	}
	return gs_fail(err, GS_ERROR_NVML, NVML_ERROR_NOT_SUPPORTED,
		       "the driver has no compute instances of %u slices in this GPU instance", slices);
}

static int create_compute(const struct gs_nvml *nvml, nvmlGpuInstance_t instance, uint8_t slices, uint8_t start,
			  struct gs_error *err)
{
	nvmlComputeInstanceProfileInfo_t profile = {0};
	nvmlComputeInstancePlacement_t place = {.start = start, .size = slices};
	nvmlComputeInstance_t made;
	nvmlReturn_t code = NVML_ERROR_FUNCTION_NOT_FOUND;

	if (find_compute_profile(nvml, instance, slices, &profile, err) < 0)
		return -1;
	/* One that takes all has one place; drivers before R535 let none be chosen, and take the lowest. */
	if (profile.instanceCount > 1)
		code = GS_NVML(nvml, GpuInstanceCreateComputeInstanceWithPlacement, instance, profile.id, &place,
			       &made);
	if (code == NVML_ERROR_FUNCTION_NOT_FOUND || code == NVML_ERROR_NOT_SUPPORTED)
		code = GS_NVML(nvml, GpuInstanceCreateComputeInstance, instance, profile.id, &made);
	return code == NVML_SUCCESS ? 0 : FAIL(code, "nvmlGpuInstanceCreateComputeInstance");
}

int gs_mig_create_instance(const struct gs_nvml *nvml, nvmlDevice_t device, const struct gs_mig_record_instance *what,
			   struct gs_error *err)
{
	nvmlGpuInstancePlacement_t place = {.start = what->place.start, .size = what->place.size};
	nvmlGpuInstance_t made;
	nvmlReturn_t code =
		GS_NVML(nvml, DeviceCreateGpuInstanceWithPlacement, device, what->profile_id, &place, &made);
	if (code == NVML_ERROR_FUNCTION_NOT_FOUND)
		return gs_fail(err, GS_ERROR_NVML, (int)code,
			       "this driver can't place GPU instances; a newer one (R470 or later) can");
	if (code != NVML_SUCCESS)
		return FAIL(code, "nvmlDeviceCreateGpuInstanceWithPlacement");
	for (size_t i = 0; i < what->compute_count; i++)
		if (create_compute(nvml, made, what->compute[i].slices, what->compute[i].start, err) < 0)
			return -1;
	return 0;
}

int gs_mig_create_compute(const struct gs_nvml *nvml, nvmlDevice_t device, uint32_t instance, uint8_t slices,
			  uint8_t start, struct gs_error *err)
{
	nvmlGpuInstance_t handle;
	if (find(nvml, device, instance, &handle, err) < 0)
		return -1;
	return create_compute(nvml, handle, slices, start, err);
}

static int destroy_computes(const struct gs_nvml *nvml, nvmlGpuInstance_t instance, struct gs_error *err)
{
	for (uint32_t id = 0; id < GS_MIG_COMPUTE_MAX; id++) {
		nvmlComputeInstance_t compute;
		nvmlReturn_t code = GS_NVML(nvml, GpuInstanceGetComputeInstanceById, instance, id, &compute);
		if (code == NVML_ERROR_NOT_FOUND || code == NVML_ERROR_INVALID_ARGUMENT)
			continue;
		if (code != NVML_SUCCESS)
			return FAIL(code, "nvmlGpuInstanceGetComputeInstanceById");
		if ((code = GS_NVML(nvml, ComputeInstanceDestroy, compute)) != NVML_SUCCESS)
			return FAIL(code, "nvmlComputeInstanceDestroy");
	}
	return 0;
}

int gs_mig_destroy_instance(const struct gs_nvml *nvml, nvmlDevice_t device, uint32_t id,
			    const struct gs_mig_record_instance *what, struct gs_error *err)
{
	nvmlGpuInstanceInfo_t info = {0};
	nvmlGpuInstance_t handle;
	nvmlReturn_t code;

	if (find(nvml, device, id, &handle, err) < 0)
		return -1;
	if ((code = GS_NVML(nvml, GpuInstanceGetInfo, handle, &info)) != NVML_SUCCESS)
		return FAIL(code, "nvmlGpuInstanceGetInfo");
	if (info.profileId != what->profile_id || info.placement.start != what->place.start)
		return gs_fail(err, GS_ERROR_NVML, NVML_ERROR_NOT_FOUND,
			       "GPU instance %u is another one now: another tool has changed the layout", id);
	if (destroy_computes(nvml, handle, err) < 0)
		return -1;
	code = GS_NVML(nvml, GpuInstanceDestroy, handle);
	return code == NVML_SUCCESS ? 0 : FAIL(code, "nvmlGpuInstanceDestroy");
}

int gs_mig_destroy_compute(const struct gs_nvml *nvml, nvmlDevice_t device, uint32_t instance, uint32_t compute,
			   struct gs_error *err)
{
	nvmlGpuInstance_t handle;
	nvmlComputeInstance_t compute_handle;
	if (find(nvml, device, instance, &handle, err) < 0)
		return -1;
	nvmlReturn_t code = GS_NVML(nvml, GpuInstanceGetComputeInstanceById, handle, compute, &compute_handle);
	if (code != NVML_SUCCESS)
		return FAIL(code, "nvmlGpuInstanceGetComputeInstanceById");
	code = GS_NVML(nvml, ComputeInstanceDestroy, compute_handle);
	return code == NVML_SUCCESS ? 0 : FAIL(code, "nvmlComputeInstanceDestroy");
}

int gs_mig_set_mode(const struct gs_nvml *nvml, nvmlDevice_t device, bool enabled, nvmlReturn_t *activation,
		    struct gs_error *err)
{
	nvmlReturn_t code;
	*activation = NVML_SUCCESS;
	code = GS_NVML(nvml, DeviceSetMigMode, device, enabled ? NVML_DEVICE_MIG_ENABLE : NVML_DEVICE_MIG_DISABLE,
		       activation);
	if (code == NVML_ERROR_NO_PERMISSION)
		return gs_fail(err, GS_ERROR_NVML, (int)code,
			       "the MIG mode can only be changed by root: try again with sudo");
	return code == NVML_SUCCESS ? 0 : FAIL(code, "nvmlDeviceSetMigMode");
}
