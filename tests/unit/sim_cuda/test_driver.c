/* Contexts, code, streams, time, faults. */
#include "node.h"

#include <pthread.h>

static CUmodule module;

static CUfunction kernel(const char *name)
{
	CUfunction function;
	OK(cuModuleLoadData(&module, test_ptx));
	OK(cuModuleGetFunction(&function, module, name));
	return function;
}

static void spin(CUfunction function, uint64_t nanoseconds, CUstream stream)
{
	OK(cuLaunchKernel(function, 1, 1, 1, 32, 1, 1, 0, stream, (void *[]){&nanoseconds}, NULL));
}

static void devices_body(void)
{
	int count, value;
	char name[64], bus[32];
	CUuuid uuid;
	size_t total;
	struct sim_gpu gpu;
	OK(cuInit(0));
	OK(cuInit(0));
	OK(cuDeviceGetCount(&count));
	CHECK(count == 3);
	OK(cuDeviceGetName(name, sizeof name, 0));
	CHECK(strcmp(name, "NVIDIA A100-SXM4-80GB") == 0);
	OK(cuDeviceGetName(name, 7, 2));
	CHECK(strlen(name) == 6);
	CHECK(sim_gpu_get(test_node, 1, &gpu));
	OK(cuDeviceGetUuid_v2(&uuid, 1));
	CHECK(memcmp(uuid.bytes, gpu.uuid_bytes, 16) == 0);
	OK(cuDeviceGetPCIBusId(bus, sizeof bus, 1));
	CUdevice device;
	OK(cuDeviceGetByPCIBusId(&device, bus));
	CHECK(device == 1);
	EXPECT(CUDA_ERROR_INVALID_DEVICE, cuDeviceGetByPCIBusId(&device, "1234:FF:00.0"));
	EXPECT(CUDA_ERROR_INVALID_VALUE, cuDeviceGetByPCIBusId(&device, "nonsense"));
	OK(cuDeviceTotalMem_v2(&total, 2));
	CHECK(total > 14ull << 30 && total < 16ull << 30);
	OK(cuDeviceGetAttribute(&value, CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT, 0));
	CHECK(value == 108);
	OK(cuDeviceGetAttribute(&value, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR, 2));
	CHECK(value == 5);
	EXPECT(CUDA_ERROR_INVALID_VALUE, cuDeviceGetAttribute(&value, (CUdevice_attribute)100000, 0));
	EXPECT(CUDA_ERROR_INVALID_DEVICE, cuDeviceGetAttribute(&value, CU_DEVICE_ATTRIBUTE_WARP_SIZE, 3));
	EXPECT(CUDA_ERROR_INVALID_DEVICE, cuDeviceGetName(name, 10, -1));
	OK(cuDeviceCanAccessPeer(&value, 0, 1));
	CHECK(value == 1);
	OK(cuDeviceCanAccessPeer(&value, 0, 2));
	CHECK(value == 0);
}

static void devices(void **state)
{
	test_in_process(devices_body);
}

static void visible_body(void)
{
	struct sim_gpu gpu;
	char list[128];
	int count;
	CUuuid uuid;
	CHECK(sim_gpu_get(test_node, 1, &gpu));
	snprintf(list, sizeof list, "2,%.12s,7,0", gpu.uuid);
	setenv("CUDA_VISIBLE_DEVICES", list, 1);
	setenv("NVIDIA_VISIBLE_DEVICES", "0", 1);
	OK(cuInit(0));
	OK(cuDeviceGetCount(&count));
	CHECK(count == 2);
	OK(cuDeviceGetUuid(&uuid, 1));
	CHECK(memcmp(uuid.bytes, gpu.uuid_bytes, 16) == 0);
}

static void visible_none_body(void)
{
	setenv("CUDA_VISIBLE_DEVICES", "", 1);
	EXPECT(CUDA_ERROR_NO_DEVICE, cuInit(0));
}

static void visible(void **state)
{
	test_in_process(visible_body);
	test_in_process(visible_none_body);
}

static void contexts_body(void)
{
	CUcontext first = test_context(), second, current;
	CUstream stream;
	CUdevice device;
	unsigned flags;
	int active;
	OK(cuCtxCreate_v2(&second, CU_CTX_SCHED_SPIN, 1));
	OK(cuCtxGetCurrent(&current));
	CHECK(current == second);
	OK(cuCtxGetDevice(&device));
	CHECK(device == 1);
	OK(cuCtxGetFlags(&flags));
	CHECK(flags == CU_CTX_SCHED_SPIN);
	OK(cuCtxPopCurrent_v2(&current));
	CHECK(current == second);
	OK(cuCtxGetDevice(&device));
	CHECK(device == 0);
	OK(cuCtxPushCurrent_v2(second));
	OK(cuStreamCreate(&stream, 0));
	OK(cuCtxPushCurrent_v2(first));
	uint64_t nanoseconds = 1;
	EXPECT(CUDA_ERROR_INVALID_HANDLE,
	       cuLaunchKernel(kernel("gpushare_spin"), 1, 1, 1, 1, 1, 1, 0, stream, (void *[]){&nanoseconds}, NULL));
	OK(cuCtxPopCurrent_v2(NULL));
	OK(cuCtxEnablePeerAccess(first, 0));
	EXPECT(CUDA_ERROR_PEER_ACCESS_ALREADY_ENABLED, cuCtxEnablePeerAccess(first, 0));
	OK(cuCtxDestroy_v2(second));
	OK(cuCtxGetCurrent(&current));
	CHECK(current == first);
	EXPECT(CUDA_ERROR_INVALID_CONTEXT, cuCtxDestroy_v2(second));
	EXPECT(CUDA_ERROR_INVALID_CONTEXT, cuCtxSetCurrent((CUcontext)&device));
	OK(cuDevicePrimaryCtxGetState(1, &flags, &active));
	CHECK(!active);
	OK(cuDevicePrimaryCtxRetain(&current, 1));
	OK(cuDevicePrimaryCtxRetain(&second, 1));
	CHECK(current == second);
	EXPECT(CUDA_ERROR_INVALID_CONTEXT, cuCtxDestroy_v2(current));
	OK(cuDevicePrimaryCtxRelease_v2(1));
	OK(cuDevicePrimaryCtxGetState(1, &flags, &active));
	CHECK(active);
	OK(cuCtxSetCurrent(current));
	OK(cuDevicePrimaryCtxRelease_v2(1));
	EXPECT(CUDA_ERROR_CONTEXT_IS_DESTROYED, cuCtxSynchronize());
	EXPECT(CUDA_ERROR_INVALID_CONTEXT, cuDevicePrimaryCtxRelease_v2(1));
	OK(cuCtxSetCurrent(NULL));
	EXPECT(CUDA_ERROR_INVALID_CONTEXT, cuCtxSynchronize());
	struct sim_client clients[2];
	CHECK(sim_clients(test_node, 1, clients, 2) == 0 && sim_clients(test_node, 0, clients, 2) == 1);
}

/* What old programs find under the plain names. */
static void plain_names_body(void)
{
	CUcontext context, popped;
	CUresult (*create)(CUcontext *, unsigned, CUdevice);
	CUresult (*pop)(CUcontext *), (*destroy)(CUcontext), (*allocate)(unsigned *, unsigned);
	unsigned pointer;
	OK(cuInit(0));
	OK(cuGetProcAddress_v2("cuCtxCreate", (void **)&create, 2000, 0, NULL));
	OK(cuGetProcAddress_v2("cuCtxPopCurrent", (void **)&pop, 2000, 0, NULL));
	OK(cuGetProcAddress_v2("cuCtxDestroy", (void **)&destroy, 2000, 0, NULL));
	OK(cuGetProcAddress_v2("cuMemAlloc", (void **)&allocate, 2000, 0, NULL));
	CHECK(destroy != cuCtxDestroy_v2);
	OK(create(&context, 0, 0));
	EXPECT(CUDA_ERROR_NOT_SUPPORTED, allocate(&pointer, 100)); /* 32-bit pointers */
	OK(pop(&popped));
	CHECK(popped == context);
	OK(destroy(context));
}

static void contexts(void **state)
{
	test_in_process(plain_names_body);
	test_in_process(contexts_body);
}

static void code_body(void)
{
	CUlibrary library;
	CUkernel found, again;
	CUfunction function;
	CUmodule loaded;
	CUdeviceptr table;
	size_t size, offset;
	int value;
	test_context();
	EXPECT(CUDA_ERROR_INVALID_PTX, cuModuleLoadData(&loaded, "this is no code"));
	EXPECT(CUDA_ERROR_FILE_NOT_FOUND, cuModuleLoad(&loaded, "/nonexistent"));
	function = kernel("work");
	EXPECT(CUDA_ERROR_NOT_FOUND, cuModuleGetFunction(&function, module, "nothing"));
	OK(cuModuleGetGlobal_v2(&table, &size, module, "table"));
	CHECK(size == 64);
	OK(cuMemsetD8_v2(table, 1, 64));
	EXPECT(CUDA_ERROR_NOT_FOUND, cuModuleGetGlobal_v2(&table, &size, module, "chair"));
	OK(cuFuncGetAttribute(&value, CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK, function));
	CHECK(value == 1024);
	OK(cuOccupancyMaxActiveBlocksPerMultiprocessor(&value, function, 256, 0));
	CHECK(value == 8);
	void *parameters[2] = {&table, &value};
	EXPECT(CUDA_ERROR_INVALID_VALUE, cuLaunchKernel(function, 0, 1, 1, 1, 1, 1, 0, NULL, parameters, NULL));
	EXPECT(CUDA_ERROR_INVALID_VALUE, cuLaunchKernel(function, 1, 1, 1, 1025, 1, 1, 0, NULL, parameters, NULL));
	EXPECT(CUDA_ERROR_INVALID_VALUE, cuLaunchKernel(function, 1, 1, 1, 64, 1, 1, 0, NULL, NULL, NULL));
	EXPECT(CUDA_ERROR_INVALID_HANDLE,
	       cuLaunchKernel((CUfunction)&value, 1, 1, 1, 64, 1, 1, 0, NULL, parameters, NULL));
	OK(cuLaunchKernel(function, 100, 1, 1, 64, 1, 1, 0, NULL, parameters, NULL));
	CUlaunchConfig config = {1, 1, 1, 64, 1, 1, 0, NULL, NULL, 0};
	OK(cuLaunchKernelEx(&config, function, parameters, NULL));
	EXPECT(CUDA_ERROR_COOPERATIVE_LAUNCH_TOO_LARGE,
	       cuLaunchCooperativeKernel(function, 1 << 20, 1, 1, 64, 1, 1, 0, NULL, parameters));
	OK(cuCtxSynchronize());
	OK(cuModuleUnload(module));
	EXPECT(CUDA_ERROR_INVALID_HANDLE, cuLaunchKernel(function, 1, 1, 1, 64, 1, 1, 0, NULL, parameters, NULL));
	OK(cuLibraryLoadData(&library, test_ptx, NULL, NULL, 0, NULL, NULL, 0));
	OK(cuLibraryGetKernel(&found, library, "work"));
	OK(cuLibraryGetKernel(&again, library, "work"));
	CHECK(found == again);
	OK(cuKernelGetFunction(&function, found));
	OK(cuKernelGetParamInfo(found, 1, &offset, &size));
	CHECK(offset == 8 && size == 4);
	EXPECT(CUDA_ERROR_INVALID_VALUE, cuKernelGetParamInfo(found, 2, &offset, &size));
	OK(cuLaunchKernel(function, 1, 1, 1, 64, 1, 1, 0, NULL, parameters, NULL));
	OK(cuLibraryUnload(library));
}

static void code(void **state)
{
	test_in_process(code_body);
}

static void time_body(void)
{
	CUevent start, middle, end;
	CUstream one, two;
	float milliseconds;
	test_context();
	CUfunction function = kernel("gpushare_spin");
	OK(cuStreamCreate(&one, CU_STREAM_NON_BLOCKING));
	OK(cuStreamCreateWithPriority(&two, CU_STREAM_NON_BLOCKING, -2));
	OK(cuEventCreate(&start, 0));
	OK(cuEventCreate(&middle, 0));
	OK(cuEventCreate(&end, 0));
	EXPECT(CUDA_ERROR_INVALID_HANDLE, cuEventElapsedTime_v2(&milliseconds, start, end));
	OK(cuEventRecord(start, one));
	spin(function, 50000000, one);
	OK(cuEventRecord(middle, one));
	OK(cuStreamWaitEvent(two, middle, 0));
	spin(function, 30000000, two);
	OK(cuEventRecord(end, two));
	OK(cuEventSynchronize(end));
	OK(cuStreamQuery(one));
	OK(cuStreamQuery(two));
	OK(cuEventElapsedTime_v2(&milliseconds, start, middle));
	CHECK(milliseconds >= 50.0f);
	OK(cuEventElapsedTime_v2(&milliseconds, middle, end));
	CHECK(milliseconds >= 30.0f);
	OK(cuEventRecord(start, one));
	spin(function, 20000000, one);
	OK(cuEventRecord(end, one));
	OK(cuStreamDestroy_v2(one));
	EXPECT(CUDA_ERROR_INVALID_HANDLE, cuStreamSynchronize(one));
	OK(cuCtxSynchronize()); /* waits for what the stream left behind */
	OK(cuEventQuery(end));
}

/* With kernels that outlast any test: what is waiting for what. */
static void order_body(void)
{
	CUevent event;
	CUstream blocking, free_one, other;
	float milliseconds;
	test_context();
	CUfunction function = kernel("gpushare_spin");
	OK(cuStreamCreate(&blocking, CU_STREAM_DEFAULT));
	OK(cuStreamCreate(&free_one, CU_STREAM_NON_BLOCKING));
	OK(cuStreamCreate(&other, CU_STREAM_NON_BLOCKING));
	OK(cuEventCreate(&event, 0));
	OK(cuEventRecord(event, free_one));
	OK(cuEventQuery(event));
	spin(function, 3000000000000ull, blocking);
	EXPECT(CUDA_ERROR_NOT_READY, cuStreamQuery(blocking));
	EXPECT(CUDA_ERROR_NOT_READY, cuStreamQuery(NULL)); /* the legacy stream waits for blocking streams */
	OK(cuStreamQuery(free_one));
	OK(cuEventRecord(event, blocking));
	EXPECT(CUDA_ERROR_NOT_READY, cuEventQuery(event));
	EXPECT(CUDA_ERROR_NOT_READY, cuEventElapsedTime_v2(&milliseconds, event, event));
	OK(cuStreamWaitEvent(other, event, 0));
	EXPECT(CUDA_ERROR_NOT_READY, cuStreamQuery(other));
	OK(cuStreamQuery(free_one));
}

static void simulated_time(void **state)
{
	test_in_process(time_body);
	test_in_process(order_body);
}

static int steps;

static void step(void *expected)
{
	if (*(int *)expected == steps)
		steps++;
}

static void callback(CUstream stream, CUresult status, void *expected)
{
	int count;
	if (status == CUDA_SUCCESS && cuDeviceGetCount(&count) == CUDA_ERROR_NOT_PERMITTED)
		step(expected);
}

static void host_functions_body(void)
{
	int order[] = {0, 1, 2};
	CUstream stream;
	test_context();
	CUfunction function = kernel("gpushare_spin");
	OK(cuStreamCreate(&stream, CU_STREAM_NON_BLOCKING));
	spin(function, 20000000, stream);
	OK(cuLaunchHostFunc(stream, step, &order[0]));
	OK(cuStreamAddCallback(stream, callback, &order[1], 0));
	OK(cuLaunchHostFunc(stream, step, &order[2]));
	OK(cuStreamSynchronize(stream));
	CHECK(steps == 3);
}

static void host_functions(void **state)
{
	test_in_process(host_functions_body);
}

enum { BURSTS = 10 };
#define BURST_NS 10000000ull

static void work_body(void)
{
	test_context();
	CUfunction function = kernel("gpushare_spin");
	for (int i = 0; i < BURSTS; i++) {
		spin(function, BURST_NS, NULL);
		OK(cuCtxSynchronize());
	}
}

/* Two processes keep one GPU busy: the timeline holds the work of both, end to end. */
static void processes_take_turns(void **state)
{
	struct sim_gpu before, after;
	assert_true(sim_gpu_get(test_node, 0, &before));
	uint64_t start = sim_now_ns();
	pid_t one = test_start(work_body), two = test_start(work_body);
	test_join(one);
	test_join(two);
	uint64_t took = sim_now_ns() - start;
	assert_true(sim_gpu_get(test_node, 0, &after));
	assert_int_equal(after.busy_ns_total - before.busy_ns_total, 2 * BURSTS * BURST_NS);
	assert_true(took >= 2 * BURSTS * BURST_NS); /* one GPU cannot do it sooner */
}

static void per_thread_body(void)
{
	void *launch, *sync;
	test_context();
	CUfunction function = kernel("gpushare_spin");
	uint64_t nanoseconds = 20000000;
	OK(cuGetProcAddress_v2("cuLaunchKernel", &launch, 12000, CU_GET_PROC_ADDRESS_PER_THREAD_DEFAULT_STREAM, NULL));
	OK(cuGetProcAddress_v2("cuStreamSynchronize", &sync, 12000, CU_GET_PROC_ADDRESS_PER_THREAD_DEFAULT_STREAM,
			       NULL));
	OK(((__typeof__(cuLaunchKernel) *)launch)(function, 1, 1, 1, 1, 1, 1, 0, NULL, (void *[]){&nanoseconds}, NULL));
	OK(((__typeof__(cuStreamSynchronize) *)sync)(NULL));
	OK(cuStreamQuery(CU_STREAM_PER_THREAD));
	nanoseconds = 3000000000000ull; /* outlasts the test */
	OK(((__typeof__(cuLaunchKernel) *)launch)(function, 1, 1, 1, 1, 1, 1, 0, NULL, (void *[]){&nanoseconds}, NULL));
	EXPECT(CUDA_ERROR_NOT_READY, cuStreamQuery(CU_STREAM_PER_THREAD));
}

static void per_thread_streams(void **state)
{
	test_in_process(per_thread_body);
}

static void set_lost(struct sim_gpu *gpu, void *lost)
{
	gpu->lost = *(uint32_t *)lost;
}

static void add_ecc_error(struct sim_gpu *gpu, void *unused)
{
	gpu->ecc_double_volatile++;
}

static void *lose_soon(void *unused)
{
	uint32_t lost = 1;
	usleep(50000);
	sim_gpu_update(test_node, 1, set_lost, &lost);
	return NULL;
}

static void lost_body(void)
{
	CUcontext context;
	CUdeviceptr a;
	pthread_t thread;
	uint32_t lost = 0;
	OK(cuInit(0));
	OK(cuCtxCreate_v4(&context, NULL, 0, 1));
	CUfunction function = kernel("gpushare_spin");
	spin(function, 3000000000000ull, NULL); /* nearly an hour: only the loss ends the wait */
	CHECK(pthread_create(&thread, NULL, lose_soon, NULL) == 0);
	EXPECT(CUDA_ERROR_DEVICE_UNAVAILABLE, cuCtxSynchronize());
	pthread_join(thread, NULL);
	EXPECT(CUDA_ERROR_DEVICE_UNAVAILABLE, cuMemAlloc_v2(&a, 100));
	sim_gpu_update(test_node, 1, set_lost, &lost);
	EXPECT(CUDA_ERROR_DEVICE_UNAVAILABLE, cuMemAlloc_v2(&a, 100)); /* this context stays broken */
	OK(cuCtxDestroy_v2(context));
	OK(cuCtxCreate_v4(&context, NULL, 0, 1));
	OK(cuMemAlloc_v2(&a, 100));
	OK(cuCtxDestroy_v2(context));
	lost = 1;
	sim_gpu_update(test_node, 1, set_lost, &lost);
	EXPECT(CUDA_ERROR_DEVICE_UNAVAILABLE, cuCtxCreate_v4(&context, NULL, 0, 1));
	lost = 0;
	sim_gpu_update(test_node, 1, set_lost, &lost);
	OK(cuCtxCreate_v4(&context, NULL, 0, 1));
	sim_gpu_update(test_node, 1, add_ecc_error, NULL);
	EXPECT(CUDA_ERROR_ECC_UNCORRECTABLE, cuCtxSynchronize());
	OK(cuCtxDestroy_v2(context));
	OK(cuCtxCreate_v4(&context, NULL, 0, 1));
	OK(cuCtxSynchronize());
	OK(cuCtxDestroy_v2(context));
	OK(cuCtxCreate_v4(&context, NULL, 0, 0)); /* the other GPUs work */
	OK(cuMemAlloc_v2(&a, 100));
}

static void a_lost_gpu_ends_waits(void **state)
{
	test_in_process(lost_body);
}

static void set_mode(struct sim_gpu *gpu, void *mode)
{
	gpu->compute_mode = *(uint32_t *)mode;
}

static void exclusive_body(void)
{
	CUcontext context;
	OK(cuInit(0));
	OK(cuCtxCreate_v4(&context, NULL, 0, 2));
	pid_t child = fork();
	int status = 0;
	if (child == 0) {
		execl("/proc/self/exe", "test_driver", "second", NULL);
		_exit(99);
	}
	CHECK(waitpid(child, &status, 0) == child && WIFEXITED(status));
	CHECK(WEXITSTATUS(status) == CUDA_ERROR_DEVICE_UNAVAILABLE);
}

static int second_process(void)
{
	CUcontext context;
	return cuInit(0) == CUDA_SUCCESS ? (int)cuCtxCreate_v4(&context, NULL, 0, 2) : 98;
}

static void compute_modes_are_kept(void **state)
{
	uint32_t mode = CU_COMPUTEMODE_EXCLUSIVE_PROCESS;
	sim_gpu_update(test_node, 2, set_mode, &mode);
	test_in_process(exclusive_body);
	mode = CU_COMPUTEMODE_DEFAULT;
	sim_gpu_update(test_node, 2, set_mode, &mode);
}

static void fork_body(void)
{
	CUdeviceptr a;
	int count;
	test_context();
	pid_t child = fork();
	if (child == 0) {
		EXPECT(CUDA_ERROR_NOT_INITIALIZED, cuDeviceGetCount(&count));
		EXPECT(CUDA_ERROR_NOT_INITIALIZED, cuInit(0));
		_exit(0);
	}
	int status;
	CHECK(waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0);
	OK(cuMemAlloc_v2(&a, 100)); /* the child's end took nothing away */
}

static void a_fork_child_has_no_driver(void **state)
{
	test_in_process(fork_body);
}

static void *thread_body(void *context)
{
	OK(cuCtxSetCurrent(context));
	for (int i = 0; i < 200; i++) {
		CUdeviceptr a;
		CUstream stream;
		CUevent event;
		uint32_t value = 0, written = (uint32_t)i;
		OK(cuMemAlloc_v2(&a, 4));
		OK(cuStreamCreate(&stream, CU_STREAM_NON_BLOCKING));
		OK(cuEventCreate(&event, 0));
		OK(cuMemcpyHtoDAsync_v2(a, &written, 4, stream));
		OK(cuEventRecord(event, stream));
		OK(cuEventSynchronize(event));
		OK(cuMemcpyDtoHAsync_v2(&value, a, 4, stream));
		OK(cuStreamSynchronize(stream));
		CHECK(value == written);
		OK(cuEventDestroy_v2(event));
		OK(cuStreamDestroy_v2(stream));
		OK(cuMemFree_v2(a));
	}
	return NULL;
}

static void threads_body(void)
{
	pthread_t threads[4];
	CUcontext context = test_context();
	for (int i = 0; i < 4; i++)
		CHECK(pthread_create(&threads[i], NULL, thread_body, context) == 0);
	for (int i = 0; i < 4; i++)
		pthread_join(threads[i], NULL);
	OK(cuCtxDestroy_v2(context));
	CHECK(sim_gpu_memory_used(test_node, 0) == 0);
}

static void threads_share_a_context(void **state)
{
	test_in_process(threads_body);
}

int main(int argc, char **argv)
{
	if (argc > 1 && strcmp(argv[1], "second") == 0)
		return second_process();
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(devices),
		cmocka_unit_test(visible),
		cmocka_unit_test(contexts),
		cmocka_unit_test(code),
		cmocka_unit_test(simulated_time),
		cmocka_unit_test(host_functions),
		cmocka_unit_test(processes_take_turns),
		cmocka_unit_test(per_thread_streams),
		cmocka_unit_test(a_lost_gpu_ends_waits),
		cmocka_unit_test(compute_modes_are_kept),
		cmocka_unit_test(a_fork_child_has_no_driver),
		cmocka_unit_test(threads_share_a_context),
	};
	return cmocka_run_group_tests(tests, test_make_node, test_remove_node);
}
