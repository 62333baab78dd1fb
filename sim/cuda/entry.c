/* How programs find the API's functions: cuGetProcAddress gives the version that the caller was built for. */
#include "sim/cuda/entry.h"

#include <stddef.h>
#include <string.h>

/* Without the prototypes: only addresses matter here. */
#define CUDA_API(name, since, symbol) extern char symbol[];
#define CUDA_API_STREAM(name, since, symbol, per_thread) \
	extern char symbol[];                            \
	extern char per_thread[];
#define CUDA_SYMBOL(symbol)
#include "sim/cuda/names.def"
#undef CUDA_API
#undef CUDA_API_STREAM
#undef CUDA_SYMBOL

static const struct entry {
	const char *name;
	int since;
	void *symbol, *per_thread;
} entries[] = {
#define CUDA_API(api, version, address)                        {#api, version, address, NULL},
#define CUDA_API_STREAM(api, version, address, thread_address) {#api, version, address, thread_address},
#define CUDA_SYMBOL(symbol)
#include "sim/cuda/names.def"
};

enum simcu_entry_status simcu_find_entry(const char *name, int version, bool per_thread, void **function)
{
	enum simcu_entry_status status = SIMCU_ENTRY_UNKNOWN;
	*function = NULL;
	for (size_t i = 0; i < sizeof entries / sizeof entries[0]; i++) {
		if (strcmp(entries[i].name, name) != 0)
			continue;
		if (entries[i].since > version) { /* lines of a name are in order of version */
			if (status == SIMCU_ENTRY_UNKNOWN)
				status = SIMCU_ENTRY_TOO_NEW;
			break;
		}
		*function = per_thread && entries[i].per_thread ? entries[i].per_thread : entries[i].symbol;
		status = SIMCU_ENTRY_FOUND;
	}
	return status;
}
