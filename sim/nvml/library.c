/* Begin and end of the library and of each call in it; handles. */
#include "sim/nvml/library.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* One nvmlInit .. nvmlShutdown. Calls that are still under way when it ends keep the node open. */
struct nvml_session {
	struct sim_node *node;
	unsigned calls;
	bool over;
};

struct nvmlDevice_st {
	uint32_t slot;
	uint64_t plugged; /* which of the slot's boards */
	struct nvmlDevice_st *next;
};

/* What a test asks of this process by environment: GPUSHARE_SIM_NVML_FAIL=N:CODE makes its Nth call return CODE, and
 * GPUSHARE_SIM_NVML_TRACE=FILE gets a line per call. */
struct hooks {
	uint64_t fail_at;
	int fail_code;
	uint64_t calls;
	int trace_fd;
};

static struct {
	pthread_mutex_t lock;
	unsigned inits;
	struct nvml_session *session;
	struct nvmlDevice_st *handles;
	struct hooks hooks;
	uint32_t listed; /* slots that NVML lists: bits; all, unless the list is that of nvmlInit */
} library = {.lock = PTHREAD_MUTEX_INITIALIZER, .hooks.trace_fd = -1, .listed = UINT32_MAX};

static pthread_once_t hooks_once = PTHREAD_ONCE_INIT;

static void read_hooks(void)
{
	const char *fail = getenv("GPUSHARE_SIM_NVML_FAIL");
	char *end = NULL;
	unsigned long long at = fail ? strtoull(fail, &end, 10) : 0;
	if (at && *end == ':') {
		library.hooks.fail_at = at;
		library.hooks.fail_code = atoi(end + 1);
	}
	const char *trace = getenv("GPUSHARE_SIM_NVML_TRACE");
	if (trace && trace[0])
		library.hooks.trace_fd = open(trace, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
}

/* 0, or the code that this call must return by GPUSHARE_SIM_NVML_FAIL. */
static int run_hooks(const char *function)
{
	pthread_once(&hooks_once, read_hooks);
	if (library.hooks.trace_fd >= 0) {
		char line[128];
		int length = snprintf(line, sizeof line, "%s\n", function);
		if (write(library.hooks.trace_fd, line, (size_t)length) < 0)
			library.hooks.trace_fd = -1;
	}
	if (!library.hooks.fail_at)
		return 0;
	uint64_t number = __atomic_add_fetch(&library.hooks.calls, 1, __ATOMIC_RELAXED);
	return number == library.hooks.fail_at ? library.hooks.fail_code : 0;
}

/* A fork while another thread is in a call must not leave the child with a lock that nobody will open. */
static pthread_once_t fork_once = PTHREAD_ONCE_INIT;

static void before_fork(void)
{
	pthread_mutex_lock(&library.lock);
}

static void after_fork(void)
{
	pthread_mutex_unlock(&library.lock);
}

static void watch_forks(void)
{
	pthread_atfork(before_fork, after_fork, after_fork);
}

static void end_session(struct nvml_session *session)
{
	sim_node_close(session->node);
	free(session);
}

/* With GPUSHARE_SIM_NVML_SNAPSHOT set, a GPU that is plugged in later is listed after the next nvmlInit only, as some
 * drivers have it. */
static void list_gpus(struct sim_node *node)
{
	uint32_t slots[SIM_GPUS_MAX], listed = 0;
	library.listed = UINT32_MAX;
	if (!getenv("GPUSHARE_SIM_NVML_SNAPSHOT"))
		return;
	uint32_t count = nvml_present(node, slots);
	for (uint32_t i = 0; i < count; i++)
		listed |= UINT32_C(1) << slots[i];
	library.listed = listed;
}

static nvmlReturn_t init(const char *function)
{
	int planned = run_hooks(function);
	if (planned)
		return (nvmlReturn_t)planned;
	nvmlReturn_t code = NVML_SUCCESS;
	pthread_mutex_lock(&library.lock);
	if (!library.session) {
		struct nvml_session *session = calloc(1, sizeof *session);
		if (!session)
			code = NVML_ERROR_MEMORY;
		else if (sim_node_open(NULL, &session->node, NULL) < 0)
			code = NVML_ERROR_DRIVER_NOT_LOADED;
		if (code == NVML_SUCCESS) {
			list_gpus(session->node);
			library.session = session;
			/* After the node's own: a fork then takes the two locks in the order in which we nest them. */
			pthread_once(&fork_once, watch_forks);
		} else {
			free(session);
		}
	}
	if (code == NVML_SUCCESS)
		code = (nvmlReturn_t)sim_nvml_fault_take(library.session->node, function);
	if (code == NVML_SUCCESS) {
		library.inits++;
	} else if (library.session && library.inits == 0) {
		end_session(library.session);
		library.session = NULL;
	}
	pthread_mutex_unlock(&library.lock);
	return code;
}

nvmlReturn_t nvmlInit(void)
{
	return init(__func__);
}

nvmlReturn_t nvmlInit_v2(void)
{
	return init(__func__);
}

nvmlReturn_t nvmlInitWithFlags(uint32_t flags)
{
	return init(__func__);
}

nvmlReturn_t nvmlShutdown(void)
{
	NVML_CALL(call, true);
	pthread_mutex_lock(&library.lock);
	nvmlReturn_t code = library.inits ? NVML_SUCCESS : NVML_ERROR_UNINITIALIZED;
	if (library.inits && --library.inits == 0) {
		/* Closed by the last call that leaves it: this one, unless others are slow. */
		library.session->over = true;
		library.session = NULL;
	}
	pthread_mutex_unlock(&library.lock);
	return code;
}

nvmlReturn_t nvml_enter(struct nvml_call *call, const char *function, bool arguments_ok)
{
	memset(call, 0, sizeof *call);
	int planned = run_hooks(function);
	pthread_mutex_lock(&library.lock);
	if (library.session) {
		call->session = library.session;
		call->node = library.session->node;
		call->session->calls++;
	}
	pthread_mutex_unlock(&library.lock);
	if (!planned && call->node)
		planned = sim_nvml_fault_take(call->node, function);
	if (planned)
		call->code = (nvmlReturn_t)planned;
	else if (!call->node)
		call->code = NVML_ERROR_UNINITIALIZED;
	else if (!arguments_ok)
		call->code = NVML_ERROR_INVALID_ARGUMENT;
	return call->code;
}

nvmlReturn_t nvml_enter_device(struct nvml_call *call, const char *function, nvmlDevice_t device, bool arguments_ok)
{
	if (nvml_enter(call, function, arguments_ok && device) != NVML_SUCCESS)
		return call->code;
	call->device = device;
	call->code = nvml_resolve(call->node, device, &call->slot, &call->gpu);
	if (call->code == NVML_SUCCESS)
		call->model = &sim_models[call->gpu.model];
	return call->code;
}

void nvml_leave(struct nvml_call *call)
{
	if (!call->session)
		return;
	pthread_mutex_lock(&library.lock);
	bool last = --call->session->calls == 0 && call->session->over;
	pthread_mutex_unlock(&library.lock);
	if (last)
		end_session(call->session);
}

nvmlDevice_t nvml_handle(uint32_t slot, const struct sim_gpu *gpu)
{
	pthread_mutex_lock(&library.lock);
	struct nvmlDevice_st *handle = library.handles;
	while (handle && !(handle->slot == slot && handle->plugged == gpu->plugged))
		handle = handle->next;
	if (!handle) {
		handle = calloc(1, sizeof *handle);
		if (handle) {
			*handle =
				(struct nvmlDevice_st){.slot = slot, .plugged = gpu->plugged, .next = library.handles};
			library.handles = handle;
		}
	}
	pthread_mutex_unlock(&library.lock);
	return handle;
}

nvmlReturn_t nvml_resolve(struct sim_node *node, nvmlDevice_t device, uint32_t *slot, struct sim_gpu *gpu)
{
	pthread_mutex_lock(&library.lock);
	struct nvmlDevice_st *handle = library.handles;
	while (handle && handle != device) /* the pointer is not trusted until it is found */
		handle = handle->next;
	pthread_mutex_unlock(&library.lock);
	if (!handle)
		return NVML_ERROR_INVALID_ARGUMENT;
	*slot = handle->slot;
	bool there = sim_gpu_get(node, handle->slot, gpu) && gpu->present && gpu->plugged == handle->plugged;
	return there && !gpu->lost ? NVML_SUCCESS : NVML_ERROR_GPU_IS_LOST;
}

uint32_t nvml_present(struct sim_node *node, uint32_t slots[SIM_GPUS_MAX])
{
	uint32_t count = 0, slot_count = sim_gpu_count(node);
	for (uint32_t slot = 0; slot < slot_count && slot < SIM_GPUS_MAX; slot++) {
		struct sim_gpu gpu;
		if (library.listed >> slot & 1 && sim_gpu_get(node, slot, &gpu) && gpu.present)
			slots[count++] = slot;
	}
	return count;
}

nvmlReturn_t nvml_copy_text(char *to, uint32_t length, const char *text)
{
	size_t size = strlen(text) + 1;
	if (size > length)
		return NVML_ERROR_INSUFFICIENT_SIZE;
	memcpy(to, text, size);
	return NVML_SUCCESS;
}

void nvml_bus_id(const struct sim_gpu *gpu, char *text)
{
	snprintf(text, NVML_DEVICE_PCI_BUS_ID_BUFFER_SIZE, "%08X:%02X:%02X.0", gpu->pci_domain, gpu->pci_bus & 0xFF,
		 gpu->pci_device & 0x1F);
}

bool nvml_version_is(uint32_t word, uint32_t number)
{
	return word >> 24 == number || word == number;
}

uint64_t nvml_timestamp_us(uint64_t monotonic_ns)
{
	struct timespec now;
	clock_gettime(CLOCK_REALTIME, &now);
	int64_t now_ns = (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
	return (uint64_t)(now_ns - ((int64_t)sim_now_ns() - (int64_t)monotonic_ns)) / 1000;
}
