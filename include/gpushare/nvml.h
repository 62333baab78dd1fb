/* The binary interface of libnvidia-ml.so.1, as this project needs it: names, numbers and layouts, in declarations of
 * our own. The product loads NVML by dlopen through these types, and the simulated libnvidia-ml.so.1 implements them.
 *
 * The plain name of a function that has several versions is the OLDEST one here, as in the library's symbol table: no
 * macros map nvmlInit to nvmlInit_v2. Structs whose first member is `version` want size | number << 24 in
 * it before the call; the constants named like the type without `_t` are those words.
 * Checked against API version 13 (header 13.3); drivers since R450 agree on the names that they share with it. */
#ifndef GPUSHARE_NVML_H
#define GPUSHARE_NVML_H

#include "gpushare/nvml_types.h"

/* ---- Functions. Each returns NVML_SUCCESS or an error; `length` counts the NUL; *count is room in, number out, and
 * INSUFFICIENT_SIZE says how many there are. ---- */

/* Library. Init calls are counted; the last Shutdown ends it. ErrorString never returns NULL. */
nvmlReturn_t nvmlInit(void);
nvmlReturn_t nvmlInit_v2(void);
nvmlReturn_t nvmlInitWithFlags(uint32_t flags);
nvmlReturn_t nvmlShutdown(void);
const char *nvmlErrorString(nvmlReturn_t code);

/* System. */
nvmlReturn_t nvmlSystemGetDriverVersion(char *version, uint32_t length);
nvmlReturn_t nvmlSystemGetNVMLVersion(char *version, uint32_t length);
nvmlReturn_t nvmlSystemGetCudaDriverVersion(int *version); /* 12040 is 12.4 */
nvmlReturn_t nvmlSystemGetCudaDriverVersion_v2(int *version);
nvmlReturn_t nvmlSystemGetProcessName(uint32_t pid, char *name, uint32_t length);
nvmlReturn_t nvmlSystemGetDriverBranch(nvmlSystemDriverBranchInfo_v1_t *info, uint32_t length);
nvmlReturn_t nvmlSystemGetTopologyGpuSet(uint32_t cpu, uint32_t *count, nvmlDevice_t *devices);
nvmlReturn_t nvmlUnitGetCount(uint32_t *count);
nvmlReturn_t nvmlGetExcludedDeviceCount(uint32_t *count);
nvmlReturn_t nvmlGetBlacklistDeviceCount(uint32_t *count); /* its old name */

/* Handles. */
nvmlReturn_t nvmlDeviceGetCount(uint32_t *count);
nvmlReturn_t nvmlDeviceGetCount_v2(uint32_t *count);
nvmlReturn_t nvmlDeviceGetHandleByIndex(uint32_t index, nvmlDevice_t *device);
nvmlReturn_t nvmlDeviceGetHandleByIndex_v2(uint32_t index, nvmlDevice_t *device);
nvmlReturn_t nvmlDeviceGetHandleByUUID(const char *uuid, nvmlDevice_t *device);
nvmlReturn_t nvmlDeviceGetHandleByUUIDV(const nvmlUUID_v1_t *uuid, nvmlDevice_t *device);
nvmlReturn_t nvmlDeviceGetHandleByPciBusId(const char *bus_id, nvmlDevice_t *device);
nvmlReturn_t nvmlDeviceGetHandleByPciBusId_v2(const char *bus_id, nvmlDevice_t *device);
nvmlReturn_t nvmlDeviceGetHandleBySerial(const char *serial, nvmlDevice_t *device);

/* Identity. */
nvmlReturn_t nvmlDeviceGetName(nvmlDevice_t device, char *name, uint32_t length);
nvmlReturn_t nvmlDeviceGetUUID(nvmlDevice_t device, char *uuid, uint32_t length);
nvmlReturn_t nvmlDeviceGetIndex(nvmlDevice_t device, uint32_t *index);
nvmlReturn_t nvmlDeviceGetMinorNumber(nvmlDevice_t device, uint32_t *minor);
nvmlReturn_t nvmlDeviceGetSerial(nvmlDevice_t device, char *serial, uint32_t length);
nvmlReturn_t nvmlDeviceGetBrand(nvmlDevice_t device, nvmlBrandType_t *brand);
nvmlReturn_t nvmlDeviceGetBoardId(nvmlDevice_t device, uint32_t *id);
nvmlReturn_t nvmlDeviceGetMultiGpuBoard(nvmlDevice_t device, uint32_t *yes);
nvmlReturn_t nvmlDeviceOnSameBoard(nvmlDevice_t a, nvmlDevice_t b, int *yes);
nvmlReturn_t nvmlDeviceGetModuleId(nvmlDevice_t device, uint32_t *id);
nvmlReturn_t nvmlDeviceGetBoardPartNumber(nvmlDevice_t device, char *number, uint32_t length);
nvmlReturn_t nvmlDeviceGetVbiosVersion(nvmlDevice_t device, char *version, uint32_t length);
nvmlReturn_t nvmlDeviceGetInforomVersion(nvmlDevice_t device, uint32_t object, char *version, uint32_t length);
nvmlReturn_t nvmlDeviceGetInforomImageVersion(nvmlDevice_t device, char *version, uint32_t length);
nvmlReturn_t nvmlDeviceGetInforomConfigurationChecksum(nvmlDevice_t device, uint32_t *checksum);
nvmlReturn_t nvmlDeviceValidateInforom(nvmlDevice_t device);
nvmlReturn_t nvmlDeviceGetArchitecture(nvmlDevice_t device, nvmlDeviceArchitecture_t *architecture);
nvmlReturn_t nvmlDeviceGetCudaComputeCapability(nvmlDevice_t device, int *major, int *minor);
nvmlReturn_t nvmlDeviceGetNumGpuCores(nvmlDevice_t device, uint32_t *cores);
nvmlReturn_t nvmlDeviceGetMemoryBusWidth(nvmlDevice_t device, uint32_t *bits);
nvmlReturn_t nvmlDeviceGetGspFirmwareVersion(nvmlDevice_t device, char *version);
nvmlReturn_t nvmlDeviceGetGspFirmwareMode(nvmlDevice_t device, uint32_t *enabled, uint32_t *by_default);
nvmlReturn_t nvmlDeviceGetIrqNum(nvmlDevice_t device, uint32_t *irq);
nvmlReturn_t nvmlDeviceGetPowerSource(nvmlDevice_t device, uint32_t *source);

/* PCI. The oldest GetPciInfo fills a shorter struct; _v2 and _v3 are the same but for busId. */
nvmlReturn_t nvmlDeviceGetPciInfo(nvmlDevice_t device, nvmlPciInfo_t *pci);
nvmlReturn_t nvmlDeviceGetPciInfo_v2(nvmlDevice_t device, nvmlPciInfo_t *pci);
nvmlReturn_t nvmlDeviceGetPciInfo_v3(nvmlDevice_t device, nvmlPciInfo_t *pci);
nvmlReturn_t nvmlDeviceGetPciInfoExt(nvmlDevice_t device, nvmlPciInfoExt_v1_t *pci);
nvmlReturn_t nvmlDeviceGetGpuFabricInfoV(nvmlDevice_t device, nvmlGpuFabricInfo_v2_t *info);
nvmlReturn_t nvmlDeviceGetBusType(nvmlDevice_t device, uint32_t *type);
nvmlReturn_t nvmlDeviceGetMaxPcieLinkGeneration(nvmlDevice_t device, uint32_t *generation);
nvmlReturn_t nvmlDeviceGetGpuMaxPcieLinkGeneration(nvmlDevice_t device, uint32_t *generation);
nvmlReturn_t nvmlDeviceGetCurrPcieLinkGeneration(nvmlDevice_t device, uint32_t *generation);
nvmlReturn_t nvmlDeviceGetMaxPcieLinkWidth(nvmlDevice_t device, uint32_t *width);
nvmlReturn_t nvmlDeviceGetCurrPcieLinkWidth(nvmlDevice_t device, uint32_t *width);
nvmlReturn_t nvmlDeviceGetPcieLinkMaxSpeed(nvmlDevice_t device, uint32_t *speed);
nvmlReturn_t nvmlDeviceGetPcieSpeed(nvmlDevice_t device, uint32_t *megabits);
nvmlReturn_t nvmlDeviceGetPcieThroughput(nvmlDevice_t device, nvmlPcieUtilCounter_t counter, uint32_t *kib_per_second);
nvmlReturn_t nvmlDeviceGetPcieReplayCounter(nvmlDevice_t device, uint32_t *count);

/* Modes. */
nvmlReturn_t nvmlDeviceGetPersistenceMode(nvmlDevice_t device, nvmlEnableState_t *mode);
nvmlReturn_t nvmlDeviceSetPersistenceMode(nvmlDevice_t device, nvmlEnableState_t mode);
nvmlReturn_t nvmlDeviceGetComputeMode(nvmlDevice_t device, nvmlComputeMode_t *mode);
nvmlReturn_t nvmlDeviceSetComputeMode(nvmlDevice_t device, nvmlComputeMode_t mode);
nvmlReturn_t nvmlDeviceGetDisplayMode(nvmlDevice_t device, nvmlEnableState_t *mode);
nvmlReturn_t nvmlDeviceGetDisplayActive(nvmlDevice_t device, nvmlEnableState_t *active);
nvmlReturn_t nvmlDeviceGetVirtualizationMode(nvmlDevice_t device, uint32_t *mode);
nvmlReturn_t nvmlDeviceGetAccountingMode(nvmlDevice_t device, nvmlEnableState_t *mode);
nvmlReturn_t nvmlDeviceGetAccountingBufferSize(nvmlDevice_t device, uint32_t *size);
nvmlReturn_t nvmlDeviceGetAccountingPids(nvmlDevice_t device, uint32_t *count, uint32_t *pids);
nvmlReturn_t nvmlDeviceGetAccountingStats(nvmlDevice_t device, uint32_t pid, nvmlAccountingStats_t *stats);
nvmlReturn_t nvmlDeviceGetAPIRestriction(nvmlDevice_t device, uint32_t api, nvmlEnableState_t *restricted);
nvmlReturn_t nvmlDeviceGetMigMode(nvmlDevice_t device, uint32_t *current, uint32_t *pending);
nvmlReturn_t nvmlDeviceGetMaxMigDeviceCount(nvmlDevice_t device, uint32_t *count);
nvmlReturn_t nvmlDeviceGetMigDeviceHandleByIndex(nvmlDevice_t device, uint32_t index, nvmlDevice_t *mig);
nvmlReturn_t nvmlDeviceGetDeviceHandleFromMigDeviceHandle(nvmlDevice_t mig, nvmlDevice_t *device);
nvmlReturn_t nvmlDeviceIsMigDeviceHandle(nvmlDevice_t device, uint32_t *is_mig);
nvmlReturn_t nvmlDeviceGetGpuInstanceId(nvmlDevice_t mig, uint32_t *id);
nvmlReturn_t nvmlDeviceGetComputeInstanceId(nvmlDevice_t mig, uint32_t *id);
nvmlReturn_t nvmlDeviceGetAttributes(nvmlDevice_t mig, nvmlDeviceAttributes_t *attributes);
nvmlReturn_t nvmlDeviceGetAttributes_v2(nvmlDevice_t mig, nvmlDeviceAttributes_t *attributes);

/* MIG. SetMigMode's own code says whether the mode was taken; `activation` whether it is in force now (SUCCESS) or why
 * it is only pending. Lists hold as many entries as the profile's instanceCount says; *count is only written. */
nvmlReturn_t nvmlDeviceSetMigMode(nvmlDevice_t device, uint32_t mode, nvmlReturn_t *activation);
nvmlReturn_t nvmlDeviceGetGpuInstanceProfileInfo(nvmlDevice_t device, uint32_t profile,
						 nvmlGpuInstanceProfileInfo_t *info);
/* `info` is a ..._v2_t or a ..._v3_t, as its version word says. */
nvmlReturn_t nvmlDeviceGetGpuInstanceProfileInfoV(nvmlDevice_t device, uint32_t profile,
						  nvmlGpuInstanceProfileInfo_v2_t *info);
nvmlReturn_t nvmlDeviceGetGpuInstanceProfileInfoByIdV(nvmlDevice_t device, uint32_t profile_id,
						      nvmlGpuInstanceProfileInfo_v2_t *info);
/* `placements` may be NULL, to learn their number. */
nvmlReturn_t nvmlDeviceGetGpuInstancePossiblePlacements(nvmlDevice_t device, uint32_t profile_id,
							nvmlGpuInstancePlacement_t *placements, uint32_t *count);
nvmlReturn_t nvmlDeviceGetGpuInstancePossiblePlacements_v2(nvmlDevice_t device, uint32_t profile_id,
							   nvmlGpuInstancePlacement_t *placements, uint32_t *count);
nvmlReturn_t nvmlDeviceGetGpuInstanceRemainingCapacity(nvmlDevice_t device, uint32_t profile_id, uint32_t *count);
nvmlReturn_t nvmlDeviceCreateGpuInstance(nvmlDevice_t device, uint32_t profile_id, nvmlGpuInstance_t *instance);
nvmlReturn_t nvmlDeviceCreateGpuInstanceWithPlacement(nvmlDevice_t device, uint32_t profile_id,
						      const nvmlGpuInstancePlacement_t *placement,
						      nvmlGpuInstance_t *instance);
nvmlReturn_t nvmlGpuInstanceDestroy(nvmlGpuInstance_t instance);
nvmlReturn_t nvmlDeviceGetGpuInstances(nvmlDevice_t device, uint32_t profile_id, nvmlGpuInstance_t *instances,
				       uint32_t *count);
nvmlReturn_t nvmlDeviceGetGpuInstanceById(nvmlDevice_t device, uint32_t id, nvmlGpuInstance_t *instance);
nvmlReturn_t nvmlGpuInstanceGetInfo(nvmlGpuInstance_t instance, nvmlGpuInstanceInfo_t *info);
nvmlReturn_t nvmlGpuInstanceGetComputeInstanceProfileInfo(nvmlGpuInstance_t instance, uint32_t profile, uint32_t engine,
							  nvmlComputeInstanceProfileInfo_t *info);
nvmlReturn_t nvmlGpuInstanceGetComputeInstanceProfileInfoV(nvmlGpuInstance_t instance, uint32_t profile,
							   uint32_t engine, nvmlComputeInstanceProfileInfo_v2_t *info);
nvmlReturn_t nvmlGpuInstanceGetComputeInstanceRemainingCapacity(nvmlGpuInstance_t instance, uint32_t profile_id,
								uint32_t *count);
nvmlReturn_t nvmlGpuInstanceGetComputeInstancePossiblePlacements(nvmlGpuInstance_t instance, uint32_t profile_id,
								 nvmlComputeInstancePlacement_t *placements,
								 uint32_t *count);
nvmlReturn_t nvmlGpuInstanceCreateComputeInstance(nvmlGpuInstance_t instance, uint32_t profile_id,
						  nvmlComputeInstance_t *compute);
nvmlReturn_t nvmlGpuInstanceCreateComputeInstanceWithPlacement(nvmlGpuInstance_t instance, uint32_t profile_id,
							       const nvmlComputeInstancePlacement_t *placement,
							       nvmlComputeInstance_t *compute);
nvmlReturn_t nvmlComputeInstanceDestroy(nvmlComputeInstance_t compute);
nvmlReturn_t nvmlGpuInstanceGetComputeInstances(nvmlGpuInstance_t instance, uint32_t profile_id,
						nvmlComputeInstance_t *computes, uint32_t *count);
nvmlReturn_t nvmlGpuInstanceGetComputeInstanceById(nvmlGpuInstance_t instance, uint32_t id,
						   nvmlComputeInstance_t *compute);
/* The first version leaves `placement` alone. */
nvmlReturn_t nvmlComputeInstanceGetInfo(nvmlComputeInstance_t compute, nvmlComputeInstanceInfo_t *info);
nvmlReturn_t nvmlComputeInstanceGetInfo_v2(nvmlComputeInstance_t compute, nvmlComputeInstanceInfo_t *info);

/* Memory and its faults. */
nvmlReturn_t nvmlDeviceGetMemoryInfo(nvmlDevice_t device, nvmlMemory_t *memory);
nvmlReturn_t nvmlDeviceGetMemoryInfo_v2(nvmlDevice_t device, nvmlMemory_v2_t *memory);
nvmlReturn_t nvmlDeviceGetBAR1MemoryInfo(nvmlDevice_t device, nvmlBAR1Memory_t *memory);
nvmlReturn_t nvmlDeviceGetEccMode(nvmlDevice_t device, nvmlEnableState_t *current, nvmlEnableState_t *pending);
nvmlReturn_t nvmlDeviceGetDefaultEccMode(nvmlDevice_t device, nvmlEnableState_t *mode);
nvmlReturn_t nvmlDeviceSetEccMode(nvmlDevice_t device, nvmlEnableState_t mode);
nvmlReturn_t nvmlDeviceGetTotalEccErrors(nvmlDevice_t device, nvmlMemoryErrorType_t type, nvmlEccCounterType_t counter,
					 uint64_t *count);
nvmlReturn_t nvmlDeviceGetDetailedEccErrors(nvmlDevice_t device, nvmlMemoryErrorType_t type,
					    nvmlEccCounterType_t counter, nvmlEccErrorCounts_t *counts);
nvmlReturn_t nvmlDeviceGetMemoryErrorCounter(nvmlDevice_t device, nvmlMemoryErrorType_t type,
					     nvmlEccCounterType_t counter, uint32_t location, uint64_t *count);
nvmlReturn_t nvmlDeviceClearEccErrorCounts(nvmlDevice_t device, nvmlEccCounterType_t counter);
nvmlReturn_t nvmlDeviceGetSramEccErrorStatus(nvmlDevice_t device, nvmlEccSramErrorStatus_v1_t *status);
nvmlReturn_t nvmlDeviceGetRemappedRows(nvmlDevice_t device, uint32_t *correctable, uint32_t *uncorrectable,
				       uint32_t *pending, uint32_t *failed);
nvmlReturn_t nvmlDeviceGetRemappedRows_v2(nvmlDevice_t device, nvmlRemappedRowsInfo_v2_t *info);
nvmlReturn_t nvmlDeviceGetRowRemapperHistogram(nvmlDevice_t device, nvmlRowRemapperHistogramValues_t *values);
nvmlReturn_t nvmlDeviceGetRetiredPages(nvmlDevice_t device, nvmlPageRetirementCause_t cause, uint32_t *count,
				       uint64_t *addresses);
nvmlReturn_t nvmlDeviceGetRetiredPages_v2(nvmlDevice_t device, nvmlPageRetirementCause_t cause, uint32_t *count,
					  uint64_t *addresses, uint64_t *timestamps);
nvmlReturn_t nvmlDeviceGetRetiredPagesPendingStatus(nvmlDevice_t device, nvmlEnableState_t *pending);

/* Use. */
nvmlReturn_t nvmlDeviceGetUtilizationRates(nvmlDevice_t device, nvmlUtilization_t *utilization);
nvmlReturn_t nvmlDeviceGetEncoderUtilization(nvmlDevice_t device, uint32_t *percent, uint32_t *period_us);
nvmlReturn_t nvmlDeviceGetDecoderUtilization(nvmlDevice_t device, uint32_t *percent, uint32_t *period_us);
nvmlReturn_t nvmlDeviceGetJpgUtilization(nvmlDevice_t device, uint32_t *percent, uint32_t *period_us);
nvmlReturn_t nvmlDeviceGetOfaUtilization(nvmlDevice_t device, uint32_t *percent, uint32_t *period_us);
nvmlReturn_t nvmlDeviceGetEncoderStats(nvmlDevice_t device, uint32_t *sessions, uint32_t *fps, uint32_t *latency);
nvmlReturn_t nvmlDeviceGetSamples(nvmlDevice_t device, nvmlSamplingType_t type, uint64_t last_seen,
				  nvmlValueType_t *value_type, uint32_t *count, nvmlSample_t *samples);
nvmlReturn_t nvmlDeviceGetComputeRunningProcesses(nvmlDevice_t device, uint32_t *count, nvmlProcessInfo_v1_t *list);
nvmlReturn_t nvmlDeviceGetComputeRunningProcesses_v2(nvmlDevice_t device, uint32_t *count, nvmlProcessInfo_t *list);
nvmlReturn_t nvmlDeviceGetComputeRunningProcesses_v3(nvmlDevice_t device, uint32_t *count, nvmlProcessInfo_t *list);
nvmlReturn_t nvmlDeviceGetGraphicsRunningProcesses(nvmlDevice_t device, uint32_t *count, nvmlProcessInfo_v1_t *list);
nvmlReturn_t nvmlDeviceGetGraphicsRunningProcesses_v2(nvmlDevice_t device, uint32_t *count, nvmlProcessInfo_t *list);
nvmlReturn_t nvmlDeviceGetGraphicsRunningProcesses_v3(nvmlDevice_t device, uint32_t *count, nvmlProcessInfo_t *list);
nvmlReturn_t nvmlDeviceGetMPSComputeRunningProcesses(nvmlDevice_t device, uint32_t *count, nvmlProcessInfo_v1_t *list);
nvmlReturn_t nvmlDeviceGetMPSComputeRunningProcesses_v2(nvmlDevice_t device, uint32_t *count, nvmlProcessInfo_t *list);
nvmlReturn_t nvmlDeviceGetMPSComputeRunningProcesses_v3(nvmlDevice_t device, uint32_t *count, nvmlProcessInfo_t *list);
nvmlReturn_t nvmlDeviceGetRunningProcessDetailList(nvmlDevice_t device, nvmlProcessDetailList_v1_t *list);
/* Samples newer than `last_seen`; NOT_FOUND when there are none. */
nvmlReturn_t nvmlDeviceGetProcessUtilization(nvmlDevice_t device, nvmlProcessUtilizationSample_t *samples,
					     uint32_t *count, uint64_t last_seen);
nvmlReturn_t nvmlDeviceGetProcessesUtilizationInfo(nvmlDevice_t device, nvmlProcessesUtilizationInfo_v1_t *info);

/* Clocks, power, temperature. */
nvmlReturn_t nvmlDeviceGetClockInfo(nvmlDevice_t device, nvmlClockType_t type, uint32_t *mhz);
nvmlReturn_t nvmlDeviceGetMaxClockInfo(nvmlDevice_t device, nvmlClockType_t type, uint32_t *mhz);
nvmlReturn_t nvmlDeviceGetClock(nvmlDevice_t device, nvmlClockType_t type, nvmlClockId_t id, uint32_t *mhz);
nvmlReturn_t nvmlDeviceGetApplicationsClock(nvmlDevice_t device, nvmlClockType_t type, uint32_t *mhz);
nvmlReturn_t nvmlDeviceGetDefaultApplicationsClock(nvmlDevice_t device, nvmlClockType_t type, uint32_t *mhz);
nvmlReturn_t nvmlDeviceGetMaxCustomerBoostClock(nvmlDevice_t device, nvmlClockType_t type, uint32_t *mhz);
nvmlReturn_t nvmlDeviceSetApplicationsClocks(nvmlDevice_t device, uint32_t memory_mhz, uint32_t graphics_mhz);
nvmlReturn_t nvmlDeviceResetApplicationsClocks(nvmlDevice_t device);
nvmlReturn_t nvmlDeviceSetGpuLockedClocks(nvmlDevice_t device, uint32_t from_mhz, uint32_t to_mhz);
nvmlReturn_t nvmlDeviceResetGpuLockedClocks(nvmlDevice_t device);
nvmlReturn_t nvmlDeviceSetMemoryLockedClocks(nvmlDevice_t device, uint32_t from_mhz, uint32_t to_mhz);
nvmlReturn_t nvmlDeviceResetMemoryLockedClocks(nvmlDevice_t device);
nvmlReturn_t nvmlDeviceGetSupportedMemoryClocks(nvmlDevice_t device, uint32_t *count, uint32_t *mhz);
nvmlReturn_t nvmlDeviceGetSupportedGraphicsClocks(nvmlDevice_t device, uint32_t memory_mhz, uint32_t *count,
						  uint32_t *mhz);
nvmlReturn_t nvmlDeviceGetPerformanceState(nvmlDevice_t device, nvmlPstates_t *state);
nvmlReturn_t nvmlDeviceGetPowerState(nvmlDevice_t device, nvmlPstates_t *state);
nvmlReturn_t nvmlDeviceGetSupportedPerformanceStates(nvmlDevice_t device, nvmlPstates_t *states, uint32_t bytes);
nvmlReturn_t nvmlDeviceGetCurrentClocksEventReasons(nvmlDevice_t device, uint64_t *reasons);
nvmlReturn_t nvmlDeviceGetCurrentClocksThrottleReasons(nvmlDevice_t device, uint64_t *reasons);
nvmlReturn_t nvmlDeviceGetSupportedClocksEventReasons(nvmlDevice_t device, uint64_t *reasons);
nvmlReturn_t nvmlDeviceGetSupportedClocksThrottleReasons(nvmlDevice_t device, uint64_t *reasons);
nvmlReturn_t nvmlDeviceGetViolationStatus(nvmlDevice_t device, nvmlPerfPolicyType_t policy, nvmlViolationTime_t *time);
nvmlReturn_t nvmlDeviceGetTemperature(nvmlDevice_t device, nvmlTemperatureSensors_t sensor, uint32_t *celsius);
nvmlReturn_t nvmlDeviceGetTemperatureV(nvmlDevice_t device, nvmlTemperature_v1_t *temperature);
nvmlReturn_t nvmlDeviceGetMarginTemperature(nvmlDevice_t device, nvmlMarginTemperature_v1_t *margin);
nvmlReturn_t nvmlDeviceGetTemperatureThreshold(nvmlDevice_t device, nvmlTemperatureThresholds_t type,
					       uint32_t *celsius);
nvmlReturn_t nvmlDeviceGetNumFans(nvmlDevice_t device, uint32_t *fans);
nvmlReturn_t nvmlDeviceGetFanSpeed(nvmlDevice_t device, uint32_t *percent);
nvmlReturn_t nvmlDeviceGetFanSpeed_v2(nvmlDevice_t device, uint32_t fan, uint32_t *percent);
nvmlReturn_t nvmlDeviceGetPowerUsage(nvmlDevice_t device, uint32_t *milliwatts);
nvmlReturn_t nvmlDeviceGetTotalEnergyConsumption(nvmlDevice_t device, uint64_t *millijoules);
nvmlReturn_t nvmlDeviceGetPowerManagementMode(nvmlDevice_t device, nvmlEnableState_t *mode);
nvmlReturn_t nvmlDeviceGetPowerManagementLimit(nvmlDevice_t device, uint32_t *milliwatts);
nvmlReturn_t nvmlDeviceGetEnforcedPowerLimit(nvmlDevice_t device, uint32_t *milliwatts);
nvmlReturn_t nvmlDeviceGetPowerManagementDefaultLimit(nvmlDevice_t device, uint32_t *milliwatts);
nvmlReturn_t nvmlDeviceGetPowerManagementLimitConstraints(nvmlDevice_t device, uint32_t *least, uint32_t *most);
nvmlReturn_t nvmlDeviceSetPowerManagementLimit(nvmlDevice_t device, uint32_t milliwatts);
nvmlReturn_t nvmlDeviceSetPowerManagementLimit_v2(nvmlDevice_t device, nvmlPowerValue_v2_t *limit);

/* Links. */
nvmlReturn_t nvmlDeviceGetTopologyCommonAncestor(nvmlDevice_t a, nvmlDevice_t b, nvmlGpuTopologyLevel_t *level);
nvmlReturn_t nvmlDeviceGetTopologyNearestGpus(nvmlDevice_t device, nvmlGpuTopologyLevel_t level, uint32_t *count,
					      nvmlDevice_t *devices);
nvmlReturn_t nvmlDeviceGetP2PStatus(nvmlDevice_t a, nvmlDevice_t b, nvmlGpuP2PCapsIndex_t what,
				    nvmlGpuP2PStatus_t *status);
nvmlReturn_t nvmlDeviceGetCpuAffinity(nvmlDevice_t device, uint32_t words, unsigned long *set);
nvmlReturn_t nvmlDeviceGetCpuAffinityWithinScope(nvmlDevice_t device, uint32_t words, unsigned long *set,
						 nvmlAffinityScope_t scope);
nvmlReturn_t nvmlDeviceGetMemoryAffinity(nvmlDevice_t device, uint32_t words, unsigned long *set,
					 nvmlAffinityScope_t scope);
nvmlReturn_t nvmlDeviceGetNvLinkState(nvmlDevice_t device, uint32_t link, nvmlEnableState_t *active);
nvmlReturn_t nvmlDeviceGetNvLinkVersion(nvmlDevice_t device, uint32_t link, uint32_t *version);
nvmlReturn_t nvmlDeviceGetNvLinkCapability(nvmlDevice_t device, uint32_t link, nvmlNvLinkCapability_t what,
					   uint32_t *yes);
nvmlReturn_t nvmlDeviceGetNvLinkRemotePciInfo(nvmlDevice_t device, uint32_t link, nvmlPciInfo_t *pci);
nvmlReturn_t nvmlDeviceGetNvLinkRemotePciInfo_v2(nvmlDevice_t device, uint32_t link, nvmlPciInfo_t *pci);
nvmlReturn_t nvmlDeviceGetNvLinkRemoteDeviceType(nvmlDevice_t device, uint32_t link, nvmlIntNvLinkDeviceType_t *type);
nvmlReturn_t nvmlDeviceGetNvLinkErrorCounter(nvmlDevice_t device, uint32_t link, nvmlNvLinkErrorCounter_t which,
					     uint64_t *count);
nvmlReturn_t nvmlDeviceResetNvLinkErrorCounters(nvmlDevice_t device, uint32_t link);

/* Events. A wait with nothing registered, or with nothing to tell in time, answers TIMEOUT. EventSetFree may not run
 * while another thread waits on the set. */
nvmlReturn_t nvmlEventSetCreate(nvmlEventSet_t *set);
nvmlReturn_t nvmlEventSetFree(nvmlEventSet_t set);
nvmlReturn_t nvmlDeviceGetSupportedEventTypes(nvmlDevice_t device, uint64_t *types);
nvmlReturn_t nvmlDeviceRegisterEvents(nvmlDevice_t device, uint64_t types, nvmlEventSet_t set);
nvmlReturn_t nvmlEventSetWait(nvmlEventSet_t set, nvmlEventData_t *data, uint32_t timeout_ms); /* no instance ids */
nvmlReturn_t nvmlEventSetWait_v2(nvmlEventSet_t set, nvmlEventData_t *data, uint32_t timeout_ms);

/* Field values; each has its own return code. */
nvmlReturn_t nvmlDeviceGetFieldValues(nvmlDevice_t device, int count, nvmlFieldValue_t *values);
nvmlReturn_t nvmlDeviceClearFieldValues(nvmlDevice_t device, int count, nvmlFieldValue_t *values);

/* GPM. */
nvmlReturn_t nvmlGpmQueryDeviceSupport(nvmlDevice_t device, nvmlGpmSupport_t *support);
nvmlReturn_t nvmlGpmSampleAlloc(nvmlGpmSample_t *sample);
nvmlReturn_t nvmlGpmSampleFree(nvmlGpmSample_t sample);
nvmlReturn_t nvmlGpmSampleGet(nvmlDevice_t device, nvmlGpmSample_t sample);
/* Of a GPU instance, asked of its GPU. */
nvmlReturn_t nvmlGpmMigSampleGet(nvmlDevice_t device, uint32_t gpu_instance, nvmlGpmSample_t sample);
nvmlReturn_t nvmlGpmMetricsGet(nvmlGpmMetricsGet_t *get);

#endif
