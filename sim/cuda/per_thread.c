/* The variants whose default stream is the calling thread's own: programs built for that get these from
 * cuGetProcAddress, or link to them by name. */
#include "sim/cuda/internal.h"

/* `arguments` is the call of the ordinary function; NULL streams in it mean the thread's stream. */
#define PER_THREAD(function, parameters, arguments)                          \
	__attribute__((visibility("default"))) CUresult function parameters; \
	CUresult function parameters                                         \
	{                                                                    \
		bool before = simcu_set_per_thread(true);                    \
		CUresult result = arguments;                                 \
		simcu_set_per_thread(before);                                \
		return result;                                               \
	}

PER_THREAD(cuEventRecord_ptsz, (CUevent event, CUstream stream), cuEventRecord(event, stream))
PER_THREAD(cuEventRecordWithFlags_ptsz, (CUevent event, CUstream stream, unsigned int flags),
	   cuEventRecordWithFlags(event, stream, flags))
PER_THREAD(cuLaunchCooperativeKernel_ptsz,
	   (CUfunction function, unsigned int grid_x, unsigned int grid_y, unsigned int grid_z, unsigned int block_x,
	    unsigned int block_y, unsigned int block_z, unsigned int shared, CUstream stream, void **parameters),
	   cuLaunchCooperativeKernel(function, grid_x, grid_y, grid_z, block_x, block_y, block_z, shared, stream,
				     parameters))
PER_THREAD(cuLaunchHostFunc_ptsz, (CUstream stream, CUhostFn function, void *user),
	   cuLaunchHostFunc(stream, function, user))
PER_THREAD(cuLaunchKernel_ptsz,
	   (CUfunction function, unsigned int grid_x, unsigned int grid_y, unsigned int grid_z, unsigned int block_x,
	    unsigned int block_y, unsigned int block_z, unsigned int shared, CUstream stream, void **parameters,
	    void **extra),
	   cuLaunchKernel(function, grid_x, grid_y, grid_z, block_x, block_y, block_z, shared, stream, parameters,
			  extra))
PER_THREAD(cuLaunchKernelEx_ptsz, (const CUlaunchConfig *config, CUfunction function, void **parameters, void **extra),
	   cuLaunchKernelEx(config, function, parameters, extra))
PER_THREAD(cuMemAllocAsync_ptsz, (CUdeviceptr * pointer, size_t bytes, CUstream stream),
	   cuMemAllocAsync(pointer, bytes, stream))
PER_THREAD(cuMemAllocFromPoolAsync_ptsz, (CUdeviceptr * pointer, size_t bytes, CUmemoryPool pool, CUstream stream),
	   cuMemAllocFromPoolAsync(pointer, bytes, pool, stream))
PER_THREAD(cuMemFreeAsync_ptsz, (CUdeviceptr pointer, CUstream stream), cuMemFreeAsync(pointer, stream))
PER_THREAD(cuMemPrefetchAsync_ptsz, (CUdeviceptr pointer, size_t bytes, CUdevice device, CUstream stream),
	   cuMemPrefetchAsync(pointer, bytes, device, stream))
PER_THREAD(cuMemPrefetchAsync_v2_ptsz,
	   (CUdeviceptr pointer, size_t bytes, CUmemLocation location, unsigned int flags, CUstream stream),
	   cuMemPrefetchAsync_v2(pointer, bytes, location, flags, stream))
PER_THREAD(cuMemcpy_ptds, (CUdeviceptr to, CUdeviceptr from, size_t bytes), cuMemcpy(to, from, bytes))
PER_THREAD(cuMemcpy2D_v2_ptds, (const CUDA_MEMCPY2D *copy), cuMemcpy2D_v2(copy))
PER_THREAD(cuMemcpy2DAsync_v2_ptsz, (const CUDA_MEMCPY2D *copy, CUstream stream), cuMemcpy2DAsync_v2(copy, stream))
PER_THREAD(cuMemcpy2DUnaligned_v2_ptds, (const CUDA_MEMCPY2D *copy), cuMemcpy2DUnaligned_v2(copy))
PER_THREAD(cuMemcpyAsync_ptsz, (CUdeviceptr to, CUdeviceptr from, size_t bytes, CUstream stream),
	   cuMemcpyAsync(to, from, bytes, stream))
PER_THREAD(cuMemcpyDtoD_v2_ptds, (CUdeviceptr to, CUdeviceptr from, size_t bytes), cuMemcpyDtoD_v2(to, from, bytes))
PER_THREAD(cuMemcpyDtoDAsync_v2_ptsz, (CUdeviceptr to, CUdeviceptr from, size_t bytes, CUstream stream),
	   cuMemcpyDtoDAsync_v2(to, from, bytes, stream))
PER_THREAD(cuMemcpyDtoH_v2_ptds, (void *to, CUdeviceptr from, size_t bytes), cuMemcpyDtoH_v2(to, from, bytes))
PER_THREAD(cuMemcpyDtoHAsync_v2_ptsz, (void *to, CUdeviceptr from, size_t bytes, CUstream stream),
	   cuMemcpyDtoHAsync_v2(to, from, bytes, stream))
PER_THREAD(cuMemcpyHtoD_v2_ptds, (CUdeviceptr to, const void *from, size_t bytes), cuMemcpyHtoD_v2(to, from, bytes))
PER_THREAD(cuMemcpyHtoDAsync_v2_ptsz, (CUdeviceptr to, const void *from, size_t bytes, CUstream stream),
	   cuMemcpyHtoDAsync_v2(to, from, bytes, stream))
PER_THREAD(cuMemcpyPeer_ptds,
	   (CUdeviceptr to, CUcontext to_context, CUdeviceptr from, CUcontext from_context, size_t bytes),
	   cuMemcpyPeer(to, to_context, from, from_context, bytes))
PER_THREAD(cuMemcpyPeerAsync_ptsz,
	   (CUdeviceptr to, CUcontext to_context, CUdeviceptr from, CUcontext from_context, size_t bytes,
	    CUstream stream),
	   cuMemcpyPeerAsync(to, to_context, from, from_context, bytes, stream))
PER_THREAD(cuMemsetD16_v2_ptds, (CUdeviceptr to, unsigned short value, size_t count), cuMemsetD16_v2(to, value, count))
PER_THREAD(cuMemsetD16Async_ptsz, (CUdeviceptr to, unsigned short value, size_t count, CUstream stream),
	   cuMemsetD16Async(to, value, count, stream))
PER_THREAD(cuMemsetD2D16_v2_ptds, (CUdeviceptr to, size_t pitch, unsigned short value, size_t width, size_t height),
	   cuMemsetD2D16_v2(to, pitch, value, width, height))
PER_THREAD(cuMemsetD2D16Async_ptsz,
	   (CUdeviceptr to, size_t pitch, unsigned short value, size_t width, size_t height, CUstream stream),
	   cuMemsetD2D16Async(to, pitch, value, width, height, stream))
PER_THREAD(cuMemsetD2D32_v2_ptds, (CUdeviceptr to, size_t pitch, unsigned int value, size_t width, size_t height),
	   cuMemsetD2D32_v2(to, pitch, value, width, height))
PER_THREAD(cuMemsetD2D32Async_ptsz,
	   (CUdeviceptr to, size_t pitch, unsigned int value, size_t width, size_t height, CUstream stream),
	   cuMemsetD2D32Async(to, pitch, value, width, height, stream))
PER_THREAD(cuMemsetD2D8_v2_ptds, (CUdeviceptr to, size_t pitch, unsigned char value, size_t width, size_t height),
	   cuMemsetD2D8_v2(to, pitch, value, width, height))
PER_THREAD(cuMemsetD2D8Async_ptsz,
	   (CUdeviceptr to, size_t pitch, unsigned char value, size_t width, size_t height, CUstream stream),
	   cuMemsetD2D8Async(to, pitch, value, width, height, stream))
PER_THREAD(cuMemsetD32_v2_ptds, (CUdeviceptr to, unsigned int value, size_t count), cuMemsetD32_v2(to, value, count))
PER_THREAD(cuMemsetD32Async_ptsz, (CUdeviceptr to, unsigned int value, size_t count, CUstream stream),
	   cuMemsetD32Async(to, value, count, stream))
PER_THREAD(cuMemsetD8_v2_ptds, (CUdeviceptr to, unsigned char value, size_t count), cuMemsetD8_v2(to, value, count))
PER_THREAD(cuMemsetD8Async_ptsz, (CUdeviceptr to, unsigned char value, size_t count, CUstream stream),
	   cuMemsetD8Async(to, value, count, stream))
PER_THREAD(cuStreamAddCallback_ptsz, (CUstream stream, CUstreamCallback callback, void *user, unsigned int flags),
	   cuStreamAddCallback(stream, callback, user, flags))
PER_THREAD(cuStreamAttachMemAsync_ptsz, (CUstream stream, CUdeviceptr pointer, size_t bytes, unsigned int flags),
	   cuStreamAttachMemAsync(stream, pointer, bytes, flags))
PER_THREAD(cuStreamGetCtx_ptsz, (CUstream stream, CUcontext *context), cuStreamGetCtx(stream, context))
PER_THREAD(cuStreamGetDevice_ptsz, (CUstream stream, CUdevice *device), cuStreamGetDevice(stream, device))
PER_THREAD(cuStreamGetFlags_ptsz, (CUstream stream, unsigned int *flags), cuStreamGetFlags(stream, flags))
PER_THREAD(cuStreamGetId_ptsz, (CUstream stream, unsigned long long *id), cuStreamGetId(stream, id))
PER_THREAD(cuStreamGetPriority_ptsz, (CUstream stream, int *priority), cuStreamGetPriority(stream, priority))
PER_THREAD(cuStreamIsCapturing_ptsz, (CUstream stream, CUstreamCaptureStatus *status),
	   cuStreamIsCapturing(stream, status))
PER_THREAD(cuStreamQuery_ptsz, (CUstream stream), cuStreamQuery(stream))
PER_THREAD(cuStreamSynchronize_ptsz, (CUstream stream), cuStreamSynchronize(stream))
PER_THREAD(cuStreamWaitEvent_ptsz, (CUstream stream, CUevent event, unsigned int flags),
	   cuStreamWaitEvent(stream, event, flags))

__attribute__((visibility("default"))) CUresult cuGetProcAddress_v2_ptsz(const char *symbol, void **function,
									 int version, uint64_t flags,
									 CUdriverProcAddressQueryResult *status);

/* A program built for per-thread streams gets such functions unless it asks for others. */
CUresult cuGetProcAddress_v2_ptsz(const char *symbol, void **function, int version, uint64_t flags,
				  CUdriverProcAddressQueryResult *status)
{
	if (flags == CU_GET_PROC_ADDRESS_DEFAULT)
		flags = CU_GET_PROC_ADDRESS_PER_THREAD_DEFAULT_STREAM;
	return cuGetProcAddress_v2(symbol, function, version, flags, status);
}
