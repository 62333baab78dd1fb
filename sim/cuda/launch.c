/* Launches: kernels take time on the GPU's timeline and compute nothing.
 *
 * How long a kernel takes:
 *   - a kernel named spin..., gpushare_spin..., or the C++ mangling of one, whose first parameter is an integer: that
 *     many nanoseconds;
 *   - any other: LAUNCH_NS, and WAVE_NS for each wave of blocks that the GPU needs to hold the grid. A guess. A MIG
 *     instance holds as much less at once as it has fewer multiprocessors. */
#include "sim/cuda/internal.h"

#include <ctype.h>
#include <string.h>

#define LAUNCH_NS   3000ull
#define WAVE_NS     10000ull
#define SPIN_MAX_NS 3600000000000ull

enum { BLOCK_MAX = 1024, BLOCK_Z_MAX = 64, GRID_YZ_MAX = 65535, WARP = 32, STATIC_SHARED_MAX = 48 * 1024 };

struct launch {
	unsigned grid[3], block[3], shared;
	CUstream stream;
	void **parameters, **extra;
	bool cooperative;
};

static bool starts_with(const char *text, const char *start)
{
	return strncmp(text, start, strlen(start)) == 0;
}

static bool is_spin(const char *name)
{
	if (starts_with(name, "_Z")) { /* C++: _Z, the length, then the name */
		name += 2;
		while (isdigit((unsigned char)*name))
			name++;
	}
	return starts_with(name, "spin") || starts_with(name, "gpushare_spin");
}

/* The buffer with all parameters that `extra` may hold instead of single ones; NULL: none. */
static const void *extra_buffer(void **extra, size_t *bytes)
{
	const void *buffer = NULL;
	*bytes = 0;
	for (int i = 0; extra && extra[i] != CU_LAUNCH_PARAM_END; i += 2) {
		if (extra[i] == CU_LAUNCH_PARAM_BUFFER_POINTER)
			buffer = extra[i + 1];
		else if (extra[i] == CU_LAUNCH_PARAM_BUFFER_SIZE)
			*bytes = *(const size_t *)extra[i + 1];
		else
			break;
	}
	return buffer;
}

/* The first parameter as nanoseconds; false when there is none that could be. */
static bool spin_time(const struct simcu_kernel *kernel, const struct launch *launch, uint64_t *duration)
{
	size_t size = sizeof(uint64_t), bytes;
	if (kernel->image && kernel->image->parameters_known)
		size = kernel->image->parameter_count ? kernel->image->sizes[0] : 0;
	const void *value = launch->parameters ? launch->parameters[0] : NULL;
	if (!launch->parameters) {
		value = extra_buffer(launch->extra, &bytes);
		if (bytes < size)
			value = NULL;
	}
	uint32_t narrow;
	if (!value || (size != sizeof narrow && size != sizeof *duration))
		return false;
	if (size == sizeof narrow) {
		memcpy(&narrow, value, sizeof narrow);
		*duration = narrow;
	} else {
		memcpy(duration, value, sizeof *duration);
	}
	if (*duration > SPIN_MAX_NS)
		*duration = SPIN_MAX_NS;
	return true;
}

static uint64_t blocks_of(const struct launch *launch)
{
	return (uint64_t)launch->grid[0] * launch->grid[1] * launch->grid[2];
}

static unsigned threads_of(const struct launch *launch)
{
	return launch->block[0] * launch->block[1] * launch->block[2];
}

/* Blocks that the whole device holds at once. */
static uint64_t capacity(const struct simcu_device *device, unsigned threads)
{
	struct simcu_sm sm = simcu_sm_of(device->model);
	unsigned rounded = (threads + WARP - 1) / WARP * WARP;
	unsigned blocks = (unsigned)sm.threads / rounded;
	if (blocks > (unsigned)sm.blocks)
		blocks = (unsigned)sm.blocks;
	return (uint64_t)(blocks ? blocks : 1) * device->multiprocessors;
}

static uint64_t duration_of(const struct simcu_kernel *kernel, const struct launch *launch,
			    const struct simcu_device *device)
{
	uint64_t duration;
	if (is_spin(kernel->name) && spin_time(kernel, launch, &duration))
		return duration;
	uint64_t at_once = capacity(device, threads_of(launch)), blocks = blocks_of(launch);
	uint64_t waves = blocks / at_once + (blocks % at_once != 0);
	return waves > SPIN_MAX_NS / WAVE_NS ? SPIN_MAX_NS : LAUNCH_NS + waves * WAVE_NS;
}

static CUresult check_launch(const struct simcu_kernel *kernel, const struct launch *launch,
			     const struct simcu_device *device)
{
	const unsigned *grid = launch->grid, *block = launch->block;
	if (!grid[0] || !grid[1] || !grid[2] || !block[0] || !block[1] || !block[2] || grid[0] > INT32_MAX ||
	    grid[1] > GRID_YZ_MAX || grid[2] > GRID_YZ_MAX || block[0] > BLOCK_MAX || block[1] > BLOCK_MAX ||
	    block[2] > BLOCK_Z_MAX || threads_of(launch) > BLOCK_MAX)
		return CUDA_ERROR_INVALID_VALUE;
	unsigned shared_max =
		kernel->dynamic_shared > STATIC_SHARED_MAX ? (unsigned)kernel->dynamic_shared : STATIC_SHARED_MAX;
	if (launch->shared > shared_max || (launch->parameters && launch->extra))
		return CUDA_ERROR_INVALID_VALUE;
	bool needs = kernel->image && kernel->image->parameters_known && kernel->image->parameter_count;
	if (needs && !launch->parameters && !launch->extra)
		return CUDA_ERROR_INVALID_VALUE;
	if (launch->cooperative && blocks_of(launch) > capacity(device, threads_of(launch)))
		return CUDA_ERROR_COOPERATIVE_LAUNCH_TOO_LARGE;
	return CUDA_SUCCESS;
}

/* A GPU's queue is finite: the host waits until one of the launches before has left it. */
static CUresult wait_for_room(struct simcu_context *context)
{
	uint64_t oldest = context->ends_ns[context->launches % SIMCU_LAUNCHES_AHEAD];
	if (oldest <= sim_now_ns())
		return CUDA_SUCCESS;
	CUresult result = simcu_wait(context->device, oldest);
	return context->alive ? result : CUDA_ERROR_CONTEXT_IS_DESTROYED;
}

static CUresult run(CUfunction function, const struct launch *launch)
{
	SIMCU_ENTER_CONTEXT(context);
	if (!simcu_kernel_of(function))
		return CUDA_ERROR_INVALID_HANDLE;
	CUresult result = check_launch(simcu_kernel_of(function), launch, context->device);
	if (result == CUDA_SUCCESS)
		result = wait_for_room(context);
	if (result != CUDA_SUCCESS)
		return result;
	struct simcu_stream *stream = simcu_stream_of(context, launch->stream);
	const struct simcu_kernel *kernel = simcu_kernel_of(function);
	/* The lock was dropped: look again. And a kernel runs where its context is. */
	if (!stream || !kernel || stream->object.context != context)
		return CUDA_ERROR_INVALID_HANDLE;
	uint64_t duration = duration_of(kernel, launch, context->device), start;
	result = simcu_stream_start(stream, &start);
	if (result != CUDA_SUCCESS)
		return result;
	stream->end_ns = sim_client_submit(simcu.node, context->device->client, start, duration);
	context->ends_ns[context->launches++ % SIMCU_LAUNCHES_AHEAD] = stream->end_ns;
	return CUDA_SUCCESS;
}

CUresult cuLaunchKernel(CUfunction function, unsigned int grid_x, unsigned int grid_y, unsigned int grid_z,
			unsigned int block_x, unsigned int block_y, unsigned int block_z, unsigned int shared,
			CUstream stream, void **parameters, void **extra)
{
	struct launch launch = {
		{grid_x, grid_y, grid_z}, {block_x, block_y, block_z}, shared, stream, parameters, extra, false};
	return run(function, &launch);
}

CUresult cuLaunchCooperativeKernel(CUfunction function, unsigned int grid_x, unsigned int grid_y, unsigned int grid_z,
				   unsigned int block_x, unsigned int block_y, unsigned int block_z,
				   unsigned int shared, CUstream stream, void **parameters)
{
	struct launch launch = {
		{grid_x, grid_y, grid_z}, {block_x, block_y, block_z}, shared, stream, parameters, NULL, true};
	return run(function, &launch);
}

CUresult cuLaunchKernelEx(const CUlaunchConfig *config, CUfunction function, void **parameters, void **extra)
{
	enum { ATTRIBUTE_COOPERATIVE = 2 };
	if (!config || (config->numAttrs && !config->attrs))
		return CUDA_ERROR_INVALID_VALUE;
	struct launch launch = {
		{config->gridDimX, config->gridDimY, config->gridDimZ},
		{config->blockDimX, config->blockDimY, config->blockDimZ},
		config->sharedMemBytes,
		config->hStream,
		parameters,
		extra,
		false,
	};
	for (unsigned i = 0; i < config->numAttrs; i++)
		if (config->attrs[i].id == ATTRIBUTE_COOPERATIVE)
			launch.cooperative = (uint32_t)config->attrs[i].value[0] != 0;
	return run(function, &launch);
}
