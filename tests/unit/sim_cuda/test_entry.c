/* What the built library exports, and what cuGetProcAddress gives. */
#include "node.h"

#include <dlfcn.h>

static void *library;

static void every_name_is_exported(void **state)
{
	static const char *const names[] = {
#define CUDA_API(name, since, symbol)                    #symbol,
#define CUDA_API_STREAM(name, since, symbol, per_thread) #symbol, #per_thread,
#define CUDA_SYMBOL(symbol)                              #symbol,
#include "sim/cuda/names.def"
	};
	size_t missing = 0;
	for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
		if (!dlsym(library, names[i])) {
			fprintf(stderr, "%s is not exported\n", names[i]);
			missing++;
		}
	assert_int_equal(missing, 0);
	assert_null(dlsym(library, "simcu_enter"));
	assert_null(dlsym(library, "gs_calloc"));
}

/* What a name means at a version, by symbol; NULL: nothing. */
static void check(const char *name, int version, uint64_t flags, const char *symbol)
{
	CUresult (*get)(const char *, void **, int, uint64_t, CUdriverProcAddressQueryResult *) =
		(CUresult(*)(const char *, void **, int, uint64_t, CUdriverProcAddressQueryResult *))dlsym(
			library, "cuGetProcAddress_v2");
	void *got = (void *)1;
	CUdriverProcAddressQueryResult status = 9;
	assert_int_equal(get(name, &got, version, flags, &status), CUDA_SUCCESS);
	assert_ptr_equal(got, symbol ? dlsym(library, symbol) : NULL);
	assert_int_equal(status == CU_GET_PROC_ADDRESS_SUCCESS, symbol != NULL);
}

static void versions_have_functions_of_their_own(void **state)
{
	check("cuCtxCreate", 2000, 0, "cuCtxCreate");
	check("cuCtxCreate", 3020, 0, "cuCtxCreate_v2");
	check("cuCtxCreate", 11030, 0, "cuCtxCreate_v2");
	check("cuCtxCreate", 11040, 0, "cuCtxCreate_v3");
	check("cuCtxCreate", 13000, 0, "cuCtxCreate_v4");
	check("cuMemAlloc", 2000, 0, "cuMemAlloc");
	check("cuMemAlloc", 12000, 0, "cuMemAlloc_v2");
	check("cuGetProcAddress", 11030, 0, "cuGetProcAddress");
	check("cuGetProcAddress", 12000, 0, "cuGetProcAddress_v2");
	check("cuEventElapsedTime", 12000, 0, "cuEventElapsedTime");
	check("cuEventElapsedTime", 12080, 0, "cuEventElapsedTime_v2");
	assert_ptr_not_equal(dlsym(library, "cuMemAlloc"), dlsym(library, "cuMemAlloc_v2"));
	assert_ptr_not_equal(dlsym(library, "cuStreamDestroy"), dlsym(library, "cuStreamDestroy_v2"));
}

static void default_streams_have_functions_of_their_own(void **state)
{
	check("cuLaunchKernel", 12000, CU_GET_PROC_ADDRESS_PER_THREAD_DEFAULT_STREAM, "cuLaunchKernel_ptsz");
	check("cuMemcpyHtoD", 12000, CU_GET_PROC_ADDRESS_PER_THREAD_DEFAULT_STREAM, "cuMemcpyHtoD_v2_ptds");
	check("cuMemcpyHtoD", 12000, CU_GET_PROC_ADDRESS_LEGACY_STREAM, "cuMemcpyHtoD_v2");
	check("cuInit", 12000, CU_GET_PROC_ADDRESS_PER_THREAD_DEFAULT_STREAM, "cuInit");
}

static void what_is_not_there_is_told_apart(void **state)
{
	CUdriverProcAddressQueryResult status;
	void *got;
	check("cuNothing", 12000, 0, NULL);
	check("cuMemAlloc_v2", 12000, 0, NULL);
	assert_int_equal(cuGetProcAddress_v2("cuNothing", &got, 12000, 0, &status), CUDA_SUCCESS);
	assert_int_equal(status, CU_GET_PROC_ADDRESS_SYMBOL_NOT_FOUND);
	assert_int_equal(cuGetProcAddress_v2("cuMemAllocAsync", &got, 11000, 0, &status), CUDA_SUCCESS);
	assert_int_equal(status, CU_GET_PROC_ADDRESS_VERSION_NOT_SUFFICIENT);
	assert_null(got);
	assert_int_equal(cuGetProcAddress_v2("cuInit", &got, GPUSHARE_SIM_CUDA_VERSION + 10, 0, NULL),
			 CUDA_ERROR_INVALID_VALUE);
	assert_int_equal(cuGetProcAddress_v2(NULL, &got, 12000, 0, NULL), CUDA_ERROR_INVALID_VALUE);
	assert_int_equal(cuGetProcAddress_v2("cuInit", &got, 12000, 3, NULL), CUDA_ERROR_INVALID_VALUE);
	assert_int_equal(cuGetProcAddress("cuNothing", &got, 12000, 0), CUDA_ERROR_NOT_FOUND);
	const void *table;
	assert_int_equal(cuGetExportTable(&table, &(CUuuid){{0}}), CUDA_ERROR_NOT_FOUND);
}

static void errors_have_names_and_words(void **state)
{
	const char *text;
	assert_int_equal(cuGetErrorName(CUDA_ERROR_OUT_OF_MEMORY, &text), CUDA_SUCCESS);
	assert_string_equal(text, "CUDA_ERROR_OUT_OF_MEMORY");
	assert_int_equal(cuGetErrorString(CUDA_ERROR_OUT_OF_MEMORY, &text), CUDA_SUCCESS);
	assert_string_equal(text, "out of memory");
	assert_int_equal(cuGetErrorName((CUresult)12345, &text), CUDA_ERROR_INVALID_VALUE);
	assert_null(text);
	int version = 0;
	assert_int_equal(cuDriverGetVersion(&version), CUDA_SUCCESS);
	assert_true(version >= 13000);
}

/* Before cuInit nothing that needs it works. */
static void nothing_works_uninitialised(void **state)
{
	int count;
	CUdeviceptr pointer;
	assert_int_equal(cuDeviceGetCount(&count), CUDA_ERROR_NOT_INITIALIZED);
	assert_int_equal(cuMemAlloc_v2(&pointer, 1), CUDA_ERROR_NOT_INITIALIZED);
	assert_int_equal(cuInit(1), CUDA_ERROR_INVALID_VALUE);
	unsetenv("GPUSHARE_SIM");
	assert_int_equal(cuInit(0), CUDA_ERROR_NO_DEVICE);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_name_is_exported),
		cmocka_unit_test(versions_have_functions_of_their_own),
		cmocka_unit_test(default_streams_have_functions_of_their_own),
		cmocka_unit_test(what_is_not_there_is_told_apart),
		cmocka_unit_test(errors_have_names_and_words),
		cmocka_unit_test(nothing_works_uninitialised),
	};
	const char *path = getenv("SIM_CUDA_LIBRARY");
	library = path ? dlopen(path, RTLD_NOW | RTLD_LOCAL) : NULL;
	if (!library) {
		fprintf(stderr, "SIM_CUDA_LIBRARY must name the built libcuda.so.1\n");
		return 1;
	}
	return cmocka_run_group_tests(tests, NULL, NULL);
}
