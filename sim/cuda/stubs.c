/* Every name of the API exists. Each is defined weakly here, and the files that simulate something define it for real;
 * what is left answers as a driver does where hardware or platform cannot do a thing.
 *
 * This file must not see the prototypes: the arguments do not matter to an answer that is always the same. */

enum { NOT_SUPPORTED = 801 };

#define CUDA_API(name, since, symbol)                    CUDA_SYMBOL(symbol)
#define CUDA_API_STREAM(name, since, symbol, per_thread) CUDA_SYMBOL(symbol) CUDA_SYMBOL(per_thread)
#define CUDA_SYMBOL(symbol)                                           \
	int symbol(void);                                             \
	__attribute__((weak, visibility("default"))) int symbol(void) \
	{                                                             \
		return NOT_SUPPORTED;                                 \
	}
#include "sim/cuda/names.def"
