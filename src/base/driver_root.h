/* Where the NVIDIA driver is below a root directory, wherever a distribution puts it. A root is "/", or the node's "/" as a
 * container has it mounted ("/driver-root"), or the folder of a driver container. Links are followed as seen from the root:
 * an absolute one begins there, and none leads out of it. */
#ifndef GPUSHARE_BASE_DRIVER_ROOT_H
#define GPUSHARE_BASE_DRIVER_ROOT_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "base/error.h"
#include "base/vec.h"

/* ROOT and PATH (which begins with "/") in one; NULL and "" mean "/". Owned by the caller. */
char *gs_root_join(const char *root, const char *path);

/* Where a file below the root really is, counted from the root, if it is of this type (S_IFREG...). */
char *gs_root_find(const char *root, const char *path, mode_t type);

/* Folders that exist below the root and may hold the driver's libraries, counted from the root, in the order in which to
 * look: those that distributions use, with folders of the driver's own in them, and those that the root's ld.so.conf names. */
struct gs_root_folders {
	char **items;
	size_t count, capacity;
};
void gs_driver_library_folders(const char *root, struct gs_root_folders *folders);
void gs_root_folders_free(struct gs_root_folders *folders);

/* Whether this process could load the file: false for a library of another machine, such as a 32-bit one. */
bool gs_library_fits(const char *path);

/* The path, as this process sees it, of the driver's library with this name ("libnvidia-ml.so.1"); owned by the caller.
 * NULL with a reason that names the root and the folders. */
char *gs_driver_library(const char *root, const char *name, struct gs_error *err);

/* Where a program of the driver ("nvidia-smi") is, counted from the root, no link; owned by the caller, or NULL. */
char *gs_driver_program(const char *root, const char *name);

/* The path to run for a program of the driver: its bare name if PATH has it, else its path below the first of `roots`
 * (NULL ends them) that has it, else its bare name. Owned by the caller. */
char *gs_driver_command(const char *const *roots, const char *name);

#endif
