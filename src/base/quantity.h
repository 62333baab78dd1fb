/* Quantities and durations as users write them. Strict: the whole text must be a quantity. */
#ifndef GPUSHARE_BASE_QUANTITY_H
#define GPUSHARE_BASE_QUANTITY_H

#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

/* A Kubernetes resource.Quantity in bytes: digits with an optional fraction, then nothing, Ki Mi Gi Ti Pi Ei,
 * k M G T P E, or a decimal exponent (1e9). Fractions of a byte round up, as Kubernetes does. Negative values,
 * NaN, blanks, unknown suffixes and anything above INT64_MAX are errors whose text says what to write instead. */
int gs_parse_quantity(const char *text, int64_t *bytes, struct gs_error *err);

/* The shortest exact form with a binary suffix: 8589934592 -> "8Gi", 1000 -> "1000". `text` holds >= 24 bytes. */
void gs_format_quantity(int64_t bytes, char *text, size_t size);

/* A Go duration ("1h30m", "250ms", "1.5s", "0") in nanoseconds; a bare number other than 0 needs a unit. */
int gs_parse_duration(const char *text, int64_t *nanoseconds, struct gs_error *err);

#endif
