/* The driver's table of MIG capability devices: whatever it says, a minor is one that the kernel can have. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "gpu/inventory_mig.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *text = calloc(1, size + 1);
	memcpy(text, data, size);
	if (gs_mig_minor(text, "gpu0/gi1/access") > 1u << 20 || gs_mig_minor(text, "gpu0/gi1/ci0/access") > 1u << 20)
		abort();
	free(text);
	return 0;
}
