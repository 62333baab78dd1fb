/* The driver's files that a container with a GPU needs: found below the driver's root, so that no NVIDIA runtime has to
 * bring them. Which files those are follows NVIDIA's container toolkit. */
#ifndef GPUSHARE_KUBE_DRIVER_FILES_H
#define GPUSHARE_KUBE_DRIVER_FILES_H

#include <stdbool.h>

#include "base/error.h"
#include "base/vec.h"

struct gs_driver_mount {
	char *host, *container;
	bool socket;
};
struct gs_driver_link {
	char *path, *target; /* in the container */
};

/* The tasks of a hook program, by NVIDIA's names of its sub-commands. */
enum gs_hook {
	GS_HOOK_CREATE_SYMLINKS = 1 << 0,
	GS_HOOK_ENABLE_CUDA_COMPAT = 1 << 1, /* an image's newer libcuda goes before the node's */
	GS_HOOK_UPDATE_LDCACHE = 1 << 2,
	GS_HOOK_DISABLE_DEVICE_NODE_MODIFICATION = 1 << 3, /* no program of the container makes device nodes */
	GS_HOOK_UPDATE_APPLICATION_PROFILE = 1 << 4,       /* EGL and Vulkan see the container's GPUs only */
	GS_HOOK_COUNT = 5,
};
extern const char *const gs_hook_names[GS_HOOK_COUNT];

struct gs_driver_files {
	char *version;                         /* "550.163.01" */
	char *source;                          /* of the libraries, below the root */
	char *folder;                          /* of the libraries, in the container */
	GS_VEC(struct gs_driver_mount) mounts; /* libraries, programs, firmware, sockets */
	GS_VEC(struct gs_driver_link) links;   /* names that programs load the libraries by */
	char *hook; /* program on the node that makes the links and tells the loader; NULL: none, links are mounts */
	unsigned hooks; /* enum gs_hook: what it is asked to do */
	char *sim_dir;  /* of a simulated node, which containers join; NULL: a real one */
};

struct gs_driver_places {
	const char *here;    /* the driver's root as this process sees it: "/driver-root" */
	const char *host;    /* the same, as the node sees it: "/" */
	const char *version; /* the driver's; NULL or "": that of the first library found */
	const char *hook;    /* as in gs_driver_files */
	unsigned hooks;      /* as in gs_driver_files; without GS_HOOK_CREATE_SYMLINKS links are mounts */
	const char *sim_dir; /* of a simulated node, which its containers join; NULL: a real one */
};

/* Fills in `files`, to be freed. Paths are sorted: the same root gives the same files. -1 (GS_ERROR_SYSTEM) when the
 * root has no libcuda of the version; then `files` is empty. */
int gs_driver_files_find(const struct gs_driver_places *places, struct gs_driver_files *files, struct gs_error *err);
void gs_driver_files_free(struct gs_driver_files *files);

#endif
