#include "core/usage/place.h"

#include <string.h>

static bool is_hex(char c)
{
	return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f');
}

/* The first run of exactly 64 hexadecimal digits; NULL: there is none. */
static const char *find_id(const char *at, const char *end)
{
	while (at < end) {
		const char *begin = at;
		while (at < end && is_hex(*at))
			at++;
		if (at - begin == GS_CONTAINER_ID_SIZE - 1)
			return begin;
		at += at == begin;
	}
	return NULL;
}

/* A line for each hierarchy, "NUMBER:CONTROLLERS:PATH"; a runtime may use some of them only. */
struct gs_place gs_place_read(const char *cgroups, size_t length)
{
	struct gs_place place = {.kind = length ? GS_PLACE_HOST : GS_PLACE_UNKNOWN};
	const char *id = length ? find_id(cgroups, cgroups + length) : NULL;
	if (id) {
		place.kind = GS_PLACE_CONTAINER;
		memcpy(place.container, id, GS_CONTAINER_ID_SIZE - 1);
	}
	return place;
}

bool gs_place_equal(const struct gs_place *a, const struct gs_place *b)
{
	return a->kind == b->kind && strcmp(a->container, b->container) == 0;
}
