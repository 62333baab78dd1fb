/* The pure pieces of gRPC over HTTP/2: text in headers, timeouts, length-prefixed messages. No I/O, no nghttp2.
 *
 * https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md */
#ifndef GPUSHARE_RPC_WIRE_H
#define GPUSHARE_RPC_WIRE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/strbuf.h"

enum { RPC_PREFIX_BYTES = 5, RPC_TIMEOUT_TEXT_BYTES = 16 };

/* grpc-message: everything but printable ASCII, and '%' itself, becomes %XX. */
void rpc_percent_encode(struct gs_strbuf *out, const char *text, size_t length);
/* The reverse; a '%' without two hexadecimal digits stays as it is. NUL bytes become '?', so that the result is a C
 * string. */
void rpc_percent_decode(struct gs_strbuf *out, const uint8_t *text, size_t length);

/* grpc-timeout: 1 to 8 digits and one of H M S m u n. Rounded up to milliseconds. false if malformed. */
bool rpc_timeout_parse(const uint8_t *text, size_t length, uint64_t *milliseconds);
/* `text` holds RPC_TIMEOUT_TEXT_BYTES. */
void rpc_timeout_format(unsigned milliseconds, char *text);

/* "application/grpc", alone or followed by '+' or ';', letter case free. */
bool rpc_content_type_is_grpc(const uint8_t *value, size_t length);

/* Writes the 5 bytes before a message: not compressed, its length. `length` fits 32 bits. */
void rpc_prefix_write(uint8_t *prefix, size_t length);

/* Memory for a message. Large ones go back to the system when they are freed, where malloc would keep them: a daemon
 * that once saw 4 MiB should not be that much larger for ever. `size` is the requested size. */
uint8_t *rpc_buffer_new(size_t size) __attribute__((returns_nonnull));
void rpc_buffer_free(uint8_t *buffer, size_t size);

/* Collects one message at a time from bytes cut anywhere. All zeros but `limit` is a good start. */
struct rpc_assembler {
	size_t limit; /* larger messages are refused before anything is stored */
	uint8_t prefix[RPC_PREFIX_BYTES];
	uint8_t prefix_length;
	bool complete;
	uint8_t *data; /* `length` bytes once complete; NULL if empty */
	size_t length; /* as in the prefix */
	size_t filled;
	size_t capacity; /* allocated, for the owner's books */
};

enum rpc_assembly { RPC_ASSEMBLY_MORE, RPC_ASSEMBLY_MESSAGE, RPC_ASSEMBLY_COMPRESSED, RPC_ASSEMBLY_TOO_LARGE };

/* Takes bytes up to the end of one message and moves `*bytes` and `*length` past them. After RPC_ASSEMBLY_MESSAGE the
 * message stays until rpc_assembler_reset. COMPRESSED and TOO_LARGE end the use of the assembler. */
enum rpc_assembly rpc_assembler_feed(struct rpc_assembler *assembler, const uint8_t **bytes, size_t *length);
/* Frees the message and waits for the next prefix. */
void rpc_assembler_reset(struct rpc_assembler *assembler);

#endif
