#include "rpc/wire.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/mman.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "rpc/rpc.h"

enum { LARGE = 1024 * 1024 };

void rpc_percent_encode(struct gs_strbuf *out, const char *text, size_t length)
{
	static const char digits[] = "0123456789ABCDEF";

	for (size_t i = 0; i < length; i++) {
		unsigned char byte = (unsigned char)text[i];
		if (byte >= 0x20 && byte <= 0x7E && byte != '%') {
			gs_strbuf_add_char(out, text[i]);
			continue;
		}
		gs_strbuf_add_bytes(out, (char[]){'%', digits[byte >> 4], digits[byte & 15]}, 3);
	}
}

static int hex_value(uint8_t character)
{
	if (character >= '0' && character <= '9')
		return character - '0';
	character |= 0x20;
	return character >= 'a' && character <= 'f' ? character - 'a' + 10 : -1;
}

void rpc_percent_decode(struct gs_strbuf *out, const uint8_t *text, size_t length)
{
	for (size_t i = 0; i < length; i++) {
		uint8_t byte = text[i];
		if (byte == '%' && length - i > 2 && hex_value(text[i + 1]) >= 0 && hex_value(text[i + 2]) >= 0) {
			byte = (uint8_t)(hex_value(text[i + 1]) << 4 | hex_value(text[i + 2]));
			i += 2;
		}
		gs_strbuf_add_char(out, byte ? (char)byte : '?');
	}
}

bool rpc_timeout_parse(const uint8_t *text, size_t length, uint64_t *milliseconds)
{
	if (length < 2 || length > 9)
		return false;
	uint64_t value = 0;
	for (size_t i = 0; i + 1 < length; i++) {
		if (text[i] < '0' || text[i] > '9')
			return false;
		value = value * 10 + (uint64_t)(text[i] - '0');
	}
	switch (text[length - 1]) {
	case 'H':
		*milliseconds = value * 3600 * 1000;
		return true;
	case 'M':
		*milliseconds = value * 60 * 1000;
		return true;
	case 'S':
		*milliseconds = value * 1000;
		return true;
	case 'm':
		*milliseconds = value;
		return true;
	case 'u':
		*milliseconds = (value + 999) / 1000;
		return true;
	case 'n':
		*milliseconds = (value + 999999) / 1000000;
		return true;
	}
	return false;
}

void rpc_timeout_format(unsigned milliseconds, char *text)
{
	if (milliseconds <= 99999999)
		snprintf(text, RPC_TIMEOUT_TEXT_BYTES, "%um", milliseconds);
	else
		snprintf(text, RPC_TIMEOUT_TEXT_BYTES, "%uS", milliseconds / 1000);
}

bool rpc_content_type_is_grpc(const uint8_t *value, size_t length)
{
	static const char type[] = "application/grpc";
	size_t type_length = sizeof type - 1;

	if (length < type_length || strncasecmp((const char *)value, type, type_length) != 0)
		return false;
	return length == type_length || value[type_length] == '+' || value[type_length] == ';';
}

void rpc_prefix_write(uint8_t *prefix, size_t length)
{
	prefix[0] = 0;
	prefix[1] = (uint8_t)(length >> 24);
	prefix[2] = (uint8_t)(length >> 16);
	prefix[3] = (uint8_t)(length >> 8);
	prefix[4] = (uint8_t)length;
}

/* Takes the missing bytes of the prefix. True once it is whole. */
static bool feed_prefix(struct rpc_assembler *assembler, const uint8_t **bytes, size_t *length)
{
	size_t missing = RPC_PREFIX_BYTES - assembler->prefix_length;
	size_t take = *length < missing ? *length : missing;

	if (take)
		memcpy(assembler->prefix + assembler->prefix_length, *bytes, take);
	assembler->prefix_length += (uint8_t)take;
	*bytes += take;
	*length -= take;
	if (assembler->prefix_length < RPC_PREFIX_BYTES)
		return false;
	const uint8_t *prefix = assembler->prefix;
	assembler->length = (size_t)prefix[1] << 24 | (size_t)prefix[2] << 16 | (size_t)prefix[3] << 8 | prefix[4];
	return true;
}

uint8_t *rpc_buffer_new(size_t size)
{
	if (size < LARGE)
		return gs_malloc(size);
	void *buffer = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (buffer == MAP_FAILED)
		abort(); /* out of memory, as in base/alloc.h */
	return buffer;
}

void rpc_buffer_free(uint8_t *buffer, size_t size)
{
	if (buffer && size >= LARGE)
		munmap(buffer, size);
	else
		free(buffer);
}

enum rpc_assembly rpc_assembler_feed(struct rpc_assembler *assembler, const uint8_t **bytes, size_t *length)
{
	if (assembler->complete)
		return RPC_ASSEMBLY_MESSAGE;
	if (assembler->prefix_length < RPC_PREFIX_BYTES) {
		if (!feed_prefix(assembler, bytes, length))
			return RPC_ASSEMBLY_MORE;
		/* Size first: a peer that compresses too much hears the more useful of two answers. */
		if (assembler->length > assembler->limit)
			return RPC_ASSEMBLY_TOO_LARGE;
		if (assembler->prefix[0])
			return RPC_ASSEMBLY_COMPRESSED;
	}
	size_t missing = assembler->length - assembler->filled;
	size_t take = *length < missing ? *length : missing;
	if (take) {
		/* All of what the prefix promises: memory that is not written yet costs nothing, and growing in steps
		 * would copy, and make malloc return and fetch pages with every message. */
		if (!assembler->data) {
			assembler->data = rpc_buffer_new(assembler->length);
			assembler->capacity = assembler->length;
		}
		memcpy(assembler->data + assembler->filled, *bytes, take);
		assembler->filled += take;
		*bytes += take;
		*length -= take;
	}
	assembler->complete = assembler->filled == assembler->length;
	return assembler->complete ? RPC_ASSEMBLY_MESSAGE : RPC_ASSEMBLY_MORE;
}

void rpc_assembler_reset(struct rpc_assembler *assembler)
{
	rpc_buffer_free(assembler->data, assembler->capacity);
	*assembler = (struct rpc_assembler){.limit = assembler->limit};
}

const char *rpc_status_name(int status)
{
	static const char *const names[] = {
		"OK",        "CANCELLED",       "UNKNOWN",           "INVALID_ARGUMENT",   "DEADLINE_EXCEEDED",
		"NOT_FOUND", "ALREADY_EXISTS",  "PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION",
		"ABORTED",   "OUT_OF_RANGE",    "UNIMPLEMENTED",     "INTERNAL",           "UNAVAILABLE",
		"DATA_LOSS", "UNAUTHENTICATED",
	};
	bool known = status >= 0 && (size_t)status < GS_ARRAY_LENGTH(names);
	return known ? names[status] : "UNKNOWN";
}
