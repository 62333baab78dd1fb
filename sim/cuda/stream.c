/* Streams: each knows when its last piece of work is done. The legacy default stream waits for all blocking streams of
 * its context, and they for it. */
#include "sim/cuda/internal.h"

#include <stdlib.h>

#include "base/alloc.h"

enum { GREATEST_PRIORITY = -5, ID_LEGACY = 1, ID_PER_THREAD = 2 };

static __thread bool null_is_per_thread;

struct simcu_stream *simcu_stream_new(struct simcu_context *context, unsigned flags, int priority)
{
	struct simcu_stream *stream = gs_calloc(1, sizeof *stream);
	stream->flags = flags;
	stream->priority = priority;
	stream->id = ++simcu.next_id + ID_PER_THREAD;
	simcu_register(&stream->object, SIMCU_STREAM, context);
	return stream;
}

void simcu_stream_delete(struct simcu_stream *stream)
{
	simcu_unregister(&stream->object);
	free(stream);
}

bool simcu_set_per_thread(bool per_thread)
{
	bool was = null_is_per_thread;
	null_is_per_thread = per_thread;
	return was;
}

/* Before a block that runs for each stream of a context. */
/* clang-format off */
#define FOR_EACH_STREAM(context, stream)                                                                  \
	for (struct simcu_object *object_ = LIST_FIRST(&(context)->objects); object_;                     \
	     object_ = LIST_NEXT(object_, link))                                                          \
		if (object_->kind != SIMCU_STREAM)                                                        \
			continue;                                                                         \
		else                                                                                      \
			for (struct simcu_stream *stream = (struct simcu_stream *)object_; stream; stream = NULL)
/* clang-format on */

static struct simcu_stream *per_thread_stream(struct simcu_context *context)
{
	uint64_t thread = simcu_thread_id();
	FOR_EACH_STREAM(context, stream)
	{
		if (stream->thread == thread)
			return stream;
	}
	struct simcu_stream *made = simcu_stream_new(context, CU_STREAM_DEFAULT, 0);
	made->thread = thread;
	return made;
}

struct simcu_stream *simcu_stream_of(struct simcu_context *context, CUstream handle)
{
	if (handle == CU_STREAM_PER_THREAD || (!handle && null_is_per_thread))
		return per_thread_stream(context);
	return !handle || handle == CU_STREAM_LEGACY ? context->legacy : simcu_lookup(handle, SIMCU_STREAM);
}

static bool is_blocking(const struct simcu_stream *stream)
{
	return !(stream->flags & CU_STREAM_NON_BLOCKING);
}

/* Whether work in `later` waits for what is in `earlier`. */
static bool waits_for(const struct simcu_stream *later, const struct simcu_stream *earlier)
{
	if (later == earlier)
		return true;
	return (later->is_legacy && is_blocking(earlier)) || (earlier->is_legacy && is_blocking(later));
}

/* When all that `stream` waits for is done; *pending tells whether host functions are part of it. */
static uint64_t end_of(const struct simcu_stream *stream, bool *pending)
{
	uint64_t end = 0;
	*pending = false;
	FOR_EACH_STREAM(stream->object.context, other)
	{
		if (!waits_for(stream, other))
			continue;
		*pending |= other->pending_host > 0;
		if (other->end_ns > end)
			end = other->end_ns;
	}
	return end;
}

CUresult simcu_stream_start(struct simcu_stream *stream, uint64_t *start)
{
	struct simcu_context *context = stream->object.context;
	bool pending;
	uint64_t end = end_of(stream, &pending);
	while (pending) {
		pthread_cond_wait(&simcu.host_done, &simcu.lock);
		if (!context->alive || !simcu_lookup(stream, SIMCU_STREAM))
			return CUDA_ERROR_INVALID_HANDLE;
		end = end_of(stream, &pending);
	}
	uint64_t now = sim_now_ns();
	*start = end > now ? end : now;
	return CUDA_SUCCESS;
}

CUresult simcu_stream_work(struct simcu_stream *stream, uint64_t duration_ns)
{
	uint64_t start;
	CUresult result = simcu_stream_start(stream, &start);
	if (result == CUDA_SUCCESS)
		stream->end_ns = start + duration_ns;
	return result;
}

CUresult simcu_stream_sync(struct simcu_stream *stream)
{
	struct simcu_device *device = stream->object.context->device;
	uint64_t end;
	CUresult result = simcu_stream_start(stream, &end);
	return result == CUDA_SUCCESS ? simcu_wait(device, end) : result;
}

CUresult simcu_context_sync(struct simcu_context *context)
{
	uint64_t end;
	bool pending;
	do {
		end = context->orphans_end_ns;
		pending = false;
		FOR_EACH_STREAM(context, stream)
		{
			pending |= stream->pending_host > 0;
			if (stream->end_ns > end)
				end = stream->end_ns;
		}
		if (pending)
			pthread_cond_wait(&simcu.host_done, &simcu.lock);
	} while (pending && context->alive);
	return simcu_wait(context->device, end);
}

/* Enters with the current context, and finds the stream behind a handle. */
/* clang-format off */
#define ENTER_STREAM(entry, handle)                                     \
	SIMCU_ENTER_CONTEXT(context);                                   \
	struct simcu_stream *entry = simcu_stream_of(context, handle);  \
	if (!entry)                                                     \
		return CUDA_ERROR_INVALID_HANDLE
/* clang-format on */

CUresult cuStreamCreateWithPriority(CUstream *stream, unsigned int flags, int priority)
{
	SIMCU_ENTER_CONTEXT(context);
	if (!stream || flags > CU_STREAM_NON_BLOCKING)
		return CUDA_ERROR_INVALID_VALUE;
	priority = priority > 0 ? 0 : priority < GREATEST_PRIORITY ? GREATEST_PRIORITY : priority;
	*stream = (CUstream)simcu_stream_new(context, flags, priority);
	return CUDA_SUCCESS;
}

CUresult cuStreamCreate(CUstream *stream, unsigned int flags)
{
	return cuStreamCreateWithPriority(stream, flags, 0);
}

/* Work that is queued still runs; only host functions keep the call waiting here. */
CUresult cuStreamDestroy_v2(CUstream handle)
{
	SIMCU_ENTER();
	struct simcu_stream *stream = simcu_lookup(handle, SIMCU_STREAM);
	if (!stream || stream->is_legacy || stream->thread)
		return CUDA_ERROR_INVALID_HANDLE;
	while (stream->pending_host) {
		pthread_cond_wait(&simcu.host_done, &simcu.lock);
		if (simcu_lookup(handle, SIMCU_STREAM) != stream)
			return CUDA_ERROR_INVALID_HANDLE;
	}
	struct simcu_context *context = stream->object.context;
	if (stream->end_ns > context->orphans_end_ns)
		context->orphans_end_ns = stream->end_ns;
	if (is_blocking(stream) && stream->end_ns > context->legacy->end_ns)
		context->legacy->end_ns = stream->end_ns;
	simcu_stream_delete(stream);
	return CUDA_SUCCESS;
}

CUresult cuStreamSynchronize(CUstream handle)
{
	ENTER_STREAM(stream, handle);
	return simcu_stream_sync(stream);
}

CUresult cuStreamQuery(CUstream handle)
{
	ENTER_STREAM(stream, handle);
	bool pending;
	uint64_t end = end_of(stream, &pending);
	return pending || end > sim_now_ns() ? CUDA_ERROR_NOT_READY : CUDA_SUCCESS;
}

CUresult cuStreamWaitEvent(CUstream handle, CUevent event_handle, unsigned int flags)
{
	ENTER_STREAM(stream, handle);
	const struct simcu_event *event = simcu_lookup(event_handle, SIMCU_EVENT);
	if (!event)
		return CUDA_ERROR_INVALID_HANDLE;
	if (event->recorded && event->time_ns > stream->end_ns)
		stream->end_ns = event->time_ns;
	return CUDA_SUCCESS;
}

static CUresult queue_host(CUstream handle, CUhostFn function, CUstreamCallback callback, void *user)
{
	ENTER_STREAM(stream, handle);
	if (!function && !callback)
		return CUDA_ERROR_INVALID_VALUE;
	/* Host functions of one stream run one after the other: those before it are in the queue already. */
	bool pending;
	uint64_t end = end_of(stream, &pending), now = sim_now_ns();
	simcu_host_queue(stream, end > now ? end : now, function, callback, user);
	return CUDA_SUCCESS;
}

CUresult cuLaunchHostFunc(CUstream stream, CUhostFn function, void *user)
{
	return queue_host(stream, function, NULL, user);
}

CUresult cuStreamAddCallback(CUstream stream, CUstreamCallback callback, void *user, unsigned int flags)
{
	return flags ? CUDA_ERROR_INVALID_VALUE : queue_host(stream, NULL, callback, user);
}

CUresult cuStreamGetPriority(CUstream handle, int *priority)
{
	ENTER_STREAM(stream, handle);
	if (!priority)
		return CUDA_ERROR_INVALID_VALUE;
	*priority = stream->priority;
	return CUDA_SUCCESS;
}

CUresult cuStreamGetFlags(CUstream handle, unsigned int *flags)
{
	ENTER_STREAM(stream, handle);
	if (!flags)
		return CUDA_ERROR_INVALID_VALUE;
	*flags = stream->flags;
	return CUDA_SUCCESS;
}

CUresult cuStreamGetId(CUstream handle, unsigned long long *id)
{
	ENTER_STREAM(stream, handle);
	if (!id)
		return CUDA_ERROR_INVALID_VALUE;
	*id = stream->is_legacy ? ID_LEGACY : stream->id;
	return CUDA_SUCCESS;
}

CUresult cuStreamGetCtx(CUstream handle, CUcontext *owner)
{
	ENTER_STREAM(stream, handle);
	if (!owner)
		return CUDA_ERROR_INVALID_VALUE;
	*owner = (CUcontext)stream->object.context;
	return CUDA_SUCCESS;
}

CUresult cuStreamGetDevice(CUstream handle, CUdevice *device)
{
	ENTER_STREAM(stream, handle);
	if (!device)
		return CUDA_ERROR_INVALID_VALUE;
	*device = stream->object.context->device->ordinal;
	return CUDA_SUCCESS;
}

CUresult cuStreamAttachMemAsync(CUstream handle, CUdeviceptr pointer, size_t bytes, unsigned int flags)
{
	ENTER_STREAM(stream, handle);
	(void)stream;
	const struct simcu_allocation *allocation = simcu_find(pointer);
	return allocation && allocation->memory == SIMCU_MANAGED_MEMORY ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

/* Graphs are not simulated, so no stream ever captures. */

CUresult cuStreamIsCapturing(CUstream handle, CUstreamCaptureStatus *status)
{
	ENTER_STREAM(stream, handle);
	(void)stream;
	if (!status)
		return CUDA_ERROR_INVALID_VALUE;
	*status = CU_STREAM_CAPTURE_STATUS_NONE;
	return CUDA_SUCCESS;
}

CUresult cuThreadExchangeStreamCaptureMode(CUstreamCaptureMode *mode)
{
	static __thread CUstreamCaptureMode current = CU_STREAM_CAPTURE_MODE_GLOBAL;
	if (!mode)
		return CUDA_ERROR_INVALID_VALUE;
	CUstreamCaptureMode was = current;
	current = *mode;
	*mode = was;
	return CUDA_SUCCESS;
}
