/* Modules and libraries: containers of kernels and variables. */
#include "sim/cuda/internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/alloc.h"

enum { FILE_MAX = 1 << 30, CARVEOUT_UNSET = -1 };

static CUresult image_error(int result)
{
	return result == SIMCU_IMAGE_INVALID_PTX ? CUDA_ERROR_INVALID_PTX : CUDA_ERROR_INVALID_IMAGE;
}

static CUresult load(const void *image, enum simcu_kind kind, struct simcu_context *context,
		     struct simcu_module **module)
{
	if (!image)
		return CUDA_ERROR_INVALID_VALUE;
	struct simcu_module *made = gs_calloc(1, sizeof *made);
	int result = simcu_image_read(&made->image, image);
	if (result != SIMCU_IMAGE_OK) {
		free(made);
		return image_error(result);
	}
	LIST_INIT(&made->kernels);
	LIST_INIT(&made->globals);
	simcu_register(&made->object, kind, context);
	*module = made;
	return CUDA_SUCCESS;
}

/* A file's bytes with a NUL after them. */
static CUresult read_file(const char *path, char **data)
{
	if (!path)
		return CUDA_ERROR_INVALID_VALUE;
	GS_AUTO_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC);
	struct stat info;
	if (fd < 0 || fstat(fd, &info) < 0 || !S_ISREG(info.st_mode))
		return CUDA_ERROR_FILE_NOT_FOUND;
	if (info.st_size > FILE_MAX)
		return CUDA_ERROR_INVALID_IMAGE;
	/* Room for the largest header beyond the end: images say their own size. */
	char *bytes = gs_calloc(1, (size_t)info.st_size + 256);
	for (off_t done = 0; done < info.st_size;) {
		ssize_t n = read(fd, bytes + done, (size_t)(info.st_size - done));
		if (n <= 0 && !(n < 0 && errno == EINTR)) {
			free(bytes);
			return CUDA_ERROR_FILE_NOT_FOUND;
		}
		done += n > 0 ? n : 0;
	}
	*data = bytes;
	return CUDA_SUCCESS;
}

static struct simcu_module *module_of(const void *handle)
{
	struct simcu_module *module = simcu_lookup(handle, SIMCU_MODULE);
	return module ? module : simcu_lookup(handle, SIMCU_LIBRARY);
}

struct simcu_kernel *simcu_kernel_of(const void *handle)
{
	return simcu_lookup(handle, SIMCU_KERNEL);
}

static struct simcu_kernel *make_kernel(struct simcu_module *module, const char *name,
					const struct simcu_image_kernel *image)
{
	struct simcu_kernel *kernel = gs_calloc(1, sizeof *kernel);
	kernel->module = module;
	kernel->image = image;
	kernel->name = gs_strdup(name);
	kernel->carveout = CARVEOUT_UNSET;
	simcu_register(&kernel->object, SIMCU_KERNEL, NULL);
	LIST_INSERT_HEAD(&module->kernels, kernel, in_module);
	return kernel;
}

/* The kernel of that name: one object however often it is asked for. NULL: the image has none. */
static struct simcu_kernel *find_kernel(struct simcu_module *module, const char *name)
{
	struct simcu_kernel *kernel;
	LIST_FOREACH(kernel, &module->kernels, in_module)
	if (strcmp(kernel->name, name) == 0)
		return kernel;
	for (size_t i = 0; i < module->image.kernel_count; i++)
		if (strcmp(module->image.kernels[i].name, name) == 0)
			return make_kernel(module, name, &module->image.kernels[i]);
	return module->image.opaque ? make_kernel(module, name, NULL) : NULL;
}

static CUresult find_global(struct simcu_module *module, struct simcu_context *context, const char *name,
			    struct simcu_global **global)
{
	LIST_FOREACH(*global, &module->globals, in_module)
	if (strcmp((*global)->name, name) == 0 && (*global)->context_id == context->id)
		return CUDA_SUCCESS;
	for (size_t i = 0; i < module->image.variable_count; i++) {
		const struct simcu_image_variable *variable = &module->image.variables[i];
		if (strcmp(variable->name, name) != 0)
			continue;
		struct simcu_allocation *allocation;
		CUresult result = simcu_allocate(context, variable->bytes, SIMCU_DEVICE_MEMORY, 0, &allocation);
		if (result != CUDA_SUCCESS)
			return result;
		*global = gs_calloc(1, sizeof **global);
		**global = (struct simcu_global){.name = gs_strdup(name),
						 .pointer = allocation->base,
						 .bytes = variable->bytes,
						 .id = allocation->id,
						 .context_id = context->id};
		LIST_INSERT_HEAD(&module->globals, *global, in_module);
		return CUDA_SUCCESS;
	}
	return CUDA_ERROR_NOT_FOUND;
}

void simcu_module_delete(struct simcu_module *module)
{
	while (!LIST_EMPTY(&module->kernels)) {
		struct simcu_kernel *kernel = LIST_FIRST(&module->kernels);
		LIST_REMOVE(kernel, in_module);
		simcu_unregister(&kernel->object);
		free(kernel->name);
		free(kernel);
	}
	while (!LIST_EMPTY(&module->globals)) {
		struct simcu_global *global = LIST_FIRST(&module->globals);
		struct simcu_allocation *allocation = simcu_find(global->pointer);
		if (allocation && allocation->id == global->id) /* its context may have died before */
			simcu_free(allocation);
		LIST_REMOVE(global, in_module);
		free(global->name);
		free(global);
	}
	simcu_image_free(&module->image);
	simcu_unregister(&module->object);
	free(module);
}

/* Modules. */

CUresult cuModuleLoadData(CUmodule *handle, const void *image)
{
	SIMCU_ENTER_CONTEXT(context);
	struct simcu_module *module;
	CUresult result = handle ? load(image, SIMCU_MODULE, context, &module) : CUDA_ERROR_INVALID_VALUE;
	if (result == CUDA_SUCCESS)
		*handle = (CUmodule)module;
	return result;
}

CUresult cuModuleLoadDataEx(CUmodule *module, const void *image, unsigned int count, int *options, void **values)
{
	if (count && (!options || !values))
		return CUDA_ERROR_INVALID_VALUE;
	return cuModuleLoadData(module, image);
}

CUresult cuModuleLoadFatBinary(CUmodule *module, const void *image)
{
	return cuModuleLoadData(module, image);
}

CUresult cuModuleLoad(CUmodule *module, const char *path)
{
	GS_AUTO_FREE char *data = NULL;
	CUresult result = read_file(path, &data);
	return result == CUDA_SUCCESS ? cuModuleLoadData(module, data) : result;
}

CUresult cuModuleUnload(CUmodule handle)
{
	SIMCU_ENTER_CONTEXT(context);
	struct simcu_module *module = simcu_lookup(handle, SIMCU_MODULE);
	if (!module)
		return CUDA_ERROR_INVALID_HANDLE;
	CUresult result = simcu_context_sync(context);
	if (simcu_lookup(handle, SIMCU_MODULE) == module)
		simcu_module_delete(module);
	return result;
}

CUresult cuModuleGetLoadingMode(int *mode)
{
	if (!mode)
		return CUDA_ERROR_INVALID_VALUE;
	*mode = 2; /* lazy, the default since CUDA 11.8 */
	return CUDA_SUCCESS;
}

CUresult cuModuleGetFunction(CUfunction *function, CUmodule handle, const char *name)
{
	SIMCU_ENTER();
	struct simcu_module *module = module_of(handle);
	if (!function || !name)
		return CUDA_ERROR_INVALID_VALUE;
	if (!module)
		return CUDA_ERROR_INVALID_HANDLE;
	struct simcu_kernel *kernel = find_kernel(module, name);
	if (!kernel)
		return CUDA_ERROR_NOT_FOUND;
	*function = (CUfunction)kernel;
	return CUDA_SUCCESS;
}

static CUresult count_kernels(unsigned *count, const struct simcu_module *module)
{
	if (!count)
		return CUDA_ERROR_INVALID_VALUE;
	if (!module)
		return CUDA_ERROR_INVALID_HANDLE;
	*count = (unsigned)module->image.kernel_count;
	return CUDA_SUCCESS;
}

static CUresult list_kernels(void **kernels, unsigned count, struct simcu_module *module)
{
	if (!kernels)
		return CUDA_ERROR_INVALID_VALUE;
	if (!module)
		return CUDA_ERROR_INVALID_HANDLE;
	for (unsigned i = 0; i < count && i < module->image.kernel_count; i++)
		kernels[i] = find_kernel(module, module->image.kernels[i].name);
	return CUDA_SUCCESS;
}

CUresult cuModuleGetFunctionCount(unsigned int *count, CUmodule module)
{
	SIMCU_ENTER();
	return count_kernels(count, module_of(module));
}

CUresult cuModuleEnumerateFunctions(CUfunction *functions, unsigned int count, CUmodule module)
{
	SIMCU_ENTER();
	return list_kernels((void **)functions, count, module_of(module));
}

static CUresult get_global(CUdeviceptr *pointer, size_t *bytes, struct simcu_module *module, const char *name)
{
	struct simcu_context *context;
	CUresult result = simcu_current(&context);
	if (result != CUDA_SUCCESS)
		return result;
	if (!name)
		return CUDA_ERROR_INVALID_VALUE;
	if (!module)
		return CUDA_ERROR_INVALID_HANDLE;
	struct simcu_global *global;
	result = find_global(module, context, name, &global);
	if (result != CUDA_SUCCESS)
		return result;
	if (pointer)
		*pointer = global->pointer;
	if (bytes)
		*bytes = global->bytes;
	return CUDA_SUCCESS;
}

CUresult cuModuleGetGlobal_v2(CUdeviceptr *pointer, size_t *bytes, CUmodule module, const char *name)
{
	SIMCU_ENTER();
	return get_global(pointer, bytes, module_of(module), name);
}

/* Libraries: loaded without a context. */

CUresult cuLibraryLoadData(CUlibrary *handle, const void *code, int *jit_options, void **jit_values,
			   unsigned int jit_count, int *options, void **values, unsigned int count)
{
	SIMCU_ENTER();
	struct simcu_module *library;
	CUresult result = handle ? load(code, SIMCU_LIBRARY, NULL, &library) : CUDA_ERROR_INVALID_VALUE;
	if (result == CUDA_SUCCESS)
		*handle = (CUlibrary)library;
	return result;
}

CUresult cuLibraryLoadFromFile(CUlibrary *library, const char *path, int *jit_options, void **jit_values,
			       unsigned int jit_count, int *options, void **values, unsigned int count)
{
	GS_AUTO_FREE char *data = NULL;
	CUresult result = read_file(path, &data);
	if (result != CUDA_SUCCESS)
		return result;
	return cuLibraryLoadData(library, data, jit_options, jit_values, jit_count, options, values, count);
}

CUresult cuLibraryUnload(CUlibrary handle)
{
	SIMCU_ENTER();
	struct simcu_module *library = simcu_lookup(handle, SIMCU_LIBRARY);
	if (!library)
		return CUDA_ERROR_INVALID_HANDLE;
	simcu_module_delete(library);
	return CUDA_SUCCESS;
}

CUresult cuLibraryGetKernel(CUkernel *kernel, CUlibrary handle, const char *name)
{
	SIMCU_ENTER();
	struct simcu_module *library = simcu_lookup(handle, SIMCU_LIBRARY);
	if (!kernel || !name)
		return CUDA_ERROR_INVALID_VALUE;
	if (!library)
		return CUDA_ERROR_INVALID_HANDLE;
	*kernel = (CUkernel)find_kernel(library, name);
	return *kernel ? CUDA_SUCCESS : CUDA_ERROR_NOT_FOUND;
}

CUresult cuLibraryGetKernelCount(unsigned int *count, CUlibrary library)
{
	SIMCU_ENTER();
	return count_kernels(count, simcu_lookup(library, SIMCU_LIBRARY));
}

CUresult cuLibraryEnumerateKernels(CUkernel *kernels, unsigned int count, CUlibrary library)
{
	SIMCU_ENTER();
	return list_kernels((void **)kernels, count, simcu_lookup(library, SIMCU_LIBRARY));
}

/* A library serves as its own module: module_of takes both. */
CUresult cuLibraryGetModule(CUmodule *module, CUlibrary library)
{
	SIMCU_ENTER_CONTEXT(context);
	(void)context;
	if (!module)
		return CUDA_ERROR_INVALID_VALUE;
	*module = (CUmodule)simcu_lookup(library, SIMCU_LIBRARY);
	return *module ? CUDA_SUCCESS : CUDA_ERROR_INVALID_HANDLE;
}

CUresult cuLibraryGetGlobal(CUdeviceptr *pointer, size_t *bytes, CUlibrary library, const char *name)
{
	SIMCU_ENTER();
	return get_global(pointer, bytes, simcu_lookup(library, SIMCU_LIBRARY), name);
}
