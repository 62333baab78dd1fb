/* gpushare sim load: an honest client of the CUDA driver. It knows nothing of the simulator: it loads libcuda.so.1 and
 * uses the public driver API, so it works on real GPUs too. */
#include <dlfcn.h>
#include <stdarg.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/prctl.h>
#include <time.h>

#include "base/cleanup.h"
#include "base/quantity.h"
#include "cli/command.h"
#include "sim/tools/commands.h"
#include "gpushare/cuda.h"

/* A GPU is kept busy in bursts: one at the start of each period. Short, so that several clients of a GPU take turns. */
#define PERIOD_NS     50000000ull
#define IDLE_CHECK_NS 500000000ull /* without bursts: how often the GPU is asked whether it is still there */

/* Spins for a time; sm_50 is the oldest architecture that any current driver compiles for. */
static const char spin_ptx[] = ".version 6.0\n"
			       ".target sm_50\n"
			       ".address_size 64\n"
			       ".visible .entry gpushare_spin(.param .u64 nanoseconds)\n"
			       "{\n"
			       "	.reg .pred %again;\n"
			       "	.reg .u64 %start, %now, %goal;\n"
			       "	ld.param.u64 %goal, [nanoseconds];\n"
			       "	mov.u64 %start, %globaltimer;\n"
			       "LOOP:\n"
			       "	mov.u64 %now, %globaltimer;\n"
			       "	sub.u64 %now, %now, %start;\n"
			       "	setp.lt.u64 %again, %now, %goal;\n"
			       "	@%again bra LOOP;\n"
			       "	ret;\n"
			       "}\n";

/* The functions of the driver that are used; since when they exist does not matter: all are older than CUDA 9.2. */
#define DRIVER_FUNCTIONS(use)                                                                                          \
	use(cuInit) use(cuGetErrorName) use(cuGetErrorString) use(cuDeviceGetCount) use(cuDeviceGet)                   \
		use(cuDeviceGetUuid) use(cuDevicePrimaryCtxRetain) use(cuDevicePrimaryCtxRelease) use(cuCtxSetCurrent) \
			use(cuCtxSynchronize) use(cuMemGetInfo_v2) use(cuMemAlloc_v2) use(cuMemFree_v2)                \
				use(cuModuleLoadData) use(cuModuleGetFunction) use(cuLaunchKernel)

#define DRIVER_MEMBER(name) __typeof__(name) *name;
static struct {
	DRIVER_FUNCTIONS(DRIVER_MEMBER)
} driver;
static __typeof__(cuDeviceGetUuid_v2) *driver_uuid_v2; /* NULL before CUDA 11.4 */

struct load {
	const char *gpu;  /* as asked for; NULL: the first */
	const char *name; /* NULL: none */
	int64_t memory_bytes;
	unsigned busy_permille;
	int64_t for_ns; /* 0: until a signal */
	char uuid[48];
	CUdevice device;
	CUdeviceptr memory;
	CUfunction spin;
	uint64_t worked_ns;
	bool stopped; /* by a signal */
};

static uint64_t now_ns(void)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000ull + (uint64_t)now.tv_nsec;
}

static int fail(const char *format, ...) __attribute__((format(printf, 1, 2)));

static int fail(const char *format, ...)
{
	va_list args;
	va_start(args, format);
	fputs("gpushare sim load: ", stderr);
	vfprintf(stderr, format, args);
	fputc('\n', stderr);
	va_end(args);
	return -1;
}

/* "CUDA_ERROR_OUT_OF_MEMORY (out of memory)"; a static buffer. */
static const char *words(CUresult error)
{
	static char text[160];
	const char *name = NULL, *meaning = NULL;
	driver.cuGetErrorName(error, &name);
	driver.cuGetErrorString(error, &meaning);
	snprintf(text, sizeof text, "%s (%s)", name ? name : "an unknown error", meaning ? meaning : "no description");
	return text;
}

static int load_driver(void)
{
	void *library = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL);
	if (!library)
		return fail("no CUDA driver: %s; run this where an NVIDIA driver is, or as "
			    "'gpushare sim SPEC -- gpushare sim load'",
			    dlerror());
#define DRIVER_LOAD(function)                                                \
	driver.function = (__typeof__(function) *)dlsym(library, #function); \
	if (!driver.function)                                                \
		return fail("libcuda.so.1 has no " #function ": the driver is too old");
	DRIVER_FUNCTIONS(DRIVER_LOAD)
	driver_uuid_v2 = (__typeof__(driver_uuid_v2))dlsym(library, "cuDeviceGetUuid_v2");
	return 0;
}

/* Whether all entries of a list are indices or UUIDs, as CUDA_VISIBLE_DEVICES takes them. */
static bool names_gpus(const char *list)
{
	for (const char *entry = list; *entry; entry += strcspn(entry, ","), entry += *entry == ',')
		if (!strchr("0123456789", *entry) && strncmp(entry, "GPU-", 4) != 0 && strncmp(entry, "MIG-", 4) != 0)
			return false;
	return *list != '\0';
}

/* In a container the runtime has hidden all GPUs but those of NVIDIA_VISIBLE_DEVICES. Where no runtime did, that
 * variable is honoured here, unless CUDA's own says what to use. */
static void honour_container_variable(void)
{
	const char *list = getenv("NVIDIA_VISIBLE_DEVICES");
	if (getenv("CUDA_VISIBLE_DEVICES") || !list)
		return;
	if (strcmp(list, "none") == 0) {
		setenv("CUDA_VISIBLE_DEVICES", "", 1);
	} else if (names_gpus(list)) {
		setenv("CUDA_VISIBLE_DEVICES", list, 1);
		setenv("CUDA_DEVICE_ORDER", "PCI_BUS_ID", 0); /* NVML's order, which the list counts in */
	}
}

/* The device's UUID as nvidia-smi shows it. Of a MIG instance the first version of the call tells the GPU's and the
 * second its own; a driver without the second knows no MIG. */
static CUresult read_uuid(CUdevice device, char text[48])
{
	CUuuid gpu, own;
	CUresult result = driver.cuDeviceGetUuid(&gpu, device);
	if (result != CUDA_SUCCESS)
		return result;
	bool is_mig =
		driver_uuid_v2 && driver_uuid_v2(&own, device) == CUDA_SUCCESS && memcmp(&gpu, &own, sizeof own) != 0;
	const CUuuid *uuid = is_mig ? &own : &gpu;
	char *end = text + sprintf(text, is_mig ? "MIG-" : "GPU-");
	for (int i = 0; i < 16; i++)
		end += sprintf(end, "%s%02x", i == 4 || i == 6 || i == 8 || i == 10 ? "-" : "",
			       (unsigned)(unsigned char)uuid->bytes[i]);
	return CUDA_SUCCESS;
}

/* The device that `gpu` names: a number, a UUID, or the beginning of one. */
static int choose_device(struct load *load, int count)
{
	char *end = NULL;
	long wanted = load->gpu ? strtol(load->gpu, &end, 10) : 0;
	bool by_number = !load->gpu || (*load->gpu && !*end);
	for (int i = 0; i < count; i++) {
		if (driver.cuDeviceGet(&load->device, i) != CUDA_SUCCESS ||
		    read_uuid(load->device, load->uuid) != CUDA_SUCCESS)
			continue;
		if (by_number ? i == wanted : *load->gpu && strncasecmp(load->uuid, load->gpu, strlen(load->gpu)) == 0)
			return 0;
	}
	const char *visible = getenv("CUDA_VISIBLE_DEVICES");
	return fail("there is no GPU '%s' among the %d that are visible%s%s; 'nvidia-smi -L' lists them",
		    load->gpu ? load->gpu : "0", count, visible ? " with CUDA_VISIBLE_DEVICES=" : "",
		    visible ? visible : "");
}

static int open_device(struct load *load)
{
	int count = 0;
	honour_container_variable();
	/* CUDA shows a program one MIG instance only, and has no other way to choose it. */
	if (load->gpu && strncmp(load->gpu, "MIG-", 4) == 0 && !getenv("CUDA_VISIBLE_DEVICES")) {
		setenv("CUDA_VISIBLE_DEVICES", load->gpu, 1);
		load->gpu = NULL;
	}
	CUresult result = driver.cuInit(0);
	if (result == CUDA_SUCCESS)
		result = driver.cuDeviceGetCount(&count);
	const char *visible = getenv("CUDA_VISIBLE_DEVICES");
	if (result == CUDA_ERROR_NO_DEVICE || (result == CUDA_SUCCESS && !count))
		return visible ? fail("no GPU is visible with CUDA_VISIBLE_DEVICES=%s", visible)
			       : fail("there is no GPU, or the driver does not reach it");
	if (result != CUDA_SUCCESS)
		return fail("the CUDA driver does not start: %s", words(result));
	if (choose_device(load, count) < 0)
		return -1;
	CUcontext context;
	result = driver.cuDevicePrimaryCtxRetain(&context, load->device);
	if (result == CUDA_SUCCESS)
		result = driver.cuCtxSetCurrent(context);
	return result == CUDA_SUCCESS ? 0 : fail("%s cannot be used: %s", load->uuid, words(result));
}

/* In whole mebibytes: what is left over does not matter to people. */
static void format_bytes(size_t bytes, char *text, size_t size)
{
	gs_format_quantity((int64_t)(bytes >> 20 << 20), text, size);
}

static int take_memory(struct load *load)
{
	if (!load->memory_bytes)
		return 0;
	CUresult result = driver.cuMemAlloc_v2(&load->memory, (size_t)load->memory_bytes);
	if (result == CUDA_SUCCESS)
		return 0;
	char asked[32], free_text[32], total_text[32];
	size_t free_bytes = 0, total_bytes = 0;
	gs_format_quantity(load->memory_bytes, asked, sizeof asked);
	if (result != CUDA_ERROR_OUT_OF_MEMORY || driver.cuMemGetInfo_v2(&free_bytes, &total_bytes) != CUDA_SUCCESS)
		return fail("%s does not give %s: %s", load->uuid, asked, words(result));
	format_bytes(free_bytes, free_text, sizeof free_text);
	format_bytes(total_bytes, total_text, sizeof total_text);
	return fail("out of memory: %s was asked of %s, %s of %s is free; ask for less, or stop what holds the rest",
		    asked, load->uuid, free_text, total_text);
}

static int load_kernel(struct load *load)
{
	CUmodule module;
	CUresult result = driver.cuModuleLoadData(&module, spin_ptx);
	if (result == CUDA_SUCCESS)
		result = driver.cuModuleGetFunction(&load->spin, module, "gpushare_spin");
	return result == CUDA_SUCCESS ? 0 : fail("%s does not load the kernel: %s", load->uuid, words(result));
}

/* Sleeps until a moment or a signal that ends the load. */
static void sleep_until(struct load *load, const sigset_t *signals, uint64_t moment)
{
	for (uint64_t now = now_ns(); now < moment && !load->stopped; now = now_ns()) {
		struct timespec left = {.tv_sec = (time_t)((moment - now) / 1000000000),
					.tv_nsec = (long)((moment - now) % 1000000000)};
		load->stopped = sigtimedwait(signals, NULL, &left) > 0;
	}
}

/* One kernel of `nanoseconds`, and waits for it; 0: only looks whether the GPU still answers. */
static int burst(struct load *load, uint64_t nanoseconds)
{
	CUresult result = CUDA_SUCCESS;
	if (nanoseconds)
		result = driver.cuLaunchKernel(load->spin, 1, 1, 1, 1, 1, 1, 0, NULL, (void *[]){&nanoseconds}, NULL);
	if (result == CUDA_SUCCESS)
		result = driver.cuCtxSynchronize();
	if (result != CUDA_SUCCESS)
		return fail("%s does not work any more: %s", load->uuid, words(result));
	load->worked_ns += nanoseconds;
	return 0;
}

static int keep_busy(struct load *load, const sigset_t *signals)
{
	uint64_t start = now_ns(), end = load->for_ns ? start + (uint64_t)load->for_ns : UINT64_MAX, next = start;
	uint64_t work = PERIOD_NS / 1000 * load->busy_permille, period = work ? PERIOD_NS : IDLE_CHECK_NS;
	while (!load->stopped && now_ns() < end) {
		uint64_t left = end - now_ns();
		if (burst(load, work < left ? work : left) < 0)
			return -1;
		/* When others hold the GPU up, what was missed is not made up for. */
		next = next + period > now_ns() ? next + period : now_ns();
		sleep_until(load, signals, next < end ? next : end);
		struct timespec none = {0};
		if (sigtimedwait(signals, NULL, &none) > 0)
			load->stopped = true;
	}
	return 0;
}

static int run(struct load *load)
{
	/* Blocked before the driver starts threads, and waited for: a signal ends the load between two bursts. */
	sigset_t signals;
	sigemptyset(&signals);
	sigaddset(&signals, SIGINT);
	sigaddset(&signals, SIGTERM);
	sigaddset(&signals, SIGHUP);
	sigprocmask(SIG_BLOCK, &signals, NULL);
	if (load_driver() < 0 || open_device(load) < 0 || take_memory(load) < 0 || load_kernel(load) < 0)
		return GS_EXIT_FAILURE;
	const char *name = load->name ? load->name : "", *colon = load->name ? ": " : "";
	char memory[32];
	gs_format_quantity(load->memory_bytes, memory, sizeof memory);
	uint64_t start = now_ns();
	printf("%s%sholding %s on %s, busy %g%%\n", name, colon, memory, load->uuid, load->busy_permille / 10.0);
	fflush(stdout);
	int result = keep_busy(load, &signals);
	printf("%s%sheld %s on %s for %.1fs, of which %.1fs busy\n", name, colon, memory, load->uuid,
	       (double)(now_ns() - start) / 1e9, (double)load->worked_ns / 1e9);
	if (load->memory && result == 0)
		driver.cuMemFree_v2(load->memory);
	driver.cuDevicePrimaryCtxRelease(load->device);
	return result == 0 ? GS_EXIT_OK : GS_EXIT_FAILURE;
}

/* "30%", "30" or "12.5%" in per mille. */
static int parse_busy(const char *text, unsigned *permille)
{
	char *end;
	double percent = strtod(text, &end);
	if (end == text || (*end && strcmp(end, "%") != 0) || !(percent >= 0 && percent <= 100))
		return fail("'%s' is no share of time; write a percentage from 0%% to 100%%, as --busy 30%%", text);
	*permille = (unsigned)(percent * 10 + 0.5);
	return 0;
}

static int parse_amounts(struct load *load, const char *memory, const char *busy, const char *duration)
{
	struct gs_error error;
	if (gs_parse_quantity(memory ? memory : "1Gi", &load->memory_bytes, &error) < 0)
		return fail("--memory: %s", error.text);
	if (parse_busy(busy ? busy : "50%", &load->busy_permille) < 0)
		return -1;
	if (duration && gs_parse_duration(duration, &load->for_ns, &error) < 0)
		return fail("--for: %s", error.text);
	if (duration && load->for_ns <= 0)
		return fail("--for: '%s' is no time to run; write for example 60s", duration);
	return 0;
}

static int run_load(const struct gs_arguments *arguments)
{
	struct load load = {0};
	if (arguments->operand_count) {
		fail("'%s' is too much; 'gpushare sim load --help' lists the options", arguments->operands[0]);
		return GS_EXIT_USAGE;
	}
	load.gpu = gs_option_value(arguments, "gpu");
	load.name = gs_option_value(arguments, "name");
	if (parse_amounts(&load, gs_option_value(arguments, "memory"), gs_option_value(arguments, "busy"),
			  gs_option_value(arguments, "for")) < 0)
		return GS_EXIT_USAGE;
	if (load.name)
		prctl(PR_SET_NAME, load.name);
	return run(&load);
}

static const struct gs_option load_options[] = {
	{.name = "gpu",
	 .argument = "N|UUID",
	 .fallback = "0",
	 .help = "The GPU: its number as CUDA counts, or its UUID or the beginning of it"},
	{.name = "memory", .argument = "BYTES", .fallback = "1Gi", .help = "GPU memory to hold, as 4Gi"},
	{.name = "busy", .argument = "PERCENT", .fallback = "50%", .help = "Share of the time to keep the GPU busy"},
	{.name = "for", .argument = "DURATION", .help = "How long, as 60s or 5m (default: until SIGINT or SIGTERM)"},
	{.name = "name", .argument = "NAME", .help = "Put before the lines that are printed, and shown by ps and top"},
	{0},
};

const struct gs_command gs_command_sim_load = {
	.name = "sim load",
	.synopsis = "[--gpu N|UUID] [--memory 4Gi] [--busy 30%] [--for 60s]",
	.summary = "hold memory of a GPU and keep it busy",
	.description = "A workload for trying things out: an ordinary program of the CUDA driver API, on a simulated "
		       "node or on a real GPU. "
		       "It holds memory and runs kernels for a share of the time, prints a line when it is ready and "
		       "one when it ends.\n\n"
		       "CUDA_VISIBLE_DEVICES chooses what it sees, as for every CUDA program. When it is not set and "
		       "NVIDIA_VISIBLE_DEVICES names GPUs, as in a container whose runtime knows nothing of GPUs, that "
		       "one does.\n\n"
		       "Exits with 1 when the GPU does not give the memory or stops working.",
	.examples = "gpushare sim 8xA100-80GB -- gpushare sim load --memory 4Gi --busy 30% --for 60s  # on a simulated "
		    "node\n"
		    "gpushare sim load --gpu 1 --memory 20Gi  # until Ctrl-C",
	.options = load_options,
	.run = run_load,
};
