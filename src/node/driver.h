/* The driver's part of CDI specs: its files, and the program that a container runtime calls. Reads files: not for the
 * loop's thread. */
#ifndef GPUSHARE_NODE_DRIVER_H
#define GPUSHARE_NODE_DRIVER_H

#include <sys/types.h>
#include <time.h>

#include "core/config/config.h"
#include "kube/cdi/driver_files.h"

/* The last hook program of NVIDIA's that was looked into, so that none is read twice. */
struct node_hook_seen {
	ino_t inode;
	off_t bytes;
	time_t changed;
	unsigned hooks; /* enum gs_hook: what it knows */
};

/* Finds the driver's files, and puts the hook in place in STATE-DIR; -1 when containers get none, with the reason. `version`
 * is the driver's. Why the hook is not in place goes to `hook_problem`, owned by the caller; NULL: it is.
 * `disabled_hooks` are names with commas, "all", or NULL. */
int node_driver_files(const struct gs_config *config, const char *state_dir, const char *version,
		      const char *disabled_hooks, struct node_hook_seen *seen, struct gs_driver_files *files,
		      char **hook_problem, struct gs_error *err);

#endif
