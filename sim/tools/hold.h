/* A simulated node that runs no command. */
#ifndef GPUSHARE_SIM_TOOLS_HOLD_H
#define GPUSHARE_SIM_TOOLS_HOLD_H

#include "base/error.h"

/* Puts the simulated driver's files (found by LD_LIBRARY_PATH and PATH) into DIR/root, lets every user join the node,
 * says on standard output that it is up, and waits for SIGHUP, SIGINT, SIGQUIT or SIGTERM: 0. -1 when it cannot. */
int sim_hold(const char *dir, const char *driver_version, struct gs_error *err);

#endif
