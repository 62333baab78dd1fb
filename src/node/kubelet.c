/* The kubelet's device-plugin directory: where we serve, and where a new kubelet shows up.
 *
 * A starting kubelet wipes the directory's sockets and makes kubelet.sock anew (pkg/kubelet/cm/devicemanager), so both
 * a new kubelet.sock and a vanished socket of ours mean: serve again, register again. Where only a socket of ours vanished,
 * another plugin may have deleted it to make its own, as NVIDIA's does when it starts: it is given a moment. */
#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include "base/log.h"
#include "node/node_internal.h"
#include "node/others.h"

enum { LOOK_AGAIN_MS = 1000 };

static void on_plugin_timer(uv_timer_t *timer);

void node_kubelet_look_again(struct node *node)
{
	uv_timer_start(&node->plugin_timer, on_plugin_timer, LOOK_AGAIN_MS, 0);
}

static void check_sockets(struct node *node, bool kubelet_is_new)
{
	for (size_t i = 0; i < node->plugins.count; i++) {
		struct gs_error err;
		if (kube_plugin_is_away(node->plugins.items[i]) && !kubelet_is_new)
			node_kubelet_look_again(node);
		else if (kube_plugin_check_socket(node->plugins.items[i], &err) < 0)
			node_serve_problem(node, kube_plugin_resource_name(node->plugins.items[i]), &err);
	}
}

/* Whether kubelet.sock is another one than last time. */
static bool kubelet_is_new(struct node *node)
{
	struct stat status;
	bool there = *node->options->kubelet_socket && stat(node->options->kubelet_socket, &status) == 0;
	bool is_new =
		there && (status.st_ino != node->kubelet_inode || status.st_ctim.tv_sec != node->kubelet_time.tv_sec ||
			  status.st_ctim.tv_nsec != node->kubelet_time.tv_nsec);
	node->kubelet_inode = there ? status.st_ino : 0;
	node->kubelet_time = there ? status.st_ctim : (struct timespec){0};
	return is_new;
}

static void check_directory(struct node *node)
{
	bool is_new = kubelet_is_new(node);
	check_sockets(node, is_new);
	if (is_new)
		for (size_t i = 0; i < node->plugins.count; i++)
			kube_plugin_register(node->plugins.items[i]);
}

static void on_plugin_event(uv_fs_event_t *event, const char *name, int events, int status)
{
	struct node *node = event->loop->data;
	struct stat directory;
	if (stat(node->options->plugin_dir, &directory) < 0 || directory.st_ino != node->plugin_dir_inode) {
		gs_log(GS_LOG_WARNING, "the kubelet's directory was replaced",
		       GS_STR("directory", node->options->plugin_dir));
		uv_fs_event_stop(event);
		node->plugin_event_active = false;
		node_kubelet_look_again(node);
		return;
	}
	check_directory(node);
	node_others_look(node);
	node_kubelet_look_again(node); /* the kubelet makes its socket a moment before it listens */
}

static void on_plugin_timer(uv_timer_t *timer)
{
	struct node *node = timer->loop->data;
	node_kubelet_watch(node);
}

/* Watches the directory as it is now; false when it is not there. Without inotify a timer looks instead. */
static bool arm(struct node *node)
{
	struct stat directory;
	if (stat(node->options->plugin_dir, &directory) < 0)
		return false;
	node->plugin_dir_inode = directory.st_ino;
	int failed = uv_fs_event_start(&node->plugin_event, on_plugin_event, node->options->plugin_dir, 0);
	node->plugin_event_active = failed == 0;
	if (failed) {
		gs_log(GS_LOG_WARNING, "cannot watch the kubelet's directory; looking every second",
		       GS_STR("directory", node->options->plugin_dir), GS_STR("error", uv_strerror(failed)));
		node_kubelet_look_again(node);
	}
	return true;
}

void node_kubelet_watch(struct node *node)
{
	if (!node->plugin_event_active && !arm(node)) {
		node_kubelet_look_again(node);
		return;
	}
	check_directory(node);
	node_retry_publish(node);
	node_others_look(node);
}
