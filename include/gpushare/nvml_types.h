/* The numbers and layouts of NVML's binary interface: include gpushare/nvml.h, which says what they follow. */
#ifndef GPUSHARE_NVML_TYPES_H
#define GPUSHARE_NVML_TYPES_H

#include <stddef.h>
#include <stdint.h>

typedef enum nvmlReturn {
	NVML_SUCCESS = 0,
	NVML_ERROR_UNINITIALIZED = 1,
	NVML_ERROR_INVALID_ARGUMENT = 2,
	NVML_ERROR_NOT_SUPPORTED = 3,
	NVML_ERROR_NO_PERMISSION = 4,
	NVML_ERROR_ALREADY_INITIALIZED = 5,
	NVML_ERROR_NOT_FOUND = 6,
	NVML_ERROR_INSUFFICIENT_SIZE = 7,
	NVML_ERROR_INSUFFICIENT_POWER = 8,
	NVML_ERROR_DRIVER_NOT_LOADED = 9,
	NVML_ERROR_TIMEOUT = 10,
	NVML_ERROR_IRQ_ISSUE = 11,
	NVML_ERROR_LIBRARY_NOT_FOUND = 12,
	NVML_ERROR_FUNCTION_NOT_FOUND = 13,
	NVML_ERROR_CORRUPTED_INFOROM = 14,
	NVML_ERROR_GPU_IS_LOST = 15,
	NVML_ERROR_RESET_REQUIRED = 16,
	NVML_ERROR_OPERATING_SYSTEM = 17,
	NVML_ERROR_LIB_RM_VERSION_MISMATCH = 18,
	NVML_ERROR_IN_USE = 19,
	NVML_ERROR_MEMORY = 20,
	NVML_ERROR_NO_DATA = 21,
	NVML_ERROR_VGPU_ECC_NOT_SUPPORTED = 22,
	NVML_ERROR_INSUFFICIENT_RESOURCES = 23,
	NVML_ERROR_FREQ_NOT_SUPPORTED = 24,
	NVML_ERROR_ARGUMENT_VERSION_MISMATCH = 25,
	NVML_ERROR_DEPRECATED = 26,
	NVML_ERROR_NOT_READY = 27,
	NVML_ERROR_GPU_NOT_FOUND = 28,
	NVML_ERROR_INVALID_STATE = 29,
	NVML_ERROR_RESET_TYPE_NOT_SUPPORTED = 30,
	NVML_ERROR_UNKNOWN = 999,
} nvmlReturn_t;

/* Handles are opaque pointers of the library; nothing frees them. */
typedef struct nvmlDevice_st *nvmlDevice_t;
typedef struct nvmlEventSet_st *nvmlEventSet_t;
typedef struct nvmlSystemEventSet_st *nvmlSystemEventSet_t;
typedef struct nvmlGpmSample_st *nvmlGpmSample_t;

#define NVML_STRUCT_WORD(type, number)      ((uint32_t)(sizeof(type) | (uint32_t)(number) << 24))
#define NVML_ASSERT_SIZE(type, bytes)       _Static_assert(sizeof(type) == (bytes), "layout of " #type)
#define NVML_ASSERT_AT(type, member, bytes) _Static_assert(offsetof(type, member) == (bytes), #type "." #member)

/* A number that NVML cannot tell: all bits set, in the width of the member. */
#define NVML_VALUE_NOT_AVAILABLE_U32 UINT32_MAX
#define NVML_VALUE_NOT_AVAILABLE_U64 UINT64_MAX

enum {
	NVML_DEVICE_UUID_BUFFER_SIZE = 80,
	NVML_DEVICE_UUID_V2_BUFFER_SIZE = 96,
	NVML_DEVICE_NAME_BUFFER_SIZE = 64,
	NVML_DEVICE_NAME_V2_BUFFER_SIZE = 96,
	NVML_DEVICE_SERIAL_BUFFER_SIZE = 30,
	NVML_DEVICE_PART_NUMBER_BUFFER_SIZE = 80,
	NVML_DEVICE_VBIOS_VERSION_BUFFER_SIZE = 32,
	NVML_DEVICE_INFOROM_VERSION_BUFFER_SIZE = 16,
	NVML_DEVICE_PCI_BUS_ID_BUFFER_SIZE = 32,
	NVML_DEVICE_PCI_BUS_ID_BUFFER_V2_SIZE = 16,
	NVML_SYSTEM_DRIVER_VERSION_BUFFER_SIZE = 80,
	NVML_SYSTEM_NVML_VERSION_BUFFER_SIZE = 80,
	NVML_GSP_FIRMWARE_VERSION_BUF_SIZE = 64,
	NVML_NVLINK_MAX_LINKS = 36,
	NVML_INIT_FLAG_NO_GPUS = 1,
	NVML_INIT_FLAG_NO_ATTACH = 2,
	NVML_INIT_FLAG_FORCE_INIT = 4,
};

/* ---- The device itself ---- */

/* nvmlBrandType_t */
enum {
	NVML_BRAND_UNKNOWN = 0,
	NVML_BRAND_QUADRO = 1,
	NVML_BRAND_TESLA = 2,
	NVML_BRAND_NVS = 3,
	NVML_BRAND_GRID = 4,
	NVML_BRAND_GEFORCE = 5,
	NVML_BRAND_TITAN = 6,
	NVML_BRAND_NVIDIA_VAPPS = 7,
	NVML_BRAND_NVIDIA_VPC = 8,
	NVML_BRAND_NVIDIA_VCS = 9,
	NVML_BRAND_NVIDIA_VWS = 10,
	NVML_BRAND_NVIDIA_CLOUD_GAMING = 11,
	NVML_BRAND_QUADRO_RTX = 12,
	NVML_BRAND_NVIDIA_RTX = 13,
	NVML_BRAND_NVIDIA = 14,
	NVML_BRAND_GEFORCE_RTX = 15,
	NVML_BRAND_TITAN_RTX = 16,
};
/* nvmlDeviceArchitecture_t */
enum {
	NVML_DEVICE_ARCH_KEPLER = 2,
	NVML_DEVICE_ARCH_MAXWELL = 3,
	NVML_DEVICE_ARCH_PASCAL = 4,
	NVML_DEVICE_ARCH_VOLTA = 5,
	NVML_DEVICE_ARCH_TURING = 6,
	NVML_DEVICE_ARCH_AMPERE = 7,
	NVML_DEVICE_ARCH_ADA = 8,
	NVML_DEVICE_ARCH_HOPPER = 9,
	NVML_DEVICE_ARCH_BLACKWELL = 10,
};
typedef uint32_t nvmlBrandType_t;
typedef uint32_t nvmlDeviceArchitecture_t;

typedef enum { NVML_FEATURE_DISABLED = 0, NVML_FEATURE_ENABLED = 1 } nvmlEnableState_t;

typedef enum {
	NVML_COMPUTEMODE_DEFAULT = 0,
	NVML_COMPUTEMODE_EXCLUSIVE_THREAD = 1, /* gone since CUDA 8 */
	NVML_COMPUTEMODE_PROHIBITED = 2,
	NVML_COMPUTEMODE_EXCLUSIVE_PROCESS = 3,
} nvmlComputeMode_t;

/* nvmlBusType_t */
enum { NVML_BUS_TYPE_UNKNOWN = 0, NVML_BUS_TYPE_PCI = 1, NVML_BUS_TYPE_PCIE = 2 };
/* nvmlGpuVirtualizationMode_t */
enum {
	NVML_GPU_VIRTUALIZATION_MODE_NONE = 0,
	NVML_GPU_VIRTUALIZATION_MODE_PASSTHROUGH = 1,
	NVML_GPU_VIRTUALIZATION_MODE_VGPU = 2,
	NVML_GPU_VIRTUALIZATION_MODE_HOST_VGPU = 3,
	NVML_GPU_VIRTUALIZATION_MODE_HOST_VSGA = 4,
};
/* nvmlInforomObject_t */
enum {
	NVML_INFOROM_OEM = 0,
	NVML_INFOROM_ECC = 1,
	NVML_INFOROM_POWER = 2,
	NVML_INFOROM_DEN = 3,
	NVML_INFOROM_COUNT = 4,
};
/* nvmlDeviceGpuRecoveryAction_t, the value of NVML_FI_DEV_GET_GPU_RECOVERY_ACTION */
enum {
	NVML_GPU_RECOVERY_ACTION_NONE = 0,
	NVML_GPU_RECOVERY_ACTION_GPU_RESET = 1,
	NVML_GPU_RECOVERY_ACTION_NODE_REBOOT = 2,
	NVML_GPU_RECOVERY_ACTION_DRAIN_P2P = 3,
	NVML_GPU_RECOVERY_ACTION_DRAIN_AND_RESET = 4,
	NVML_GPU_RECOVERY_ACTION_RECOVER_IMEX_DOMAIN = 5,
};
/* nvmlRestrictedAPI_t */
enum { NVML_RESTRICTED_API_SET_APPLICATION_CLOCKS = 0, NVML_RESTRICTED_API_SET_AUTO_BOOSTED_CLOCKS = 1 };

typedef struct nvmlPciInfo {
	char busIdLegacy[16]; /* "0000:3B:00.0" */
	uint32_t domain, bus, device;
	uint32_t pciDeviceId;    /* device << 16 | vendor */
	uint32_t pciSubSystemId; /* nvmlDeviceGetPciInfo (the oldest) leaves this and busId alone */
	char busId[32];          /* "00000000:3B:00.0" */
} nvmlPciInfo_t;
NVML_ASSERT_SIZE(nvmlPciInfo_t, 68);

typedef struct nvmlPciInfoExt_v1 {
	uint32_t version;
	uint32_t domain, bus, device;
	uint32_t pciDeviceId, pciSubSystemId;
	uint32_t baseClass, subClass;
	char busId[32];
} nvmlPciInfoExt_v1_t;
#define nvmlPciInfoExt_v1 NVML_STRUCT_WORD(nvmlPciInfoExt_v1_t, 1)
NVML_ASSERT_SIZE(nvmlPciInfoExt_v1_t, 64);

/* How a GPU is attached to an NVLink fabric of several nodes; its values count once the state is completed. */
enum { NVML_GPU_FABRIC_STATE_COMPLETED = 3 };
typedef struct nvmlGpuFabricInfo_v2 {
	uint32_t version;
	uint8_t clusterUuid[16];
	nvmlReturn_t status;
	uint32_t cliqueId;
	uint8_t state;
	uint32_t healthMask;
} nvmlGpuFabricInfo_v2_t;
#define nvmlGpuFabricInfo_v2 NVML_STRUCT_WORD(nvmlGpuFabricInfo_v2_t, 2)
NVML_ASSERT_SIZE(nvmlGpuFabricInfo_v2_t, 36);

enum { NVML_UUID_TYPE_NONE = 0, NVML_UUID_TYPE_ASCII = 1, NVML_UUID_TYPE_BINARY = 2 };
typedef struct nvmlUUID_v1 {
	uint32_t version;
	uint32_t type;
	union {
		char str[41];
		uint8_t bytes[16];
	} value;
} nvmlUUID_v1_t;
#define nvmlUUID_v1 NVML_STRUCT_WORD(nvmlUUID_v1_t, 1)
NVML_ASSERT_SIZE(nvmlUUID_v1_t, 52);

typedef struct nvmlSystemDriverBranchInfo_v1 {
	uint32_t version;
	char branch[80];
} nvmlSystemDriverBranchInfo_v1_t;
#define nvmlSystemDriverBranchInfo_v1 NVML_STRUCT_WORD(nvmlSystemDriverBranchInfo_v1_t, 1)
NVML_ASSERT_SIZE(nvmlSystemDriverBranchInfo_v1_t, 84);

/* A MIG instance's size; for a whole GPU the call answers NOT_SUPPORTED. */
typedef struct nvmlDeviceAttributes {
	uint32_t multiprocessorCount;
	uint32_t sharedCopyEngineCount, sharedDecoderCount, sharedEncoderCount, sharedJpegCount, sharedOfaCount;
	uint32_t gpuInstanceSliceCount, computeInstanceSliceCount;
	uint64_t memorySizeMB;
} nvmlDeviceAttributes_t;
NVML_ASSERT_SIZE(nvmlDeviceAttributes_t, 40);

enum { NVML_DEVICE_MIG_DISABLE = 0, NVML_DEVICE_MIG_ENABLE = 1 };

/* ---- MIG ---- */

/* Handles of GPU instances and compute instances; as of devices, nothing frees them. One of an instance that is gone is
 * refused. */
typedef struct nvmlGpuInstance_st *nvmlGpuInstance_t;
typedef struct nvmlComputeInstance_st *nvmlComputeInstance_t;

/* What asks for a profile's facts. Only the `id` in them is what every other call wants. */
enum {
	NVML_GPU_INSTANCE_PROFILE_1_SLICE = 0,
	NVML_GPU_INSTANCE_PROFILE_2_SLICE = 1,
	NVML_GPU_INSTANCE_PROFILE_3_SLICE = 2,
	NVML_GPU_INSTANCE_PROFILE_4_SLICE = 3,
	NVML_GPU_INSTANCE_PROFILE_7_SLICE = 4,
	NVML_GPU_INSTANCE_PROFILE_8_SLICE = 5,
	NVML_GPU_INSTANCE_PROFILE_6_SLICE = 6,
	NVML_GPU_INSTANCE_PROFILE_1_SLICE_REV1 = 7, /* 1g with the media engines */
	NVML_GPU_INSTANCE_PROFILE_2_SLICE_REV1 = 8,
	NVML_GPU_INSTANCE_PROFILE_1_SLICE_REV2 = 9, /* 1g with the memory of two */
	NVML_GPU_INSTANCE_PROFILE_1_SLICE_GFX = 10,
	NVML_GPU_INSTANCE_PROFILE_2_SLICE_GFX = 11,
	NVML_GPU_INSTANCE_PROFILE_4_SLICE_GFX = 12,
	NVML_GPU_INSTANCE_PROFILE_1_SLICE_NO_ME = 13,
	NVML_GPU_INSTANCE_PROFILE_2_SLICE_NO_ME = 14,
	NVML_GPU_INSTANCE_PROFILE_1_SLICE_ALL_ME = 15,
	NVML_GPU_INSTANCE_PROFILE_2_SLICE_ALL_ME = 16,
	NVML_GPU_INSTANCE_PROFILE_3_SLICE_GFX = 17,
	NVML_GPU_INSTANCE_PROFILE_COUNT = 18,
};
enum {
	NVML_COMPUTE_INSTANCE_PROFILE_1_SLICE = 0,
	NVML_COMPUTE_INSTANCE_PROFILE_2_SLICE = 1,
	NVML_COMPUTE_INSTANCE_PROFILE_3_SLICE = 2,
	NVML_COMPUTE_INSTANCE_PROFILE_4_SLICE = 3,
	NVML_COMPUTE_INSTANCE_PROFILE_7_SLICE = 4,
	NVML_COMPUTE_INSTANCE_PROFILE_8_SLICE = 5,
	NVML_COMPUTE_INSTANCE_PROFILE_6_SLICE = 6,
	NVML_COMPUTE_INSTANCE_PROFILE_1_SLICE_REV1 = 7,
	NVML_COMPUTE_INSTANCE_PROFILE_7_SLICE_NVL = 8,
	NVML_COMPUTE_INSTANCE_PROFILE_COUNT = 9,
};
enum { NVML_COMPUTE_INSTANCE_ENGINE_PROFILE_SHARED = 0, NVML_COMPUTE_INSTANCE_ENGINE_PROFILE_COUNT = 1 };
enum { NVML_GPU_INSTANCE_PROFILE_CAPS_P2P = 1, NVML_GPU_INSTANCE_PROFILE_CAPS_GFX = 2 };

typedef struct nvmlGpuInstancePlacement {
	uint32_t start, size; /* in memory slices */
} nvmlGpuInstancePlacement_t;
NVML_ASSERT_SIZE(nvmlGpuInstancePlacement_t, 8);

typedef struct nvmlGpuInstanceProfileInfo {
	uint32_t id;
	uint32_t isP2pSupported;
	uint32_t sliceCount;    /* compute slices */
	uint32_t instanceCount; /* how many a GPU can hold at most */
	uint32_t multiprocessorCount;
	uint32_t copyEngineCount, decoderCount, encoderCount, jpegCount, ofaCount;
	uint64_t memorySizeMB;
} nvmlGpuInstanceProfileInfo_t;
NVML_ASSERT_SIZE(nvmlGpuInstanceProfileInfo_t, 48);

typedef struct nvmlGpuInstanceProfileInfo_v2 {
	uint32_t version;
	uint32_t id;
	uint32_t isP2pSupported;
	uint32_t sliceCount, instanceCount, multiprocessorCount;
	uint32_t copyEngineCount, decoderCount, encoderCount, jpegCount, ofaCount;
	uint64_t memorySizeMB;
	char name[96]; /* "MIG 1g.10gb" */
} nvmlGpuInstanceProfileInfo_v2_t;
#define nvmlGpuInstanceProfileInfo_v2 NVML_STRUCT_WORD(nvmlGpuInstanceProfileInfo_v2_t, 2)
NVML_ASSERT_SIZE(nvmlGpuInstanceProfileInfo_v2_t, 152);
NVML_ASSERT_AT(nvmlGpuInstanceProfileInfo_v2_t, memorySizeMB, 48);

typedef struct nvmlGpuInstanceProfileInfo_v3 {
	uint32_t version;
	uint32_t id;
	uint32_t sliceCount, instanceCount, multiprocessorCount;
	uint32_t copyEngineCount, decoderCount, encoderCount, jpegCount, ofaCount;
	uint64_t memorySizeMB;
	char name[96];
	uint32_t capabilities;
} nvmlGpuInstanceProfileInfo_v3_t;
#define nvmlGpuInstanceProfileInfo_v3 NVML_STRUCT_WORD(nvmlGpuInstanceProfileInfo_v3_t, 3)
NVML_ASSERT_SIZE(nvmlGpuInstanceProfileInfo_v3_t, 152);
NVML_ASSERT_AT(nvmlGpuInstanceProfileInfo_v3_t, name, 48);

typedef struct nvmlGpuInstanceInfo {
	nvmlDevice_t device;
	uint32_t id;
	uint32_t profileId;
	nvmlGpuInstancePlacement_t placement;
} nvmlGpuInstanceInfo_t;
NVML_ASSERT_SIZE(nvmlGpuInstanceInfo_t, 24);

typedef struct nvmlComputeInstancePlacement {
	uint32_t start, size; /* in compute slices of the GPU instance */
} nvmlComputeInstancePlacement_t;
NVML_ASSERT_SIZE(nvmlComputeInstancePlacement_t, 8);

typedef struct nvmlComputeInstanceProfileInfo {
	uint32_t id;
	uint32_t sliceCount, instanceCount, multiprocessorCount;
	uint32_t sharedCopyEngineCount, sharedDecoderCount, sharedEncoderCount, sharedJpegCount, sharedOfaCount;
} nvmlComputeInstanceProfileInfo_t;
NVML_ASSERT_SIZE(nvmlComputeInstanceProfileInfo_t, 36);

typedef struct nvmlComputeInstanceProfileInfo_v2 {
	uint32_t version;
	uint32_t id;
	uint32_t sliceCount, instanceCount, multiprocessorCount;
	uint32_t sharedCopyEngineCount, sharedDecoderCount, sharedEncoderCount, sharedJpegCount, sharedOfaCount;
	char name[96]; /* "MIG 1c.3g.40gb", or "MIG 3g.40gb" when it takes all of the GPU instance */
} nvmlComputeInstanceProfileInfo_v2_t;
#define nvmlComputeInstanceProfileInfo_v2 NVML_STRUCT_WORD(nvmlComputeInstanceProfileInfo_v2_t, 2)
NVML_ASSERT_SIZE(nvmlComputeInstanceProfileInfo_v2_t, 136);

typedef struct nvmlComputeInstanceProfileInfo_v3 {
	uint32_t version;
	uint32_t id;
	uint32_t sliceCount, instanceCount, multiprocessorCount;
	uint32_t sharedCopyEngineCount, sharedDecoderCount, sharedEncoderCount, sharedJpegCount, sharedOfaCount;
	char name[96];
	uint32_t capabilities;
} nvmlComputeInstanceProfileInfo_v3_t;
#define nvmlComputeInstanceProfileInfo_v3 NVML_STRUCT_WORD(nvmlComputeInstanceProfileInfo_v3_t, 3)
NVML_ASSERT_SIZE(nvmlComputeInstanceProfileInfo_v3_t, 140);

typedef struct nvmlComputeInstanceInfo {
	nvmlDevice_t device; /* the GPU */
	nvmlGpuInstance_t gpuInstance;
	uint32_t id; /* within the GPU instance */
	uint32_t profileId;
	nvmlComputeInstancePlacement_t placement; /* not in the first version */
} nvmlComputeInstanceInfo_t;
NVML_ASSERT_SIZE(nvmlComputeInstanceInfo_t, 32);

/* ---- Memory and ECC ---- */

typedef struct nvmlMemory {
	uint64_t total, free, used; /* bytes; used includes what v2 calls reserved */
} nvmlMemory_t;
NVML_ASSERT_SIZE(nvmlMemory_t, 24);

typedef struct nvmlMemory_v2 {
	uint32_t version;
	uint64_t total, reserved, free, used;
} nvmlMemory_v2_t;
#define nvmlMemory_v2 NVML_STRUCT_WORD(nvmlMemory_v2_t, 2)
NVML_ASSERT_SIZE(nvmlMemory_v2_t, 40);
NVML_ASSERT_AT(nvmlMemory_v2_t, total, 8);

typedef struct nvmlBAR1Memory {
	uint64_t bar1Total, bar1Free, bar1Used;
} nvmlBAR1Memory_t;
NVML_ASSERT_SIZE(nvmlBAR1Memory_t, 24);

typedef enum { NVML_MEMORY_ERROR_TYPE_CORRECTED = 0, NVML_MEMORY_ERROR_TYPE_UNCORRECTED = 1 } nvmlMemoryErrorType_t;
typedef enum { NVML_VOLATILE_ECC = 0, NVML_AGGREGATE_ECC = 1 } nvmlEccCounterType_t;
/* nvmlMemoryLocation_t */
enum {
	NVML_MEMORY_LOCATION_L1_CACHE = 0,
	NVML_MEMORY_LOCATION_L2_CACHE = 1,
	NVML_MEMORY_LOCATION_DRAM = 2,
	NVML_MEMORY_LOCATION_REGISTER_FILE = 3,
	NVML_MEMORY_LOCATION_TEXTURE_MEMORY = 4,
	NVML_MEMORY_LOCATION_TEXTURE_SHM = 5,
	NVML_MEMORY_LOCATION_CBU = 6,
	NVML_MEMORY_LOCATION_SRAM = 7,
	NVML_MEMORY_LOCATION_COUNT = 8,
};

typedef struct nvmlEccErrorCounts {
	uint64_t l1Cache, l2Cache, deviceMemory, registerFile;
} nvmlEccErrorCounts_t;
NVML_ASSERT_SIZE(nvmlEccErrorCounts_t, 32);

typedef struct nvmlEccSramErrorStatus_v1 {
	uint32_t version;
	uint64_t aggregateUncParity, aggregateUncSecDed, aggregateCor;
	uint64_t volatileUncParity, volatileUncSecDed, volatileCor;
	uint64_t aggregateUncBucketL2, aggregateUncBucketSm, aggregateUncBucketPcie, aggregateUncBucketMcu,
		aggregateUncBucketOther;
	uint32_t bThresholdExceeded;
} nvmlEccSramErrorStatus_v1_t;
#define nvmlEccSramErrorStatus_v1 NVML_STRUCT_WORD(nvmlEccSramErrorStatus_v1_t, 1)
NVML_ASSERT_SIZE(nvmlEccSramErrorStatus_v1_t, 104);

typedef struct nvmlRemappedRowsInfo_v2 {
	uint32_t corrActiveRemaps, corrInactiveRemaps, uncActiveRemaps, uncInactiveRemaps;
	uint32_t bPending, bFailureOccurred;
} nvmlRemappedRowsInfo_v2_t;
NVML_ASSERT_SIZE(nvmlRemappedRowsInfo_v2_t, 24);

/* Banks of memory by how many spare rows they have left. */
typedef struct nvmlRowRemapperHistogramValues {
	uint32_t max, high, partial, low, none;
} nvmlRowRemapperHistogramValues_t;
NVML_ASSERT_SIZE(nvmlRowRemapperHistogramValues_t, 20);

typedef enum {
	NVML_PAGE_RETIREMENT_CAUSE_MULTIPLE_SINGLE_BIT_ECC_ERRORS = 0,
	NVML_PAGE_RETIREMENT_CAUSE_DOUBLE_BIT_ECC_ERROR = 1,
} nvmlPageRetirementCause_t;

/* ---- Use: utilisation, processes, samples ---- */

typedef struct nvmlUtilization {
	uint32_t gpu, memory; /* percent */
} nvmlUtilization_t;
NVML_ASSERT_SIZE(nvmlUtilization_t, 8);

typedef struct nvmlProcessInfo_v1 {
	uint32_t pid;
	uint64_t usedGpuMemory; /* bytes, or all bits set */
} nvmlProcessInfo_v1_t;
NVML_ASSERT_SIZE(nvmlProcessInfo_v1_t, 16);

/* What the _v2 and the _v3 lists hold. */
typedef struct nvmlProcessInfo {
	uint32_t pid;
	uint64_t usedGpuMemory;
	uint32_t gpuInstanceId, computeInstanceId; /* all bits set outside MIG */
} nvmlProcessInfo_t;
NVML_ASSERT_SIZE(nvmlProcessInfo_t, 24);

typedef struct nvmlProcessDetail_v1 {
	uint32_t pid;
	uint64_t usedGpuMemory;
	uint32_t gpuInstanceId, computeInstanceId;
	uint64_t usedGpuCcProtectedMemory;
} nvmlProcessDetail_v1_t;
NVML_ASSERT_SIZE(nvmlProcessDetail_v1_t, 32);

enum {
	NVML_PROCESS_MODE_COMPUTE = 0,
	NVML_PROCESS_MODE_GRAPHICS = 1,
	NVML_PROCESS_MODE_MPS = 2,
	NVML_PROCESS_MODE_ALL = 3,
};
typedef struct nvmlProcessDetailList_v1 {
	uint32_t version;
	uint32_t mode;
	uint32_t numProcArrayEntries;
	nvmlProcessDetail_v1_t *procArray;
} nvmlProcessDetailList_v1_t;
#define nvmlProcessDetailList_v1 NVML_STRUCT_WORD(nvmlProcessDetailList_v1_t, 1)
NVML_ASSERT_SIZE(nvmlProcessDetailList_v1_t, 24);

typedef struct nvmlProcessUtilizationSample {
	uint32_t pid;
	uint64_t timeStamp; /* microseconds of CLOCK_REALTIME */
	uint32_t smUtil, memUtil, encUtil, decUtil;
} nvmlProcessUtilizationSample_t;
NVML_ASSERT_SIZE(nvmlProcessUtilizationSample_t, 32);

typedef struct nvmlProcessUtilizationInfo_v1 {
	uint64_t timeStamp;
	uint32_t pid;
	uint32_t smUtil, memUtil, encUtil, decUtil, jpgUtil, ofaUtil;
} nvmlProcessUtilizationInfo_v1_t;
NVML_ASSERT_SIZE(nvmlProcessUtilizationInfo_v1_t, 40);

typedef struct nvmlProcessesUtilizationInfo_v1 {
	uint32_t version;
	uint32_t processSamplesCount;
	uint64_t lastSeenTimeStamp;
	nvmlProcessUtilizationInfo_v1_t *procUtilArray;
} nvmlProcessesUtilizationInfo_v1_t;
#define nvmlProcessesUtilizationInfo_v1 NVML_STRUCT_WORD(nvmlProcessesUtilizationInfo_v1_t, 1)
NVML_ASSERT_SIZE(nvmlProcessesUtilizationInfo_v1_t, 24);

typedef enum {
	NVML_VALUE_TYPE_DOUBLE = 0,
	NVML_VALUE_TYPE_UNSIGNED_INT = 1,
	NVML_VALUE_TYPE_UNSIGNED_LONG = 2,
	NVML_VALUE_TYPE_UNSIGNED_LONG_LONG = 3,
	NVML_VALUE_TYPE_SIGNED_LONG_LONG = 4,
	NVML_VALUE_TYPE_SIGNED_INT = 5,
	NVML_VALUE_TYPE_UNSIGNED_SHORT = 6,
} nvmlValueType_t;

typedef union nvmlValue {
	double dVal;
	int32_t siVal;
	uint32_t uiVal;
	unsigned long ulVal;
	uint64_t ullVal;
	int64_t sllVal;
	uint16_t usVal;
} nvmlValue_t;
NVML_ASSERT_SIZE(nvmlValue_t, 8);

typedef struct nvmlSample {
	uint64_t timeStamp; /* microseconds of CLOCK_REALTIME */
	nvmlValue_t sampleValue;
} nvmlSample_t;
NVML_ASSERT_SIZE(nvmlSample_t, 16);

typedef enum {
	NVML_TOTAL_POWER_SAMPLES = 0,
	NVML_GPU_UTILIZATION_SAMPLES = 1,
	NVML_MEMORY_UTILIZATION_SAMPLES = 2,
	NVML_ENC_UTILIZATION_SAMPLES = 3,
	NVML_DEC_UTILIZATION_SAMPLES = 4,
	NVML_PROCESSOR_CLK_SAMPLES = 5,
	NVML_MEMORY_CLK_SAMPLES = 6,
	NVML_MODULE_POWER_SAMPLES = 7,
	NVML_JPG_UTILIZATION_SAMPLES = 8,
	NVML_OFA_UTILIZATION_SAMPLES = 9,
} nvmlSamplingType_t;

typedef struct nvmlAccountingStats {
	uint32_t gpuUtilization, memoryUtilization;
	uint64_t maxMemoryUsage, time, startTime;
	uint32_t isRunning;
	uint32_t reserved[5];
} nvmlAccountingStats_t;
NVML_ASSERT_SIZE(nvmlAccountingStats_t, 56);

/* ---- Clocks, power, temperature ---- */

typedef enum { NVML_CLOCK_GRAPHICS = 0, NVML_CLOCK_SM = 1, NVML_CLOCK_MEM = 2, NVML_CLOCK_VIDEO = 3 } nvmlClockType_t;
typedef enum {
	NVML_CLOCK_ID_CURRENT = 0,
	NVML_CLOCK_ID_APP_CLOCK_TARGET = 1,
	NVML_CLOCK_ID_APP_CLOCK_DEFAULT = 2,
	NVML_CLOCK_ID_CUSTOMER_BOOST_MAX = 3,
} nvmlClockId_t;
/* In place of a figure of MHz: what the board can take for good, and the most there is. */
enum { NVML_CLOCK_LIMIT_ID_TDP = 0xFFFFFF01, NVML_CLOCK_LIMIT_ID_UNLIMITED = 0xFFFFFF02 };
enum { NVML_PSTATE_0 = 0, NVML_PSTATE_8 = 8, NVML_PSTATE_15 = 15, NVML_PSTATE_UNKNOWN = 32 };
typedef uint32_t nvmlPstates_t;

/* Bits of nvmlDeviceGetCurrentClocksEventReasons. */
#define nvmlClocksEventReasonGpuIdle                   UINT64_C(0x001)
#define nvmlClocksEventReasonApplicationsClocksSetting UINT64_C(0x002)
#define nvmlClocksEventReasonSwPowerCap                UINT64_C(0x004)
#define nvmlClocksThrottleReasonHwSlowdown             UINT64_C(0x008)
#define nvmlClocksEventReasonSyncBoost                 UINT64_C(0x010)
#define nvmlClocksEventReasonSwThermalSlowdown         UINT64_C(0x020)
#define nvmlClocksThrottleReasonHwThermalSlowdown      UINT64_C(0x040)
#define nvmlClocksThrottleReasonHwPowerBrakeSlowdown   UINT64_C(0x080)
#define nvmlClocksEventReasonDisplayClockSetting       UINT64_C(0x100)
#define nvmlClocksEventReasonNone                      UINT64_C(0)

typedef enum { NVML_TEMPERATURE_GPU = 0 } nvmlTemperatureSensors_t;
typedef enum {
	NVML_TEMPERATURE_THRESHOLD_SHUTDOWN = 0,
	NVML_TEMPERATURE_THRESHOLD_SLOWDOWN = 1,
	NVML_TEMPERATURE_THRESHOLD_MEM_MAX = 2,
	NVML_TEMPERATURE_THRESHOLD_GPU_MAX = 3,
	NVML_TEMPERATURE_THRESHOLD_ACOUSTIC_MIN = 4,
	NVML_TEMPERATURE_THRESHOLD_ACOUSTIC_CURR = 5,
	NVML_TEMPERATURE_THRESHOLD_ACOUSTIC_MAX = 6,
	NVML_TEMPERATURE_THRESHOLD_GPS_CURR = 7,
} nvmlTemperatureThresholds_t;

typedef struct nvmlTemperature_v1 {
	uint32_t version;
	nvmlTemperatureSensors_t sensorType;
	int32_t temperature;
} nvmlTemperature_v1_t;
#define nvmlTemperature_v1 NVML_STRUCT_WORD(nvmlTemperature_v1_t, 1)
NVML_ASSERT_SIZE(nvmlTemperature_v1_t, 12);

typedef struct nvmlMarginTemperature_v1 {
	uint32_t version;
	int32_t marginTemperature;
} nvmlMarginTemperature_v1_t;
#define nvmlMarginTemperature_v1 NVML_STRUCT_WORD(nvmlMarginTemperature_v1_t, 1)
NVML_ASSERT_SIZE(nvmlMarginTemperature_v1_t, 8);

enum { NVML_POWER_SCOPE_GPU = 0, NVML_POWER_SCOPE_MODULE = 1, NVML_POWER_SCOPE_MEMORY = 2 };
typedef struct nvmlPowerValue_v2 {
	uint32_t version;
	uint8_t powerScope;
	uint32_t powerValueMw;
} nvmlPowerValue_v2_t;
#define nvmlPowerValue_v2 NVML_STRUCT_WORD(nvmlPowerValue_v2_t, 2)
NVML_ASSERT_SIZE(nvmlPowerValue_v2_t, 12);

typedef enum {
	NVML_PERF_POLICY_POWER = 0,
	NVML_PERF_POLICY_THERMAL = 1,
	NVML_PERF_POLICY_SYNC_BOOST = 2,
	NVML_PERF_POLICY_BOARD_LIMIT = 3,
	NVML_PERF_POLICY_LOW_UTILIZATION = 4,
	NVML_PERF_POLICY_RELIABILITY = 5,
	NVML_PERF_POLICY_TOTAL_APP_CLOCKS = 10,
	NVML_PERF_POLICY_TOTAL_BASE_CLOCKS = 11,
} nvmlPerfPolicyType_t;

typedef struct nvmlViolationTime {
	uint64_t referenceTime; /* microseconds of CLOCK_REALTIME */
	uint64_t violationTime; /* nanoseconds */
} nvmlViolationTime_t;
NVML_ASSERT_SIZE(nvmlViolationTime_t, 16);

typedef enum { NVML_PCIE_UTIL_TX_BYTES = 0, NVML_PCIE_UTIL_RX_BYTES = 1 } nvmlPcieUtilCounter_t;
/* Answers of nvmlDeviceGetPcieLinkMaxSpeed. */
enum {
	NVML_PCIE_LINK_MAX_SPEED_8000MBPS = 3,
	NVML_PCIE_LINK_MAX_SPEED_16000MBPS = 4,
	NVML_PCIE_LINK_MAX_SPEED_32000MBPS = 5,
};

/* ---- How GPUs are linked ---- */

typedef enum {
	NVML_TOPOLOGY_INTERNAL = 0,    /* two GPUs of one board */
	NVML_TOPOLOGY_SINGLE = 10,     /* one PCIe switch between them (PIX) */
	NVML_TOPOLOGY_MULTIPLE = 20,   /* several switches (PXB) */
	NVML_TOPOLOGY_HOSTBRIDGE = 30, /* one host bridge (PHB) */
	NVML_TOPOLOGY_NODE = 40,       /* one NUMA node (NODE) */
	NVML_TOPOLOGY_SYSTEM = 50,     /* across NUMA nodes (SYS) */
} nvmlGpuTopologyLevel_t;

typedef enum {
	NVML_P2P_CAPS_INDEX_READ = 0,
	NVML_P2P_CAPS_INDEX_WRITE = 1,
	NVML_P2P_CAPS_INDEX_NVLINK = 2,
	NVML_P2P_CAPS_INDEX_ATOMICS = 3,
	NVML_P2P_CAPS_INDEX_PCI = 4,
	NVML_P2P_CAPS_INDEX_UNKNOWN = 5,
} nvmlGpuP2PCapsIndex_t;
typedef enum {
	NVML_P2P_STATUS_OK = 0,
	NVML_P2P_STATUS_CHIPSET_NOT_SUPPORTED = 1,
	NVML_P2P_STATUS_GPU_NOT_SUPPORTED = 2,
	NVML_P2P_STATUS_IOH_TOPOLOGY_NOT_SUPPORTED = 3,
	NVML_P2P_STATUS_DISABLED_BY_REGKEY = 4,
	NVML_P2P_STATUS_NOT_SUPPORTED = 5,
	NVML_P2P_STATUS_UNKNOWN = 6,
} nvmlGpuP2PStatus_t;

enum { NVML_AFFINITY_SCOPE_NODE = 0, NVML_AFFINITY_SCOPE_SOCKET = 1 };
typedef uint32_t nvmlAffinityScope_t;

typedef enum {
	NVML_NVLINK_CAP_P2P_SUPPORTED = 0,
	NVML_NVLINK_CAP_SYSMEM_ACCESS = 1,
	NVML_NVLINK_CAP_P2P_ATOMICS = 2,
	NVML_NVLINK_CAP_SYSMEM_ATOMICS = 3,
	NVML_NVLINK_CAP_SLI_BRIDGE = 4,
	NVML_NVLINK_CAP_VALID = 5,
} nvmlNvLinkCapability_t;
typedef enum {
	NVML_NVLINK_ERROR_DL_REPLAY = 0,
	NVML_NVLINK_ERROR_DL_RECOVERY = 1,
	NVML_NVLINK_ERROR_DL_CRC_FLIT = 2,
	NVML_NVLINK_ERROR_DL_CRC_DATA = 3,
	NVML_NVLINK_ERROR_DL_ECC_DATA = 4,
} nvmlNvLinkErrorCounter_t;
typedef enum {
	NVML_NVLINK_DEVICE_TYPE_GPU = 0,
	NVML_NVLINK_DEVICE_TYPE_IBMNPU = 1,
	NVML_NVLINK_DEVICE_TYPE_SWITCH = 2,
	NVML_NVLINK_DEVICE_TYPE_UNKNOWN = 255,
} nvmlIntNvLinkDeviceType_t;

/* ---- Events ---- */

#define nvmlEventTypeSingleBitEccError      UINT64_C(0x0001)
#define nvmlEventTypeDoubleBitEccError      UINT64_C(0x0002)
#define nvmlEventTypePState                 UINT64_C(0x0004)
#define nvmlEventTypeXidCriticalError       UINT64_C(0x0008)
#define nvmlEventTypeClock                  UINT64_C(0x0010)
#define nvmlEventTypePowerSourceChange      UINT64_C(0x0080)
#define nvmlEventMigConfigChange            UINT64_C(0x0100)
#define nvmlEventTypeSingleBitEccErrorStorm UINT64_C(0x0200)
#define nvmlEventTypeDramRetirementEvent    UINT64_C(0x0400)
#define nvmlEventTypeDramRetirementFailure  UINT64_C(0x0800)
#define nvmlEventTypeNonFatalPoisonError    UINT64_C(0x1000)
#define nvmlEventTypeFatalPoisonError       UINT64_C(0x2000)
#define nvmlEventTypeGpuUnavailableError    UINT64_C(0x4000)
#define nvmlEventTypeGpuRecoveryAction      UINT64_C(0x8000)

typedef struct nvmlEventData {
	nvmlDevice_t device;
	uint64_t eventType;
	uint64_t eventData;                        /* the XID of nvmlEventTypeXidCriticalError, else 0 */
	uint32_t gpuInstanceId, computeInstanceId; /* all bits set unless the event is of a MIG instance */
} nvmlEventData_t;
NVML_ASSERT_SIZE(nvmlEventData_t, 32);
NVML_ASSERT_AT(nvmlEventData_t, gpuInstanceId, 24);

/* ---- Field values ---- */

enum {
	NVML_FI_DEV_ECC_CURRENT = 1,
	NVML_FI_DEV_ECC_PENDING = 2,
	NVML_FI_DEV_ECC_SBE_VOL_TOTAL = 3,
	NVML_FI_DEV_ECC_DBE_VOL_TOTAL = 4,
	NVML_FI_DEV_ECC_SBE_AGG_TOTAL = 5,
	NVML_FI_DEV_ECC_DBE_AGG_TOTAL = 6,
	NVML_FI_DEV_ECC_SBE_VOL_DEV = 11,
	NVML_FI_DEV_ECC_DBE_VOL_DEV = 12,
	NVML_FI_DEV_ECC_SBE_AGG_DEV = 22,
	NVML_FI_DEV_ECC_DBE_AGG_DEV = 23,
	NVML_FI_DEV_RETIRED_SBE = 29,
	NVML_FI_DEV_RETIRED_DBE = 30,
	NVML_FI_DEV_RETIRED_PENDING = 31,
	NVML_FI_DEV_NVLINK_CRC_FLIT_ERROR_COUNT_L0 = 32,
	NVML_FI_DEV_NVLINK_CRC_FLIT_ERROR_COUNT_TOTAL = 38,
	NVML_FI_DEV_NVLINK_CRC_DATA_ERROR_COUNT_TOTAL = 45,
	NVML_FI_DEV_NVLINK_REPLAY_ERROR_COUNT_TOTAL = 52,
	NVML_FI_DEV_NVLINK_RECOVERY_ERROR_COUNT_TOTAL = 59,
	NVML_FI_DEV_PERF_POLICY_POWER = 74,
	NVML_FI_DEV_PERF_POLICY_THERMAL = 75,
	NVML_FI_DEV_MEMORY_TEMP = 82,
	NVML_FI_DEV_TOTAL_ENERGY_CONSUMPTION = 83, /* millijoules */
	NVML_FI_DEV_NVLINK_SPEED_MBPS_COMMON = 90,
	NVML_FI_DEV_NVLINK_LINK_COUNT = 91,
	NVML_FI_DEV_RETIRED_PENDING_SBE = 92,
	NVML_FI_DEV_RETIRED_PENDING_DBE = 93,
	NVML_FI_DEV_PCIE_REPLAY_COUNTER = 94,
	NVML_FI_DEV_PCIE_REPLAY_ROLLOVER_COUNTER = 95,
	NVML_FI_DEV_NVLINK_CRC_FLIT_ERROR_COUNT_L6 = 96,
	NVML_FI_DEV_NVLINK_RECOVERY_ERROR_COUNT_L11 = 119,
	NVML_FI_DEV_NVLINK_THROUGHPUT_DATA_TX = 138,
	NVML_FI_DEV_NVLINK_THROUGHPUT_DATA_RX = 139, /* KiB */
	NVML_FI_DEV_NVLINK_THROUGHPUT_RAW_TX = 140,
	NVML_FI_DEV_NVLINK_THROUGHPUT_RAW_RX = 141,
	NVML_FI_DEV_REMAPPED_COR = 142,
	NVML_FI_DEV_REMAPPED_UNC = 143,
	NVML_FI_DEV_REMAPPED_PENDING = 144,
	NVML_FI_DEV_REMAPPED_FAILURE = 145,
	NVML_FI_DEV_NVSWITCH_CONNECTED_LINK_COUNT = 147,
	NVML_FI_DEV_NVLINK_ECC_DATA_ERROR_COUNT_L0 = 148,
	NVML_FI_DEV_NVLINK_ERROR_DL_CRC = 163,
	NVML_FI_DEV_NVLINK_GET_SPEED = 164,
	NVML_FI_DEV_NVLINK_GET_STATE = 165,
	NVML_FI_DEV_NVLINK_GET_VERSION = 166,
	NVML_FI_DEV_C2C_LINK_COUNT = 170,
	NVML_FI_DEV_IS_RESETLESS_MIG_SUPPORTED = 184,
	NVML_FI_DEV_POWER_AVERAGE = 185,
	NVML_FI_DEV_POWER_INSTANT = 186, /* milliwatts, as all POWER fields */
	NVML_FI_DEV_POWER_MIN_LIMIT = 187,
	NVML_FI_DEV_POWER_MAX_LIMIT = 188,
	NVML_FI_DEV_POWER_DEFAULT_LIMIT = 189,
	NVML_FI_DEV_POWER_CURRENT_LIMIT = 190,
	NVML_FI_DEV_ENERGY = 191,
	NVML_FI_DEV_POWER_REQUESTED_LIMIT = 192,
	NVML_FI_DEV_TEMPERATURE_SHUTDOWN_TLIMIT = 193,
	NVML_FI_DEV_TEMPERATURE_SLOWDOWN_TLIMIT = 194,
	NVML_FI_DEV_TEMPERATURE_MEM_MAX_TLIMIT = 195,
	NVML_FI_DEV_TEMPERATURE_GPU_MAX_TLIMIT = 196,
	NVML_FI_DEV_PCIE_COUNT_TX_BYTES = 197,
	NVML_FI_DEV_PCIE_COUNT_RX_BYTES = 198,
	NVML_FI_DEV_IS_MIG_MODE_INDEPENDENT_MIG_QUERY_CAPABLE = 199,
	NVML_FI_DEV_RESET_STATUS = 226,
	NVML_FI_DEV_DRAIN_AND_RESET_STATUS = 227,
	NVML_FI_DEV_GET_GPU_RECOVERY_ACTION = 230,
	NVML_FI_DEV_CLOCKS_EVENT_REASON_SW_THERM_SLOWDOWN = 269, /* nanoseconds, as the next two */
	NVML_FI_DEV_CLOCKS_EVENT_REASON_HW_THERM_SLOWDOWN = 270,
	NVML_FI_DEV_CLOCKS_EVENT_REASON_HW_POWER_BRAKE_SLOWDOWN = 271,
	NVML_FI_DEV_REMAPPED_ROWS_COR_INACTIVE = 301,
	NVML_FI_DEV_REMAPPED_ROWS_UNC_INACTIVE = 302,
};

typedef struct nvmlFieldValue {
	uint32_t fieldId;
	uint32_t scopeId;  /* a link, a power scope, ...: by field */
	int64_t timestamp; /* microseconds of CLOCK_REALTIME */
	int64_t latencyUsec;
	nvmlValueType_t valueType;
	nvmlReturn_t nvmlReturn; /* of this one value */
	nvmlValue_t value;
} nvmlFieldValue_t;
NVML_ASSERT_SIZE(nvmlFieldValue_t, 40);
NVML_ASSERT_AT(nvmlFieldValue_t, nvmlReturn, 28);

/* ---- GPM: counters of Hopper and later, as the difference of two samples ---- */

enum {
	NVML_GPM_METRIC_GRAPHICS_UTIL = 1,
	NVML_GPM_METRIC_SM_UTIL = 2,
	NVML_GPM_METRIC_SM_OCCUPANCY = 3, /* percent */
	NVML_GPM_METRIC_ANY_TENSOR_UTIL = 5,
	NVML_GPM_METRIC_DRAM_BW_UTIL = 10,
	NVML_GPM_METRIC_PCIE_TX_PER_SEC = 20,
	NVML_GPM_METRIC_PCIE_RX_PER_SEC = 21, /* MiB/s */
	NVML_GPM_METRICS_GET_VERSION = 1,
	NVML_GPM_SUPPORT_VERSION = 1,
};
typedef struct nvmlGpmMetric {
	uint32_t metricId;
	nvmlReturn_t nvmlReturn;
	double value;
	struct {
		char *shortName, *longName, *unit; /* owned by the library */
	} metricInfo;
} nvmlGpmMetric_t;
NVML_ASSERT_SIZE(nvmlGpmMetric_t, 40);

/* NVML's own struct ends in an array whose length grows with each release; the library touches `numMetrics` of them. */
typedef struct nvmlGpmMetricsGet {
	uint32_t version; /* NVML_GPM_METRICS_GET_VERSION */
	uint32_t numMetrics;
	nvmlGpmSample_t sample1, sample2; /* older, newer */
	nvmlGpmMetric_t metrics[];
} nvmlGpmMetricsGet_t;
NVML_ASSERT_AT(nvmlGpmMetricsGet_t, metrics, 24);

typedef struct nvmlGpmSupport {
	uint32_t version; /* NVML_GPM_SUPPORT_VERSION */
	uint32_t isSupportedDevice;
} nvmlGpmSupport_t;
NVML_ASSERT_SIZE(nvmlGpmSupport_t, 8);

#endif
