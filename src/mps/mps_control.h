/* Talks to NVIDIA's MPS control daemon through its own program, nvidia-cuda-mps-control: the one interface it has. */
#ifndef GPUSHARE_MPS_MPS_CONTROL_H
#define GPUSHARE_MPS_MPS_CONTROL_H

#include <stddef.h>
#include <uv.h>

#include "base/error.h"

enum { MPS_OUTPUT_BYTES_MAX = 256 * 1024 };

/* See gs_driver_command, which finds it. */
#define MPS_CONTROL_PROGRAM "nvidia-cuda-mps-control"

struct mps_run;

/* `output` is what the program wrote to standard output (with a NUL behind it, cut at MPS_OUTPUT_BYTES_MAX), and then to
 * standard error; valid during the call. `exit_status` is -1 when it was killed or could not be started: then `err` says
 * why, and is NULL otherwise. */
typedef void mps_run_done(void *user, int exit_status, const char *output, const struct gs_error *err);

struct mps_run_setup {
	const char *program;        /* a path, or a name to find on PATH */
	const char *const *options; /* "-d", NULL; NULL: none, commands come from `input` */
	const char *input;          /* NULL: nothing */
	const char *pipe_directory; /* CUDA_MPS_PIPE_DIRECTORY */
	const char *log_directory;  /* CUDA_MPS_LOG_DIRECTORY */
	const char *visible_device; /* CUDA_VISIBLE_DEVICES; NULL: unset */
	unsigned timeout_ms;        /* then it is killed */
};

/* Runs it; `done` is always called, later. The environment is this process's, without what configures MPS and CUDA but
 * for the above. NULL only when nothing could be set up at all, then `done` is not called. */
struct mps_run *mps_run_start(uv_loop_t *loop, const struct mps_run_setup *setup, mps_run_done *done, void *user,
			      struct gs_error *err);
/* Kills it; `done` is not called any more. */
void mps_run_cancel(struct mps_run *run);

#endif
