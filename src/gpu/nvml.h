/* NVML, opened at run time. Every call goes through one table of pointers, so that any call can be made to fail in a
 * test, and a driver that lacks a function is no worse than one that answers NOT_SUPPORTED.
 *
 * The library is never unloaded once it initialised: the driver's library starts threads and exit handlers of its own.
 * NVML is thread-safe; calls may block for seconds on a sick GPU, so no event loop makes them. */
#ifndef GPUSHARE_GPU_NVML_H
#define GPUSHARE_GPU_NVML_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>

#include "base/error.h"
#include "gpushare/nvml.h"

/* Name in the table, symbol, and the symbol of older drivers with the same arguments and structs (or the same again). */
#define GS_NVML_GPU_CALLS(X)                                                                                         \
	X(Init, nvmlInit_v2, nvmlInit_v2)                                                                            \
	X(Shutdown, nvmlShutdown, nvmlShutdown)                                                                      \
	X(ErrorString, nvmlErrorString, nvmlErrorString)                                                             \
	X(SystemGetDriverVersion, nvmlSystemGetDriverVersion, nvmlSystemGetDriverVersion)                            \
	X(SystemGetCudaDriverVersion, nvmlSystemGetCudaDriverVersion, nvmlSystemGetCudaDriverVersion)                \
	X(DeviceGetCount, nvmlDeviceGetCount_v2, nvmlDeviceGetCount)                                                 \
	X(DeviceGetHandleByIndex, nvmlDeviceGetHandleByIndex_v2, nvmlDeviceGetHandleByIndex)                         \
	X(DeviceGetHandleByUUID, nvmlDeviceGetHandleByUUID, nvmlDeviceGetHandleByUUID)                               \
	X(DeviceGetIndex, nvmlDeviceGetIndex, nvmlDeviceGetIndex)                                                    \
	X(DeviceGetName, nvmlDeviceGetName, nvmlDeviceGetName)                                                       \
	X(DeviceGetUUID, nvmlDeviceGetUUID, nvmlDeviceGetUUID)                                                       \
	X(DeviceGetMinorNumber, nvmlDeviceGetMinorNumber, nvmlDeviceGetMinorNumber)                                  \
	X(DeviceGetPciInfo, nvmlDeviceGetPciInfo_v3, nvmlDeviceGetPciInfo_v2)                                        \
	X(DeviceGetPciInfoExt, nvmlDeviceGetPciInfoExt, nvmlDeviceGetPciInfoExt)                                     \
	X(DeviceGetGpuFabricInfoV, nvmlDeviceGetGpuFabricInfoV, nvmlDeviceGetGpuFabricInfoV)                         \
	X(DeviceGetVirtualizationMode, nvmlDeviceGetVirtualizationMode, nvmlDeviceGetVirtualizationMode)             \
	X(DeviceGetMemoryInfo, nvmlDeviceGetMemoryInfo, nvmlDeviceGetMemoryInfo)                                     \
	X(DeviceGetMemoryInfo_v2, nvmlDeviceGetMemoryInfo_v2, nvmlDeviceGetMemoryInfo_v2)                            \
	X(DeviceGetCudaComputeCapability, nvmlDeviceGetCudaComputeCapability, nvmlDeviceGetCudaComputeCapability)    \
	X(DeviceGetComputeMode, nvmlDeviceGetComputeMode, nvmlDeviceGetComputeMode)                                  \
	X(DeviceSetComputeMode, nvmlDeviceSetComputeMode, nvmlDeviceSetComputeMode)                                  \
	X(DeviceGetMigMode, nvmlDeviceGetMigMode, nvmlDeviceGetMigMode)                                              \
	X(DeviceGetMaxMigDeviceCount, nvmlDeviceGetMaxMigDeviceCount, nvmlDeviceGetMaxMigDeviceCount)                \
	X(DeviceGetMigDeviceHandleByIndex, nvmlDeviceGetMigDeviceHandleByIndex, nvmlDeviceGetMigDeviceHandleByIndex) \
	X(DeviceGetGpuInstanceId, nvmlDeviceGetGpuInstanceId, nvmlDeviceGetGpuInstanceId)                            \
	X(DeviceGetComputeInstanceId, nvmlDeviceGetComputeInstanceId, nvmlDeviceGetComputeInstanceId)                \
	X(DeviceGetAttributes, nvmlDeviceGetAttributes_v2, nvmlDeviceGetAttributes)                                  \
	X(DeviceGetMemoryAffinity, nvmlDeviceGetMemoryAffinity, nvmlDeviceGetMemoryAffinity)                         \
	X(DeviceGetTopologyCommonAncestor, nvmlDeviceGetTopologyCommonAncestor, nvmlDeviceGetTopologyCommonAncestor) \
	X(DeviceGetNvLinkState, nvmlDeviceGetNvLinkState, nvmlDeviceGetNvLinkState)                                  \
	X(DeviceGetNvLinkRemotePciInfo, nvmlDeviceGetNvLinkRemotePciInfo_v2, nvmlDeviceGetNvLinkRemotePciInfo)       \
	X(DeviceGetFieldValues, nvmlDeviceGetFieldValues, nvmlDeviceGetFieldValues)                                  \
	X(DeviceGetRemappedRows, nvmlDeviceGetRemappedRows, nvmlDeviceGetRemappedRows)                               \
	X(DeviceGetTotalEccErrors, nvmlDeviceGetTotalEccErrors, nvmlDeviceGetTotalEccErrors)                         \
	X(DeviceGetTotalEnergyConsumption, nvmlDeviceGetTotalEnergyConsumption, nvmlDeviceGetTotalEnergyConsumption) \
	X(DeviceGetUtilizationRates, nvmlDeviceGetUtilizationRates, nvmlDeviceGetUtilizationRates)                   \
	X(DeviceGetTemperature, nvmlDeviceGetTemperature, nvmlDeviceGetTemperature)                                  \
	X(DeviceGetTemperatureV, nvmlDeviceGetTemperatureV, nvmlDeviceGetTemperatureV)                               \
	X(DeviceGetPowerUsage, nvmlDeviceGetPowerUsage, nvmlDeviceGetPowerUsage)                                     \
	X(DeviceGetComputeRunningProcesses, nvmlDeviceGetComputeRunningProcesses_v3,                                 \
	  nvmlDeviceGetComputeRunningProcesses_v2)                                                                   \
	X(DeviceGetGraphicsRunningProcesses, nvmlDeviceGetGraphicsRunningProcesses_v3,                               \
	  nvmlDeviceGetGraphicsRunningProcesses_v2)                                                                  \
	X(DeviceGetMPSComputeRunningProcesses, nvmlDeviceGetMPSComputeRunningProcesses_v3,                           \
	  nvmlDeviceGetMPSComputeRunningProcesses_v2)                                                                \
	X(DeviceGetProcessUtilization, nvmlDeviceGetProcessUtilization, nvmlDeviceGetProcessUtilization)             \
	X(EventSetCreate, nvmlEventSetCreate, nvmlEventSetCreate)                                                    \
	X(EventSetFree, nvmlEventSetFree, nvmlEventSetFree)                                                          \
	X(EventSetWait, nvmlEventSetWait_v2, nvmlEventSetWait_v2)                                                    \
	X(DeviceGetSupportedEventTypes, nvmlDeviceGetSupportedEventTypes, nvmlDeviceGetSupportedEventTypes)          \
	X(DeviceRegisterEvents, nvmlDeviceRegisterEvents, nvmlDeviceRegisterEvents)

/* Those that divide GPUs. */
#define GS_NVML_MIG_CALLS(X)                                                                                         \
	X(DeviceSetMigMode, nvmlDeviceSetMigMode, nvmlDeviceSetMigMode)                                              \
	X(DeviceGetGpuInstanceProfileInfo, nvmlDeviceGetGpuInstanceProfileInfo, nvmlDeviceGetGpuInstanceProfileInfo) \
	X(DeviceGetGpuInstanceProfileInfoV, nvmlDeviceGetGpuInstanceProfileInfoV,                                    \
	  nvmlDeviceGetGpuInstanceProfileInfoV)                                                                      \
	X(DeviceGetGpuInstancePossiblePlacements, nvmlDeviceGetGpuInstancePossiblePlacements_v2,                     \
	  nvmlDeviceGetGpuInstancePossiblePlacements)                                                                \
	X(DeviceCreateGpuInstanceWithPlacement, nvmlDeviceCreateGpuInstanceWithPlacement,                            \
	  nvmlDeviceCreateGpuInstanceWithPlacement)                                                                  \
	X(GpuInstanceDestroy, nvmlGpuInstanceDestroy, nvmlGpuInstanceDestroy)                                        \
	X(DeviceGetGpuInstances, nvmlDeviceGetGpuInstances, nvmlDeviceGetGpuInstances)                               \
	X(DeviceGetGpuInstanceById, nvmlDeviceGetGpuInstanceById, nvmlDeviceGetGpuInstanceById)                      \
	X(GpuInstanceGetInfo, nvmlGpuInstanceGetInfo, nvmlGpuInstanceGetInfo)                                        \
	X(GpuInstanceGetComputeInstanceProfileInfo, nvmlGpuInstanceGetComputeInstanceProfileInfo,                    \
	  nvmlGpuInstanceGetComputeInstanceProfileInfo)                                                              \
	X(GpuInstanceCreateComputeInstance, nvmlGpuInstanceCreateComputeInstance,                                    \
	  nvmlGpuInstanceCreateComputeInstance)                                                                      \
	X(GpuInstanceCreateComputeInstanceWithPlacement, nvmlGpuInstanceCreateComputeInstanceWithPlacement,          \
	  nvmlGpuInstanceCreateComputeInstanceWithPlacement)                                                         \
	X(ComputeInstanceDestroy, nvmlComputeInstanceDestroy, nvmlComputeInstanceDestroy)                            \
	X(GpuInstanceGetComputeInstances, nvmlGpuInstanceGetComputeInstances, nvmlGpuInstanceGetComputeInstances)    \
	X(GpuInstanceGetComputeInstanceById, nvmlGpuInstanceGetComputeInstanceById,                                  \
	  nvmlGpuInstanceGetComputeInstanceById)                                                                     \
	X(ComputeInstanceGetInfo_v2, nvmlComputeInstanceGetInfo_v2, nvmlComputeInstanceGetInfo_v2)

#define GS_NVML_CALLS(X)     \
	GS_NVML_GPU_CALLS(X) \
	GS_NVML_MIG_CALLS(X)

struct gs_nvml {
#define GS_NVML_MEMBER(name, symbol, older) __typeof__(&symbol) name;
	GS_NVML_CALLS(GS_NVML_MEMBER)
#undef GS_NVML_MEMBER
	void *library; /* NULL in a test's table */
	pthread_rwlock_t
		*open; /* held for reading around calls, for writing while NVML is opened anew; NULL in a test's */
};

/* Calls through the table; FUNCTION_NOT_FOUND where the driver lacks the function. */
#define GS_NVML(nvml, name, ...) ((nvml)->name ? (nvml)->name(__VA_ARGS__) : NVML_ERROR_FUNCTION_NOT_FOUND)

/* Finds libnvidia-ml.so.1 (the loader's own search, then below `driver_root`, see base/driver_root.h; NULL is "/"), loads
 * what is there and initialises. Can be tried again later. Free with gs_nvml_close. */
int gs_nvml_open(const char *driver_root, struct gs_nvml **nvml, struct gs_error *err);
/* The same below the first of `roots` (NULL ends them) where it works; the error is of the first that exists. */
int gs_nvml_open_below(const char *const *roots, struct gs_nvml **nvml, struct gs_error *err);
/* Shuts NVML down and frees the table. No call may be under way. */
void gs_nvml_close(struct gs_nvml *nvml);

/* NVML lists the GPUs there were when it was initialised. Calls that may meet gs_nvml_reopen stand between these two. */
void gs_nvml_hold(const struct gs_nvml *nvml);
void gs_nvml_release(const struct gs_nvml *nvml);
/* Whether the driver (PROC/driver/nvidia/gpus) has another number of GPUs than NVML, and which. */
bool gs_nvml_is_stale(const struct gs_nvml *nvml, const char *proc, size_t *driver_count);
/* Shuts down and initialises again, when no thread holds it. All handles and event sets are void. On failure NVML is
 * not initialised, and this can be tried again; EBUSY (GS_ERROR_SYSTEM): another thread held it for seconds, and NVML
 * is as it was. */
int gs_nvml_reopen(const struct gs_nvml *nvml, struct gs_error *err);

/* Fills `err` with "CALL: NVML's words (code)"; returns -1. */
int gs_nvml_fail(const struct gs_nvml *nvml, nvmlReturn_t code, const char *call, struct gs_error *err);

#endif
