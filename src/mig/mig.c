#include "mig/mig.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/cleanup.h"

enum { KINDS_MAX = 64, HANDLES_MAX = 64 };

#define FAIL(code, call) gs_nvml_fail(nvml, (code), (call), err)

const char *gs_mig_board_label(const struct gs_mig_board *board, char text[32])
{
	snprintf(text, 32, "GPU %u", board->index);
	return text;
}

/* The profiles of a GPU ---- */

static void set_name(struct gs_mig_profile *profile, const char *name)
{
	snprintf(profile->name, sizeof profile->name, "%s", strncmp(name, "MIG ", 4) == 0 ? name + 4 : name);
}

/* Drivers before the second version of the struct tell no names. They offered nothing but the plain profiles and one
 * with media engines, whose names are slices and gigabytes, rounded to eighths of the GPU. */
static void make_name(struct gs_mig_profile *profile, uint64_t gpu_memory_bytes)
{
	const uint64_t gib = 1ull << 30;
	uint64_t whole = (gpu_memory_bytes + gib - 1) / gib;
	uint64_t eighths = gpu_memory_bytes ? (8 * profile->memory_bytes + gpu_memory_bytes - 1) / gpu_memory_bytes : 8;
	snprintf(profile->name, sizeof profile->name, "%ug.%llugb%s", profile->compute_slices,
		 (unsigned long long)(((eighths < 8 ? eighths : 8) * whole + 4) / 8),
		 profile->kind == NVML_GPU_INSTANCE_PROFILE_1_SLICE_REV1 ||
				 profile->kind == NVML_GPU_INSTANCE_PROFILE_2_SLICE_REV1
			 ? "+me"
			 : "");
}

static nvmlReturn_t read_profile_v3(const struct gs_nvml *nvml, nvmlDevice_t device, struct gs_mig_profile *profile)
{
	/* The third version has the size of the second, and takes its place in the call. */
	union {
		nvmlGpuInstanceProfileInfo_v2_t second;
		nvmlGpuInstanceProfileInfo_v3_t third;
	} info = {.third = {.version = nvmlGpuInstanceProfileInfo_v3}};
	nvmlReturn_t code = GS_NVML(nvml, DeviceGetGpuInstanceProfileInfoV, device, profile->kind, &info.second);
	if (code != NVML_SUCCESS)
		return code;
	profile->id = info.third.id;
	profile->compute_slices = info.third.sliceCount;
	profile->max_count = info.third.instanceCount;
	profile->multiprocessors = info.third.multiprocessorCount;
	profile->engines[GS_MIG_COPY] = info.third.copyEngineCount;
	profile->engines[GS_MIG_DECODER] = info.third.decoderCount;
	profile->engines[GS_MIG_ENCODER] = info.third.encoderCount;
	profile->engines[GS_MIG_JPEG] = info.third.jpegCount;
	profile->engines[GS_MIG_OFA] = info.third.ofaCount;
	profile->memory_bytes = info.third.memorySizeMB << 20;
	profile->graphics = info.third.capabilities & NVML_GPU_INSTANCE_PROFILE_CAPS_GFX;
	info.third.name[sizeof info.third.name - 1] = '\0';
	set_name(profile, info.third.name);
	return NVML_SUCCESS;
}

static nvmlReturn_t read_profile_v2(const struct gs_nvml *nvml, nvmlDevice_t device, struct gs_mig_profile *profile)
{
	nvmlGpuInstanceProfileInfo_v2_t info = {.version = nvmlGpuInstanceProfileInfo_v2};
	nvmlReturn_t code = GS_NVML(nvml, DeviceGetGpuInstanceProfileInfoV, device, profile->kind, &info);
	if (code != NVML_SUCCESS)
		return code;
	info.name[sizeof info.name - 1] = '\0';
	set_name(profile, info.name);
	return NVML_SUCCESS;
}

/* The first version, and the name of a later one where the driver has it. */
static nvmlReturn_t read_profile_v1(const struct gs_nvml *nvml, nvmlDevice_t device, struct gs_mig_profile *profile)
{
	nvmlGpuInstanceProfileInfo_t info = {0};
	nvmlMemory_t memory = {0};
	nvmlReturn_t code = GS_NVML(nvml, DeviceGetGpuInstanceProfileInfo, device, profile->kind, &info);
	if (code != NVML_SUCCESS)
		return code;
	profile->id = info.id;
	profile->compute_slices = info.sliceCount;
	profile->max_count = info.instanceCount;
	profile->multiprocessors = info.multiprocessorCount;
	profile->engines[GS_MIG_COPY] = info.copyEngineCount;
	profile->engines[GS_MIG_DECODER] = info.decoderCount;
	profile->engines[GS_MIG_ENCODER] = info.encoderCount;
	profile->engines[GS_MIG_JPEG] = info.jpegCount;
	profile->engines[GS_MIG_OFA] = info.ofaCount;
	profile->memory_bytes = info.memorySizeMB << 20;
	if (read_profile_v2(nvml, device, profile) == NVML_SUCCESS)
		return NVML_SUCCESS;
	(void)GS_NVML(nvml, DeviceGetMemoryInfo, device, &memory);
	make_name(profile, memory.total);
	return NVML_SUCCESS;
}

static int read_placements(const struct gs_nvml *nvml, nvmlDevice_t device, struct gs_mig_profile *profile,
			   struct gs_error *err)
{
	static const char call[] = "nvmlDeviceGetGpuInstancePossiblePlacements";
	nvmlGpuInstancePlacement_t places[HANDLES_MAX];
	uint32_t count = 0;
	nvmlReturn_t code = GS_NVML(nvml, DeviceGetGpuInstancePossiblePlacements, device, profile->id, NULL, &count);
	if (code == NVML_SUCCESS && count > HANDLES_MAX)
		code = NVML_ERROR_INSUFFICIENT_SIZE;
	if (code == NVML_SUCCESS)
		code = GS_NVML(nvml, DeviceGetGpuInstancePossiblePlacements, device, profile->id, places, &count);
	if (code != NVML_SUCCESS)
		return FAIL(code, call);
	if (count > GS_MIG_SLICES_MAX)
		return gs_fail(err, GS_ERROR_NVML, 0, "%s: %u places for profile %u; at most %d are known of", call,
			       count, profile->id, GS_MIG_SLICES_MAX);
	for (uint32_t i = 0; i < count; i++) {
		if (places[i].start >= GS_MIG_SLICES_MAX || places[i].size > GS_MIG_SLICES_MAX)
			return gs_fail(err, GS_ERROR_NVML, 0, "%s: profile %u at %u:%u, which is beyond every GPU",
				       call, profile->id, places[i].start, places[i].size);
		profile->placements[i] = (struct gs_mig_placement){(uint8_t)places[i].start, (uint8_t)places[i].size};
	}
	profile->placement_count = (uint8_t)count;
	return 0;
}

/* 1: the driver does not tell, which those do that want MIG on first. */
static int read_profiles(const struct gs_nvml *nvml, nvmlDevice_t device, struct gs_mig_gpu *gpu, struct gs_error *err)
{
	*gpu = (struct gs_mig_gpu){0};
	for (uint32_t kind = 0; kind < KINDS_MAX; kind++) {
		struct gs_mig_profile profile = {.kind = kind};
		nvmlReturn_t code = read_profile_v3(nvml, device, &profile);
		if (code == NVML_ERROR_ARGUMENT_VERSION_MISMATCH || code == NVML_ERROR_FUNCTION_NOT_FOUND)
			code = read_profile_v1(nvml, device, &profile);
		/* NOT_SUPPORTED: this model has no such profile. INVALID_ARGUMENT: this driver knows no more kinds. */
		if (code == NVML_ERROR_INVALID_ARGUMENT)
			break;
		if (code == NVML_ERROR_NOT_SUPPORTED || (code == NVML_SUCCESS && profile.max_count == 0))
			continue;
		if (code != NVML_SUCCESS)
			return FAIL(code, "nvmlDeviceGetGpuInstanceProfileInfo");
		if (gpu->profile_count == GS_MIG_PROFILES_MAX || profile.max_count > HANDLES_MAX)
			return gs_fail(err, GS_ERROR_NVML, 0, "the driver lists more MIG profiles than a GPU can have");
		if (read_placements(nvml, device, &profile, err) < 0)
			return -1;
		if (profile.placement_count)
			gpu->profiles[gpu->profile_count++] = profile;
	}
	if (gpu->profile_count == 0)
		return 1;
	return gs_mig_gpu_complete(gpu, err);
}

/* How it is divided
 * ---- */

static int read_computes(const struct gs_nvml *nvml, nvmlGpuInstance_t handle, struct gs_mig_instance *instance,
			 struct gs_error *err)
{
	for (uint32_t kind = 0; kind < NVML_COMPUTE_INSTANCE_PROFILE_COUNT; kind++) {
		nvmlComputeInstanceProfileInfo_t profile = {0};
		nvmlComputeInstance_t handles[HANDLES_MAX];
		uint32_t count = 0;
		nvmlReturn_t code = GS_NVML(nvml, GpuInstanceGetComputeInstanceProfileInfo, handle, kind,
					    NVML_COMPUTE_INSTANCE_ENGINE_PROFILE_SHARED, &profile);
		if (code == NVML_ERROR_NOT_SUPPORTED || code == NVML_ERROR_INVALID_ARGUMENT)
			continue;
		if (code != NVML_SUCCESS)
			return FAIL(code, "nvmlGpuInstanceGetComputeInstanceProfileInfo");
		if (profile.instanceCount > HANDLES_MAX)
			return gs_fail(err, GS_ERROR_NVML, 0,
				       "the driver says that %u compute instances fit in one instance",
				       profile.instanceCount);
		code = GS_NVML(nvml, GpuInstanceGetComputeInstances, handle, profile.id, handles, &count);
		if (code != NVML_SUCCESS)
			return FAIL(code, "nvmlGpuInstanceGetComputeInstances");
		for (uint32_t i = 0; i < count && i < HANDLES_MAX; i++) {
			nvmlComputeInstanceInfo_t info = {0};
			code = GS_NVML(nvml, ComputeInstanceGetInfo_v2, handles[i], &info);
			if (code != NVML_SUCCESS)
				return FAIL(code, "nvmlComputeInstanceGetInfo_v2");
			if (instance->compute_count == GS_MIG_COMPUTE_MAX ||
			    info.placement.start >= GS_MIG_SLICES_MAX || profile.sliceCount > GS_MIG_SLICES_MAX)
				return gs_fail(err, GS_ERROR_NVML, 0,
					       "GPU instance %u has more compute instances than there can be",
					       instance->id);
			instance->compute[instance->compute_count++] =
				(struct gs_mig_compute){.id = info.id,
							.start = (uint8_t)info.placement.start,
							.slices = (uint8_t)profile.sliceCount};
		}
	}
	return 0;
}

static int add_instance(const struct gs_nvml *nvml, nvmlGpuInstance_t handle, struct gs_mig_board *board,
			struct gs_error *err)
{
	nvmlGpuInstanceInfo_t info = {0};
	nvmlReturn_t code = GS_NVML(nvml, GpuInstanceGetInfo, handle, &info);
	if (code != NVML_SUCCESS)
		return FAIL(code, "nvmlGpuInstanceGetInfo");
	if (board->layout.count == GS_MIG_INSTANCES_MAX || info.placement.start >= GS_MIG_SLICES_MAX ||
	    !info.placement.size || info.placement.size > GS_MIG_SLICES_MAX)
		return gs_fail(err, GS_ERROR_NVML, 0, "more GPU instances than there can be");
	struct gs_mig_instance *instance = &board->layout.instances[board->layout.count];
	int profile = gs_mig_profile_by_id(&board->gpu, info.profileId);
	*instance = (struct gs_mig_instance){
		.id = info.id,
		.profile = profile < 0 ? GS_MIG_UNKNOWN : (uint8_t)profile,
		.place = {(uint8_t)info.placement.start, (uint8_t)info.placement.size},
	};
	board->profile_ids[board->layout.count++] = info.profileId;
	return read_computes(nvml, handle, instance, err);
}

static struct gs_mig_instance *find_instance(struct gs_mig_board *board, uint32_t id)
{
	for (size_t i = 0; i < board->layout.count; i++)
		if (board->layout.instances[i].id == id)
			return &board->layout.instances[i];
	return NULL;
}

/* NVML lists instances by profile; one of a profile that we were not told of shows as a MIG device. `uuids`: notes their
 * UUIDs on the way. */
static int read_devices(const struct gs_nvml *nvml, nvmlDevice_t device, bool uuids, struct gs_mig_board *board,
			struct gs_error *err)
{
	uint32_t count = 0;
	nvmlReturn_t code = GS_NVML(nvml, DeviceGetMaxMigDeviceCount, device, &count);
	if (code != NVML_SUCCESS)
		return FAIL(code, "nvmlDeviceGetMaxMigDeviceCount");
	for (uint32_t i = 0; i < count && i < GS_MIG_INSTANCES_MAX * GS_MIG_COMPUTE_MAX; i++) {
		nvmlDevice_t mig;
		nvmlGpuInstance_t handle;
		uint32_t gi, ci;
		code = GS_NVML(nvml, DeviceGetMigDeviceHandleByIndex, device, i, &mig);
		if (code == NVML_ERROR_NOT_FOUND || code == NVML_ERROR_INVALID_ARGUMENT)
			continue; /* none at this index */
		if (code != NVML_SUCCESS)
			return FAIL(code, "nvmlDeviceGetMigDeviceHandleByIndex");
		if ((code = GS_NVML(nvml, DeviceGetGpuInstanceId, mig, &gi)) != NVML_SUCCESS)
			return FAIL(code, "nvmlDeviceGetGpuInstanceId");
		if ((code = GS_NVML(nvml, DeviceGetComputeInstanceId, mig, &ci)) != NVML_SUCCESS)
			return FAIL(code, "nvmlDeviceGetComputeInstanceId");
		if (!find_instance(board, gi)) {
			if ((code = GS_NVML(nvml, DeviceGetGpuInstanceById, device, gi, &handle)) != NVML_SUCCESS)
				return FAIL(code, "nvmlDeviceGetGpuInstanceById");
			if (add_instance(nvml, handle, board, err) < 0)
				return -1;
		}
		struct gs_mig_instance *instance = find_instance(board, gi);
		for (size_t k = 0; uuids && instance && k < instance->compute_count; k++) {
			char *uuid = board->uuids[instance - board->layout.instances][k];
			if (instance->compute[k].id != ci)
				continue;
			if ((code = GS_NVML(nvml, DeviceGetUUID, mig, uuid, GS_UUID_SIZE)) != NVML_SUCCESS)
				return FAIL(code, "nvmlDeviceGetUUID of a MIG device");
			uuid[GS_UUID_SIZE - 1] = '\0';
		}
	}
	return 0;
}

static int read_mode(const struct gs_nvml *nvml, nvmlDevice_t device, struct gs_mig_board *board, struct gs_error *err)
{
	uint32_t current = 0, pending = 0;
	nvmlReturn_t code = GS_NVML(nvml, DeviceGetMigMode, device, &current, &pending);
	board->capable = code == NVML_SUCCESS;
	if (code != NVML_SUCCESS && code != NVML_ERROR_NOT_SUPPORTED && code != NVML_ERROR_FUNCTION_NOT_FOUND)
		return FAIL(code, "nvmlDeviceGetMigMode");
	board->enabled = current == NVML_DEVICE_MIG_ENABLE;
	board->pending = pending == NVML_DEVICE_MIG_ENABLE;
	return 0;
}

static int compare_instances(const void *a, const void *b)
{
	const struct gs_mig_instance *x = a, *y = b;
	return (x->place.start > y->place.start) - (x->place.start < y->place.start);
}

/* By place, as pictures have them and as two readings can be compared. */
static void sort_layout(struct gs_mig_board *board)
{
	static char no_uuids[GS_MIG_COMPUTE_MAX][GS_UUID_SIZE];
	const struct gs_mig_layout before = board->layout;
	uint32_t ids[GS_MIG_INSTANCES_MAX];
	char uuids[GS_MIG_INSTANCES_MAX][GS_MIG_COMPUTE_MAX][GS_UUID_SIZE];
	memcpy(ids, board->profile_ids, sizeof ids);
	memcpy(uuids, board->uuids, sizeof uuids);
	qsort(board->layout.instances, board->layout.count, sizeof board->layout.instances[0], compare_instances);
	for (size_t i = 0; i < GS_MIG_INSTANCES_MAX; i++) {
		size_t from = 0;
		while (from < before.count &&
		       (i >= before.count || before.instances[from].id != board->layout.instances[i].id))
			from++;
		memcpy(board->uuids[i], from < before.count ? &uuids[from] : &no_uuids, sizeof board->uuids[i]);
		board->profile_ids[i] = from < before.count ? ids[from] : 0;
	}
}

static int try_read_layout(const struct gs_nvml *nvml, nvmlDevice_t device, bool uuids, struct gs_mig_board *board,
			   struct gs_error *err)
{
	board->layout = (struct gs_mig_layout){0};
	memset(board->uuids, 0, sizeof board->uuids);
	if (read_mode(nvml, device, board, err) < 0)
		return -1;
	for (size_t i = 0; board->enabled && i < board->gpu.profile_count; i++) {
		nvmlGpuInstance_t handles[HANDLES_MAX];
		uint32_t count = 0;
		nvmlReturn_t code =
			GS_NVML(nvml, DeviceGetGpuInstances, device, board->gpu.profiles[i].id, handles, &count);
		if (code == NVML_ERROR_NO_PERMISSION)
			return gs_fail(err, GS_ERROR_NVML, (int)code,
				       "MIG instances can only be listed and changed by root: try again with sudo");
		if (code != NVML_SUCCESS)
			return FAIL(code, "nvmlDeviceGetGpuInstances");
		for (uint32_t k = 0; k < count && k < HANDLES_MAX; k++)
			if (add_instance(nvml, handles[k], board, err) < 0)
				return -1;
	}
	if (board->enabled && read_devices(nvml, device, uuids, board, err) < 0)
		return -1;
	sort_layout(board);
	return 0;
}

/* Another process may destroy an instance between two calls about it. NVML then refuses the second. */
static int read_layout(const struct gs_nvml *nvml, nvmlDevice_t device, bool uuids, struct gs_mig_board *board,
		       struct gs_error *err)
{
	struct gs_error why;
	for (int tries = 0; tries < 3; tries++) {
		if (try_read_layout(nvml, device, uuids, board, &why) == 0)
			return 0;
		if (why.code != NVML_ERROR_NOT_FOUND && why.code != NVML_ERROR_INVALID_ARGUMENT)
			break;
	}
	return gs_fail(err, why.source, why.code, "%s", why.text);
}

int gs_mig_read_layout(const struct gs_nvml *nvml, nvmlDevice_t device, struct gs_mig_board *board,
		       struct gs_error *err)
{
	return read_layout(nvml, device, false, board, err);
}

static bool same_instance(const struct gs_mig_instance *a, const struct gs_mig_instance *b)
{
	if (a->id != b->id || a->profile != b->profile || a->place.start != b->place.start ||
	    a->place.size != b->place.size || a->compute_count != b->compute_count)
		return false;
	for (size_t i = 0; i < a->compute_count; i++)
		if (a->compute[i].id != b->compute[i].id || a->compute[i].start != b->compute[i].start ||
		    a->compute[i].slices != b->compute[i].slices)
			return false;
	return true;
}

bool gs_mig_same_layout(const struct gs_mig_board *a, const struct gs_mig_board *b)
{
	if (a->enabled != b->enabled || a->pending != b->pending || a->layout.count != b->layout.count)
		return false;
	for (size_t i = 0; i < a->layout.count; i++)
		if (!same_instance(&a->layout.instances[i], &b->layout.instances[i]))
			return false;
	return true;
}

/* All of a GPU
 * ---- */

static int read_identity(const struct gs_nvml *nvml, nvmlDevice_t device, struct gs_mig_board *board,
			 struct gs_error *err)
{
	nvmlPciInfo_t pci = {0};
	int minor = 0;
	nvmlReturn_t code = GS_NVML(nvml, DeviceGetUUID, device, board->uuid, sizeof board->uuid);
	if (code != NVML_SUCCESS)
		return FAIL(code, "nvmlDeviceGetUUID");
	if ((code = GS_NVML(nvml, DeviceGetName, device, board->name, sizeof board->name)) != NVML_SUCCESS)
		return FAIL(code, "nvmlDeviceGetName");
	if ((code = GS_NVML(nvml, DeviceGetPciInfo, device, &pci)) != NVML_SUCCESS)
		return FAIL(code, "nvmlDeviceGetPciInfo");
	snprintf(board->pci_bus_id, sizeof board->pci_bus_id, "%.*s", (int)sizeof pci.busId - 1, pci.busId);
	board->pci_device = pci.pciDeviceId;
	board->pci_subsystem = pci.pciSubSystemId;
	if (GS_NVML(nvml, DeviceGetCudaComputeCapability, device, &board->compute_major, &minor) != NVML_SUCCESS)
		board->compute_major = 0;
	return 0;
}

/* Without its processes. */
static int read_board(const struct gs_nvml *nvml, nvmlDevice_t device, struct gs_mig_board *board, struct gs_error *err)
{
	if (read_identity(nvml, device, board, err) < 0 || read_mode(nvml, device, board, err) < 0)
		return -1;
	if (board->capable) {
		struct gs_error why = {0};
		int result = read_profiles(nvml, device, &board->gpu, &why);
		if (result && board->enabled)
			return gs_fail(err, GS_ERROR_NVML, why.code, "%s",
				       result < 0 ? why.text : "the driver lists no MIG profile of this GPU");
		board->profiles_known = result == 0;
		if (!board->profiles_known)
			board->gpu = (struct gs_mig_gpu){0};
		if (read_layout(nvml, device, true, board, err) < 0)
			return -1;
	}
	return 0;
}

static int read_by_index(const struct gs_nvml *nvml, const char *proc, struct gs_mig_board *board, struct gs_error *err)
{
	nvmlDevice_t device;
	nvmlReturn_t code = GS_NVML(nvml, DeviceGetHandleByIndex, board->index, &device);
	if (code != NVML_SUCCESS)
		return FAIL(code, "nvmlDeviceGetHandleByIndex");
	if (read_board(nvml, device, board, err) < 0)
		return -1;
	gs_mig_read_processes(nvml, proc, device, board);
	return 0;
}

int gs_mig_read_one(const struct gs_nvml *nvml, const char *uuid, nvmlDevice_t *device, struct gs_mig_board *board,
		    struct gs_error *err)
{
	*board = (struct gs_mig_board){0};
	nvmlReturn_t code = GS_NVML(nvml, DeviceGetHandleByUUID, uuid, device);
	if (code != NVML_SUCCESS)
		return FAIL(code, "nvmlDeviceGetHandleByUUID");
	return read_board(nvml, *device, board, err);
}

int gs_mig_read(const struct gs_nvml *nvml, const char *proc, struct gs_mig_boards *boards, struct gs_error *err)
{
	uint32_t count = 0;
	*boards = (struct gs_mig_boards){0};
	nvmlReturn_t code = GS_NVML(nvml, DeviceGetCount, &count);
	if (code != NVML_SUCCESS)
		return FAIL(code, "nvmlDeviceGetCount");
	boards->count = count < GS_GPUS_MAX ? count : GS_GPUS_MAX;
	boards->items = gs_calloc(boards->count + 1, sizeof *boards->items);
	for (size_t i = 0; i < boards->count; i++) {
		struct gs_mig_board *board = &boards->items[i];
		struct gs_error why;
		board->index = (unsigned)i;
		if (read_by_index(nvml, proc, board, &why) == 0)
			continue;
		snprintf(board->problem, sizeof board->problem, "%s", why.text);
		board->capable = board->enabled = board->profiles_known = false;
		board->layout = (struct gs_mig_layout){0};
	}
	return 0;
}

void gs_mig_boards_free(struct gs_mig_boards *boards)
{
	for (size_t i = 0; i < boards->count; i++)
		free(boards->items[i].processes);
	free(boards->items);
	*boards = (struct gs_mig_boards){0};
}
