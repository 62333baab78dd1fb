/* One published resource: a device-plugin v1beta1 server on its own socket, registered with the kubelet.
 *
 * It knows shares and bytes; how a container is prepared is the owner's business, asked through kube_plugin_owner.
 * Everything runs on the loop's thread, and nothing here calls NVML, so no call waits for a GPU. */
#ifndef GPUSHARE_KUBE_PLUGIN_H
#define GPUSHARE_KUBE_PLUGIN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <uv.h>

#include "base/error.h"
#include "core/share/container_edit.h"
#include "core/share/share.h"

/* The resource that a plugin publishes. Borrowed: valid until the next kube_plugin_update or the plugin's stop. */
struct kube_view {
	const struct gs_resource *resource;
	const struct gs_inventory *inventory;
	/* Whether a share (its position in the resource, which is on `on`) can be allocated. */
	bool (*share_healthy)(const void *user, const struct gs_resource *resource, const struct gs_resource_device *on,
			      uint32_t share);
	const void *user;
	enum gs_allocation_policy policy;
};

struct kube_plugin;

struct kube_plugin_owner {
	void *user;
	/* Fills `edit` for one container, or says why it can't be had. Must not block. */
	int (*allocate)(void *user, const struct kube_view *view, const uint32_t *shares, size_t count,
			struct gs_container_edit *edit, struct gs_error *err);
	/* Registered (`err` NULL), refused, or lost, each time that changes. */
	void (*registration)(void *user, struct kube_plugin *plugin, const struct gs_error *err);
};

/* Serves DIR/nvidia-<name part>.sock at once; registers when kube_plugin_register is called. `kubelet_socket` empty:
 * serves, never registers. */
int kube_plugin_start(uv_loop_t *loop, const char *directory, const char *kubelet_socket, const struct kube_view *view,
		      const struct kube_plugin_owner *owner, struct kube_plugin **plugin, struct gs_error *err);
/* Stops serving and removes the socket; frees the plugin in the loop's own time, then calls `done` (may be NULL). */
void kube_plugin_stop(struct kube_plugin *plugin, void (*done)(void *user), void *user);

/* Registers no more and accepts no more connections; open ones are still answered. The socket's file is the next
 * daemon's. */
void kube_plugin_retire(struct kube_plugin *plugin);
/* The descriptors of the kubelet's open connections, which stay the plugin's; how many. */
size_t kube_plugin_connections(const struct kube_plugin *plugin, int *fds, size_t capacity);

/* Whether it was never asked to register, or what came of that was forgotten. */
bool kube_plugin_is_unannounced(const struct kube_plugin *plugin);

/* A new view: pushed to every ListAndWatch stream when the published list differs. */
void kube_plugin_update(struct kube_plugin *plugin, const struct kube_view *view);

/* Registers now (a kubelet appeared), and goes on trying with back-off: 1 ms at first, because a kubelet's socket
 * exists a moment before it listens, 10 s at most. */
void kube_plugin_register(struct kube_plugin *plugin);

/* Whether our socket's file was deleted a moment ago and no process listens in its place yet, as when another plugin is
 * about to make its own there. Half a second later it is not. */
bool kube_plugin_is_away(struct kube_plugin *plugin);

/* Whether our socket file is still the one we bound; if not, binds anew. -1 when that fails: with EADDRINUSE when
 * another process serves there, as it is for kube_plugin_start. */
int kube_plugin_check_socket(struct kube_plugin *plugin, struct gs_error *err);

/* Counts of Allocate's results since the plugin started. */
struct kube_allocations {
	uint64_t containers, shares; /* that were given, and what they were given */
	uint64_t bad_requests;       /* refused: such a request cannot be met */
	uint64_t failures;           /* refused: it could not be met here and now */
};
const struct kube_allocations *kube_plugin_allocations(const struct kube_plugin *plugin);

const char *kube_plugin_resource_name(const struct kube_plugin *plugin);
/* False while its socket could not be bound anew. */
bool kube_plugin_served(const struct kube_plugin *plugin);
bool kube_plugin_registered(const struct kube_plugin *plugin);
/* Why the last registration failed; "" when it did not. */
const char *kube_plugin_problem(const struct kube_plugin *plugin);

#endif
