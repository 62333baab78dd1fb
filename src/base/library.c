#include "base/library.h"

#include <dlfcn.h>
#include <string.h>

bool gs_library_fill(void *library, const struct gs_library_function *functions, size_t count, void *table)
{
	bool complete = true;
	for (size_t i = 0; i < count; i++) {
		void *address = dlsym(library, functions[i].name);
		complete &= address != NULL;
		memcpy((char *)table + functions[i].offset, &address, sizeof address);
	}
	return complete;
}
