#include "mps/mps_control.h"

#include <errno.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/strbuf.h"
#include "base/vec.h"

enum { STREAMS = 3, OPTIONS_MAX = 4 };
#define PROGRAM_NAME MPS_CONTROL_PROGRAM

struct mps_run {
	uv_process_t process;
	uv_pipe_t pipes[STREAMS];
	uv_timer_t timer;
	uv_write_t write;
	char *input;
	struct gs_strbuf output[STREAMS];
	mps_run_done *done; /* NULL: cancelled, or called */
	void *user;
	int exit_status;
	bool exited, timed_out;
	unsigned open_outputs; /* standard output and error, until their end */
	unsigned handles;
	char chunk[4096];
};

static void on_closed(uv_handle_t *handle)
{
	struct mps_run *run = handle->data;
	if (--run->handles > 0)
		return;
	for (size_t i = 0; i < STREAMS; i++)
		gs_strbuf_free(&run->output[i]);
	free(run->input);
	free(run);
}

static void close_once(void *handle)
{
	if (!uv_is_closing(handle))
		uv_close(handle, on_closed);
}

static void close_all(struct mps_run *run)
{
	close_once(&run->process);
	close_once(&run->timer);
	for (size_t i = 0; i < STREAMS; i++)
		close_once(&run->pipes[i]);
}

/* Once the program has ended and all it wrote was read. */
static void finish(struct mps_run *run)
{
	if (!run->exited || run->open_outputs > 0)
		return;
	mps_run_done *done = run->done;
	run->done = NULL;
	struct gs_error err;
	if (run->timed_out)
		gs_fail(&err, GS_ERROR_SYSTEM, ETIMEDOUT, PROGRAM_NAME " did not answer in time and was ended");
	if (run->output[2].length)
		gs_strbuf_add_bytes(&run->output[1], run->output[2].data, run->output[2].length);
	if (done)
		done(run->user, run->timed_out ? -1 : run->exit_status, run->output[1].data ? run->output[1].data : "",
		     run->timed_out ? &err : NULL);
	close_all(run);
}

static void on_exit_status(uv_process_t *process, int64_t exit_status, int signal)
{
	struct mps_run *run = process->data;
	run->exited = true;
	run->exit_status = signal ? -1 : (int)exit_status;
	/* A daemon that it started may hold the other ends open: what matters has been written by now. */
	for (size_t i = 1; i < STREAMS; i++) {
		ssize_t got;
		int fd;
		if (uv_fileno((uv_handle_t *)&run->pipes[i], &fd) == 0 && !uv_is_closing((uv_handle_t *)&run->pipes[i]))
			while (run->output[i].length < MPS_OUTPUT_BYTES_MAX &&
			       (got = read(fd, run->chunk, sizeof run->chunk)) > 0)
				gs_strbuf_add_bytes(&run->output[i], run->chunk, (size_t)got);
	}
	run->open_outputs = 0;
	finish(run);
}

static void on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *buffer)
{
	struct mps_run *run = handle->data;
	*buffer = uv_buf_init(run->chunk, sizeof run->chunk);
}

static void on_read(uv_stream_t *stream, ssize_t length, const uv_buf_t *buffer)
{
	struct mps_run *run = stream->data;
	size_t which = (size_t)((uv_pipe_t *)stream - run->pipes);
	if (length > 0) {
		if (run->output[which].length < MPS_OUTPUT_BYTES_MAX)
			gs_strbuf_add_bytes(&run->output[which], buffer->base, (size_t)length);
	} else if (length < 0 && run->open_outputs > 0) {
		run->open_outputs--;
		uv_read_stop(stream);
		finish(run);
	}
}

static void on_written(uv_write_t *request, int status)
{
	struct mps_run *run = request->data;
	close_once(&run->pipes[0]); /* the end of the commands */
}

static void on_timeout(uv_timer_t *timer)
{
	struct mps_run *run = timer->data;
	run->timed_out = true;
	uv_process_kill(&run->process, SIGKILL);
}

static bool is_set_here(const char *variable)
{
	static const char *const prefixes[] = {
		"CUDA_MPS_", "CUDA_VISIBLE_DEVICES=", "CUDA_DEVICE_ORDER=", "NVIDIA_VISIBLE_DEVICES="};
	for (size_t i = 0; i < GS_ARRAY_LENGTH(prefixes); i++)
		if (strncmp(variable, prefixes[i], strlen(prefixes[i])) == 0)
			return true;
	return false;
}

struct environment {
	char **items;
	size_t count, capacity;
};

static struct environment make_environment(const struct mps_run_setup *setup)
{
	struct environment made = {0};
	for (char **variable = environ; *variable; variable++)
		if (!is_set_here(*variable))
			*GS_VEC_PUSH(&made) = gs_strdup(*variable);
	*GS_VEC_PUSH(&made) = gs_printf("CUDA_MPS_PIPE_DIRECTORY=%s", setup->pipe_directory);
	*GS_VEC_PUSH(&made) = gs_printf("CUDA_MPS_LOG_DIRECTORY=%s", setup->log_directory);
	if (setup->visible_device)
		*GS_VEC_PUSH(&made) = gs_printf("CUDA_VISIBLE_DEVICES=%s", setup->visible_device);
	*GS_VEC_PUSH(&made) = NULL;
	return made;
}

static int spawn(struct mps_run *run, uv_loop_t *loop, const struct mps_run_setup *setup)
{
	struct environment environment = make_environment(setup);
	char *arguments[OPTIONS_MAX + 2] = {(char *)(uintptr_t)setup->program};
	for (size_t i = 0; setup->options && setup->options[i] && i < OPTIONS_MAX; i++)
		arguments[i + 1] = (char *)(uintptr_t)setup->options[i];
	uv_stdio_container_t stdio[STREAMS];
	for (size_t i = 0; i < STREAMS; i++) {
		stdio[i].flags = UV_CREATE_PIPE | (i == 0 ? UV_READABLE_PIPE : UV_WRITABLE_PIPE);
		stdio[i].data.stream = (uv_stream_t *)&run->pipes[i];
	}
	uv_process_options_t options = {
		.file = setup->program,
		.args = arguments,
		.env = environment.items,
		.stdio = stdio,
		.stdio_count = STREAMS,
		.exit_cb = on_exit_status,
		.flags = UV_PROCESS_DETACHED, /* a terminal's Ctrl-C is for us, not for what must outlive us */
	};
	int failed = uv_spawn(loop, &run->process, &options);
	for (size_t i = 0; i + 1 < environment.count; i++)
		free(environment.items[i]);
	free(environment.items);
	return failed;
}

struct mps_run *mps_run_start(uv_loop_t *loop, const struct mps_run_setup *setup, mps_run_done *done, void *user,
			      struct gs_error *err)
{
	struct mps_run *run = gs_calloc(1, sizeof *run);
	run->done = done;
	run->user = user;
	run->handles = 2 + STREAMS;
	run->open_outputs = 2;
	run->process.data = run->timer.data = run->write.data = run;
	uv_timer_init(loop, &run->timer);
	for (size_t i = 0; i < STREAMS; i++) {
		uv_pipe_init(loop, &run->pipes[i], 0);
		run->pipes[i].data = run;
	}
	int failed = spawn(run, loop, setup);
	if (failed) {
		run->done = NULL;
		close_all(run);
		gs_fail(err, GS_ERROR_SYSTEM, -failed, "cannot run %s: %s", setup->program, uv_strerror(failed));
		return NULL;
	}
	uv_timer_start(&run->timer, on_timeout, setup->timeout_ms, 0);
	for (size_t i = 1; i < STREAMS; i++)
		uv_read_start((uv_stream_t *)&run->pipes[i], on_alloc, on_read);
	run->input = gs_strdup(setup->input ? setup->input : "");
	uv_buf_t buffer = uv_buf_init(run->input, (unsigned)strlen(run->input));
	if (!buffer.len || uv_write(&run->write, (uv_stream_t *)&run->pipes[0], &buffer, 1, on_written) != 0)
		close_once(&run->pipes[0]);
	return run;
}

void mps_run_cancel(struct mps_run *run)
{
	run->done = NULL;
	if (!run->exited)
		uv_process_kill(&run->process, SIGKILL);
	else
		close_all(run);
}
