#include "base/quantity.h"

#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

__extension__ typedef unsigned __int128 wide;

/* Digits with one optional point. */
struct decimal {
	const char *text;
	size_t length; /* with the point */
	size_t before; /* digits before the point */
	size_t digits;
};

/* The text behind the number, or NULL when there is no digit. */
static const char *parse_decimal(const char *text, struct decimal *number)
{
	*number = (struct decimal){.text = text};
	bool point = false;
	const char *p = text;
	for (; (*p >= '0' && *p <= '9') || (*p == '.' && !point); p++) {
		if (*p == '.') {
			point = true;
			continue;
		}
		number->digits++;
		number->before += !point;
	}
	number->length = (size_t)(p - text);
	return number->digits ? p : NULL;
}

static unsigned digit_at(const struct decimal *number, size_t index)
{
	return (unsigned)(number->text[index + (index >= number->before)] - '0');
}

/* number * 10^exponent * factor, exactly, however many digits there are: rounded down to `value`, and `inexact` says
 * whether something was cut off. False when it is above INT64_MAX. factor is at most 2^60. */
static bool scale_decimal(const struct decimal *number, int exponent, uint64_t factor, int64_t *value, bool *inexact)
{
	int64_t point = (int64_t)number->before + exponent; /* digits left of the point, after the exponent moved it */
	wide whole = 0, part = 0;
	for (int64_t i = 0; i < point; i++) {
		whole = whole * 10 + ((size_t)i < number->digits ? digit_at(number, (size_t)i) : 0);
		if (whole > INT64_MAX)
			return false;
	}
	/* Horner from the last digit: rounding down at each step is the same as once at the end. */
	*inexact = false;
	for (int64_t i = (int64_t)number->digits - 1; i >= (point > 0 ? point : 0); i--) {
		part += (wide)digit_at(number, (size_t)i) * factor;
		*inexact |= part % 10 != 0;
		part /= 10;
	}
	for (; point < 0 && part; point++) {
		*inexact |= part % 10 != 0;
		part /= 10;
	}
	whole = whole * factor + part;
	if (whole > INT64_MAX)
		return false;
	*value = (int64_t)whole;
	return true;
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
		return gs_fail(err, GS_ERROR_INPUT, 0, "quantity \"%.40s\" is negative; write a size such as 8Gi",
			       text);
	struct decimal number;
	const char *rest = parse_decimal(*text == '+' ? text + 1 : text, &number);
	if (!rest)
		return gs_fail(err, GS_ERROR_INPUT, 0,
			       "\"%.40s\" is not a quantity; write a number with a unit, such as 8Gi or 500M", text);

	uint64_t factor = 0;
	int exponent = 0;
	for (size_t i = 0; i < sizeof suffixes / sizeof *suffixes; i++)
		if (strcmp(rest, suffixes[i].suffix) == 0)
			factor = suffixes[i].factor;
	if (!factor && (*rest == 'e' || *rest == 'E') && parse_exponent(rest + 1, &exponent))
		factor = 1;
	if (!factor)
		return gs_fail(err, GS_ERROR_INPUT, 0,
			       "quantity \"%.40s\" ends in an unknown unit \"%.20s\"; use Ki, Mi, Gi, Ti (powers of "
			       "1024) or k, M, G, T",
			       text, rest);
	int64_t value;
	bool inexact;
	if (!scale_decimal(&number, exponent, factor, &value, &inexact) || (inexact && value == INT64_MAX))
		return too_large(text, err);
	*bytes = value + inexact;
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
		{"ns", 1},       {"us", 1000},         {"\xc2\xb5s", 1000},   {"\xce\xbcs", 1000},
		{"ms", 1000000}, {"s", 1000000000ull}, {"m", 60000000000ull}, {"h", 3600000000000ull},
	};
	if (strcmp(text, "0") == 0) {
		*nanoseconds = 0;
		return 0;
	}
	int64_t total = 0;
	const char *p = text;
	do {
		struct decimal number;
		const char *rest = parse_decimal(p, &number);
		if (!rest)
			return gs_fail(err, GS_ERROR_INPUT, 0,
				       "\"%.40s\" is not a duration; write a number with a unit, such as 60s or 1h30m",
				       text);
		size_t length = strcspn(rest, "0123456789.");
		uint64_t factor = 0;
		for (size_t i = 0; i < sizeof units / sizeof *units; i++)
			if (strlen(units[i].suffix) == length && strncmp(rest, units[i].suffix, length) == 0)
				factor = units[i].factor;
		if (!factor)
			return gs_fail(err, GS_ERROR_INPUT, 0,
				       "duration \"%.40s\" lacks a known unit; use ns, us, ms, s, m or h, such as 60s",
				       text);
		int64_t part;
		bool inexact; /* less than a nanosecond is dropped, as Go does */
		if (!scale_decimal(&number, 0, factor, &part, &inexact) || part > INT64_MAX - total)
			return gs_fail(err, GS_ERROR_INPUT, 0,
				       "duration \"%.40s\" is too long; the most is about 292 years", text);
		total += part;
		p = rest + length;
	} while (*p);
	*nanoseconds = total;
	return 0;
}
