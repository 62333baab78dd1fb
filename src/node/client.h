/* Asks a running daemon, from a command line. Blocking. */
#ifndef GPUSHARE_NODE_CLIENT_H
#define GPUSHARE_NODE_CLIENT_H

#include <stddef.h>

#include "base/error.h"

/* The status document as JSON text (owned by the caller), or NULL with the reason and what to do about it. */
char *node_client_status(const char *socket_path, unsigned timeout_ms, struct gs_error *err);

#endif
