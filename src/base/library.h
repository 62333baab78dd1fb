/* Functions of shared libraries that are opened while running, gathered in a struct of pointers. */
#ifndef GPUSHARE_BASE_LIBRARY_H
#define GPUSHARE_BASE_LIBRARY_H

#include <stdbool.h>
#include <stddef.h>

/* A function's symbol, and where its pointer is in the struct. */
struct gs_library_function {
	const char *name;
	size_t offset;
};

/* Fills `table` from a library that dlopen gave. False when one of them is missing there. */
bool gs_library_fill(void *library, const struct gs_library_function *functions, size_t count, void *table);

#endif
