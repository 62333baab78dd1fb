/* Growable arrays: any struct with the members `items`, `count` and `capacity`.
 *
 *     struct names { char **items; size_t count, capacity; };
 *     struct names names = {0};
 *     *GS_VEC_PUSH(&names) = gs_strdup("a");
 *     GS_VEC_FREE(&names);            // frees the array, not what the items own
 */
#ifndef GPUSHARE_BASE_VEC_H
#define GPUSHARE_BASE_VEC_H

#include <stdlib.h>

#include "base/alloc.h"

#define GS_VEC(type)             \
	struct {                 \
		type *items;     \
		size_t count;    \
		size_t capacity; \
	}

#define GS_VEC_RESERVE(vec, wanted)                                                                      \
	do {                                                                                             \
		size_t gs_wanted = (wanted);                                                             \
		if (gs_wanted > (vec)->capacity) {                                                       \
			size_t gs_capacity = (vec)->capacity ? (vec)->capacity : 8;                      \
			while (gs_capacity < gs_wanted)                                                  \
				gs_capacity *= 2;                                                        \
			(vec)->items = gs_reallocarray((vec)->items, gs_capacity, sizeof *(vec)->items); \
			(vec)->capacity = gs_capacity;                                                   \
		}                                                                                        \
	} while (0)

/* A pointer to a new, uninitialised last item. Invalid after the next push. */
#define GS_VEC_PUSH(vec)                                 \
	__extension__({                                  \
		GS_VEC_RESERVE((vec), (vec)->count + 1); \
		&(vec)->items[(vec)->count++];           \
	})

#define GS_VEC_FREE(vec)             \
	do {                         \
		free((vec)->items);  \
		(vec)->items = NULL; \
		(vec)->count = 0;    \
		(vec)->capacity = 0; \
	} while (0)

#endif
