/* Events: a moment on the simulated clock. */
#include "sim/cuda/internal.h"

#include <stdlib.h>

#include "base/alloc.h"

enum { FLAGS_KNOWN = CU_EVENT_BLOCKING_SYNC | CU_EVENT_DISABLE_TIMING | CU_EVENT_INTERPROCESS };

CUresult cuEventCreate(CUevent *handle, unsigned int flags)
{
	SIMCU_ENTER_CONTEXT(context);
	if (!handle || (flags & ~(unsigned)FLAGS_KNOWN) ||
	    ((flags & CU_EVENT_INTERPROCESS) && !(flags & CU_EVENT_DISABLE_TIMING)))
		return CUDA_ERROR_INVALID_VALUE;
	if (flags & CU_EVENT_INTERPROCESS)
		return CUDA_ERROR_NOT_SUPPORTED;
	struct simcu_event *event = gs_calloc(1, sizeof *event);
	event->flags = flags;
	simcu_register(&event->object, SIMCU_EVENT, context);
	*handle = (CUevent)event;
	return CUDA_SUCCESS;
}

CUresult cuEventDestroy_v2(CUevent handle)
{
	SIMCU_ENTER();
	struct simcu_event *event = simcu_lookup(handle, SIMCU_EVENT);
	if (!event)
		return CUDA_ERROR_INVALID_HANDLE;
	simcu_unregister(&event->object);
	free(event);
	return CUDA_SUCCESS;
}

CUresult cuEventRecordWithFlags(CUevent handle, CUstream stream_handle, unsigned int flags)
{
	SIMCU_ENTER_CONTEXT(context);
	struct simcu_stream *stream = simcu_stream_of(context, stream_handle);
	uint64_t time;
	if (!stream || !simcu_lookup(handle, SIMCU_EVENT))
		return CUDA_ERROR_INVALID_HANDLE;
	CUresult result = simcu_stream_start(stream, &time);
	if (result != CUDA_SUCCESS)
		return result;
	struct simcu_event *event = simcu_lookup(handle, SIMCU_EVENT);
	if (!event || event->object.context != stream->object.context)
		return CUDA_ERROR_INVALID_HANDLE;
	event->recorded = true;
	event->time_ns = time;
	return CUDA_SUCCESS;
}

CUresult cuEventRecord(CUevent event, CUstream stream)
{
	return cuEventRecordWithFlags(event, stream, 0);
}

CUresult cuEventQuery(CUevent handle)
{
	SIMCU_ENTER();
	const struct simcu_event *event = simcu_lookup(handle, SIMCU_EVENT);
	if (!event)
		return CUDA_ERROR_INVALID_HANDLE;
	CUresult result = simcu_check_device(event->object.context->device, false);
	if (result != CUDA_SUCCESS)
		return result;
	return event->recorded && event->time_ns > sim_now_ns() ? CUDA_ERROR_NOT_READY : CUDA_SUCCESS;
}

CUresult cuEventSynchronize(CUevent handle)
{
	SIMCU_ENTER();
	const struct simcu_event *event = simcu_lookup(handle, SIMCU_EVENT);
	if (!event)
		return CUDA_ERROR_INVALID_HANDLE;
	return simcu_wait(event->object.context->device, event->recorded ? event->time_ns : 0);
}

CUresult cuEventElapsedTime_v2(float *milliseconds, CUevent start_handle, CUevent end_handle)
{
	SIMCU_ENTER();
	const struct simcu_event *start = simcu_lookup(start_handle, SIMCU_EVENT),
				 *end = simcu_lookup(end_handle, SIMCU_EVENT);
	if (!milliseconds)
		return CUDA_ERROR_INVALID_VALUE;
	if (!start || !end || !start->recorded || !end->recorded ||
	    ((start->flags | end->flags) & CU_EVENT_DISABLE_TIMING))
		return CUDA_ERROR_INVALID_HANDLE;
	uint64_t now = sim_now_ns();
	if (start->time_ns > now || end->time_ns > now)
		return CUDA_ERROR_NOT_READY;
	*milliseconds = (float)((double)(int64_t)(end->time_ns - start->time_ns) / 1e6);
	return CUDA_SUCCESS;
}

CUresult cuEventElapsedTime(float *milliseconds, CUevent start, CUevent end)
{
	return cuEventElapsedTime_v2(milliseconds, start, end);
}
