/* The names of NVML behind which this simulator has nothing. They must be there all the same: clients that bind lazily
 * die of a missing symbol, and a NOT_SUPPORTED is what a real board without the feature answers.
 *
 * Their real parameter lists do not matter here. The x86-64 and AArch64 calling conventions let a function ignore
 * arguments that it was given, and the first one, the only one looked at, is in the same place whatever its type. */
#include "sim/nvml/library.h"

enum first_argument { DEVICE, POINTER, VALUE };

static nvmlReturn_t answer(const char *function, enum first_argument kind, void *first)
{
	GS_CLEANUP(nvml_leave) struct nvml_call call;
	nvmlReturn_t code = kind == DEVICE ? nvml_enter_device(&call, function, first, true)
					   : nvml_enter(&call, function, kind == VALUE || first);
	return code == NVML_SUCCESS ? NVML_ERROR_NOT_SUPPORTED : code;
}

#define STUB(name, kind)                                                       \
	__attribute__((visibility("default"))) nvmlReturn_t name(void *first); \
	nvmlReturn_t name(void *first)                                         \
	{                                                                      \
		return answer(#name, kind, first);                             \
	}
#define NVML_SIMULATED(name)
#define NVML_ABSENT_DEVICE(name)  STUB(name, DEVICE)
#define NVML_ABSENT_POINTER(name) STUB(name, POINTER)
#define NVML_ABSENT_VALUE(name)   STUB(name, VALUE)
#include "sim/nvml/names.def"
