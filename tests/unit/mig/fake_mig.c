#include "fake_mig.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "../core/mig_fixture.h"

struct fake_mig *fake_mig;
struct gs_mig_gpu fake_mig_profiles;

/* Compute profiles of a GPU instance, by kind; sizes as NVML numbers them. */
static const uint8_t compute_sizes[] = {1, 2, 3, 4, 7};

static uint32_t id_of(uint32_t start, uint32_t size)
{
	return size == 8 ? 0 : size == 4 ? 1 + start / 4 : size == 2 ? 3 + start / 2 : 7 + start;
}

void fake_mig_reset(uint32_t count)
{
	if (!fake_mig) {
		fake_mig = mmap(NULL, sizeof *fake_mig, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
		if (fake_mig == MAP_FAILED)
			abort();
		fake_mig_profiles = mig_fixture("A100-80GB");
	}
	*fake_mig = (struct fake_mig){.count = count};
	for (uint32_t i = 0; i < FAKE_MIG_GPUS; i++) {
		struct fake_mig_gpu *gpu = &fake_mig->gpus[i];
		snprintf(gpu->uuid, sizeof gpu->uuid, "GPU-%08x-0000-0000-0000-000000000000", i);
		gpu->enabled = gpu->pending = true;
	}
}

/* Handles are addresses; these find what they are part of. */

static struct fake_mig_gpu *gpu_of(const void *handle)
{
	for (uint32_t i = 0; i < fake_mig->count; i++)
		if ((const char *)handle >= (char *)&fake_mig->gpus[i] &&
		    (const char *)handle < (char *)(&fake_mig->gpus[i] + 1))
			return &fake_mig->gpus[i];
	return NULL;
}

static struct fake_mig_instance *instance_of(const void *handle)
{
	struct fake_mig_gpu *gpu = gpu_of(handle);
	for (uint32_t i = 0; gpu && i < 16; i++)
		if ((const char *)handle >= (char *)&gpu->instances[i] &&
		    (const char *)handle < (char *)(&gpu->instances[i] + 1))
			return &gpu->instances[i];
	return NULL;
}

static const struct gs_mig_profile *profile_of(const struct fake_mig_instance *instance)
{
	return &fake_mig_profiles.profiles[instance->profile];
}

static int find_profile(uint32_t id)
{
	return gs_mig_profile_by_id(&fake_mig_profiles, id);
}

static nvmlReturn_t enter(void)
{
	uint32_t call = ++fake_mig->calls;
	if (fake_mig->hook_call == call)
		fake_mig->hook();
	if (fake_mig->kill_call == call)
		raise(SIGKILL);
	if (fake_mig->fail_call && (fake_mig->fail_on ? call >= fake_mig->fail_call : call == fake_mig->fail_call))
		return fake_mig->fail_code;
	return NVML_SUCCESS;
}

#define ENTER()                               \
	do {                                  \
		nvmlReturn_t fault = enter(); \
		if (fault != NVML_SUCCESS)    \
			return fault;         \
	} while (0)

static const char *ErrorString(nvmlReturn_t code)
{
	return code == NVML_ERROR_IN_USE ? "In use by another client" : "some error";
}

static nvmlReturn_t DeviceGetCount(uint32_t *count)
{
	ENTER();
	*count = fake_mig->count;
	return NVML_SUCCESS;
}

static nvmlReturn_t DeviceGetHandleByIndex(uint32_t index, nvmlDevice_t *device)
{
	ENTER();
	*device = (nvmlDevice_t)(void *)&fake_mig->gpus[index];
	return NVML_SUCCESS;
}

static nvmlReturn_t DeviceGetHandleByUUID(const char *uuid, nvmlDevice_t *device)
{
	ENTER();
	for (uint32_t i = 0; i < fake_mig->count; i++) {
		*device = (nvmlDevice_t)(void *)&fake_mig->gpus[i];
		if (strcmp(uuid, fake_mig->gpus[i].uuid) == 0)
			return NVML_SUCCESS;
	}
	return NVML_ERROR_NOT_FOUND;
}

static nvmlReturn_t DeviceGetName(nvmlDevice_t device, char *name, uint32_t length)
{
	ENTER();
	snprintf(name, length, "NVIDIA Fake");
	return NVML_SUCCESS;
}

static nvmlReturn_t DeviceGetUUID(nvmlDevice_t device, char *uuid, uint32_t length)
{
	ENTER();
	const struct fake_mig_gpu *gpu = gpu_of(device);
	const struct fake_mig_instance *instance = instance_of(device);
	if (instance) /* the same for the same place, as real ones are */
		snprintf(uuid, length, "MIG-%d-%d-%d", (int)(gpu - fake_mig->gpus), (int)(instance - gpu->instances),
			 (int)((const struct fake_mig_compute *)(const void *)device - instance->computes));
	else
		snprintf(uuid, length, "%s", gpu->uuid);
	return NVML_SUCCESS;
}

static nvmlReturn_t DeviceGetPciInfo(nvmlDevice_t device, nvmlPciInfo_t *pci)
{
	ENTER();
	*pci = (nvmlPciInfo_t){.pciDeviceId = 0x20B210DE};
	snprintf(pci->busId, sizeof pci->busId, "00000000:%02X:00.0", 16 + (int)(gpu_of(device) - fake_mig->gpus));
	return NVML_SUCCESS;
}

static nvmlReturn_t DeviceGetCudaComputeCapability(nvmlDevice_t device, int *major, int *minor)
{
	ENTER();
	*major = 8;
	*minor = 0;
	return NVML_SUCCESS;
}

static nvmlReturn_t DeviceGetMemoryInfo(nvmlDevice_t device, nvmlMemory_t *memory)
{
	ENTER();
	memory->total = 80ull << 30;
	return NVML_SUCCESS;
}

static nvmlReturn_t DeviceGetMigMode(nvmlDevice_t device, uint32_t *current, uint32_t *pending)
{
	ENTER();
	*current = gpu_of(device)->enabled;
	*pending = gpu_of(device)->pending;
	return NVML_SUCCESS;
}

static nvmlReturn_t DeviceSetMigMode(nvmlDevice_t device, uint32_t mode, nvmlReturn_t *activation)
{
	ENTER();
	struct fake_mig_gpu *gpu = gpu_of(device);
	*activation = NVML_SUCCESS;
	for (int i = 0; !mode && i < 16; i++)
		if (gpu->instances[i].serial)
			return NVML_ERROR_IN_USE;
	gpu->pending = mode;
	if (mode == gpu->enabled)
		return NVML_SUCCESS;
	*activation = gpu->client ? NVML_ERROR_IN_USE : gpu->needs_reset ? NVML_ERROR_RESET_REQUIRED : NVML_SUCCESS;
	if (*activation == NVML_SUCCESS)
		gpu->enabled = mode;
	return NVML_SUCCESS;
}

static nvmlReturn_t fill_info(nvmlDevice_t device, uint32_t kind, nvmlGpuInstanceProfileInfo_v2_t *info)
{
	if (fake_mig->old_driver && !gpu_of(device)->enabled)
		return NVML_ERROR_NOT_SUPPORTED;
	for (size_t i = 0; i < fake_mig_profiles.profile_count; i++) {
		const struct gs_mig_profile *profile = &fake_mig_profiles.profiles[i];
		if (profile->kind != kind || (fake_mig->hidden_profile && profile->id == fake_mig->hidden_profile))
			continue;
		*info = (nvmlGpuInstanceProfileInfo_v2_t){
			.version = info->version,
			.id = profile->id,
			.sliceCount = profile->compute_slices,
			.instanceCount = profile->max_count,
			.multiprocessorCount = profile->multiprocessors,
			.copyEngineCount = profile->engines[GS_MIG_COPY],
			.decoderCount = profile->engines[GS_MIG_DECODER],
			.encoderCount = profile->engines[GS_MIG_ENCODER],
			.jpegCount = profile->engines[GS_MIG_JPEG],
			.ofaCount = profile->engines[GS_MIG_OFA],
			.memorySizeMB = profile->memory_bytes >> 20,
		};
		snprintf(info->name, sizeof info->name, "MIG %s", profile->name);
		return NVML_SUCCESS;
	}
	return kind < NVML_GPU_INSTANCE_PROFILE_COUNT ? NVML_ERROR_NOT_SUPPORTED : NVML_ERROR_INVALID_ARGUMENT;
}

static nvmlReturn_t DeviceGetGpuInstanceProfileInfoV(nvmlDevice_t device, uint32_t kind,
						     nvmlGpuInstanceProfileInfo_v2_t *info)
{
	ENTER();
	if (info->version != nvmlGpuInstanceProfileInfo_v2)
		return NVML_ERROR_ARGUMENT_VERSION_MISMATCH;
	return fill_info(device, kind, info);
}

static nvmlReturn_t DeviceGetGpuInstanceProfileInfo(nvmlDevice_t device, uint32_t kind,
						    nvmlGpuInstanceProfileInfo_t *info)
{
	ENTER();
	nvmlGpuInstanceProfileInfo_v2_t second = {0};
	nvmlReturn_t code = fill_info(device, kind, &second);
	*info = (nvmlGpuInstanceProfileInfo_t){second.id,
					       0,
					       second.sliceCount,
					       second.instanceCount,
					       second.multiprocessorCount,
					       second.copyEngineCount,
					       second.decoderCount,
					       second.encoderCount,
					       second.jpegCount,
					       second.ofaCount,
					       second.memorySizeMB};
	return code;
}

static nvmlReturn_t DeviceGetGpuInstancePossiblePlacements(nvmlDevice_t device, uint32_t id,
							   nvmlGpuInstancePlacement_t *places, uint32_t *count)
{
	ENTER();
	const struct gs_mig_profile *profile = &fake_mig_profiles.profiles[find_profile(id)];
	*count = profile->placement_count;
	for (uint32_t i = 0; places && i < *count; i++)
		places[i] = (nvmlGpuInstancePlacement_t){profile->placements[i].start, profile->placements[i].size};
	return NVML_SUCCESS;
}

static uint32_t taken(const struct fake_mig_gpu *gpu)
{
	uint32_t mask = 0;
	for (int i = 0; i < 16; i++)
		if (gpu->instances[i].serial)
			mask |= ((1u << profile_of(&gpu->instances[i])->placements[0].size) - 1)
				<< gpu->instances[i].start;
	return mask;
}

static nvmlReturn_t DeviceCreateGpuInstanceWithPlacement(nvmlDevice_t device, uint32_t id,
							 const nvmlGpuInstancePlacement_t *place,
							 nvmlGpuInstance_t *made)
{
	ENTER();
	struct fake_mig_gpu *gpu = gpu_of(device);
	int position = find_profile(id);
	uint32_t size = position < 0 ? 0 : fake_mig_profiles.profiles[position].placements[0].size;
	if (!gpu->enabled)
		return NVML_ERROR_NOT_SUPPORTED;
	if (!size)
		return NVML_ERROR_INVALID_ARGUMENT;
	if (taken(gpu) & ((1u << size) - 1) << place->start)
		return NVML_ERROR_INSUFFICIENT_RESOURCES;
	struct fake_mig_instance *instance = &gpu->instances[id_of(place->start, size)];
	*instance = (struct fake_mig_instance){
		.serial = ++fake_mig->serials, .profile = (uint32_t)position, .start = place->start};
	fake_mig->creates++;
	*made = (nvmlGpuInstance_t)(void *)instance;
	return NVML_SUCCESS;
}

static nvmlReturn_t GpuInstanceDestroy(nvmlGpuInstance_t handle)
{
	ENTER();
	struct fake_mig_instance *instance = instance_of(handle);
	for (int i = 0; i < GS_MIG_COMPUTE_MAX; i++)
		if (instance->computes[i].serial)
			return NVML_ERROR_IN_USE;
	*instance = (struct fake_mig_instance){0};
	fake_mig->destroys++;
	return NVML_SUCCESS;
}

static nvmlReturn_t DeviceGetGpuInstances(nvmlDevice_t device, uint32_t id, nvmlGpuInstance_t *list, uint32_t *count)
{
	ENTER();
	struct fake_mig_gpu *gpu = gpu_of(device);
	*count = 0;
	for (int i = 0; i < 16; i++)
		if (gpu->instances[i].serial && profile_of(&gpu->instances[i])->id == id)
			list[(*count)++] = (nvmlGpuInstance_t)(void *)&gpu->instances[i];
	return NVML_SUCCESS;
}

static nvmlReturn_t DeviceGetGpuInstanceById(nvmlDevice_t device, uint32_t id, nvmlGpuInstance_t *handle)
{
	ENTER();
	struct fake_mig_gpu *gpu = gpu_of(device);
	if (id >= 16 || !gpu->instances[id].serial)
		return NVML_ERROR_NOT_FOUND;
	*handle = (nvmlGpuInstance_t)(void *)&gpu->instances[id];
	return NVML_SUCCESS;
}

static nvmlReturn_t GpuInstanceGetInfo(nvmlGpuInstance_t handle, nvmlGpuInstanceInfo_t *info)
{
	ENTER();
	const struct fake_mig_instance *instance = instance_of(handle);
	if (!instance->serial)
		return NVML_ERROR_INVALID_ARGUMENT;
	*info = (nvmlGpuInstanceInfo_t){.id = (uint32_t)(instance - gpu_of(handle)->instances),
					.profileId = profile_of(instance)->id,
					.placement = {instance->start, profile_of(instance)->placements[0].size}};
	return NVML_SUCCESS;
}

static bool has_compute_kind(const struct fake_mig_instance *instance, uint32_t kind)
{
	uint32_t slices = profile_of(instance)->compute_slices;
	uint8_t start;
	return kind < sizeof compute_sizes && gs_mig_compute_arrange(slices, 0, &compute_sizes[kind], 1, &start);
}

static nvmlReturn_t GpuInstanceGetComputeInstanceProfileInfo(nvmlGpuInstance_t handle, uint32_t kind, uint32_t engine,
							     nvmlComputeInstanceProfileInfo_t *info)
{
	ENTER();
	const struct fake_mig_instance *instance = instance_of(handle);
	if (!instance->serial)
		return NVML_ERROR_INVALID_ARGUMENT;
	if (!has_compute_kind(instance, kind))
		return NVML_ERROR_NOT_SUPPORTED;
	*info = (nvmlComputeInstanceProfileInfo_t){.id = kind,
						   .sliceCount = compute_sizes[kind],
						   .instanceCount =
							   profile_of(instance)->compute_slices / compute_sizes[kind]};
	return NVML_SUCCESS;
}

static uint32_t compute_mask(uint32_t start, uint32_t size)
{
	return ((1u << size) - 1) << start;
}

static nvmlReturn_t create_compute(struct fake_mig_instance *instance, uint32_t kind, uint32_t start)
{
	uint32_t used = 0, size = compute_sizes[kind];
	for (int i = 0; i < GS_MIG_COMPUTE_MAX; i++)
		if (instance->computes[i].serial)
			used |= compute_mask(instance->computes[i].start, instance->computes[i].size);
	if (start + size > profile_of(instance)->compute_slices || (used & compute_mask(start, size)))
		return NVML_ERROR_INSUFFICIENT_RESOURCES;
	int id = 0;
	while (instance->computes[id].serial)
		id++;
	instance->computes[id] =
		(struct fake_mig_compute){.serial = ++fake_mig->serials, .kind = kind, .start = start, .size = size};
	return NVML_SUCCESS;
}

static nvmlReturn_t GpuInstanceCreateComputeInstance(nvmlGpuInstance_t handle, uint32_t kind,
						     nvmlComputeInstance_t *made)
{
	ENTER();
	nvmlReturn_t code = NVML_ERROR_INSUFFICIENT_RESOURCES;
	for (uint32_t start = 0; start < 8 && code != NVML_SUCCESS; start++)
		code = create_compute(instance_of(handle), kind, start);
	return code;
}

static nvmlReturn_t GpuInstanceCreateComputeInstanceWithPlacement(nvmlGpuInstance_t handle, uint32_t kind,
								  const nvmlComputeInstancePlacement_t *place,
								  nvmlComputeInstance_t *made)
{
	ENTER();
	return create_compute(instance_of(handle), kind, place->start);
}

static nvmlReturn_t ComputeInstanceDestroy(nvmlComputeInstance_t handle)
{
	ENTER();
	struct fake_mig_compute *compute = (struct fake_mig_compute *)(void *)handle;
	if (compute->pid)
		return NVML_ERROR_IN_USE;
	*compute = (struct fake_mig_compute){0};
	return NVML_SUCCESS;
}

static nvmlReturn_t GpuInstanceGetComputeInstances(nvmlGpuInstance_t handle, uint32_t kind, nvmlComputeInstance_t *list,
						   uint32_t *count)
{
	ENTER();
	struct fake_mig_instance *instance = instance_of(handle);
	*count = 0;
	for (int i = 0; i < GS_MIG_COMPUTE_MAX; i++)
		if (instance->computes[i].serial && instance->computes[i].kind == kind)
			list[(*count)++] = (nvmlComputeInstance_t)(void *)&instance->computes[i];
	return NVML_SUCCESS;
}

static nvmlReturn_t GpuInstanceGetComputeInstanceById(nvmlGpuInstance_t handle, uint32_t id,
						      nvmlComputeInstance_t *compute)
{
	ENTER();
	struct fake_mig_instance *instance = instance_of(handle);
	if (id >= GS_MIG_COMPUTE_MAX || !instance->computes[id].serial)
		return NVML_ERROR_NOT_FOUND;
	*compute = (nvmlComputeInstance_t)(void *)&instance->computes[id];
	return NVML_SUCCESS;
}

static nvmlReturn_t ComputeInstanceGetInfo_v2(nvmlComputeInstance_t handle, nvmlComputeInstanceInfo_t *info)
{
	ENTER();
	const struct fake_mig_compute *compute = (const struct fake_mig_compute *)(const void *)handle;
	if (!compute->serial)
		return NVML_ERROR_INVALID_ARGUMENT;
	*info = (nvmlComputeInstanceInfo_t){.id = (uint32_t)(compute - instance_of(handle)->computes),
					    .profileId = compute->kind,
					    .placement = {compute->start, compute->size}};
	return NVML_SUCCESS;
}

static nvmlReturn_t DeviceGetMaxMigDeviceCount(nvmlDevice_t device, uint32_t *count)
{
	ENTER();
	*count = gpu_of(device)->enabled ? 7 : 0;
	return NVML_SUCCESS;
}

static nvmlReturn_t DeviceGetMigDeviceHandleByIndex(nvmlDevice_t device, uint32_t index, nvmlDevice_t *mig)
{
	ENTER();
	struct fake_mig_gpu *gpu = gpu_of(device);
	for (int i = 0; i < 16; i++)
		for (int k = 0; k < GS_MIG_COMPUTE_MAX; k++) {
			if (!gpu->instances[i].serial || !gpu->instances[i].computes[k].serial || index--)
				continue;
			*mig = (nvmlDevice_t)(void *)&gpu->instances[i].computes[k];
			return NVML_SUCCESS;
		}
	return NVML_ERROR_NOT_FOUND;
}

static nvmlReturn_t DeviceGetGpuInstanceId(nvmlDevice_t mig, uint32_t *id)
{
	ENTER();
	*id = (uint32_t)(instance_of(mig) - gpu_of(mig)->instances);
	return NVML_SUCCESS;
}

static nvmlReturn_t DeviceGetComputeInstanceId(nvmlDevice_t mig, uint32_t *id)
{
	ENTER();
	*id = (uint32_t)((struct fake_mig_compute *)(void *)mig - instance_of(mig)->computes);
	return NVML_SUCCESS;
}

static void add_process(nvmlProcessInfo_t *list, uint32_t room, uint32_t *count, int pid, uint32_t gi, uint32_t ci)
{
	if (list && *count < room)
		list[*count] = (nvmlProcessInfo_t){.pid = (uint32_t)pid, .gpuInstanceId = gi, .computeInstanceId = ci};
	++*count;
}

static nvmlReturn_t DeviceGetComputeRunningProcesses(nvmlDevice_t device, uint32_t *count, nvmlProcessInfo_t *list)
{
	ENTER();
	const struct fake_mig_gpu *gpu = gpu_of(device);
	uint32_t room = *count;
	*count = 0;
	if (gpu->client)
		add_process(list, room, count, gpu->client, UINT32_MAX, UINT32_MAX);
	for (uint32_t i = 0; i < 16; i++)
		for (uint32_t k = 0; k < GS_MIG_COMPUTE_MAX; k++)
			if (gpu->instances[i].serial && gpu->instances[i].computes[k].pid)
				add_process(list, room, count, gpu->instances[i].computes[k].pid, i, k);
	return *count > room ? NVML_ERROR_INSUFFICIENT_SIZE : NVML_SUCCESS;
}

void fake_mig_table(struct gs_nvml *nvml)
{
#define FILL(name, newest, older) .name = name,
	*nvml = (struct gs_nvml){
		GS_NVML_MIG_CALLS(FILL).ErrorString = ErrorString,
		.DeviceGetCount = DeviceGetCount,
		.DeviceGetHandleByIndex = DeviceGetHandleByIndex,
		.DeviceGetHandleByUUID = DeviceGetHandleByUUID,
		.DeviceGetName = DeviceGetName,
		.DeviceGetUUID = DeviceGetUUID,
		.DeviceGetPciInfo = DeviceGetPciInfo,
		.DeviceGetCudaComputeCapability = DeviceGetCudaComputeCapability,
		.DeviceGetMemoryInfo = DeviceGetMemoryInfo,
		.DeviceGetMigMode = DeviceGetMigMode,
		.DeviceGetMaxMigDeviceCount = DeviceGetMaxMigDeviceCount,
		.DeviceGetMigDeviceHandleByIndex = DeviceGetMigDeviceHandleByIndex,
		.DeviceGetGpuInstanceId = DeviceGetGpuInstanceId,
		.DeviceGetComputeInstanceId = DeviceGetComputeInstanceId,
		.DeviceGetComputeRunningProcesses = DeviceGetComputeRunningProcesses,
	};
#undef FILL
	if (fake_mig->old_driver) {
		nvml->DeviceGetGpuInstanceProfileInfoV = NULL;
		nvml->GpuInstanceCreateComputeInstanceWithPlacement = NULL;
	}
}

struct fake_mig_instance *fake_mig_at(uint32_t gpu, uint32_t start)
{
	for (int i = 0; i < 16; i++)
		if (fake_mig->gpus[gpu].instances[i].serial && fake_mig->gpus[gpu].instances[i].start == start)
			return &fake_mig->gpus[gpu].instances[i];
	return NULL;
}

static void set_one(uint32_t gpu, const char *text)
{
	char name[64] = "";
	unsigned start = 0;
	if (sscanf(text, "%63[^@]@%u", name, &start) != 2)
		abort();
	int position = gs_mig_profile_by_name(&fake_mig_profiles, name);
	uint32_t size = fake_mig_profiles.profiles[position].placements[0].size;
	struct fake_mig_instance *instance = &fake_mig->gpus[gpu].instances[id_of(start, size)];
	*instance = (struct fake_mig_instance){
		.serial = ++fake_mig->serials, .profile = (uint32_t)position, .start = start};
	const char *parts = strchr(text, '(');
	uint32_t whole = fake_mig_profiles.profiles[position].compute_slices;
	for (uint32_t kind = 0; !parts && kind < sizeof compute_sizes; kind++)
		if (compute_sizes[kind] == whole)
			create_compute(instance, kind, 0);
	for (; parts && *parts != ')'; parts = strpbrk(parts + 1, ",)")) {
		unsigned slices, at;
		if (sscanf(parts + 1, "%u@%u", &slices, &at) != 2)
			break; /* "()": none */
		for (uint32_t kind = 0; kind < sizeof compute_sizes; kind++)
			if (compute_sizes[kind] == slices)
				create_compute(instance, kind, at);
	}
}

void fake_mig_set(uint32_t gpu, const char *layout)
{
	char *copy = strdup(layout), *rest = copy;
	memset(fake_mig->gpus[gpu].instances, 0, sizeof fake_mig->gpus[gpu].instances);
	for (char *item; (item = strsep(&rest, " "));)
		if (*item)
			set_one(gpu, item);
	free(copy);
}

const char *fake_mig_text(uint32_t gpu)
{
	static char buffers[4][1024];
	static int next;
	char *text = buffers[next++ % 4];
	size_t length = 0;
	text[0] = '\0';
	if (!fake_mig->gpus[gpu].enabled)
		return strcpy(text, "off");
	for (uint32_t start = 0; start < 8; start++) {
		const struct fake_mig_instance *instance = fake_mig_at(gpu, start);
		if (!instance)
			continue;
		const struct gs_mig_profile *profile = profile_of(instance);
		length += (size_t)sprintf(text + length, "%s%s@%u", length ? " " : "", profile->name, start);
		uint32_t used = 0;
		bool whole = false;
		for (int i = 0; i < GS_MIG_COMPUTE_MAX; i++) {
			whole |= instance->computes[i].size == profile->compute_slices;
			used += instance->computes[i].serial != 0;
		}
		if (whole)
			continue;
		length += (size_t)sprintf(text + length, "(");
		for (uint32_t at = 0; at < 8; at++)
			for (int i = 0; i < GS_MIG_COMPUTE_MAX; i++)
				if (instance->computes[i].serial && instance->computes[i].start == at)
					length += (size_t)sprintf(text + length, "%u@%u%s", instance->computes[i].size,
								  at, --used ? "," : "");
		length += (size_t)sprintf(text + length, ")");
	}
	return text;
}
