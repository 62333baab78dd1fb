/* Begin and end of the library and of each call in it; handles. */
#include "sim/nvml/library.h"

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* One nvmlInit .. nvmlShutdown. Calls that are still under way when it ends keep the node open. */
struct nvml_session {
	struct sim_node *node;
	unsigned calls;
	bool over;
};

enum handle_kind { HANDLE_GPU, HANDLE_MIG_DEVICE, HANDLE_GPU_INSTANCE, HANDLE_COMPUTE_INSTANCE };

/* What every handle points to, whatever its type: it is looked up before it is trusted. */
struct nvmlDevice_st {
	enum handle_kind kind;
	uint32_t slot;
	uint64_t plugged;             /* which of the slot's boards */
	struct sim_mig_name instance; /* of the other kinds */
	struct nvmlDevice_st *next;
};

/* The faults that a test injects by environment: GPUSHARE_SIM_NVML_FAIL=N:CODE makes its Nth call return CODE, or with
 * N:kill end the process in its place, and GPUSHARE_SIM_NVML_TRACE=FILE gets a line per call. */
struct hooks {
	uint64_t fail_at;
	int fail_code;
	bool kill;
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
		library.hooks.kill = strcmp(end + 1, "kill") == 0;
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
	if (number == library.hooks.fail_at && library.hooks.kill)
		raise(SIGKILL);
	return number == library.hooks.fail_at ? library.hooks.fail_code : 0;
}

/* A fork while another thread is in a call must not leave the child with a lock that no thread will release. */
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

/* Copies what is asked of a handle; the pointer is not trusted until it is found. */
static bool find_handle(const void *pointer, struct nvmlDevice_st *copy)
{
	pthread_mutex_lock(&library.lock);
	struct nvmlDevice_st *handle = library.handles;
	while (handle && handle != pointer)
		handle = handle->next;
	if (handle)
		*copy = *handle;
	pthread_mutex_unlock(&library.lock);
	return handle;
}

/* Fills in what the call needs to know of the instance that the handle names; INVALID_ARGUMENT: it is gone. */
static nvmlReturn_t read_instance(struct nvml_call *call, const struct nvmlDevice_st *handle)
{
	struct sim_mig mig;
	call->instance = handle->instance;
	call->mig_model = sim_mig_model_of(call->model);
	if (!call->mig_model || !sim_mig_get(call->node, call->slot, &mig))
		return NVML_ERROR_INVALID_ARGUMENT;
	call->gi = mig.gis[call->instance.gpu_instance];
	uint64_t serial = call->gi.serial;
	call->profile = &call->mig_model->profiles[call->gi.profile];
	if (handle->kind != HANDLE_GPU_INSTANCE && serial) {
		const struct sim_mig_ci *ci = &call->gi.cis[call->instance.compute_instance];
		serial = ci->serial;
		sim_mig_compute_of(call->mig_model, call->profile, ci->profile, &call->compute);
	}
	return serial == call->instance.serial ? NVML_SUCCESS : NVML_ERROR_INVALID_ARGUMENT;
}

/* A driver that hangs on a board keeps the thread that asked. */
static bool read_gpu(struct nvml_call *call, const struct nvmlDevice_st *handle)
{
	const struct timespec pause = {.tv_nsec = 10 * 1000 * 1000};
	for (;; nanosleep(&pause, NULL)) {
		if (!sim_gpu_get(call->node, handle->slot, &call->gpu) || !call->gpu.present ||
		    call->gpu.plugged != handle->plugged)
			return false;
		if (!call->gpu.hangs)
			return true;
	}
}

static nvmlReturn_t enter_handle(struct nvml_call *call, const char *function, const void *pointer, unsigned kinds,
				 bool arguments_ok)
{
	struct nvmlDevice_st handle;
	if (nvml_enter(call, function, arguments_ok && pointer) != NVML_SUCCESS)
		return call->code;
	if (!find_handle(pointer, &handle) || !(1u << handle.kind & kinds))
		return call->code = NVML_ERROR_INVALID_ARGUMENT;
	call->slot = handle.slot;
	int planned = sim_nvml_fault_take_on(call->node, call->slot, function);
	if (planned)
		return call->code = (nvmlReturn_t)planned;
	if (!read_gpu(call, &handle) || call->gpu.lost)
		return call->code = NVML_ERROR_GPU_IS_LOST;
	call->model = &sim_models[call->gpu.model];
	if (handle.kind == HANDLE_GPU || handle.kind == HANDLE_MIG_DEVICE)
		call->device = (nvmlDevice_t)(uintptr_t)pointer;
	if (handle.kind != HANDLE_GPU)
		call->code = read_instance(call, &handle);
	return call->code;
}

nvmlReturn_t nvml_enter_any_device(struct nvml_call *call, const char *function, nvmlDevice_t device, bool arguments_ok)
{
	return enter_handle(call, function, device, 1 << HANDLE_GPU | 1 << HANDLE_MIG_DEVICE, arguments_ok);
}

nvmlReturn_t nvml_enter_device(struct nvml_call *call, const char *function, nvmlDevice_t device, bool arguments_ok)
{
	nvmlReturn_t code = nvml_enter_any_device(call, function, device, arguments_ok);
	if (code == NVML_SUCCESS && nvml_is_mig(call))
		call->code = NVML_ERROR_NOT_SUPPORTED;
	return call->code;
}

nvmlReturn_t nvml_enter_gpu_instance(struct nvml_call *call, const char *function, nvmlGpuInstance_t instance,
				     bool arguments_ok)
{
	return enter_handle(call, function, instance, 1 << HANDLE_GPU_INSTANCE, arguments_ok);
}

nvmlReturn_t nvml_enter_compute_instance(struct nvml_call *call, const char *function, nvmlComputeInstance_t instance,
					 bool arguments_ok)
{
	return enter_handle(call, function, instance, 1 << HANDLE_COMPUTE_INSTANCE, arguments_ok);
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

/* The handle of a place on a board, made when it is asked for the first time. */
static struct nvmlDevice_st *get_handle(const struct nvmlDevice_st *wanted)
{
	pthread_mutex_lock(&library.lock);
	struct nvmlDevice_st *handle = library.handles;
	while (handle &&
	       !(handle->kind == wanted->kind && handle->slot == wanted->slot && handle->plugged == wanted->plugged &&
		 handle->instance.gpu_instance == wanted->instance.gpu_instance &&
		 handle->instance.compute_instance == wanted->instance.compute_instance))
		handle = handle->next;
	if (handle) {
		handle->instance = wanted->instance;
	} else {
		handle = calloc(1, sizeof *handle);
		if (handle) {
			*handle = *wanted;
			handle->next = library.handles;
			library.handles = handle;
		}
	}
	pthread_mutex_unlock(&library.lock);
	return handle;
}

nvmlDevice_t nvml_handle(uint32_t slot, const struct sim_gpu *gpu)
{
	struct sim_mig_name none = {.gpu = slot, .gpu_instance = SIM_MIG_NONE, .compute_instance = SIM_MIG_NONE};
	return get_handle(&(struct nvmlDevice_st){HANDLE_GPU, slot, gpu->plugged, none, NULL});
}

nvmlDevice_t nvml_mig_handle(const struct sim_gpu *gpu, const struct sim_mig_name *name)
{
	return get_handle(&(struct nvmlDevice_st){HANDLE_MIG_DEVICE, name->gpu, gpu->plugged, *name, NULL});
}

nvmlGpuInstance_t nvml_gpu_instance_handle(const struct sim_gpu *gpu, const struct sim_mig_name *name)
{
	return (nvmlGpuInstance_t)get_handle(
		&(struct nvmlDevice_st){HANDLE_GPU_INSTANCE, name->gpu, gpu->plugged, *name, NULL});
}

nvmlComputeInstance_t nvml_compute_instance_handle(const struct sim_gpu *gpu, const struct sim_mig_name *name)
{
	return (nvmlComputeInstance_t)get_handle(
		&(struct nvmlDevice_st){HANDLE_COMPUTE_INSTANCE, name->gpu, gpu->plugged, *name, NULL});
}

nvmlReturn_t nvml_resolve(struct sim_node *node, nvmlDevice_t device, uint32_t *slot, struct sim_gpu *gpu)
{
	struct nvmlDevice_st handle;
	if (!find_handle(device, &handle) || handle.kind != HANDLE_GPU)
		return NVML_ERROR_INVALID_ARGUMENT;
	*slot = handle.slot;
	bool there = sim_gpu_get(node, handle.slot, gpu) && gpu->present && gpu->plugged == handle.plugged;
	return there && !gpu->lost ? NVML_SUCCESS : NVML_ERROR_GPU_IS_LOST;
}

uint32_t nvml_present(struct sim_node *node, uint32_t slots[SIM_GPUS_MAX])
{
	uint32_t count = 0, slot_count = sim_gpu_count(node);
	for (uint32_t slot = 0; slot < slot_count && slot < SIM_GPUS_MAX; slot++) {
		struct sim_gpu gpu;
		if (library.listed >> slot & 1 && sim_gpu_get(node, slot, &gpu) && gpu.present &&
		    sim_may_see(&gpu, SIM_MIG_NONE, SIM_MIG_NONE))
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

nvmlReturn_t nvml_change(const struct nvml_call *call, void apply(struct sim_gpu *gpu, void *user), void *user)
{
	if (geteuid() != 0)
		return NVML_ERROR_NO_PERMISSION;
	sim_gpu_update(call->node, call->slot, apply, user);
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
