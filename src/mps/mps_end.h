/* Ends sharing by MPS for good, from a command line: for an uninstall, or after the daemon was stopped. */
#ifndef GPUSHARE_MPS_MPS_END_H
#define GPUSHARE_MPS_MPS_END_H

#include <stddef.h>

#include "base/error.h"

struct gs_mps_ended {
	size_t daemons; /* control daemons that were ended */
	size_t modes;   /* compute modes that were restored */
};

/* Asks the control daemons of the record in STATE_DIR/mps.json to quit (without a record, or if it names `root`: also those
 * beside us that listen below `root`), and ends those that do not within `grace_seconds` with their clients. Then gives the
 * GPUs of the record their compute modes back. While another node daemon uses `root` nothing is done. The driver's program and library
 * are looked for below `driver_roots` (the last is NULL) too; without the library the modes stay, and an error says so if there are
 * any. Blocking. No node daemon with this state directory may run. What could be done is done also on failure. */
int gs_mps_end(const char *root, const char *state_dir, const char *const *driver_roots, unsigned grace_seconds,
	       struct gs_mps_ended *ended, struct gs_error *err);

/* Where the last node daemon ran MPS, by the record in STATE_DIR/mps.json; NULL: it did not. Owned by the caller. */
char *gs_mps_recorded_root(const char *state_dir);

#endif
