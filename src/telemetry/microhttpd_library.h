/* libmicrohttpd, opened when an HTTP address is to be served and not before: Debian's brings GnuTLS along, which a node
 * without one need not pay for. */
#ifndef GPUSHARE_TELEMETRY_MICROHTTPD_LIBRARY_H
#define GPUSHARE_TELEMETRY_MICROHTTPD_LIBRARY_H

#include <microhttpd.h>

#include "base/error.h"

struct gs_microhttpd {
	struct MHD_Daemon *(*start_daemon)(unsigned flags, uint16_t port, MHD_AcceptPolicyCallback accept,
					   void *accept_user, MHD_AccessHandlerCallback handler, void *handler_user,
					   ...);
	void (*stop_daemon)(struct MHD_Daemon *daemon);
	enum MHD_Result (*run)(struct MHD_Daemon *daemon);
	enum MHD_Result (*get_timeout)(struct MHD_Daemon *daemon, MHD_UNSIGNED_LONG_LONG *milliseconds);
	const union MHD_DaemonInfo *(*get_daemon_info)(struct MHD_Daemon *daemon, enum MHD_DaemonInfoType type, ...);
	const union MHD_ConnectionInfo *(*get_connection_info)(struct MHD_Connection *connection,
							       enum MHD_ConnectionInfoType type, ...);
	struct MHD_Response *(*create_response_from_buffer)(size_t size, void *buffer,
							    enum MHD_ResponseMemoryMode mode);
	enum MHD_Result (*add_response_header)(struct MHD_Response *response, const char *header, const char *content);
	enum MHD_Result (*queue_response)(struct MHD_Connection *connection, unsigned status,
					  struct MHD_Response *response);
	void (*destroy_response)(struct MHD_Response *response);
};

/* The library, the same at every call and never closed; NULL with what to install when it is not there. */
const struct gs_microhttpd *gs_microhttpd_open(struct gs_error *err);

#endif
