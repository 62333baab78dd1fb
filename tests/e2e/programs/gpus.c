/* A workload of the CUDA driver API: prints one line of JSON that names the devices it sees, takes the memory it was
 * asked for, says "ready", and waits to be ended.
 *
 *     gpus [--once] [--memory MIB]
 *     gpus --wait                    uses no GPU */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
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

static void leave(int number)
{
	(void)number;
	_exit(0);
}

static void print_uuid(const unsigned char bytes[16])
{
	printf("GPU-");
	for (int i = 0; i < 16; i++)
		printf("%s%02x", i == 4 || i == 6 || i == 8 || i == 10 ? "-" : "", bytes[i]);
}

static void print_devices(void)
{
	int count;
	OK(cuDeviceGetCount(&count));
	printf("{\"devices\": [");
	for (int i = 0; i < count; i++) {
		CUdevice device;
		CUuuid uuid;
		char name[96];
		size_t bytes;
		OK(cuDeviceGet(&device, i));
		OK(cuDeviceGetUuid_v2(&uuid, device));
		OK(cuDeviceGetName(name, sizeof name, device));
		OK(cuDeviceTotalMem_v2(&bytes, device));
		printf("%s{\"uuid\": \"", i ? ", " : "");
		print_uuid((const unsigned char *)uuid.bytes);
		printf("\", \"name\": \"%s\", \"memory\": %zu}", name, bytes);
	}
	printf("]}\n");
	fflush(stdout);
}

static void take_memory(size_t mebibytes)
{
	CUdevice device;
	CUcontext context;
	CUdeviceptr memory;
	OK(cuDeviceGet(&device, 0));
	OK(cuCtxCreate_v4(&context, NULL, 0, device));
	OK(cuMemAlloc_v2(&memory, mebibytes << 20));
}

int main(int argc, char **argv)
{
	int once = 0, waiting = 0;
	size_t mebibytes = 0;
	for (int i = 1; i < argc; i++)
		if (strcmp(argv[i], "--once") == 0)
			once = 1;
		else if (strcmp(argv[i], "--wait") == 0)
			waiting = 1;
		else if (strcmp(argv[i], "--memory") == 0 && i + 1 < argc)
			mebibytes = strtoul(argv[++i], NULL, 10);
	signal(SIGTERM, leave);
	if (!waiting) {
		OK(cuInit(0));
		print_devices();
	}
	if (mebibytes)
		take_memory(mebibytes);
	if (once)
		return 0;
	puts("ready");
	fflush(stdout);
	for (;;)
		pause();
}
