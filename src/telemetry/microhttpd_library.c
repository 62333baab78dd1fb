#include "telemetry/microhttpd_library.h"

#include <dlfcn.h>
#include <stddef.h>

#include "base/cleanup.h"
#include "base/library.h"

static const struct gs_library_function functions[] = {
	{"MHD_start_daemon", offsetof(struct gs_microhttpd, start_daemon)},
	{"MHD_stop_daemon", offsetof(struct gs_microhttpd, stop_daemon)},
	{"MHD_run", offsetof(struct gs_microhttpd, run)},
	{"MHD_get_timeout", offsetof(struct gs_microhttpd, get_timeout)},
	{"MHD_get_daemon_info", offsetof(struct gs_microhttpd, get_daemon_info)},
	{"MHD_get_connection_info", offsetof(struct gs_microhttpd, get_connection_info)},
	{"MHD_create_response_from_buffer", offsetof(struct gs_microhttpd, create_response_from_buffer)},
	{"MHD_add_response_header", offsetof(struct gs_microhttpd, add_response_header)},
	{"MHD_queue_response", offsetof(struct gs_microhttpd, queue_response)},
	{"MHD_destroy_response", offsetof(struct gs_microhttpd, destroy_response)},
};

const struct gs_microhttpd *gs_microhttpd_open(struct gs_error *err)
{
	static struct gs_microhttpd opened;
	if (opened.run)
		return &opened;
	void *library = dlopen("libmicrohttpd.so.12", RTLD_NOW | RTLD_LOCAL);
	if (!library) {
		gs_fail(err, GS_ERROR_SYSTEM, 0,
			"libmicrohttpd, which serves HTTP, cannot be loaded (%s); install it (Debian: "
			"libmicrohttpd12), or leave --metrics-address out",
			dlerror());
		return NULL;
	}
	struct gs_microhttpd table = {0};
	if (!gs_library_fill(library, functions, GS_ARRAY_LENGTH(functions), &table)) {
		gs_fail(err, GS_ERROR_SYSTEM, 0,
			"the libmicrohttpd of this machine lacks what is needed; install 0.9.66 or newer");
		return NULL;
	}
	opened = table;
	return &opened;
}
