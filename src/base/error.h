/* Errors as values: where a failure came from, its code there, and one sentence for a person.
 *
 * A function that can fail returns 0 or a negative number and takes a `struct gs_error *` last.
 * The error is written only on failure and is untouched on success; it owns no memory. Passing
 * NULL is allowed where the caller does not care. Nothing below the edge (cli, node) prints it. */
#ifndef GPUSHARE_BASE_ERROR_H
#define GPUSHARE_BASE_ERROR_H

#include <stdarg.h>

enum gs_error_source {
	GS_ERROR_NONE = 0,
	GS_ERROR_SYSTEM, /* code is an errno value */
	GS_ERROR_NVML,   /* code is an nvmlReturn_t */
	GS_ERROR_GRPC,   /* code is a gRPC status */
	GS_ERROR_INPUT,  /* something a user wrote; the text says where (file:line:column) */
	GS_ERROR_LIMIT,  /* a bound of ours was reached */
	GS_ERROR_INTERNAL,
};

struct gs_error {
	enum gs_error_source source;
	int code;
	char text[512];
};

/* Fills `err` (may be NULL) and returns -1, so that `return gs_fail(...)` reads well.
 * Text longer than the buffer is cut at a UTF-8 boundary. */
int gs_fail(struct gs_error *err, enum gs_error_source source, int code, const char *format, ...)
	__attribute__((format(printf, 4, 5)));

/* As gs_fail with GS_ERROR_SYSTEM and errno, appending ": " and the system's own words. errno is kept. */
int gs_fail_errno(struct gs_error *err, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Puts "context: " before the text of an error that already happened; returns -1. */
int gs_error_prefix(struct gs_error *err, const char *format, ...) __attribute__((format(printf, 2, 3)));

#endif
