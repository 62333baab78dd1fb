/* Shared by plugin.c (life, registration) and plugin_calls.c (the RPC methods). */
#ifndef GPUSHARE_KUBE_PLUGIN_INTERNAL_H
#define GPUSHARE_KUBE_PLUGIN_INTERNAL_H

#include <sys/stat.h>

#include "core/share/preferred.h"
#include "kube/plugin/plugin.h"
#include "rpc/rpc.h"

enum {
	PLUGIN_STREAMS_MAX = 16,      /* ListAndWatch streams; the kubelet opens one */
	PLUGIN_CONTAINERS_MAX = 1024, /* container requests in one message; the kubelet sends one */
};

struct kube_plugin {
	uv_loop_t *loop;
	char *socket_path;
	char *endpoint; /* file name of socket_path, for Register */
	char *kubelet_socket;
	struct kube_view view;
	struct kube_plugin_owner owner;
	struct kube_allocations allocations;

	struct rpc_server *server; /* the one in force */
	unsigned servers;          /* with those that are still being stopped */
	struct stat socket_stat;   /* what we bound: another inode there is not ours */
	uint64_t away_since_ms;    /* when nothing was seen in its place, by the loop's time; 0: something is there */
	struct rpc_call *streams[PLUGIN_STREAMS_MAX];
	size_t stream_count;
	uint8_t *list; /* the encoded ListAndWatchResponse in force */
	size_t list_length;

	struct rpc_client *kubelet;
	struct rpc_client_call *registering;
	uv_timer_t retry;
	unsigned retries; /* in a row */
	bool registered;
	char problem[sizeof((struct gs_error *)0)->text]; /* why it is not registered; "" */
	bool retired;                                     /* another daemon registers; open calls are served on */
	bool stopping;
	void (*stopped)(void *user);
	void *stopped_user;

	struct gs_preferred_scratch scratch;
	uint32_t *positions; /* room for every share of the resource, twice: requests are decoded into it */
	size_t positions_capacity;
};

extern const struct rpc_method kube_plugin_methods[];

/* Encodes the view's list into plugin->list; false if it did not change. */
bool kube_plugin_encode_list(struct kube_plugin *plugin);
/* Sends the current list to every stream. */
void kube_plugin_push_list(struct kube_plugin *plugin);
/* The kubelet's stream ended without us ending it: it takes us for dead until we register again. */
void kube_plugin_stream_lost(struct kube_plugin *plugin);

#endif
