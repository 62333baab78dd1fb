/* CUDA calls about a kernel: attributes, parameters, occupancy. */
#include "sim/cuda/internal.h"

enum { WARP = 32, BLOCK_MAX = 1024, REGISTERS = 32, STATIC_SHARED_MAX = 48 * 1024, RESERVED_SHARED = 1024 };

static const struct simcu_device *current_device(void)
{
	struct simcu_context *context;
	return simcu_current(&context) == CUDA_SUCCESS ? context->device : &simcu.devices[0];
}

static CUresult get_attribute(int *value, CUfunction_attribute attribute, const struct simcu_kernel *kernel,
			      const struct sim_model *model)
{
	switch (attribute) {
	case CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK:
		*value = BLOCK_MAX;
		return CUDA_SUCCESS;
	case CU_FUNC_ATTRIBUTE_NUM_REGS:
		*value = REGISTERS;
		return CUDA_SUCCESS;
	case CU_FUNC_ATTRIBUTE_PTX_VERSION:
	case CU_FUNC_ATTRIBUTE_BINARY_VERSION:
		*value = (int)(model->compute_major * 10 + model->compute_minor);
		return CUDA_SUCCESS;
	case CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES:
		*value = kernel->dynamic_shared ? kernel->dynamic_shared : STATIC_SHARED_MAX;
		return CUDA_SUCCESS;
	case CU_FUNC_ATTRIBUTE_PREFERRED_SHARED_MEMORY_CARVEOUT:
		*value = kernel->carveout;
		return CUDA_SUCCESS;
	default:
		if ((int)attribute < 0 || attribute > CU_FUNC_ATTRIBUTE_SHARED_MEMORY_MODE)
			return CUDA_ERROR_INVALID_VALUE;
		*value = 0;
		return CUDA_SUCCESS;
	}
}

static CUresult set_attribute(struct simcu_kernel *kernel, CUfunction_attribute attribute, int value,
			      const struct sim_model *model)
{
	switch (attribute) {
	case CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES:
		if (value < 0 || value > simcu_sm_of(model).shared_optin)
			return CUDA_ERROR_INVALID_VALUE;
		kernel->dynamic_shared = value;
		return CUDA_SUCCESS;
	case CU_FUNC_ATTRIBUTE_PREFERRED_SHARED_MEMORY_CARVEOUT:
		if (value < -1 || value > 100)
			return CUDA_ERROR_INVALID_VALUE;
		kernel->carveout = value;
		return CUDA_SUCCESS;
	case CU_FUNC_ATTRIBUTE_NON_PORTABLE_CLUSTER_SIZE_ALLOWED:
	case CU_FUNC_ATTRIBUTE_CLUSTER_SCHEDULING_POLICY_PREFERENCE:
		return CUDA_SUCCESS;
	default:
		return CUDA_ERROR_INVALID_VALUE;
	}
}

CUresult cuFuncGetAttribute(int *value, CUfunction_attribute attribute, CUfunction function)
{
	SIMCU_ENTER();
	const struct simcu_kernel *kernel = simcu_kernel_of(function);
	if (!value)
		return CUDA_ERROR_INVALID_VALUE;
	return kernel ? get_attribute(value, attribute, kernel, current_device()->model) : CUDA_ERROR_INVALID_HANDLE;
}

CUresult cuFuncSetAttribute(CUfunction function, CUfunction_attribute attribute, int value)
{
	SIMCU_ENTER();
	struct simcu_kernel *kernel = simcu_kernel_of(function);
	return kernel ? set_attribute(kernel, attribute, value, current_device()->model) : CUDA_ERROR_INVALID_HANDLE;
}

CUresult cuKernelGetAttribute(int *value, CUfunction_attribute attribute, CUkernel handle, CUdevice ordinal)
{
	SIMCU_ENTER();
	const struct simcu_kernel *kernel = simcu_kernel_of(handle);
	const struct simcu_device *device = simcu_device(ordinal);
	if (!value)
		return CUDA_ERROR_INVALID_VALUE;
	if (!device)
		return CUDA_ERROR_INVALID_DEVICE;
	return kernel ? get_attribute(value, attribute, kernel, device->model) : CUDA_ERROR_INVALID_HANDLE;
}

CUresult cuKernelSetAttribute(CUfunction_attribute attribute, int value, CUkernel handle, CUdevice ordinal)
{
	SIMCU_ENTER();
	struct simcu_kernel *kernel = simcu_kernel_of(handle);
	const struct simcu_device *device = simcu_device(ordinal);
	if (!device)
		return CUDA_ERROR_INVALID_DEVICE;
	return kernel ? set_attribute(kernel, attribute, value, device->model) : CUDA_ERROR_INVALID_HANDLE;
}

static CUresult check_kernel(const void *handle)
{
	SIMCU_ENTER();
	return simcu_kernel_of(handle) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_HANDLE;
}

CUresult cuKernelSetCacheConfig(CUkernel kernel, CUfunc_cache config, CUdevice device)
{
	return check_kernel(kernel);
}

CUresult cuFuncSetCacheConfig(CUfunction function, CUfunc_cache config)
{
	return check_kernel(function);
}

CUresult cuFuncSetSharedMemConfig(CUfunction function, CUsharedconfig config)
{
	return check_kernel(function);
}

CUresult cuFuncLoad(CUfunction function)
{
	return check_kernel(function);
}

CUresult cuFuncIsLoaded(int *state, CUfunction function)
{
	if (!state)
		return CUDA_ERROR_INVALID_VALUE;
	*state = 1;
	return check_kernel(function);
}

/* A kernel serves as its own function: there is no code per context. */
CUresult cuKernelGetFunction(CUfunction *function, CUkernel handle)
{
	SIMCU_ENTER_CONTEXT(context);
	(void)context;
	if (!function)
		return CUDA_ERROR_INVALID_VALUE;
	*function = (CUfunction)simcu_kernel_of(handle);
	return *function ? CUDA_SUCCESS : CUDA_ERROR_INVALID_HANDLE;
}

CUresult cuKernelGetLibrary(CUlibrary *library, CUkernel handle)
{
	SIMCU_ENTER();
	const struct simcu_kernel *kernel = simcu_kernel_of(handle);
	if (!library)
		return CUDA_ERROR_INVALID_VALUE;
	if (!kernel || kernel->module->object.kind != SIMCU_LIBRARY)
		return CUDA_ERROR_INVALID_HANDLE;
	*library = (CUlibrary)kernel->module;
	return CUDA_SUCCESS;
}

CUresult cuFuncGetModule(CUmodule *module, CUfunction function)
{
	SIMCU_ENTER();
	const struct simcu_kernel *kernel = simcu_kernel_of(function);
	if (!module)
		return CUDA_ERROR_INVALID_VALUE;
	if (!kernel)
		return CUDA_ERROR_INVALID_HANDLE;
	*module = (CUmodule)kernel->module;
	return CUDA_SUCCESS;
}

static CUresult get_name(const char **name, const void *handle)
{
	SIMCU_ENTER();
	const struct simcu_kernel *kernel = simcu_kernel_of(handle);
	if (!name)
		return CUDA_ERROR_INVALID_VALUE;
	if (!kernel)
		return CUDA_ERROR_INVALID_HANDLE;
	*name = kernel->name;
	return CUDA_SUCCESS;
}

CUresult cuKernelGetName(const char **name, CUkernel kernel)
{
	return get_name(name, kernel);
}

CUresult cuFuncGetName(const char **name, CUfunction function)
{
	return get_name(name, function);
}

static CUresult get_parameter(const void *handle, size_t index, size_t *offset, size_t *bytes)
{
	SIMCU_ENTER();
	const struct simcu_kernel *kernel = simcu_kernel_of(handle);
	if (!offset)
		return CUDA_ERROR_INVALID_VALUE;
	if (!kernel)
		return CUDA_ERROR_INVALID_HANDLE;
	if (!kernel->image || !kernel->image->parameters_known)
		return CUDA_ERROR_NOT_SUPPORTED;
	if (index >= kernel->image->parameter_count)
		return CUDA_ERROR_INVALID_VALUE;
	*offset = kernel->image->offsets[index];
	if (bytes)
		*bytes = kernel->image->sizes[index];
	return CUDA_SUCCESS;
}

CUresult cuKernelGetParamInfo(CUkernel kernel, size_t index, size_t *offset, size_t *bytes)
{
	return get_parameter(kernel, index, offset, bytes);
}

CUresult cuFuncGetParamInfo(CUfunction function, size_t index, size_t *offset, size_t *bytes)
{
	return get_parameter(function, index, offset, bytes);
}

/* Occupancy, as if every kernel needed 32 registers a thread and no shared memory of its own. */

static int blocks_per_sm(const struct sim_model *model, int block_size, size_t shared)
{
	struct simcu_sm sm = simcu_sm_of(model);
	if (block_size <= 0 || block_size > BLOCK_MAX)
		return 0;
	int rounded = (block_size + WARP - 1) / WARP * WARP;
	int blocks = sm.threads / rounded < sm.blocks ? sm.threads / rounded : sm.blocks;
	size_t by_shared = (size_t)sm.shared / (shared + RESERVED_SHARED);
	return by_shared < (size_t)blocks ? (int)by_shared : blocks;
}

CUresult cuOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(int *blocks, CUfunction function, int block_size,
							      size_t shared, unsigned int flags)
{
	SIMCU_ENTER();
	if (!blocks || block_size <= 0)
		return CUDA_ERROR_INVALID_VALUE;
	if (!simcu_kernel_of(function))
		return CUDA_ERROR_INVALID_HANDLE;
	*blocks = blocks_per_sm(current_device()->model, block_size, shared);
	return CUDA_SUCCESS;
}

CUresult cuOccupancyMaxActiveBlocksPerMultiprocessor(int *blocks, CUfunction function, int block_size, size_t shared)
{
	return cuOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(blocks, function, block_size, shared, 0);
}

CUresult cuOccupancyMaxPotentialBlockSizeWithFlags(int *grid, int *block, CUfunction function,
						   CUoccupancyB2DSize shared_of_block, size_t shared, int limit,
						   unsigned int flags)
{
	SIMCU_ENTER();
	if (!grid || !block)
		return CUDA_ERROR_INVALID_VALUE;
	if (!simcu_kernel_of(function))
		return CUDA_ERROR_INVALID_HANDLE;
	const struct simcu_device *device = current_device();
	int most = 0, start = limit > 0 && limit < BLOCK_MAX ? limit : BLOCK_MAX;
	*grid = *block = 0;
	simcu_enter_host_function(true); /* shared_of_block is the program's and runs under the lock */
	for (int size = start; size > 0; size = (size - 1) / WARP * WARP) {
		int blocks = blocks_per_sm(device->model, size, shared_of_block ? shared_of_block(size) : shared);
		if (blocks * size > most) {
			most = blocks * size;
			*block = size;
			*grid = blocks * (int)device->multiprocessors;
		}
	}
	simcu_enter_host_function(false);
	return CUDA_SUCCESS;
}

CUresult cuOccupancyMaxPotentialBlockSize(int *grid, int *block, CUfunction function,
					  CUoccupancyB2DSize shared_of_block, size_t shared, int limit)
{
	return cuOccupancyMaxPotentialBlockSizeWithFlags(grid, block, function, shared_of_block, shared, limit, 0);
}

CUresult cuOccupancyAvailableDynamicSMemPerBlock(size_t *bytes, CUfunction function, int blocks, int block_size)
{
	SIMCU_ENTER();
	if (!bytes || blocks <= 0 || block_size <= 0)
		return CUDA_ERROR_INVALID_VALUE;
	if (!simcu_kernel_of(function))
		return CUDA_ERROR_INVALID_HANDLE;
	struct simcu_sm sm = simcu_sm_of(current_device()->model);
	int share = sm.shared / blocks - RESERVED_SHARED;
	*bytes = share <= 0 ? 0 : (size_t)(share < sm.shared_optin ? share : sm.shared_optin);
	return CUDA_SUCCESS;
}
