#include "base/quantity.h"

#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

__extension__ typedef unsigned __int128 wide;

/* Digits with one optional point, as an integer scaled by 10^fraction_digits. At most 30 significant digits are
 * kept; dropping further fraction digits sets `inexact`. */
struct decimal {
	wide value;
	int fraction_digits;
	bool inexact;
	bool too_large;
};

static const char *parse_decimal(const char *text, struct decimal *number)
{
	*number = (struct decimal){0};
	bool digits = false, point = false;
	const char *p = text;
	for (; (*p >= '0' && *p <= '9') || (*p == '.' && !point); p++) {
		if (*p == '.') {
			point = true;
			continue;
		}
		digits = true;
		if (number->value > (wide)UINT64_MAX * 1000000000u) {
			if (!point)
				number->too_large = true;
			else if (*p != '0')
				number->inexact = true;
			continue;
		}
		number->value = number->value * 10 + (wide)(*p - '0');
		if (point)
			number->fraction_digits++;
	}
	return digits ? p : NULL;
}

static const struct {
	const char *suffix;
	uint64_t factor;
} suffixes[] = {
	{"", 1},
	{"k", 1000ull},
	{"M", 1000000ull},
	{"G", 1000000000ull},
	{"T", 1000000000000ull},
	{"P", 1000000000000000ull},
	{"E", 1000000000000000000ull},
	{"Ki", 1ull << 10},
	{"Mi", 1ull << 20},
	{"Gi", 1ull << 30},
	{"Ti", 1ull << 40},
	{"Pi", 1ull << 50},
	{"Ei", 1ull << 60},
};

static int too_large(const char *text, struct gs_error *err)
{
	return gs_fail(err, GS_ERROR_INPUT, 0, "quantity \"%.40s\" is too large; the most is 8Ei - 1", text);
}

/* The power of ten after e or E; false when the text is not one, or is absurd. */
static bool parse_exponent(const char *text, int *exponent)
{
	bool negative = *text == '-';
	if (*text == '-' || *text == '+')
		text++;
	if (!*text || strspn(text, "0123456789") != strlen(text) || strlen(text) > 3)
		return false;
	int value = 0;
	for (; *text; text++)
		value = value * 10 + (*text - '0');
	*exponent = negative ? -value : value;
	return true;
}

int gs_parse_quantity(const char *text, int64_t *bytes, struct gs_error *err)
{
	if (*text == '-')
		return gs_fail(err, GS_ERROR_INPUT, 0, "quantity \"%.40s\" is negative; write a size such as 8Gi", text);
	struct decimal number;
	const char *rest = parse_decimal(*text == '+' ? text + 1 : text, &number);
	if (!rest)
		return gs_fail(err, GS_ERROR_INPUT, 0, "\"%.40s\" is not a quantity; write a number with a unit, such as 8Gi or 500M", text);

	uint64_t factor = 0;
	int exponent = 0;
	for (size_t i = 0; i < sizeof suffixes / sizeof *suffixes; i++)
		if (strcmp(rest, suffixes[i].suffix) == 0)
			factor = suffixes[i].factor;
	if (!factor && (*rest == 'e' || *rest == 'E') && parse_exponent(rest + 1, &exponent))
		factor = 1;
	if (!factor)
		return gs_fail(err, GS_ERROR_INPUT, 0,
			       "quantity \"%.40s\" ends in an unknown unit \"%.20s\"; use Ki, Mi, Gi, Ti (powers of 1024) or k, M, G, T",
			       text, rest);
	if (number.too_large)
		return too_large(text, err);

	wide value = number.value;
	const wide limit = ~(wide)0;
	int scale = exponent - number.fraction_digits;
	if (value > limit / factor)
		return too_large(text, err);
	value *= factor;
	for (; scale > 0 && value; scale--) {
		if (value > limit / 10)
			return too_large(text, err);
		value *= 10;
	}
	bool inexact = number.inexact;
	for (; scale < 0 && value; scale++) {
		inexact |= value % 10 != 0;
		value /= 10;
	}
	if (value == 0 && number.value != 0)
		inexact = true;
	if (inexact)
		value++;
	if (value > INT64_MAX)
		return too_large(text, err);
	*bytes = (int64_t)value;
	return 0;
}

void gs_format_quantity(int64_t bytes, char *text, size_t size)
{
	static const char *const units[] = {"", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"};
	size_t unit = 0;
	while (bytes != 0 && bytes % 1024 == 0 && unit + 1 < sizeof units / sizeof *units) {
		bytes /= 1024;
		unit++;
	}
	snprintf(text, size, "%" PRId64 "%s", bytes, units[unit]);
}

int gs_parse_duration(const char *text, int64_t *nanoseconds, struct gs_error *err)
{
	static const struct {
		const char *suffix;
		uint64_t factor;
	} units[] = {
		{"ns", 1}, {"us", 1000}, {"\xc2\xb5s", 1000}, {"ms", 1000000},
		{"s", 1000000000ull}, {"m", 60000000000ull}, {"h", 3600000000000ull},
	};
	if (strcmp(text, "0") == 0) {
		*nanoseconds = 0;
		return 0;
	}
	wide total = 0;
	const char *p = text;
	do {
		struct decimal number;
		const char *rest = parse_decimal(p, &number);
		if (!rest)
			return gs_fail(err, GS_ERROR_INPUT, 0, "\"%.40s\" is not a duration; write a number with a unit, such as 60s or 1h30m", text);
		size_t length = strcspn(rest, "0123456789.");
		uint64_t factor = 0;
		for (size_t i = 0; i < sizeof units / sizeof *units; i++)
			if (strlen(units[i].suffix) == length && strncmp(rest, units[i].suffix, length) == 0)
				factor = units[i].factor;
		if (!factor)
			return gs_fail(err, GS_ERROR_INPUT, 0, "duration \"%.40s\" lacks a known unit; use ns, us, ms, s, m or h, such as 60s", text);
		if (number.too_large || number.value > ~(wide)0 / factor)
			return gs_fail(err, GS_ERROR_INPUT, 0, "duration \"%.40s\" is too long; the most is about 292 years", text);
		wide part = number.value * factor;
		for (int i = 0; i < number.fraction_digits; i++)
			part /= 10;
		total += part;
		if (total > INT64_MAX)
			return gs_fail(err, GS_ERROR_INPUT, 0, "duration \"%.40s\" is too long; the most is about 292 years", text);
		p = rest + length;
	} while (*p);
	*nanoseconds = (int64_t)total;
	return 0;
}
