/* The API's functions by name and version. */
#ifndef GPUSHARE_SIM_CUDA_ENTRY_H
#define GPUSHARE_SIM_CUDA_ENTRY_H

#include <stdbool.h>

enum simcu_entry_status { SIMCU_ENTRY_FOUND, SIMCU_ENTRY_UNKNOWN, SIMCU_ENTRY_TOO_NEW };

/* *function is what `name` means to a program built for `version`; NULL unless found. */
enum simcu_entry_status simcu_find_entry(const char *name, int version, bool per_thread, void **function);

#endif
