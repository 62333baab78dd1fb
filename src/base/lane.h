/* A lane: one kind of slow work, on a thread of its own while there is some, so that one kind never delays another: a slow disk
 * holds up no NVML call. Works of one lane run one after the other. A call into a driver may never return; then the thread is
 * left behind with its work, and the lane is free for the next. On the loop's thread but for `run` and `drop`. */
#ifndef GPUSHARE_BASE_LANE_H
#define GPUSHARE_BASE_LANE_H

#include <stdbool.h>
#include <uv.h>

struct lane;

struct lane_work {
	void (*run)(void *user);  /* on the lane's thread */
	void (*done)(void *user); /* on the loop's thread, after run */
	/* Instead of done, on the thread that was left behind, if run ever returns: frees `user`. NULL for work that is never
	 * abandoned. */
	void (*drop)(void *user);
	void *user;
};

/* `name` (at most 15 characters, not copied) is the thread's. A lane without work does not keep the loop running. */
struct lane *lane_new(uv_loop_t *loop, const char *name);
/* Does the work after all earlier ones. When the system has no thread to spare, the lane waits and tries again. */
void lane_run(struct lane *lane, const struct lane_work *work);
/* Whether a work is not done. */
bool lane_is_busy(const struct lane *lane);
/* Leaves the thread behind with the work that it runs: its `done` will not be called. The works after it go on. */
void lane_abandon(struct lane *lane);
/* Threads that were left behind and are not back. */
unsigned lane_left_behind(struct lane *lane);
/* Once the works that it has are done; none may come after them. `closed` (may be NULL) is called later. */
void lane_close(struct lane *lane, void (*closed)(void *user), void *user);

#endif
