/* The loader's cache of an image, which anybody may have made. */
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "hook/ldcache.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const struct ldcache_library libraries[] = {
		{"libcuda.so.1", "/usr/lib64/libcuda.so.1"},
		{"libcuda.so.550.163.01", "/usr/lib64/libcuda.so.550.163.01"}};
	size_t once, twice;
	void *cache = ldcache_add(data, size, libraries, 2, &once);
	if (!cache)
		return 0;
	/* What came out is a cache, and has ours only once. (An extension may share bytes with strings, which spoils both.) */
	static const uint32_t no_extension;
	bool plain = memcmp((uint8_t *)cache + 32, &no_extension, sizeof no_extension) == 0;
	void *again = ldcache_add(cache, once, libraries, 2, &twice);
	if (plain && (!again || memcmp((uint8_t *)again + 20, (uint8_t *)cache + 20, sizeof(uint32_t)) != 0))
		abort();
	free(again);
	free(cache);
	return 0;
}
