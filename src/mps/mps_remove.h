/* Removes what control daemons that are gone left on the node. */
#ifndef GPUSHARE_MPS_MPS_REMOVE_H
#define GPUSHARE_MPS_MPS_REMOVE_H

#include <stddef.h>

#include "base/error.h"

/* Removes from `root` the folders of our control daemons (named by a device's UUID) with their pipes and logs, what MPS shared
 * there as /dev/shm, and `root` itself if it is empty then. A folder whose control daemon runs stays, and so does whatever
 * has another name: another program's MPS. Containers can write some of this, so no link is followed and no name trusted.
 * How many folders went; on failure the first reason is in `err`, and the rest is done all the same. A root that is not there
 * has none. */
int gs_mps_remove_folders(const char *root, size_t *removed, struct gs_error *err);

#endif
