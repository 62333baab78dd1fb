#include "base/lane.h"

#include <pthread.h>
#include <stdlib.h>

#include "base/alloc.h"
#include "base/log.h"

enum { RETRY_MS = 1000 };

struct errand {
	struct errand *next;
	struct lane *lane;
	struct lane_work work;
	bool is_over, is_abandoned;
};

struct lane {
	const char *name;
	struct errand *current;                /* a thread has it */
	struct errand *waiting, **waiting_end; /* in the order in which they came */
	uv_async_t over;
	uv_timer_t retry;
	unsigned open_handles;
	uv_mutex_t lock; /* guards the errands' flags, and what follows */
	unsigned left_behind;
	bool is_closing; /* once it is idle */
	bool is_closed;  /* the last thread that was left behind frees the lane */
	void (*closed)(void *user);
	void *closed_user;
};

static void start_next(struct lane *lane);

static void free_lane(struct lane *lane)
{
	uv_mutex_destroy(&lane->lock);
	free(lane);
}

static void on_closed(uv_handle_t *handle)
{
	struct lane *lane = handle->data;
	void (*closed)(void *user) = lane->closed;
	void *user = lane->closed_user;
	if (--lane->open_handles)
		return;
	uv_mutex_lock(&lane->lock);
	lane->is_closed = true;
	bool last = lane->left_behind == 0;
	uv_mutex_unlock(&lane->lock);
	if (last)
		free_lane(lane);
	if (closed)
		closed(user);
}

static void close_handles(struct lane *lane)
{
	uv_close((uv_handle_t *)&lane->over, on_closed);
	uv_close((uv_handle_t *)&lane->retry, on_closed);
}

static void on_over(uv_async_t *async)
{
	struct lane *lane = async->data;
	uv_mutex_lock(&lane->lock);
	struct errand *errand = lane->current && lane->current->is_over ? lane->current : NULL;
	uv_mutex_unlock(&lane->lock);
	if (!errand)
		return;
	struct lane_work work = errand->work;
	lane->current = NULL;
	free(errand);
	work.done(work.user);
	start_next(lane);
}

static void *run(void *argument)
{
	struct errand *errand = argument;
	struct lane *lane = errand->lane;
	pthread_setname_np(pthread_self(), lane->name);
	errand->work.run(errand->work.user);
	uv_mutex_lock(&lane->lock);
	errand->is_over = true;
	if (!errand->is_abandoned) {
		uv_async_send(&lane->over);
		uv_mutex_unlock(&lane->lock);
		return NULL;
	}
	bool last = --lane->left_behind == 0 && lane->is_closed;
	uv_mutex_unlock(&lane->lock);
	errand->work.drop(errand->work.user);
	free(errand);
	if (last)
		free_lane(lane);
	return NULL;
}

static int start_thread(struct errand *errand)
{
	pthread_t thread;
	pthread_attr_t attributes;
	pthread_attr_init(&attributes);
	pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
	int failed = pthread_create(&thread, &attributes, run, errand);
	pthread_attr_destroy(&attributes);
	return failed;
}

static void on_retry(uv_timer_t *timer)
{
	start_next(timer->data);
}

static void start_next(struct lane *lane)
{
	struct errand *errand = lane->waiting;
	if (lane->current || uv_is_closing((uv_handle_t *)&lane->over))
		return;
	if (!errand) {
		uv_unref((uv_handle_t *)&lane->over);
		if (lane->is_closing)
			close_handles(lane);
		return;
	}
	uv_ref((uv_handle_t *)&lane->over);
	lane->current = errand;
	if (start_thread(errand) != 0) {
		lane->current = NULL;
		gs_log(GS_LOG_WARNING, "there is no thread to be had; trying again", GS_STR("for", lane->name));
		uv_timer_start(&lane->retry, on_retry, RETRY_MS, 0);
		return;
	}
	lane->waiting = errand->next;
	if (!lane->waiting)
		lane->waiting_end = &lane->waiting;
}

struct lane *lane_new(uv_loop_t *loop, const char *name)
{
	struct lane *lane = gs_calloc(1, sizeof *lane);
	lane->name = name;
	lane->waiting_end = &lane->waiting;
	uv_mutex_init(&lane->lock);
	uv_async_init(loop, &lane->over, on_over);
	uv_unref((uv_handle_t *)&lane->over);
	uv_timer_init(loop, &lane->retry);
	lane->open_handles = 2;
	lane->over.data = lane->retry.data = lane;
	return lane;
}

void lane_run(struct lane *lane, const struct lane_work *work)
{
	struct errand *errand = gs_calloc(1, sizeof *errand);
	*errand = (struct errand){.lane = lane, .work = *work};
	*lane->waiting_end = errand;
	lane->waiting_end = &errand->next;
	start_next(lane);
}

bool lane_is_busy(const struct lane *lane)
{
	return lane->current || lane->waiting;
}

void lane_abandon(struct lane *lane)
{
	struct errand *errand = lane->current;
	if (!errand)
		return;
	uv_mutex_lock(&lane->lock);
	bool is_over = errand->is_over; /* just now: it is done as ever */
	if (!is_over) {
		errand->is_abandoned = true;
		lane->left_behind++;
		lane->current = NULL;
	}
	uv_mutex_unlock(&lane->lock);
	start_next(lane);
}

unsigned lane_left_behind(struct lane *lane)
{
	uv_mutex_lock(&lane->lock);
	unsigned count = lane->left_behind;
	uv_mutex_unlock(&lane->lock);
	return count;
}

void lane_close(struct lane *lane, void (*closed)(void *user), void *user)
{
	lane->closed = closed;
	lane->closed_user = user;
	lane->is_closing = true;
	start_next(lane);
}
