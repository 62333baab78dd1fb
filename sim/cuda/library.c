/* Calls that need no device: versions, entry points, errors in words, profilers. */
#include <string.h>

#include "base/cleanup.h"
#include "gpushare/cuda.h"
#include "sim/cuda/entry.h"

enum { OLDEST_VERSION = 2000 };

CUresult cuDriverGetVersion(int *version)
{
	if (!version)
		return CUDA_ERROR_INVALID_VALUE;
	*version = GPUSHARE_SIM_CUDA_VERSION;
	return CUDA_SUCCESS;
}

CUresult cuGetProcAddress_v2(const char *symbol, void **function, int version, uint64_t flags,
			     CUdriverProcAddressQueryResult *status)
{
	if (!symbol || !*symbol || !function || version < OLDEST_VERSION || version > GPUSHARE_SIM_CUDA_VERSION ||
	    flags > CU_GET_PROC_ADDRESS_PER_THREAD_DEFAULT_STREAM)
		return CUDA_ERROR_INVALID_VALUE;
	static const CUdriverProcAddressQueryResult words[] = {
		[SIMCU_ENTRY_FOUND] = CU_GET_PROC_ADDRESS_SUCCESS,
		[SIMCU_ENTRY_UNKNOWN] = CU_GET_PROC_ADDRESS_SYMBOL_NOT_FOUND,
		[SIMCU_ENTRY_TOO_NEW] = CU_GET_PROC_ADDRESS_VERSION_NOT_SUFFICIENT,
	};
	bool per_thread = flags == CU_GET_PROC_ADDRESS_PER_THREAD_DEFAULT_STREAM;
	enum simcu_entry_status found = simcu_find_entry(symbol, version, per_thread, function);
	if (status)
		*status = words[found];
	return CUDA_SUCCESS;
}

/* The first version had no way to say why, so it fails. */
CUresult cuGetProcAddress(const char *symbol, void **function, int version, uint64_t flags)
{
	CUresult result = cuGetProcAddress_v2(symbol, function, version, flags, NULL);
	return result == CUDA_SUCCESS && !*function ? CUDA_ERROR_NOT_FOUND : result;
}

/* Private tables between NVIDIA's own libraries; there are none here. */
CUresult cuGetExportTable(const void **table, const CUuuid *id)
{
	if (!table || !id)
		return CUDA_ERROR_INVALID_VALUE;
	*table = NULL;
	return CUDA_ERROR_NOT_FOUND;
}

CUresult cuProfilerInitialize(const char *config, const char *output, int mode)
{
	return CUDA_ERROR_NOT_SUPPORTED; /* as drivers answer since CUDA 12 */
}

CUresult cuProfilerStart(void)
{
	return CUDA_SUCCESS;
}

CUresult cuProfilerStop(void)
{
	return CUDA_SUCCESS;
}
