#include "rpc/http.h"

#include <stdlib.h>
#include <string.h>

#include "rpc/rpc.h"

ssize_t rpc_http_output(nghttp2_session *http, struct rpc_rest *rest, uint8_t *bytes, size_t capacity)
{
	size_t filled = 0;

	while (filled < capacity) {
		if (rest->length == 0) {
			ssize_t length = nghttp2_session_mem_send(http, &rest->bytes);
			if (length < 0)
				return -1;
			if (length == 0)
				break;
			rest->length = (size_t)length;
		}
		size_t room = capacity - filled;
		size_t take = rest->length < room ? rest->length : room;
		memcpy(bytes + filled, rest->bytes, take);
		filled += take;
		rest->bytes += take;
		rest->length -= take;
	}
	return (ssize_t)filled;
}

void rpc_http_begin(nghttp2_session *http, const nghttp2_settings_entry *more, size_t count)
{
	nghttp2_settings_entry settings[8] = {{NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, RPC_MESSAGE_MAX}};

	memcpy(settings + 1, more, count * sizeof *more);
	/* A session that is new refuses this only for want of memory: abort, as base/alloc.h does. */
	if (nghttp2_submit_settings(http, 0, settings, count + 1) != 0 ||
	    nghttp2_session_set_local_window_size(http, 0, 0, RPC_MESSAGE_MAX) != 0)
		abort();
}
