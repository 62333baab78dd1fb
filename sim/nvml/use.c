/* NVML calls about how busy a GPU is. */
#include <string.h>

#include "sim/nvml/sensors.h"

enum { SAMPLE_PERIOD_US = 1000000 };

nvmlReturn_t nvmlDeviceGetUtilizationRates(nvmlDevice_t device, nvmlUtilization_t *utilization)
{
	NVML_DEVICE_CALL(call, device, utilization != NULL);
	if (call.gpu.mig_mode)
		return NVML_ERROR_NOT_SUPPORTED;
	uint32_t busy = sim_gpu_busy_permille(call.node, call.slot, SAMPLE_PERIOD_US * UINT64_C(1000));
	utilization->gpu = (busy + 5) / 10;
	utilization->memory = (NVML_MEMORY_BUSY(busy) + 5) / 10;
	return NVML_SUCCESS;
}

/* The video engines are there and idle. */
static nvmlReturn_t idle_engine(const struct nvml_call *call, uint32_t *percent, uint32_t *period_us)
{
	if (call->gpu.mig_mode)
		return NVML_ERROR_NOT_SUPPORTED;
	*percent = 0;
	*period_us = SAMPLE_PERIOD_US / 6;
	return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetEncoderUtilization(nvmlDevice_t device, uint32_t *percent, uint32_t *period_us)
{
	NVML_DEVICE_CALL(call, device, percent && period_us);
	return idle_engine(&call, percent, period_us);
}

nvmlReturn_t nvmlDeviceGetDecoderUtilization(nvmlDevice_t device, uint32_t *percent, uint32_t *period_us)
{
	NVML_DEVICE_CALL(call, device, percent && period_us);
	return idle_engine(&call, percent, period_us);
}

nvmlReturn_t nvmlDeviceGetJpgUtilization(nvmlDevice_t device, uint32_t *percent, uint32_t *period_us)
{
	NVML_DEVICE_CALL(call, device, percent && period_us);
	return idle_engine(&call, percent, period_us);
}

nvmlReturn_t nvmlDeviceGetOfaUtilization(nvmlDevice_t device, uint32_t *percent, uint32_t *period_us)
{
	NVML_DEVICE_CALL(call, device, percent && period_us);
	return idle_engine(&call, percent, period_us);
}

nvmlReturn_t nvmlDeviceGetEncoderStats(nvmlDevice_t device, uint32_t *sessions, uint32_t *fps, uint32_t *latency)
{
	NVML_DEVICE_CALL(call, device, sessions && fps && latency);
	*sessions = *fps = *latency = 0;
	return NVML_SUCCESS;
}

/* Copies between host and board are not metered. */
nvmlReturn_t nvmlDeviceGetPcieThroughput(nvmlDevice_t device, nvmlPcieUtilCounter_t counter, uint32_t *kib_per_second)
{
	NVML_DEVICE_CALL(call, device, kib_per_second && (unsigned)counter <= NVML_PCIE_UTIL_RX_BYTES);
	*kib_per_second = 0;
	return NVML_SUCCESS;
}

/* A series of the last seconds, one sample per bucket of busy time. */

enum { SAMPLES_MAX = (int)(SIM_WINDOW_MAX_NS / SIM_BUCKET_NS) - 1 };

struct series {
	uint64_t end_ns;                /* of the newest sample */
	uint32_t permille[SAMPLES_MAX]; /* busy, newest first */
};

/* The state answers for windows that end now, so a bucket's share is the difference of two windows. */
static void read_series(const struct nvml_call *call, struct series *series)
{
	uint64_t now_ns = sim_now_ns(), open_ns = now_ns % SIM_BUCKET_NS;
	uint64_t before = sim_gpu_busy_permille(call->node, call->slot, open_ns ? open_ns : 1) * open_ns;
	series->end_ns = now_ns - open_ns;
	for (uint32_t i = 0; i < SAMPLES_MAX; i++) {
		uint64_t window_ns = open_ns + (i + 1) * SIM_BUCKET_NS;
		uint64_t with = sim_gpu_busy_permille(call->node, call->slot, window_ns) * window_ns;
		uint64_t share = with > before ? (with - before) / SIM_BUCKET_NS : 0;
		series->permille[i] = share < 1000 ? (uint32_t)share : 1000;
		before = with;
	}
}

static uint32_t sample_value(const struct nvml_call *call, nvmlSamplingType_t type, uint32_t busy_permille)
{
	struct nvml_load load = {
		.busy_permille = busy_permille, .warm_permille = busy_permille, .in_use = busy_permille > 0};
	struct nvml_readings readings = nvml_readings_of(&call->gpu, call->model, &load);
	switch (type) {
	case NVML_TOTAL_POWER_SAMPLES:
	case NVML_MODULE_POWER_SAMPLES:
		return readings.power_mw;
	case NVML_GPU_UTILIZATION_SAMPLES:
		return (busy_permille + 5) / 10;
	case NVML_MEMORY_UTILIZATION_SAMPLES:
		return (NVML_MEMORY_BUSY(busy_permille) + 5) / 10;
	case NVML_PROCESSOR_CLK_SAMPLES:
		return readings.clock_sm;
	case NVML_MEMORY_CLK_SAMPLES:
		return readings.clock_memory;
	default:
		return 0;
	}
}

/* What NVML does not tell of a GPU in MIG mode. */
static bool is_utilization(nvmlSamplingType_t type)
{
	return type == NVML_GPU_UTILIZATION_SAMPLES || type == NVML_MEMORY_UTILIZATION_SAMPLES ||
	       type == NVML_ENC_UTILIZATION_SAMPLES || type == NVML_DEC_UTILIZATION_SAMPLES;
}

nvmlReturn_t nvmlDeviceGetSamples(nvmlDevice_t device, nvmlSamplingType_t type, uint64_t last_seen,
				  nvmlValueType_t *value_type, uint32_t *count, nvmlSample_t *samples)
{
	NVML_DEVICE_CALL(call, device, value_type && count && (unsigned)type <= NVML_OFA_UTILIZATION_SAMPLES);
	if (call.gpu.mig_mode && is_utilization(type))
		return NVML_ERROR_NOT_SUPPORTED;
	*value_type = NVML_VALUE_TYPE_UNSIGNED_INT;
	if (!samples) {
		*count = SAMPLES_MAX;
		return NVML_SUCCESS;
	}
	struct series series;
	read_series(&call, &series);
	uint64_t end_us = nvml_timestamp_us(series.end_ns);
	uint32_t fresh = 0; /* how many are newer than what the caller has */
	while (fresh < SAMPLES_MAX && end_us - fresh * (SIM_BUCKET_NS / 1000) > last_seen + 1000)
		fresh++;
	if (!fresh) {
		*count = 0;
		return NVML_ERROR_NOT_FOUND;
	}
	if (fresh > *count)
		fresh = *count; /* the newest that fit */
	if (!fresh)
		return NVML_ERROR_INSUFFICIENT_SIZE;
	for (uint32_t i = 0; i < fresh; i++) {
		uint32_t age = fresh - 1 - i;
		memset(&samples[i], 0, sizeof samples[i]);
		samples[i].timeStamp = end_us - age * (SIM_BUCKET_NS / 1000);
		samples[i].sampleValue.uiVal = sample_value(&call, type, series.permille[age]);
	}
	*count = fresh;
	return NVML_SUCCESS;
}
