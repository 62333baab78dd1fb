#include "node/others.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/lane.h"
#include "base/log.h"
#include "base/utf8.h"
#include "kube/plugin/others.h"
#include "node/handover.h"
#include "node/mig_manager.h"
#include "node/node_internal.h"
#include "node/specs.h"

enum {
	KUBELET_MS = 1000,
	PLUGIN_MS = 1000,
	ASKED_MAX = 64, /* sockets whose answer is remembered */
	/* A kubelet that starts wipes the sockets, and a plugin that is alive makes its own again. */
	ABSENCE_MS = 5000,
};

#define ALLOCATABLE_METHOD "/v1.PodResourcesLister/GetAllocatableResources"
#define LIST_METHOD        "/v1beta1.DevicePlugin/ListAndWatch"

/* The answer of a socket's plugin; it is asked once. */
struct asked {
	dev_t device;
	ino_t inode;
	struct timespec changed;
	bool has_gpus;
};

struct node_others {
	struct node *node;
	bool known;         /* a look was completed, so that `reason` counts */
	char *reason;       /* NULL: no other plugin has the GPUs */
	pid_t pid;          /* of the plugin in `reason`; 0: not known */
	bool alive;         /* its process was there at the last look, or may have been */
	uint64_t absent_ms; /* since when it serves nothing, by the loop's time; 0: it serves */

	bool looking, again, stopping;
	struct lane *lane;
	struct kube_others found;
	bool kubelet_tells; /* its socket is there */
	bool suspected;     /* the kubelet named a plugin at the last look; its list may be a moment old */

	struct rpc_client *client; /* of the question under way */
	struct rpc_client_call *call;
	bool replied, hit;
	char *hit_resource;
	size_t asking; /* the plugin that is asked */
	GS_VEC(struct asked) asked;
};

static void look(struct node_others *others);

/* --- what comes of a look --- */

/* The resource served at this socket, derived from its name by NVIDIA's rule; owned by the caller. */
static char *resource_at(const char *path)
{
	static const char prefix[] = "nvidia-", suffix[] = ".sock";
	const char *file = strrchr(path, '/') ? strrchr(path, '/') + 1 : path;
	size_t length = strlen(file), around = sizeof prefix - 1 + sizeof suffix - 1;
	if (length <= around || strncmp(file, prefix, sizeof prefix - 1) != 0 ||
	    strcmp(file + length - (sizeof suffix - 1), suffix) != 0)
		return gs_strdup("GPUs of this node");
	return gs_printf("nvidia.com/%.*s", (int)(length - around), file + sizeof prefix - 1);
}

/* Owned by the caller. `resource` is the kubelet's answer; NULL: it was not asked. */
static char *describe(struct node_others *others, const struct kube_other *other, const char *resource)
{
	others->pid = other->pid;
	GS_AUTO_FREE char *named = resource_at(other->path);
	GS_AUTO_FREE char *process =
		other->pid ? gs_printf(" (process %d, %s)", (int)other->pid, *other->process ? other->process : "?")
			   : gs_strdup("");
	char *text = gs_printf(
		"another device plugin serves %s at %s%s; while it does, nothing is served and nothing of the "
		"node is changed; remove it, as NVIDIA's from the gpu-operator with --set "
		"devicePlugin.enabled=false, or by itself with helm uninstall",
		resource ? resource : named, other->path, process);
	gs_utf8_make_plain(text); /* a file may be called anything */
	return text;
}

/* Serves no resource from now on. Running containers go on, and the files made for them stay. */
static void step_back(struct node_others *others)
{
	struct gs_error err;
	gs_fail(&err, GS_ERROR_SYSTEM, EADDRINUSE, "%s", others->reason);
	node_unpublish(others->node);
	node_specs_forget(others->node);
	node_serve_problem(others->node, "", &err);
}

static void take_over(struct node_others *others, bool waited)
{
	struct node *node = others->node;
	if (waited) {
		gs_log(GS_LOG_INFO, "the other device plugin is gone; taking over");
		node_serve_problem(node, NULL, NULL);
	}
	gpus_leave_mig(node->gpus, false);
	mig_manager_resume(node); /* first: a node born with the label publishes no whole GPU */
	node_republish(node);
}

/* Whether the plugin that is waited for only seems to be gone: its socket is, and its process is not. */
static bool is_absent(struct node_others *others)
{
	uint64_t now_ms = uv_now(&others->node->loop);
	if (!others->absent_ms)
		others->absent_ms = now_ms;
	return others->alive && now_ms - others->absent_ms < ABSENCE_MS;
}

/* Takes `reason`; NULL: no other plugin has the GPUs. */
static void decide(struct node_others *others, char *reason)
{
	others->looking = false;
	if (others->again) {
		free(reason);
		others->again = false;
		look(others);
		return;
	}
	if (reason)
		others->absent_ms = 0;
	else if (others->reason && is_absent(others))
		reason = gs_strdup(others->reason);
	bool waited = others->reason != NULL, known = others->known;
	bool same = known && (reason ? waited && strcmp(reason, others->reason) == 0 : !waited);
	free(others->reason);
	others->reason = reason;
	others->known = true;
	cluster_leave_metadata(others->node->cluster, reason != NULL);
	if (reason && !same) {
		gpus_leave_mig(others->node->gpus, true);
		step_back(others);
		node_publish_health(others->node);
	} else if (reason) {
		node_kubelet_look_again(others->node);
	} else if (!same) {
		take_over(others, waited);
	}
}

/* The kubelet's list may be a moment old: a plugin that ended just now is still in it. */
static void suspect(struct node_others *others, char *reason)
{
	if (others->suspected || others->reason) {
		others->suspected = true;
		decide(others, reason);
		return;
	}
	free(reason);
	others->suspected = true;
	others->looking = others->again = false;
	node_kubelet_look_again(others->node);
}

/* --- asking --- */

static void end_question(struct node_others *others)
{
	if (others->call)
		rpc_client_cancel(others->call);
	others->call = NULL;
	if (others->client)
		rpc_client_free(others->client);
	others->client = NULL;
}

static bool ask(struct node_others *others, const char *socket, const char *method, unsigned timeout_ms,
		rpc_message_cb *on_message, rpc_done_cb *on_done)
{
	others->replied = others->hit = false;
	free(others->hit_resource);
	others->hit_resource = NULL;
	if (rpc_client_new(&others->node->loop, socket, &others->client, NULL) < 0)
		return false;
	others->call = rpc_client_start(others->client, method, NULL, 0, timeout_ms, on_message, on_done, others);
	return others->call != NULL;
}

static bool is_ours(const struct node *node, const uint8_t *resource, size_t length)
{
	/* The resources that the daemon before serves until this one does. */
	for (size_t i = 0; handover_has_predecessor(node) && i < node->plan.resource_count; i++) {
		const char *name = node->plan.resources[i].name;
		if (strlen(name) == length && memcmp(name, resource, length) == 0)
			return true;
	}
	for (size_t i = 0; i < node->plugins.count; i++) {
		const char *name = kube_plugin_resource_name(node->plugins.items[i]);
		if (strlen(name) == length && memcmp(name, resource, length) == 0)
			return true;
	}
	return false;
}

static bool on_device(void *user, const uint8_t *resource, size_t resource_length, const uint8_t *id, size_t length)
{
	struct node_others *others = user;
	if (resource_length && is_ours(others->node, resource, resource_length))
		return true;
	if (!kube_other_names_gpu(gpus_inventory(others->node->gpus), id, length))
		return true;
	others->hit = true;
	if (resource_length)
		others->hit_resource = gs_printf("%.*s", (int)(resource_length < 64 ? resource_length : 64), resource);
	return false;
}

static void ask_next_plugin(struct node_others *others);

static bool is_socket_of(const struct asked *asked, const struct kube_other *other)
{
	return asked->inode == other->inode && asked->device == other->device &&
	       asked->changed.tv_sec == other->changed.tv_sec && asked->changed.tv_nsec == other->changed.tv_nsec;
}

static void remember(struct node_others *others, const struct kube_other *other)
{
	if (others->asked.count == ASKED_MAX)
		others->asked.count = 0;
	*GS_VEC_PUSH(&others->asked) = (struct asked){
		.device = other->device, .inode = other->inode, .changed = other->changed, .has_gpus = others->hit};
}

static void after_plugin(struct node_others *others)
{
	const struct kube_other *other = &others->found.items.items[others->asking];
	end_question(others);
	if (others->replied)
		remember(others, other);
	if (others->hit) {
		decide(others, describe(others, other, NULL));
		return;
	}
	others->asking++;
	ask_next_plugin(others);
}

static void on_list(void *user, const uint8_t *message, size_t length)
{
	struct node_others *others = user;
	others->replied = kube_plugin_list_read(message, length, on_device, others) == 0;
	after_plugin(others);
}

static void on_list_done(void *user, enum rpc_status status, const char *text)
{
	struct node_others *others = user;
	others->call = NULL;
	after_plugin(others);
}

/* Where the kubelet does not answer, this daemon asks each unknown plugin for its list, once: some plugins report each
 * change of health to one listener only. */
static void ask_next_plugin(struct node_others *others)
{
	for (; others->asking < others->found.items.count; others->asking++) {
		const struct kube_other *other = &others->found.items.items[others->asking];
		const struct asked *asked = NULL;
		for (size_t i = 0; i < others->asked.count && !asked; i++)
			if (is_socket_of(&others->asked.items[i], other))
				asked = &others->asked.items[i];
		if (asked && asked->has_gpus) {
			decide(others, describe(others, other, NULL));
			return;
		}
		if (!asked && ask(others, other->path, LIST_METHOD, PLUGIN_MS, on_list, on_list_done))
			return;
		end_question(others);
	}
	decide(others, NULL);
}

static void on_allocatable(void *user, const uint8_t *message, size_t length)
{
	struct node_others *others = user;
	others->replied = kube_allocatable_read(message, length, on_device, others) == 0;
}

static void on_allocatable_done(void *user, enum rpc_status status, const char *text)
{
	struct node_others *others = user;
	others->call = NULL;
	end_question(others);
	if (others->hit) {
		suspect(others, describe(others, &others->found.items.items[0], others->hit_resource));
		return;
	}
	others->suspected = false;
	if (status == RPC_OK && others->replied)
		decide(others, NULL);
	else
		ask_next_plugin(others);
}

/* --- looking --- */

static void find(struct node_others *others)
{
	others->alive = !others->pid || kill(others->pid, 0) == 0 || errno != ESRCH;
	const struct node_options *options = others->node->options;
	kube_others_free(&others->found);
	kube_others_find(options->plugin_dir, options->kubelet_socket, "/proc", &others->found);
	others->kubelet_tells = *options->pod_resources_socket && access(options->pod_resources_socket, F_OK) == 0;
}

static const struct kube_other *proven(const struct node_others *others)
{
	for (size_t i = 0; i < others->found.items.count; i++)
		if (others->found.items.items[i].has_gpus)
			return &others->found.items.items[i];
	return NULL;
}

static void free_others(struct node_others *others)
{
	lane_close(others->lane, NULL, NULL);
	kube_others_free(&others->found);
	GS_VEC_FREE(&others->asked);
	free(others->reason);
	free(others->hit_resource);
	free(others);
}

static void run_find(void *user)
{
	find(user);
}

static void after_find(void *user)
{
	struct node_others *others = user;
	if (others->stopping) {
		free_others(others);
		return;
	}
	const struct kube_other *other = proven(others);
	others->asking = 0;
	if (other)
		decide(others, describe(others, other, NULL));
	else if (others->found.items.count == 0)
		decide(others, NULL);
	else if (!others->kubelet_tells || !ask(others, others->node->options->pod_resources_socket, ALLOCATABLE_METHOD,
						KUBELET_MS, on_allocatable, on_allocatable_done)) {
		end_question(others);
		ask_next_plugin(others);
	}
}

static void look(struct node_others *others)
{
	if (others->looking) {
		others->again = true;
		return;
	}
	others->looking = true;
	lane_run(others->lane, &(struct lane_work){.run = run_find, .done = after_find, .user = others});
}

void node_others_look(struct node *node)
{
	/* Before the GPUs are known, no plugin can be said to have them. */
	if (node->others && node->options->device_plugin && node->gpus && gpus_inventory(node->gpus))
		look(node->others);
}

bool node_others_known(struct node *node)
{
	if (!node->others || node->others->known)
		return node->others;
	node_others_look(node);
	return false;
}

bool node_others_hold(const struct node *node)
{
	return !node->others || !node->others->known || node->others->reason;
}

const char *node_others_reason(const struct node *node)
{
	return node->others ? node->others->reason : NULL;
}

bool node_others_start(struct node *node)
{
	struct node_others *others = gs_calloc(1, sizeof *others);
	others->node = node;
	others->lane = lane_new(&node->loop, "other-plugins");
	node->others = others;
	others->known = !node->options->device_plugin; /* then this one is meant to run beside another */
	if (others->known)
		return false;
	find(others);
	const struct kube_other *other = proven(others);
	if (other) {
		others->reason = describe(others, other, NULL);
		gs_log(GS_LOG_WARNING, "waiting", GS_STR("reason", others->reason));
	}
	return others->found.items.count > 0;
}

void node_others_stop(struct node *node)
{
	struct node_others *others = node->others;
	node->others = NULL;
	if (!others)
		return;
	end_question(others);
	others->stopping = true;
	if (!lane_is_busy(others->lane))
		free_others(others);
}
