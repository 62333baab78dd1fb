/* An ordinary program of the CUDA driver API, linked to libcuda.so.1 as programs are: it names its steps, and ends with
 * 0 when all of them did what a driver does. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "gpushare/cuda.h"

#define OK(call)                                                  \
	do {                                                      \
		CUresult got = call;                              \
		if (got != CUDA_SUCCESS) {                        \
			const char *name = "?";                   \
			cuGetErrorName(got, &name);               \
			fprintf(stderr, "%s: %s\n", #call, name); \
			exit(1);                                  \
		}                                                 \
	} while (0)

#define CHECK(condition)                                                        \
	do {                                                                    \
		if (!(condition)) {                                             \
			fprintf(stderr, "line %d: %s\n", __LINE__, #condition); \
			exit(1);                                                \
		}                                                               \
	} while (0)

static const char code[] = ".version 6.0\n.target sm_50\n.address_size 64\n"
			   ".visible .entry spin(.param .u64 nanoseconds) { ret; }\n";

static void check_fork(void)
{
	int count, status;
	pid_t child = fork();
	if (child == 0)
		_exit(cuDeviceGetCount(&count) == CUDA_ERROR_NOT_INITIALIZED && cuInit(0) == CUDA_ERROR_NOT_INITIALIZED
			      ? 0
			      : 1);
	CHECK(child > 0 && waitpid(child, &status, 0) == child && status == 0);
}

int main(void)
{
	enum { COUNT = 1 << 16 };
	static unsigned out[COUNT], back[COUNT];
	CUcontext context;
	CUdevice device;
	CUdeviceptr memory;
	CUmodule module;
	CUfunction function;
	CUstream stream;
	CUevent start, end;
	size_t before, after, total;
	float milliseconds;
	unsigned long long nanoseconds = 20000000;
	void *parameters[] = {&nanoseconds};
	for (unsigned i = 0; i < COUNT; i++)
		out[i] = i * 2654435761u;
	OK(cuInit(0));
	OK(cuDeviceGet(&device, 0));
	OK(cuCtxCreate_v4(&context, NULL, 0, device));
	OK(cuMemGetInfo_v2(&before, &total));
	OK(cuMemAlloc_v2(&memory, 512ul << 20));
	OK(cuMemGetInfo_v2(&after, &total));
	CHECK(before - after == 512ul << 20);
	OK(cuMemcpyHtoD_v2(memory + 4096, out, sizeof out));
	OK(cuMemcpyDtoH_v2(back, memory + 4096, sizeof out));
	CHECK(memcmp(out, back, sizeof out) == 0);
	OK(cuModuleLoadData(&module, code));
	OK(cuModuleGetFunction(&function, module, "spin"));
	OK(cuStreamCreate(&stream, CU_STREAM_NON_BLOCKING));
	OK(cuEventCreate(&start, 0));
	OK(cuEventCreate(&end, 0));
	OK(cuEventRecord(start, stream));
	OK(cuLaunchKernel(function, 108, 1, 1, 256, 1, 1, 0, stream, parameters, NULL));
	OK(cuEventRecord(end, stream));
	OK(cuStreamSynchronize(stream));
	OK(cuEventElapsedTime_v2(&milliseconds, start, end));
	CHECK(milliseconds >= 20);
	check_fork();
	OK(cuMemFree_v2(memory));
	OK(cuCtxDestroy_v2(context));
	return 0;
}
