/* Host functions: the program's functions that a stream calls, one at a time, in a thread of the library. */
#include "sim/cuda/internal.h"

#include <signal.h>
#include <stdlib.h>
#include <time.h>

#include "base/alloc.h"

struct call {
	struct simcu_stream *stream; /* lives as long as a call of it is pending */
	uint64_t due_ns;
	CUhostFn function;
	CUstreamCallback callback; /* one of the two */
	void *user;
	TAILQ_ENTRY(call) link;
};

TAILQ_HEAD(call_queue, call);
static struct call_queue calls = TAILQ_HEAD_INITIALIZER(calls); /* by time, first come first served */
static bool started;

static void run(struct call *call)
{
	pthread_mutex_unlock(&simcu.lock);
	simcu_enter_host_function(true);
	if (call->function)
		call->function(call->user);
	else
		call->callback((CUstream)(call->stream->is_legacy ? NULL : call->stream), CUDA_SUCCESS, call->user);
	simcu_enter_host_function(false);
	pthread_mutex_lock(&simcu.lock);
	call->stream->pending_host--;
	free(call);
	pthread_cond_broadcast(&simcu.host_done);
}

static void *serve(void *unused)
{
	pthread_mutex_lock(&simcu.lock);
	for (;;) {
		struct call *call = TAILQ_FIRST(&calls);
		if (!call) {
			pthread_cond_wait(&simcu.host_done, &simcu.lock);
			continue;
		}
		if (call->due_ns > sim_now_ns()) {
			struct timespec due = {.tv_sec = (time_t)(call->due_ns / 1000000000),
					       .tv_nsec = (long)(call->due_ns % 1000000000)};
			pthread_cond_clockwait(&simcu.host_done, &simcu.lock, CLOCK_MONOTONIC, &due);
			continue; /* one that is due earlier may have come */
		}
		TAILQ_REMOVE(&calls, call, link);
		run(call);
	}
	return NULL;
}

/* Signals are the program's business: none is handled in this thread. */
static void start_thread(void)
{
	sigset_t all, before;
	pthread_t thread;
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	if (pthread_create(&thread, NULL, serve, NULL) != 0)
		abort();
	pthread_detach(thread);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	started = true;
}

void simcu_host_queue(struct simcu_stream *stream, uint64_t due_ns, CUhostFn function, CUstreamCallback callback,
		      void *user)
{
	struct call *made = gs_calloc(1, sizeof *made), *before;
	*made = (struct call){
		.stream = stream, .due_ns = due_ns, .function = function, .callback = callback, .user = user};
	stream->pending_host++;
	for (before = TAILQ_LAST(&calls, call_queue); before && before->due_ns > due_ns;)
		before = TAILQ_PREV(before, call_queue, link);
	if (before)
		TAILQ_INSERT_AFTER(&calls, before, made, link);
	else
		TAILQ_INSERT_HEAD(&calls, made, link);
	if (!started)
		start_thread();
	pthread_cond_broadcast(&simcu.host_done);
}
