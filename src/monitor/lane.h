/* A lane: one kind of slow work, on a thread of its own while there is some. A call into a driver may never return; then
 * the thread is left behind with its work, and the lane is free for the next. On the loop's thread but for `run`. */
#ifndef GPUSHARE_MONITOR_LANE_H
#define GPUSHARE_MONITOR_LANE_H

#include <stdbool.h>
#include <uv.h>

struct lane;

struct lane_work {
	void (*run)(void *user);  /* on the lane's thread */
	void (*done)(void *user); /* on the loop's thread, after run */
	void (*drop)(
		void *user); /* instead of done, on the thread that was left behind, if run ever returns: frees `user` */
	void *user;
};

/* `name` (at most 15 characters, not copied) is the thread's. */
struct lane *lane_new(uv_loop_t *loop, const char *name);
/* One work at a time: the lane must not be busy. 0, or an error of libuv: there is no thread to be had. */
int lane_run(struct lane *lane, const struct lane_work *work);
bool lane_is_busy(const struct lane *lane);
/* Leaves the thread behind: `done` will not be called. */
void lane_abandon(struct lane *lane);
/* Threads that were left behind and are not back. */
unsigned lane_left_behind(struct lane *lane);
/* `closed` is called later. The lane must not be busy. */
void lane_close(struct lane *lane, void (*closed)(void *user), void *user);

#endif
