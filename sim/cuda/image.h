/* The facts that a simulated driver reads from a code image: names and parameters of kernels, names and sizes of
 * variables. */
#ifndef GPUSHARE_SIM_CUDA_IMAGE_H
#define GPUSHARE_SIM_CUDA_IMAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { SIMCU_PARAMETERS_MAX = 64 };

struct simcu_image_kernel {
	char *name;
	size_t parameter_count; /* bounded by SIMCU_PARAMETERS_MAX; what is beyond is not known */
	uint32_t offsets[SIMCU_PARAMETERS_MAX], sizes[SIMCU_PARAMETERS_MAX];
	bool parameters_known; /* false: a machine code image, which is searched for names only */
};

struct simcu_image_variable {
	char *name;
	uint64_t bytes;
};

struct simcu_image {
	struct simcu_image_kernel *kernels;
	size_t kernel_count;
	struct simcu_image_variable *variables;
	size_t variable_count;
	bool opaque; /* compressed or unknown inside: any name may be in it */
};

enum simcu_image_result { SIMCU_IMAGE_OK = 0, SIMCU_IMAGE_INVALID = -1, SIMCU_IMAGE_INVALID_PTX = -2 };

/* Reads PTX text (ends with NUL), a cubin (ELF), or a fat binary with or without its wrapper. The size of an image is
 * not passed in this API: the formats say it themselves. */
int simcu_image_read(struct simcu_image *image, const void *data);
/* PTX of `size` bytes; the part for tests and fuzzing. */
int simcu_image_read_ptx(struct simcu_image *image, const char *text, size_t size);
/* A cubin that lies within `size` bytes. */
int simcu_image_read_elf(struct simcu_image *image, const uint8_t *data, size_t size);
void simcu_image_free(struct simcu_image *image);

#endif
