#include "monitor/lane.h"

#include <pthread.h>
#include <stdlib.h>

#include "base/alloc.h"

struct errand {
	struct lane *lane;
	struct lane_work work;
	bool is_over, is_abandoned;
};

struct lane {
	const char *name;
	struct errand *current;
	uv_async_t over;
	uv_mutex_t lock; /* guards the errands' flags, and what follows */
	unsigned left_behind;
	bool is_closed; /* the last thread that was left behind frees the lane */
	void (*closed)(void *user);
	void *closed_user;
};

static void free_lane(struct lane *lane)
{
	uv_mutex_destroy(&lane->lock);
	free(lane);
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

struct lane *lane_new(uv_loop_t *loop, const char *name)
{
	struct lane *lane = gs_calloc(1, sizeof *lane);
	lane->name = name;
	uv_mutex_init(&lane->lock);
	uv_async_init(loop, &lane->over, on_over);
	lane->over.data = lane;
	return lane;
}

int lane_run(struct lane *lane, const struct lane_work *work)
{
	struct errand *errand = gs_calloc(1, sizeof *errand);
	*errand = (struct errand){.lane = lane, .work = *work};
	pthread_t thread;
	pthread_attr_t attributes;
	pthread_attr_init(&attributes);
	pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
	lane->current = errand;
	int failed = pthread_create(&thread, &attributes, run, errand);
	pthread_attr_destroy(&attributes);
	if (failed) {
		lane->current = NULL;
		free(errand);
	}
	return -failed;
}

bool lane_is_busy(const struct lane *lane)
{
	return lane->current != NULL;
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
}

unsigned lane_left_behind(struct lane *lane)
{
	uv_mutex_lock(&lane->lock);
	unsigned count = lane->left_behind;
	uv_mutex_unlock(&lane->lock);
	return count;
}

static void on_closed(uv_handle_t *handle)
{
	struct lane *lane = handle->data;
	void (*closed)(void *user) = lane->closed;
	void *user = lane->closed_user;
	uv_mutex_lock(&lane->lock);
	lane->is_closed = true;
	bool last = lane->left_behind == 0;
	uv_mutex_unlock(&lane->lock);
	if (last)
		free_lane(lane);
	closed(user);
}

void lane_close(struct lane *lane, void (*closed)(void *user), void *user)
{
	lane->closed = closed;
	lane->closed_user = user;
	uv_close((uv_handle_t *)&lane->over, on_closed);
}
