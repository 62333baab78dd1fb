/* Common to the HTTP/2 sessions of a server and of a client. */
#ifndef GPUSHARE_RPC_HTTP_H
#define GPUSHARE_RPC_HTTP_H

#include <nghttp2/nghttp2.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* The rest of the frame that nghttp2 gave last. */
struct rpc_rest {
	const uint8_t *bytes;
	size_t length;
};

/* Fills `bytes` with as many frames as fit, so that they leave in one system call. 0: nothing to send; -1: the session
 * is beyond repair. */
ssize_t rpc_http_output(nghttp2_session *http, struct rpc_rest *rest, uint8_t *bytes, size_t capacity);

/* SETTINGS, with windows as large as the largest message, so that none waits for a round trip. */
void rpc_http_begin(nghttp2_session *http, const nghttp2_settings_entry *more, size_t count);

static inline bool rpc_http_equals(const uint8_t *bytes, size_t length, const char *text, size_t text_length)
{
	return length == text_length && memcmp(bytes, text, length) == 0;
}
#define RPC_HTTP_IS(bytes, length, literal) rpc_http_equals((bytes), (length), (literal), sizeof(literal) - 1)

#endif
