/* Whether a process listens at a socket in the file system. */
#ifndef GPUSHARE_BASE_SOCKET_H
#define GPUSHARE_BASE_SOCKET_H

/* Connects to the Unix socket at `path`, of type SOCK_STREAM or SOCK_SEQPACKET, and leaves at once; never waits. 0: a
 * process listens, perhaps with a full queue. Else an errno: ECONNREFUSED for a socket that was left behind, EPROTOTYPE
 * for one of another type, ENOENT, ENAMETOOLONG (then no process can listen there). */
int gs_socket_try(const char *path, int type);

#endif
