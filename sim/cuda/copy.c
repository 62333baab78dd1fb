/* Copies and fills: the bytes move when the call is made; the time they take on the bus is added to the stream. */
#include "sim/cuda/internal.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum side { SIDE_HOST, SIDE_DEVICE, SIDE_ANY };

/* Zeroing at least so much gives the pages back instead of writing them. */
#define DISCARD_BYTES  (1ull << 20)
#define PAGE_BYTES     4096ull
#define PEER_LINK_RATE 25000000000ull /* bytes per second of one NVLink */

/* One end of a copy: rows of `width` bytes, `pitch` apart. */
struct area {
	uint64_t base;
	size_t pitch;
	enum side side;
	const struct simcu_device *device; /* found: whose memory it is; NULL: the host's */
};

struct copy {
	struct area to, from;
	size_t width, rows;
};

/* Whether all of a range may be read or written, over however many mappings it spans. Host memory that the library does
 * not know is the caller's own business. */
static bool is_accessible(uint64_t at, uint64_t bytes, bool write, struct area *area)
{
	uint64_t needed = write ? CU_MEM_ACCESS_FLAGS_PROT_READWRITE : CU_MEM_ACCESS_FLAGS_PROT_READ, end;
	if (__builtin_add_overflow(at, bytes, &end))
		return false;
	while (at < end) {
		const struct simcu_allocation *allocation = simcu_find(at);
		if (!allocation)
			return area->side != SIDE_DEVICE && !area->device;
		if ((allocation->access & needed) != needed)
			return false;
		area->device = allocation->device;
		at = allocation->base + allocation->bytes;
	}
	return true;
}

static bool check_area(struct area *area, const struct copy *copy, bool write)
{
	uint64_t extent;
	if (copy->rows > 1 && area->pitch < copy->width)
		return false;
	if (__builtin_mul_overflow(area->pitch, copy->rows - 1, &extent) ||
	    __builtin_add_overflow(extent, copy->width, &extent))
		return false;
	return area->base && is_accessible(area->base, extent, write, area);
}

static uint64_t bytes_per_second(const struct copy *copy, const struct simcu_context *context)
{
	const struct simcu_device *to = copy->to.device, *from = copy->from.device;
	if (to && to == from)
		return to->memory_rate / 2; /* read and written */
	if (to && from && to->model->nvlinks)
		return PEER_LINK_RATE * to->model->nvlinks;
	if (to || from)
		return simcu_pcie_rate((to ? to : from)->model);
	return simcu_pcie_rate(context->device->model);
}

static void move(const struct copy *copy)
{
	for (size_t row = 0; row < copy->rows; row++)
		memmove((void *)(uintptr_t)(copy->to.base + row * copy->to.pitch),
			(const void *)(uintptr_t)(copy->from.base + row * copy->from.pitch), copy->width);
}

static CUresult run_copy(struct copy *copy, CUstream handle, bool wait)
{
	SIMCU_ENTER_CONTEXT(context);
	struct simcu_stream *stream = simcu_stream_of(context, handle);
	if (!stream)
		return CUDA_ERROR_INVALID_HANDLE;
	if (!copy->width || !copy->rows)
		return CUDA_SUCCESS;
	if (!check_area(&copy->to, copy, true) || !check_area(&copy->from, copy, false))
		return CUDA_ERROR_INVALID_VALUE;
	uint64_t bytes = (uint64_t)copy->width * copy->rows;
	uint64_t nanoseconds = (uint64_t)((unsigned __int128)bytes * 1000000000u / bytes_per_second(copy, context));
	CUresult result = simcu_stream_work(stream, nanoseconds);
	if (result != CUDA_SUCCESS)
		return result;
	uint64_t end = stream->end_ns;
	pthread_mutex_unlock(&simcu.lock); /* a big copy must not stop other threads */
	move(copy);
	pthread_mutex_lock(&simcu.lock);
	return wait ? simcu_wait(context->device, end) : CUDA_SUCCESS;
}

static CUresult copy_line(uint64_t to, enum side to_side, uint64_t from, enum side from_side, size_t bytes,
			  CUstream stream, bool wait)
{
	struct copy copy = {
		.to = {to, bytes, to_side, NULL}, .from = {from, bytes, from_side, NULL}, .width = bytes, .rows = 1};
	return run_copy(&copy, stream, wait);
}

CUresult cuMemcpy(CUdeviceptr to, CUdeviceptr from, size_t bytes)
{
	return copy_line(to, SIDE_ANY, from, SIDE_ANY, bytes, NULL, true);
}

CUresult cuMemcpyAsync(CUdeviceptr to, CUdeviceptr from, size_t bytes, CUstream stream)
{
	return copy_line(to, SIDE_ANY, from, SIDE_ANY, bytes, stream, false);
}

CUresult cuMemcpyHtoD_v2(CUdeviceptr to, const void *from, size_t bytes)
{
	return copy_line(to, SIDE_DEVICE, (uintptr_t)from, SIDE_HOST, bytes, NULL, true);
}

CUresult cuMemcpyDtoH_v2(void *to, CUdeviceptr from, size_t bytes)
{
	return copy_line((uintptr_t)to, SIDE_HOST, from, SIDE_DEVICE, bytes, NULL, true);
}

/* Between places on devices the host does not wait. */
CUresult cuMemcpyDtoD_v2(CUdeviceptr to, CUdeviceptr from, size_t bytes)
{
	return copy_line(to, SIDE_DEVICE, from, SIDE_DEVICE, bytes, NULL, false);
}

CUresult cuMemcpyHtoDAsync_v2(CUdeviceptr to, const void *from, size_t bytes, CUstream stream)
{
	return copy_line(to, SIDE_DEVICE, (uintptr_t)from, SIDE_HOST, bytes, stream, false);
}

CUresult cuMemcpyDtoHAsync_v2(void *to, CUdeviceptr from, size_t bytes, CUstream stream)
{
	return copy_line((uintptr_t)to, SIDE_HOST, from, SIDE_DEVICE, bytes, stream, false);
}

CUresult cuMemcpyDtoDAsync_v2(CUdeviceptr to, CUdeviceptr from, size_t bytes, CUstream stream)
{
	return copy_line(to, SIDE_DEVICE, from, SIDE_DEVICE, bytes, stream, false);
}

static CUresult check_contexts(CUcontext to, CUcontext from)
{
	SIMCU_ENTER();
	return simcu_lookup(to, SIMCU_CONTEXT) && simcu_lookup(from, SIMCU_CONTEXT) ? CUDA_SUCCESS
										    : CUDA_ERROR_INVALID_CONTEXT;
}

CUresult cuMemcpyPeerAsync(CUdeviceptr to, CUcontext to_context, CUdeviceptr from, CUcontext from_context, size_t bytes,
			   CUstream stream)
{
	CUresult result = check_contexts(to_context, from_context);
	return result == CUDA_SUCCESS ? cuMemcpyDtoDAsync_v2(to, from, bytes, stream) : result;
}

CUresult cuMemcpyPeer(CUdeviceptr to, CUcontext to_context, CUdeviceptr from, CUcontext from_context, size_t bytes)
{
	CUresult result = check_contexts(to_context, from_context);
	return result == CUDA_SUCCESS ? cuMemcpyDtoD_v2(to, from, bytes) : result;
}

/* One end of a two-dimensional copy; false: a kind that is not simulated or makes no sense. */
static bool read_area(struct area *area, CUmemorytype type, const void *host, CUdeviceptr device, size_t x, size_t y,
		      size_t pitch, size_t width)
{
	uint64_t rows;
	area->pitch = pitch ? pitch : width;
	area->base = type == CU_MEMORYTYPE_HOST ? (uintptr_t)host : device;
	area->side = type == CU_MEMORYTYPE_HOST ? SIDE_HOST : type == CU_MEMORYTYPE_DEVICE ? SIDE_DEVICE : SIDE_ANY;
	if (type != CU_MEMORYTYPE_HOST && type != CU_MEMORYTYPE_DEVICE && type != CU_MEMORYTYPE_UNIFIED)
		return false;
	if (x > area->pitch || width > area->pitch - x || __builtin_mul_overflow(y, area->pitch, &rows) ||
	    __builtin_add_overflow(rows, x, &rows))
		return false;
	return area->base && !__builtin_add_overflow(area->base, rows, &area->base);
}

static CUresult copy_2d(const CUDA_MEMCPY2D *wanted, CUstream stream, bool wait)
{
	struct copy copy = {.width = 0};
	if (!wanted)
		return CUDA_ERROR_INVALID_VALUE;
	copy.width = wanted->WidthInBytes;
	copy.rows = wanted->Height;
	if (wanted->srcMemoryType == CU_MEMORYTYPE_ARRAY || wanted->dstMemoryType == CU_MEMORYTYPE_ARRAY)
		return CUDA_ERROR_NOT_SUPPORTED;
	if (!read_area(&copy.to, wanted->dstMemoryType, wanted->dstHost, wanted->dstDevice, wanted->dstXInBytes,
		       wanted->dstY, wanted->dstPitch, copy.width) ||
	    !read_area(&copy.from, wanted->srcMemoryType, wanted->srcHost, wanted->srcDevice, wanted->srcXInBytes,
		       wanted->srcY, wanted->srcPitch, copy.width))
		return CUDA_ERROR_INVALID_VALUE;
	return run_copy(&copy, stream, wait);
}

CUresult cuMemcpy2D_v2(const CUDA_MEMCPY2D *copy)
{
	return copy_2d(copy, NULL, true);
}

CUresult cuMemcpy2DUnaligned_v2(const CUDA_MEMCPY2D *copy)
{
	return copy_2d(copy, NULL, true);
}

CUresult cuMemcpy2DAsync_v2(const CUDA_MEMCPY2D *copy, CUstream stream)
{
	return copy_2d(copy, stream, false);
}

/* Fills. */

static void fill_line(uint64_t at, unsigned value, unsigned size, size_t bytes)
{
	if (size == 1) {
		memset((void *)(uintptr_t)at, (int)value, bytes);
		return;
	}
	for (size_t done = 0; done < bytes; done += size)
		memcpy((void *)(uintptr_t)(at + done), &value, size); /* little endian: the low bytes first */
}

/* Zeroes a range of private anonymous memory: whole pages go back to the kernel and read as zero from then on. */
static void zero(uint64_t at, size_t bytes)
{
	uint64_t first = (at + PAGE_BYTES - 1) / PAGE_BYTES * PAGE_BYTES, last = (at + bytes) / PAGE_BYTES * PAGE_BYTES;
	fill_line(at, 0, 1, first - at);
	if (madvise((void *)(uintptr_t)first, last - first, MADV_DONTNEED) != 0)
		fill_line(first, 0, 1, last - first);
	fill_line(last, 0, 1, at + bytes - last);
}

struct fill {
	uint64_t to;
	unsigned value, size;      /* bytes of an element */
	size_t pitch, width, rows; /* in bytes */
};

static CUresult run_fill(const struct fill *fill, CUstream handle)
{
	SIMCU_ENTER_CONTEXT(context);
	struct simcu_stream *stream = simcu_stream_of(context, handle);
	if (!stream)
		return CUDA_ERROR_INVALID_HANDLE;
	if (!fill->width || !fill->rows)
		return CUDA_SUCCESS;
	struct copy copy = {.to = {fill->to, fill->pitch, SIDE_DEVICE, NULL}, .width = fill->width, .rows = fill->rows};
	if (fill->to % fill->size || (fill->rows > 1 && fill->pitch % fill->size) || !check_area(&copy.to, &copy, true))
		return CUDA_ERROR_INVALID_VALUE;
	uint64_t bytes = (uint64_t)fill->width * fill->rows;
	uint64_t rate = context->device->memory_rate;
	CUresult result = simcu_stream_work(stream, (uint64_t)((unsigned __int128)bytes * 1000000000u / rate));
	if (result != CUDA_SUCCESS)
		return result;
	const struct simcu_allocation *allocation = simcu_find(fill->to);
	bool discard = allocation && allocation->mapped_bytes && !fill->value && fill->width >= DISCARD_BYTES;
	pthread_mutex_unlock(&simcu.lock);
	for (size_t row = 0; row < fill->rows; row++) {
		uint64_t at = fill->to + row * fill->pitch;
		if (discard)
			zero(at, fill->width);
		else
			fill_line(at, fill->value, fill->size, fill->width);
	}
	pthread_mutex_lock(&simcu.lock);
	return CUDA_SUCCESS;
}

static CUresult fill_row(CUdeviceptr to, unsigned value, unsigned size, size_t count, CUstream stream)
{
	struct fill fill = {.to = to, .value = value, .size = size, .rows = 1};
	if (__builtin_mul_overflow(count, size, &fill.width))
		return CUDA_ERROR_INVALID_VALUE;
	fill.pitch = fill.width;
	return run_fill(&fill, stream);
}

static CUresult fill_rows(CUdeviceptr to, size_t pitch, unsigned value, unsigned size, size_t width, size_t height,
			  CUstream stream)
{
	struct fill fill = {.to = to, .value = value, .size = size, .pitch = pitch, .rows = height};
	if (__builtin_mul_overflow(width, size, &fill.width))
		return CUDA_ERROR_INVALID_VALUE;
	return run_fill(&fill, stream);
}

CUresult cuMemsetD8_v2(CUdeviceptr to, unsigned char value, size_t count)
{
	return fill_row(to, value, 1, count, NULL);
}

CUresult cuMemsetD16_v2(CUdeviceptr to, unsigned short value, size_t count)
{
	return fill_row(to, value, 2, count, NULL);
}

CUresult cuMemsetD32_v2(CUdeviceptr to, unsigned int value, size_t count)
{
	return fill_row(to, value, 4, count, NULL);
}

CUresult cuMemsetD8Async(CUdeviceptr to, unsigned char value, size_t count, CUstream stream)
{
	return fill_row(to, value, 1, count, stream);
}

CUresult cuMemsetD16Async(CUdeviceptr to, unsigned short value, size_t count, CUstream stream)
{
	return fill_row(to, value, 2, count, stream);
}

CUresult cuMemsetD32Async(CUdeviceptr to, unsigned int value, size_t count, CUstream stream)
{
	return fill_row(to, value, 4, count, stream);
}

CUresult cuMemsetD2D8_v2(CUdeviceptr to, size_t pitch, unsigned char value, size_t width, size_t height)
{
	return fill_rows(to, pitch, value, 1, width, height, NULL);
}

CUresult cuMemsetD2D16_v2(CUdeviceptr to, size_t pitch, unsigned short value, size_t width, size_t height)
{
	return fill_rows(to, pitch, value, 2, width, height, NULL);
}

CUresult cuMemsetD2D32_v2(CUdeviceptr to, size_t pitch, unsigned int value, size_t width, size_t height)
{
	return fill_rows(to, pitch, value, 4, width, height, NULL);
}

CUresult cuMemsetD2D8Async(CUdeviceptr to, size_t pitch, unsigned char value, size_t width, size_t height,
			   CUstream stream)
{
	return fill_rows(to, pitch, value, 1, width, height, stream);
}

CUresult cuMemsetD2D16Async(CUdeviceptr to, size_t pitch, unsigned short value, size_t width, size_t height,
			    CUstream stream)
{
	return fill_rows(to, pitch, value, 2, width, height, stream);
}

CUresult cuMemsetD2D32Async(CUdeviceptr to, size_t pitch, unsigned int value, size_t width, size_t height,
			    CUstream stream)
{
	return fill_rows(to, pitch, value, 4, width, height, stream);
}
