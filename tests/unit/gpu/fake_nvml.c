#include "fake_nvml.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

struct fake fake = {.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};

void fake_reset(uint32_t count)
{
	pthread_mutex_lock(&fake.lock);
	memset(fake.gpus, 0, sizeof fake.gpus);
	fake.count = count;
	fake.count_lies = fake.hurry = fake.mig_events = false;
	fake.calls = fake.fail_call = fake.event_count = fake.event_taken = 0;
	fake.sets_made = fake.sets_freed = fake.waits = fake.fail_times = 0;
	fake.fail_name = NULL;
	for (uint32_t i = 0; i < FAKE_GPUS_MAX; i++) {
		struct fake_gpu *gpu = &fake.gpus[i];
		snprintf(gpu->uuid, sizeof gpu->uuid, "GPU-%08x-0000-0000-0000-000000000000", i);
		snprintf(gpu->name, sizeof gpu->name, "NVIDIA Fake %u", i);
		snprintf(gpu->bus_id, sizeof gpu->bus_id, "00000000:%02X:00.0", 0x10 + i);
		gpu->minor = i;
		gpu->numa_node = (int)i / 4;
		gpu->level = NVML_TOPOLOGY_NODE;
		fake.order[i] = gpu;
	}
	pthread_mutex_unlock(&fake.lock);
}

nvmlDevice_t fake_handle(uint32_t gpu)
{
	return (nvmlDevice_t)(void *)&fake.gpus[gpu];
}

/* NULL: the handle is a GPU's. */
static struct fake_mig *mig_of(nvmlDevice_t device)
{
	struct fake_mig *mig = (struct fake_mig *)(void *)device;
	for (int i = 0; i < FAKE_GPUS_MAX; i++)
		if (mig >= fake.gpus[i].migs && mig < fake.gpus[i].migs + FAKE_MIGS_MAX)
			return mig;
	return NULL;
}

static struct fake_gpu *gpu_of(nvmlDevice_t device)
{
	struct fake_mig *mig = mig_of(device);
	for (int i = 0; mig && i < FAKE_GPUS_MAX; i++)
		if (mig >= fake.gpus[i].migs && mig < fake.gpus[i].migs + FAKE_MIGS_MAX)
			return &fake.gpus[i];
	return (struct fake_gpu *)(void *)device;
}

struct fake_mig *fake_add_mig(uint32_t gpu, uint32_t place, uint32_t slices, unsigned generation)
{
	struct fake_mig *mig = &fake.gpus[gpu].migs[place];
	fake.gpus[gpu].mig_enabled = true;
	*mig = (struct fake_mig){.there = true, .gpu_instance = 7 + place};
	snprintf(mig->uuid, sizeof mig->uuid, "MIG-%08x-%04x-%04x-0000-000000000000", gpu, place, generation);
	snprintf(mig->name, sizeof mig->name, "NVIDIA Fake %u MIG %ug.%ugb", gpu, slices, slices * 10);
	mig->attributes = (nvmlDeviceAttributes_t){
		.gpuInstanceSliceCount = slices, .computeInstanceSliceCount = slices, .memorySizeMB = 9728 * slices};
	return mig;
}

static nvmlReturn_t fault(const char *name)
{
	nvmlReturn_t code = NVML_SUCCESS;
	pthread_mutex_lock(&fake.lock);
	fake.calls++;
	if (fake.fail_call && fake.calls == fake.fail_call) {
		code = fake.fail_code;
	} else if (fake.fail_name && strcmp(name, fake.fail_name) == 0) {
		code = fake.fail_code;
		if (fake.fail_times && --fake.fail_times == 0)
			fake.fail_name = NULL;
	}
	pthread_mutex_unlock(&fake.lock);
	return code;
}

#define MAY_FAIL()                                         \
	do {                                               \
		nvmlReturn_t fault_code = fault(__func__); \
		if (fault_code != NVML_SUCCESS)            \
			return fault_code;                 \
	} while (0)
static void hang(const struct fake_gpu *gpu)
{
	while (gpu->hangs)
		nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
}

#define ON_GPU(device)                                        \
	do {                                                  \
		MAY_FAIL();                                   \
		hang(gpu_of(device));                         \
		if (gpu_of(device)->lost)                     \
			return NVML_ERROR_GPU_IS_LOST;        \
		if (mig_of(device) && !mig_of(device)->there) \
			return NVML_ERROR_INVALID_ARGUMENT;   \
	} while (0)

static nvmlReturn_t Init(void)
{
	MAY_FAIL();
	return NVML_SUCCESS;
}

static nvmlReturn_t Shutdown(void)
{
	MAY_FAIL();
	return NVML_SUCCESS;
}

static const char *ErrorString(nvmlReturn_t code)
{
	return code == NVML_ERROR_GPU_IS_LOST ? "GPU is lost" : "some error";
}

static nvmlReturn_t SystemGetDriverVersion(char *version, uint32_t length)
{
	MAY_FAIL();
	snprintf(version, length, "550.1");
	return NVML_SUCCESS;
}

static nvmlReturn_t SystemGetCudaDriverVersion(int *version)
{
	MAY_FAIL();
	*version = 12040;
	return NVML_SUCCESS;
}

static nvmlReturn_t DeviceGetComputeMode(nvmlDevice_t device, nvmlComputeMode_t *mode)
{
	MAY_FAIL();
	*mode = NVML_COMPUTEMODE_DEFAULT;
	return NVML_SUCCESS;
}

static nvmlReturn_t DeviceSetComputeMode(nvmlDevice_t device, nvmlComputeMode_t mode)
{
	MAY_FAIL();
	return NVML_SUCCESS;
}

static nvmlReturn_t DeviceGetCount(uint32_t *count)
{
	MAY_FAIL();
	pthread_mutex_lock(&fake.lock);
	*count = fake.count;
	pthread_mutex_unlock(&fake.lock);
	return NVML_SUCCESS;
}

static nvmlReturn_t DeviceGetHandleByIndex(uint32_t index, nvmlDevice_t *device)
{
	MAY_FAIL();
	pthread_mutex_lock(&fake.lock);
	bool there = index < fake.count;
	if (there)
		*device = (nvmlDevice_t)(void *)fake.order[index];
	pthread_mutex_unlock(&fake.lock);
	return there ? NVML_SUCCESS : NVML_ERROR_INVALID_ARGUMENT;
}

/* Under the lock. NULL: none. */
static void *find_uuid(const char *uuid)
{
	for (uint32_t i = 0; i < fake.count; i++) {
		if (strcmp(fake.order[i]->uuid, uuid) == 0)
			return fake.order[i];
		for (uint32_t j = 0; j < FAKE_MIGS_MAX; j++)
			if (fake.order[i]->migs[j].there && strcmp(fake.order[i]->migs[j].uuid, uuid) == 0)
				return &fake.order[i]->migs[j];
	}
	return NULL;
}

static nvmlReturn_t DeviceGetHandleByUUID(const char *uuid, nvmlDevice_t *device)
{
	MAY_FAIL();
	pthread_mutex_lock(&fake.lock);
	void *found = find_uuid(uuid);
	pthread_mutex_unlock(&fake.lock);
	if (found)
		*device = (nvmlDevice_t)found;
	return found ? NVML_SUCCESS : NVML_ERROR_NOT_FOUND;
}

static nvmlReturn_t DeviceGetIndex(nvmlDevice_t device, uint32_t *index)
{
	ON_GPU(device);
	pthread_mutex_lock(&fake.lock);
	uint32_t count = fake.count;
	*index = 0;
	while (*index < count && fake.order[*index] != gpu_of(device))
		(*index)++;
	pthread_mutex_unlock(&fake.lock);
	return *index < count ? NVML_SUCCESS : NVML_ERROR_NOT_FOUND;
}

static nvmlReturn_t DeviceGetName(nvmlDevice_t device, char *name, uint32_t length)
{
	ON_GPU(device);
	snprintf(name, length, "%s", mig_of(device) ? mig_of(device)->name : gpu_of(device)->name);
	return NVML_SUCCESS;
}

static nvmlReturn_t DeviceGetUUID(nvmlDevice_t device, char *uuid, uint32_t length)
{
	ON_GPU(device);
	snprintf(uuid, length, "%s", mig_of(device) ? mig_of(device)->uuid : gpu_of(device)->uuid);
	return NVML_SUCCESS;
}

static nvmlReturn_t DeviceGetMinorNumber(nvmlDevice_t device, uint32_t *minor)
{
	ON_GPU(device);
	*minor = gpu_of(device)->minor;
	return NVML_SUCCESS;
}

static nvmlReturn_t DeviceGetPciInfo(nvmlDevice_t device, nvmlPciInfo_t *pci)
{
	ON_GPU(device);
	snprintf(pci->busId, sizeof pci->busId, "%s", gpu_of(device)->bus_id);
	return NVML_SUCCESS;
}

static nvmlReturn_t DeviceGetPciInfoExt(nvmlDevice_t device, nvmlPciInfoExt_v1_t *pci)
{
	ON_GPU(device);
	pci->baseClass = 3;
	pci->subClass = 2;
	return NVML_SUCCESS;
}

static nvmlReturn_t DeviceGetGpuFabricInfoV(nvmlDevice_t device, nvmlGpuFabricInfo_v2_t *info)
{
	ON_GPU(device);
	if (info->version != nvmlGpuFabricInfo_v2)
		return NVML_ERROR_ARGUMENT_VERSION_MISMATCH;
	memset(info->clusterUuid, 0xab, sizeof info->clusterUuid);
	info->status = NVML_SUCCESS;
	info->cliqueId = 7;
	info->state = gpu_of(device)->on_fabric ? NVML_GPU_FABRIC_STATE_COMPLETED : 1;
	return NVML_SUCCESS;
}

static nvmlReturn_t DeviceGetVirtualizationMode(nvmlDevice_t device, uint32_t *mode)
{
	ON_GPU(device);
	*mode = gpu_of(device)->is_virtual ? NVML_GPU_VIRTUALIZATION_MODE_VGPU : NVML_GPU_VIRTUALIZATION_MODE_NONE;
	return NVML_SUCCESS;
}

static nvmlReturn_t DeviceGetMemoryInfo(nvmlDevice_t device, nvmlMemory_t *memory)
{
	ON_GPU(device);
	if (gpu_of(device)->no_memory)
		return NVML_ERROR_NOT_SUPPORTED;
	*memory = (nvmlMemory_t){.total = 1000, .free = 600, .used = 400};
	if (mig_of(device))
		*memory = (nvmlMemory_t){.total = mig_of(device)->attributes.memorySizeMB << 20, .used = 77};
	return NVML_SUCCESS;
}

static nvmlReturn_t DeviceGetMemoryInfo_v2(nvmlDevice_t device, nvmlMemory_v2_t *memory)
{
	ON_GPU(device);
	if (memory->version != nvmlMemory_v2)
		return NVML_ERROR_ARGUMENT_VERSION_MISMATCH;
	*memory = (nvmlMemory_v2_t){.version = nvmlMemory_v2, .total = 1000, .reserved = 100, .free = 600, .used = 300};
	return NVML_SUCCESS;
}

static nvmlReturn_t DeviceGetCudaComputeCapability(nvmlDevice_t device, int *major, int *minor)
{
	ON_GPU(device);
	*major = 8;
	*minor = 6;
	return NVML_SUCCESS;
}

static nvmlReturn_t DeviceGetMigMode(nvmlDevice_t device, uint32_t *current, uint32_t *pending)
{
	ON_GPU(device);
	*current = *pending = gpu_of(device)->mig_enabled ? NVML_DEVICE_MIG_ENABLE : NVML_DEVICE_MIG_DISABLE;
	return NVML_SUCCESS;
}

static nvmlReturn_t DeviceGetMaxMigDeviceCount(nvmlDevice_t device, uint32_t *count)
{
	ON_GPU(device);
	*count = gpu_of(device)->mig_enabled ? FAKE_MIGS_MAX : 0;
	return NVML_SUCCESS;
}

static nvmlReturn_t DeviceGetMigDeviceHandleByIndex(nvmlDevice_t device, uint32_t index, nvmlDevice_t *mig)
{
	ON_GPU(device);
	if (index >= FAKE_MIGS_MAX)
		return NVML_ERROR_INVALID_ARGUMENT;
	if (!gpu_of(device)->migs[index].there)
		return NVML_ERROR_NOT_FOUND;
	*mig = (nvmlDevice_t)(void *)&gpu_of(device)->migs[index];
	return NVML_SUCCESS;
}

static nvmlReturn_t DeviceGetGpuInstanceId(nvmlDevice_t device, uint32_t *id)
{
	ON_GPU(device);
	*id = mig_of(device)->gpu_instance;
	return NVML_SUCCESS;
}

static nvmlReturn_t DeviceGetComputeInstanceId(nvmlDevice_t device, uint32_t *id)
{
	ON_GPU(device);
	*id = mig_of(device)->compute_instance;
	return NVML_SUCCESS;
}

static nvmlReturn_t DeviceGetAttributes(nvmlDevice_t device, nvmlDeviceAttributes_t *attributes)
{
	ON_GPU(device);
	*attributes = mig_of(device)->attributes;
	return NVML_SUCCESS;
}

static nvmlReturn_t DeviceGetMemoryAffinity(nvmlDevice_t device, uint32_t words, unsigned long *set,
					    nvmlAffinityScope_t scope)
{
	ON_GPU(device);
	memset(set, 0, words * sizeof *set);
	set[0] = 1ul << gpu_of(device)->numa_node;
	return NVML_SUCCESS;
}

static nvmlReturn_t DeviceGetTopologyCommonAncestor(nvmlDevice_t a, nvmlDevice_t b, nvmlGpuTopologyLevel_t *level)
{
	ON_GPU(a);
	if (gpu_of(b)->lost)
		return NVML_ERROR_GPU_IS_LOST;
	*level = gpu_of(a)->level > gpu_of(b)->level ? gpu_of(a)->level : gpu_of(b)->level;
	return NVML_SUCCESS;
}

static nvmlReturn_t DeviceGetNvLinkState(nvmlDevice_t device, uint32_t link, nvmlEnableState_t *active)
{
	ON_GPU(device);
	if (link >= FAKE_LINKS)
		return NVML_ERROR_INVALID_ARGUMENT;
	*active = *gpu_of(device)->remote[link] ? NVML_FEATURE_ENABLED : NVML_FEATURE_DISABLED;
	return NVML_SUCCESS;
}

static nvmlReturn_t DeviceGetNvLinkRemotePciInfo(nvmlDevice_t device, uint32_t link, nvmlPciInfo_t *pci)
{
	ON_GPU(device);
	snprintf(pci->busId, sizeof pci->busId, "%s", gpu_of(device)->remote[link]);
	return NVML_SUCCESS;
}

static nvmlReturn_t DeviceGetFieldValues(nvmlDevice_t device, int count, nvmlFieldValue_t *values)
{
	ON_GPU(device);
	for (int i = 0; i < count; i++) {
		values[i].nvmlReturn = NVML_SUCCESS;
		values[i].valueType = NVML_VALUE_TYPE_UNSIGNED_INT;
		values[i].value.uiVal = gpu_of(device)->recovery_action;
	}
	return NVML_SUCCESS;
}

static nvmlReturn_t DeviceGetRemappedRows(nvmlDevice_t device, uint32_t *correctable, uint32_t *uncorrectable,
					  uint32_t *pending, uint32_t *failed)
{
	ON_GPU(device);
	*correctable = *uncorrectable = *failed = 0;
	*pending = 1;
	return NVML_SUCCESS;
}

static nvmlReturn_t DeviceGetTotalEccErrors(nvmlDevice_t device, nvmlMemoryErrorType_t type,
					    nvmlEccCounterType_t counter, uint64_t *count)
{
	ON_GPU(device);
	*count = 7;
	return NVML_SUCCESS;
}

static nvmlReturn_t DeviceGetTotalEnergyConsumption(nvmlDevice_t device, uint64_t *millijoules)
{
	ON_GPU(device);
	*millijoules = 5000;
	return NVML_SUCCESS;
}

static nvmlReturn_t DeviceGetUtilizationRates(nvmlDevice_t device, nvmlUtilization_t *utilization)
{
	ON_GPU(device);
	*utilization = (nvmlUtilization_t){.gpu = 42, .memory = 3};
	return NVML_SUCCESS;
}

static nvmlReturn_t DeviceGetTemperatureV(nvmlDevice_t device, nvmlTemperature_v1_t *temperature)
{
	ON_GPU(device);
	temperature->temperature = 55;
	return NVML_SUCCESS;
}

static nvmlReturn_t DeviceGetTemperature(nvmlDevice_t device, nvmlTemperatureSensors_t sensor, uint32_t *celsius)
{
	ON_GPU(device);
	*celsius = 54;
	return NVML_SUCCESS;
}

static nvmlReturn_t DeviceGetPowerUsage(nvmlDevice_t device, uint32_t *milliwatts)
{
	ON_GPU(device);
	*milliwatts = 123456;
	return NVML_SUCCESS;
}

static nvmlReturn_t DeviceGetComputeRunningProcesses(nvmlDevice_t device, uint32_t *count, nvmlProcessInfo_t *list)
{
	ON_GPU(device);
	struct fake_gpu *gpu = gpu_of(device);
	uint32_t room = *count;
	if (fake.count_lies) { /* says "here are 2^31" and filled what there was room for */
		*count = 1u << 31;
		return list ? NVML_SUCCESS : NVML_ERROR_INSUFFICIENT_SIZE;
	}
	*count = gpu->process_count;
	if (room < gpu->process_count)
		return NVML_ERROR_INSUFFICIENT_SIZE;
	for (uint32_t i = 0; list && i < gpu->process_count; i++)
		list[i] = gpu->processes[i];
	return NVML_SUCCESS;
}

static nvmlReturn_t DeviceGetGraphicsRunningProcesses(nvmlDevice_t device, uint32_t *count, nvmlProcessInfo_t *list)
{
	return DeviceGetComputeRunningProcesses(device, count, list); /* on both lists, as a program with a window is */
}

static nvmlReturn_t DeviceGetMPSComputeRunningProcesses(nvmlDevice_t device, uint32_t *count, nvmlProcessInfo_t *list)
{
	ON_GPU(device);
	*count = 0;
	return NVML_SUCCESS;
}

static nvmlReturn_t DeviceGetProcessUtilization(nvmlDevice_t device, nvmlProcessUtilizationSample_t *samples,
						uint32_t *count, uint64_t last_seen)
{
	ON_GPU(device);
	uint32_t room = *count;
	*count = fake.count_lies ? 1u << 31 : 3;
	if (!samples || room < 3)
		return NVML_ERROR_INSUFFICIENT_SIZE;
	/* The first process: 20 and 40 percent, and one value that is no percentage. */
	for (uint32_t i = 0; i < 3; i++)
		samples[i] = (nvmlProcessUtilizationSample_t){.pid = gpu_of(device)->processes[0].pid,
							      .timeStamp = last_seen + 1 + i,
							      .smUtil = i == 2 ? 12345 : 20 + 20 * i};
	return NVML_SUCCESS;
}

static nvmlReturn_t EventSetCreate(nvmlEventSet_t *set)
{
	MAY_FAIL();
	pthread_mutex_lock(&fake.lock);
	fake.sets_made++;
	pthread_cond_broadcast(&fake.changed);
	pthread_mutex_unlock(&fake.lock);
	*set = (nvmlEventSet_t)(void *)&fake;
	return NVML_SUCCESS;
}

static nvmlReturn_t EventSetFree(nvmlEventSet_t set)
{
	pthread_mutex_lock(&fake.lock);
	fake.sets_freed++;
	for (int i = 0; i < FAKE_GPUS_MAX; i++)
		fake.gpus[i].registered = false;
	pthread_cond_broadcast(&fake.changed);
	pthread_mutex_unlock(&fake.lock);
	return NVML_SUCCESS;
}

static nvmlReturn_t DeviceGetSupportedEventTypes(nvmlDevice_t device, uint64_t *types)
{
	MAY_FAIL();
	*types = nvmlEventTypeXidCriticalError | nvmlEventTypePState | (fake.mig_events ? nvmlEventMigConfigChange : 0);
	return NVML_SUCCESS;
}

static nvmlReturn_t DeviceRegisterEvents(nvmlDevice_t device, uint64_t types, nvmlEventSet_t set)
{
	MAY_FAIL();
	if ((types & ~nvmlEventMigConfigChange) != nvmlEventTypeXidCriticalError ||
	    (types & nvmlEventMigConfigChange && !fake.mig_events))
		return NVML_ERROR_NOT_SUPPORTED; /* only what is supported may be asked for */
	pthread_mutex_lock(&fake.lock);
	gpu_of(device)->registered = true;
	pthread_cond_broadcast(&fake.changed);
	pthread_mutex_unlock(&fake.lock);
	return NVML_SUCCESS;
}

static nvmlReturn_t EventSetWait(nvmlEventSet_t set, nvmlEventData_t *data, uint32_t timeout_ms)
{
	nvmlReturn_t code = fault(__func__);
	struct timespec until;
	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += timeout_ms / 1000;
	pthread_mutex_lock(&fake.lock);
	fake.waits++;
	pthread_cond_broadcast(&fake.changed);
	while (code == NVML_SUCCESS && !fake.hurry && fake.event_taken == fake.event_count)
		if (pthread_cond_timedwait(&fake.changed, &fake.lock, &until) != 0)
			break;
	if (code == NVML_SUCCESS && fake.event_taken < fake.event_count)
		*data = fake.events[fake.event_taken++];
	else if (code == NVML_SUCCESS)
		code = NVML_ERROR_TIMEOUT;
	pthread_mutex_unlock(&fake.lock);
	return code;
}

void fake_mig_event(nvmlDevice_t device, uint64_t type, uint64_t data, uint32_t gpu_instance, uint32_t compute_instance)
{
	pthread_mutex_lock(&fake.lock);
	fake.events[fake.event_count++] = (nvmlEventData_t){.device = device,
							    .eventType = type,
							    .eventData = data,
							    .gpuInstanceId = gpu_instance,
							    .computeInstanceId = compute_instance};
	pthread_cond_broadcast(&fake.changed);
	pthread_mutex_unlock(&fake.lock);
}

void fake_event(nvmlDevice_t device, uint64_t type, uint64_t data)
{
	fake_mig_event(device, type, data, UINT32_MAX, UINT32_MAX);
}

void fake_hurry(void)
{
	pthread_mutex_lock(&fake.lock);
	fake.hurry = true;
	pthread_cond_broadcast(&fake.changed);
	pthread_mutex_unlock(&fake.lock);
}

void fake_table(struct gs_nvml *nvml)
{
#define FAKE_FILL(name, newest, older) .name = name,
	*nvml = (struct gs_nvml){GS_NVML_GPU_CALLS(FAKE_FILL)};
#undef FAKE_FILL
}
