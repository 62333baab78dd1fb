/* Where a process runs, from /proc/PID/cgroup: in which container. What a container makes for itself is below its own cgroup, so the
 * outermost name counts, and that is its runtime's. */
#ifndef GPUSHARE_CORE_USAGE_PLACE_H
#define GPUSHARE_CORE_USAGE_PLACE_H

#include <stdbool.h>
#include <stddef.h>

enum { GS_CONTAINER_ID_SIZE = 64 + 1 };

enum gs_place_kind {
	GS_PLACE_UNKNOWN, /* it could not be read */
	GS_PLACE_HOST,    /* in no container */
	GS_PLACE_CONTAINER,
};

struct gs_place {
	enum gs_place_kind kind;
	char container
		[GS_CONTAINER_ID_SIZE]; /* 64 hexadecimal digits, as containerd, CRI-O, Docker and Podman name theirs; "" */
};

/* Reads the file's content; any bytes are safe. */
struct gs_place gs_place_read(const char *cgroups, size_t length);
bool gs_place_equal(const struct gs_place *a, const struct gs_place *b);

#endif
