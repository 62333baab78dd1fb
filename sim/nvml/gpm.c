/* GPM: what Hopper and later count about themselves, told as the difference of two samples. How a kernel's time splits
 * among units is a guess: fixed shares of the time in which it ran. */
#include <pthread.h>
#include <stdlib.h>

#include "sim/nvml/library.h"

struct nvmlGpmSample_st {
	bool filled;
	uint32_t slot;
	uint64_t plugged, time_ns, busy_ns;
	uint64_t serial; /* of the MIG instance; 0: the whole GPU */
	struct nvmlGpmSample_st *next;
};

static struct {
	pthread_mutex_t lock;
	struct nvmlGpmSample_st *samples;
} gpm = {.lock = PTHREAD_MUTEX_INITIALIZER};

/* Under the lock: whether the pointer is a sample that stands. */
static bool is_sample(nvmlGpmSample_t sample)
{
	for (struct nvmlGpmSample_st *s = gpm.samples; s; s = s->next)
		if (s == sample)
			return true;
	return false;
}

nvmlReturn_t nvmlGpmQueryDeviceSupport(nvmlDevice_t device, nvmlGpmSupport_t *support)
{
	NVML_DEVICE_CALL(call, device, support != NULL);
	if (!nvml_version_is(support->version, NVML_GPM_SUPPORT_VERSION))
		return NVML_ERROR_ARGUMENT_VERSION_MISMATCH;
	support->isSupportedDevice = call.model->architecture >= NVML_DEVICE_ARCH_HOPPER;
	return NVML_SUCCESS;
}

nvmlReturn_t nvmlGpmSampleAlloc(nvmlGpmSample_t *sample)
{
	NVML_CALL(call, sample != NULL);
	struct nvmlGpmSample_st *made = calloc(1, sizeof *made);
	if (!made)
		return NVML_ERROR_MEMORY;
	pthread_mutex_lock(&gpm.lock);
	made->next = gpm.samples;
	gpm.samples = made;
	pthread_mutex_unlock(&gpm.lock);
	*sample = made;
	return NVML_SUCCESS;
}

nvmlReturn_t nvmlGpmSampleFree(nvmlGpmSample_t sample)
{
	NVML_CALL(call, sample != NULL);
	pthread_mutex_lock(&gpm.lock);
	struct nvmlGpmSample_st **link = &gpm.samples;
	while (*link && *link != sample)
		link = &(*link)->next;
	struct nvmlGpmSample_st *found = *link;
	if (found)
		*link = found->next;
	pthread_mutex_unlock(&gpm.lock);
	free(found);
	return found ? NVML_SUCCESS : NVML_ERROR_INVALID_ARGUMENT;
}

static nvmlReturn_t take_sample(const struct nvml_call *call, nvmlGpmSample_t sample, uint64_t serial, uint64_t busy_ns)
{
	if (call->model->architecture < NVML_DEVICE_ARCH_HOPPER)
		return NVML_ERROR_NOT_SUPPORTED;
	pthread_mutex_lock(&gpm.lock);
	bool known = is_sample(sample);
	if (known) {
		sample->slot = call->slot;
		sample->plugged = call->gpu.plugged;
		sample->time_ns = sim_now_ns();
		sample->busy_ns = busy_ns;
		sample->serial = serial;
		sample->filled = true;
	}
	pthread_mutex_unlock(&gpm.lock);
	return known ? NVML_SUCCESS : NVML_ERROR_INVALID_ARGUMENT;
}

nvmlReturn_t nvmlGpmSampleGet(nvmlDevice_t device, nvmlGpmSample_t sample)
{
	NVML_ANY_DEVICE_CALL(call, device, sample != NULL);
	if (!nvml_is_mig(&call))
		return take_sample(&call, sample, 0, call.gpu.busy_ns_total);
	return take_sample(&call, sample, call.instance.serial,
			   call.gi.cis[call.instance.compute_instance].busy_ns_total);
}

/* A GPU instance is as busy as its compute instances are, each by its part of the slices. */
nvmlReturn_t nvmlGpmMigSampleGet(nvmlDevice_t device, uint32_t gpu_instance, nvmlGpmSample_t sample)
{
	NVML_DEVICE_CALL(call, device, sample != NULL);
	struct sim_mig mig;
	if (!call.gpu.mig_mode || !sim_mig_get(call.node, call.slot, &mig))
		return NVML_ERROR_NOT_SUPPORTED;
	if (gpu_instance >= SIM_MIG_INSTANCES_MAX || !mig.gis[gpu_instance].serial)
		return NVML_ERROR_NOT_FOUND;
	const struct sim_mig_gi *gi = &mig.gis[gpu_instance];
	uint64_t busy_ns = 0, slices = sim_mig_model_of(call.model)->profiles[gi->profile].slices;
	for (uint32_t id = 0; id < SIM_MIG_COMPUTES_MAX; id++)
		busy_ns += gi->cis[id].busy_ns_total * gi->cis[id].size / slices;
	return take_sample(&call, sample, gi->serial, busy_ns);
}

/* Shares of busy time, in percent of it. */
static const struct metric {
	uint32_t id, share;
	const char *name, *unit;
} metrics[] = {
	{NVML_GPM_METRIC_GRAPHICS_UTIL, 100, "Graphics Utilization", "%"},
	{NVML_GPM_METRIC_SM_UTIL, 90, "SM Utilization", "%"},
	{NVML_GPM_METRIC_SM_OCCUPANCY, 50, "SM Occupancy", "%"},
	{NVML_GPM_METRIC_ANY_TENSOR_UTIL, 60, "Tensor Utilization", "%"},
	{NVML_GPM_METRIC_DRAM_BW_UTIL, 40, "DRAM Bandwidth Utilization", "%"},
	{NVML_GPM_METRIC_PCIE_TX_PER_SEC, 0, "PCIe Transmitted", "MiB/s"},
	{NVML_GPM_METRIC_PCIE_RX_PER_SEC, 0, "PCIe Received", "MiB/s"},
};

static void read_metric(nvmlGpmMetric_t *metric, double busy_percent)
{
	metric->nvmlReturn = NVML_ERROR_NOT_SUPPORTED;
	metric->value = 0;
	for (size_t i = 0; i < GS_ARRAY_LENGTH(metrics); i++) {
		if (metrics[i].id != metric->metricId)
			continue;
		metric->nvmlReturn = NVML_SUCCESS;
		metric->value = busy_percent * metrics[i].share / 100;
		/* The interface has no const; callers must not write to these. */
		metric->metricInfo.shortName = metric->metricInfo.longName = (char *)(uintptr_t)metrics[i].name;
		metric->metricInfo.unit = (char *)(uintptr_t)metrics[i].unit;
	}
}

nvmlReturn_t nvmlGpmMetricsGet(nvmlGpmMetricsGet_t *get)
{
	enum { METRICS_MAX = 1024 }; /* NVML's own array has some 300; more is a caller's mistake */
	NVML_CALL(call, get && get->sample1 && get->sample2 && get->numMetrics <= METRICS_MAX);
	if (!nvml_version_is(get->version, NVML_GPM_METRICS_GET_VERSION))
		return NVML_ERROR_ARGUMENT_VERSION_MISMATCH;
	double busy_percent = -1;
	pthread_mutex_lock(&gpm.lock);
	if (is_sample(get->sample1) && is_sample(get->sample2)) {
		const struct nvmlGpmSample_st *a = get->sample1, *b = get->sample2;
		if (a->filled && b->filled && a->slot == b->slot && a->plugged == b->plugged &&
		    a->serial == b->serial && b->time_ns > a->time_ns && b->busy_ns >= a->busy_ns)
			busy_percent = 100.0 * (double)(b->busy_ns - a->busy_ns) / (double)(b->time_ns - a->time_ns);
	}
	pthread_mutex_unlock(&gpm.lock);
	if (busy_percent < 0)
		return NVML_ERROR_INVALID_ARGUMENT;
	if (busy_percent > 100)
		busy_percent = 100;
	for (uint32_t i = 0; i < get->numMetrics; i++)
		read_metric(&get->metrics[i], busy_percent);
	return NVML_SUCCESS;
}
