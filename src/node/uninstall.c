#include "node/uninstall.h"

#include <dirent.h>
#include <errno.h>
#include <jansson.h>
#include <libgen.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/driver_root.h"
#include "base/environment.h"
#include "base/file.h"
#include "base/log.h"
#include "base/socket.h"
#include "core/config/config_parse.h"
#include "gpu/hangs.h"
#include "kube/api/api.h"
#include "kube/cdi/cdi.h"
#include "kube/node_object/cluster.h"
#include "node/labels.h"
#include "node/state.h"
#include "strategy/strategies.h"

enum {
	ASK_TIMEOUT_MS = 15000,
	ASK_PAUSE_MS = 500,
	ASK_PATIENCE_MS = 12000, /* two attempts to connect */
	POLL_SECONDS = 1
};

/* --- from the command line alone --- */

static int read_settings(const struct node_options *options, struct gs_config *config, struct gs_error *err)
{
	const struct gs_config_source source = {.name = "(no file)", .text = "", .length = 0};
	struct gs_diagnostics diagnostics = {0};
	int result = gs_config_parse(&source, gs_environment, NULL, options->overrides, options->override_count, config,
				     &diagnostics);
	if (result < 0)
		gs_fail(err, GS_ERROR_INPUT, 0, "%s",
			diagnostics.count ? diagnostics.items[0].text : "the settings are not valid");
	gs_diagnostics_free(&diagnostics);
	return result;
}

/* False outside of a cluster, and where the API server is not to be used. */
static bool cluster_of(const struct gs_config *config, struct cluster_options *cluster)
{
	*cluster = (struct cluster_options){
		.node_name = config->kubernetes.node_name,
		.host = getenv("KUBERNETES_SERVICE_HOST"),
		.port = getenv("KUBERNETES_SERVICE_PORT"),
		.service_account_dir = config->kubernetes.service_account_dir,
	};
	return config->kubernetes.api != GS_FALSE && cluster->host && *cluster->host && cluster->port && *cluster->port;
}

/* --- one node --- */

/* The first failure is reported; the other steps go on. */
struct work {
	int result;
	struct gs_error *err;
};

static void failed(struct work *work, const struct gs_error *err)
{
	if (work->result == 0)
		*work->err = *err;
	work->result = -1;
}

static void remove_file(struct work *work, const char *path)
{
	struct gs_error err;
	if (unlink(path) == 0) {
		printf("removed %s\n", path);
		return;
	}
	if (errno == ENOENT || errno == ENOTDIR)
		return;
	gs_fail_errno(&err, "cannot remove %s", path);
	failed(work, &err);
}

/* A daemon that runs would make everything anew. The lock is kept until the end, so that none starts meanwhile. */
static int lock(const char *path, int *fd, struct gs_error *err)
{
	*fd = gs_lock_directory(path, err);
	if (*fd >= 0 || err->code == ENOENT)
		return 0;
	if (err->code != EWOULDBLOCK)
		return -1;
	return gs_fail(err, GS_ERROR_SYSTEM, EWOULDBLOCK,
		       "gpushare node is running with %s; stop it first, in a cluster by deleting its DaemonSet", path);
}

static void say(void *user, const char *text)
{
	puts(text);
}

static void on_end_failed(void *user, const struct gs_error *reason)
{
	failed(user, reason);
}

/* Has a strategy take away all that it brought up. */
static void deactivate(struct work *work, const struct gs_strategy_life *life, const struct node_options *options,
		       const struct gs_config *config, bool uninstall)
{
	const struct gs_strategy_end end = {
		.state_dir = options->state_dir,
		.config = config,
		.uninstall = uninstall,
		.user = work,
		.say = say,
		.failed = on_end_failed,
	};
	life->deactivate(&end);
}

/* A socket at which no process listens: one that answers is another plugin's. */
static bool is_dead_socket(const char *path)
{
	struct stat about;
	return lstat(path, &about) == 0 && S_ISSOCK(about.st_mode) && gs_socket_try(path, SOCK_STREAM) == ECONNREFUSED;
}

static bool is_plugin_socket(const char *path, const char *name)
{
	size_t length = strlen(name);
	return !strncmp(name, "nvidia-", 7) && length > 5 && !strcmp(name + length - 5, ".sock") &&
	       is_dead_socket(path);
}

static bool is_state(const char *path, const char *name)
{
	return node_is_state_file(name);
}

static void remove_files(struct work *work, const char *folder, bool (*wanted)(const char *path, const char *name))
{
	DIR *dir = opendir(folder);
	if (!dir)
		return;
	for (struct dirent *entry; (entry = readdir(dir));) {
		GS_AUTO_FREE char *path = gs_printf("%s/%s", folder, entry->d_name);
		if (wanted(path, entry->d_name))
			remove_file(work, path);
	}
	closedir(dir);
}

static void remove_specs(struct work *work, const char *folder)
{
	for (const char *const *class = gs_cdi_classes; *class; class ++) {
		struct gs_error err;
		bool removed;
		if (gs_cdi_remove(folder, *class, &removed, &err) < 0)
			failed(work, &err);
		GS_AUTO_FREE char *path = gs_cdi_path(folder, *class);
		if (removed)
			printf("removed %s\n", path);
	}
}

static void clean_cluster(struct work *work, const struct gs_config *config)
{
	struct gs_error err;
	struct cluster_options cluster;
	if (!cluster_of(config, &cluster) || !cluster.node_name || !*cluster.node_name)
		return;
	GS_AUTO_FREE char *space = node_own_namespace(cluster.service_account_dir);
	cluster.feature_namespace = space;
	if (cluster_clean(&cluster, &err) == 0)
		printf("removed labels, annotations and conditions of node %s\n", cluster.node_name);
	else
		failed(work, &err);
}

int node_uninstall(const struct node_options *options, struct gs_error *err)
{
	struct gs_config config;
	struct work work = {.err = err};
	GS_AUTO_CLOSE int state_lock = -1, plugin_lock = -1;
	if (lock(options->state_dir, &state_lock, err) < 0 || lock(options->plugin_dir, &plugin_lock, err) < 0 ||
	    read_settings(options, &config, err) < 0)
		return -1;
	/* Last what needs the driver, which may hang. */
	node_state_tidy(options, &config);
	clean_cluster(&work, &config);
	remove_specs(&work, options->cdi_dir);
	remove_files(&work, options->plugin_dir, is_plugin_socket);
	if (is_dead_socket(options->socket_path))
		remove_file(&work, options->socket_path);
	if (config.flags.gfd.output_file && *config.flags.gfd.output_file &&
	    node_feature_file_is_ours(config.flags.gfd.output_file, options->state_dir))
		remove_file(&work, config.flags.gfd.output_file);
	for (size_t i = 0; i < gs_strategy_count; i++)
		if (gs_strategies[i]->life)
			deactivate(&work, gs_strategies[i]->life, options, &config, true);
	remove_files(&work, options->state_dir, is_state);
	/* Folders that are empty now; as a pod's mounts they cannot be removed, and do no harm. */
	GS_AUTO_FREE char *socket_copy = gs_strdup(options->socket_path);
	(void)(rmdir(options->state_dir) + rmdir(dirname(socket_copy)));
	fflush(stdout);
	gs_config_free(&config);
	return work.result;
}

int node_uninstall_apart(char *const *options, struct gs_error *err)
{
	static const char *const begin[] = {"gpushare", "node", "--uninstall"};
	size_t count = 0;
	pid_t pid;
	int status;
	while (options[count])
		count++;
	GS_AUTO_FREE const char **arguments = gs_calloc(GS_ARRAY_LENGTH(begin) + count + 1, sizeof *arguments);
	memcpy(arguments, begin, sizeof begin);
	memcpy(arguments + GS_ARRAY_LENGTH(begin), options, count * sizeof *options);
	int failed = posix_spawn(&pid, "/proc/self/exe", NULL, NULL, (char *const *)arguments, environ);
	if (failed)
		return gs_fail(err, GS_ERROR_SYSTEM, failed, "cannot run gpushare node --uninstall: %s",
			       strerror(failed));
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	if (!WIFEXITED(status) || WEXITSTATUS(status))
		return gs_fail(err, GS_ERROR_SYSTEM, 0, "gpushare node --uninstall failed");
	return 0;
}

void node_release_driver(const struct node_options *options)
{
	struct gs_config config;
	struct gs_error err = {0};
	if (read_settings(options, &config, &err) < 0)
		return;
	for (size_t i = 0; i < gs_strategy_count; i++) {
		const struct gs_strategy_life *life = gs_strategies[i]->life;
		struct work work = {.err = &err};
		if (life)
			deactivate(&work, life, options, &config, false);
		if (work.result == 0)
			continue;
		GS_AUTO_FREE char *text = gs_printf("%s could not be ended, and may hold the driver", life->title);
		gs_log(GS_LOG_WARNING, text, GS_STR("error", err.text));
	}
	fflush(stdout);
	gs_config_free(&config);
}

/* --- the DaemonSet --- */

struct question {
	uv_loop_t loop;
	long status;
	char *body, *problem;
};

static void on_answer(void *user, const struct api_reply *reply)
{
	struct question *question = user;
	question->status = reply->status;
	question->body = gs_strdup(reply->body);
	question->problem = gs_strdup(reply->problem);
	uv_stop(&question->loop);
}

/* One request on a loop of its own; blocks. -1 when there was no answer. */
static int ask(const struct cluster_options *cluster, const char *method, const char *daemon_set, const char *body,
	       struct question *question, struct gs_error *err)
{
	const char *slash = strchr(daemon_set, '/');
	struct api *api;
	*question = (struct question){0};
	if (!slash)
		return gs_fail(err, GS_ERROR_INPUT, 0, "\"%s\" is not NAMESPACE/NAME", daemon_set);
	if (uv_loop_init(&question->loop) < 0)
		return gs_fail(err, GS_ERROR_SYSTEM, 0, "cannot make an event loop");
	const struct api_options options = {.host = cluster->host,
					    .port = cluster->port,
					    .credentials_dir = cluster->service_account_dir,
					    .timeout_ms = ASK_TIMEOUT_MS};
	GS_AUTO_FREE char *path = gs_printf("/apis/apps/v1/namespaces/%.*s/daemonsets/%s", (int)(slash - daemon_set),
					    daemon_set, slash + 1);
	int result = api_open(&question->loop, &options, &api, err);
	if (result == 0) {
		result = api_send(api, method, path, body ? "application/json" : NULL, body, on_answer, question, err);
		if (result == 0)
			uv_run(&question->loop, UV_RUN_DEFAULT);
		api_close(api);
		uv_run(&question->loop, UV_RUN_DEFAULT);
	}
	uv_loop_close(&question->loop);
	if (result == 0 && question->status == 0)
		result = gs_fail(err, GS_ERROR_SYSTEM, 0, "%s", question->problem ? question->problem : "no answer");
	return result;
}

static void forget(struct question *question)
{
	free(question->body);
	free(question->problem);
	question->body = question->problem = NULL;
}

/* An API server that is busy or away for a moment is asked again: no other program cleans this node. One whose etcd is
 * older than its caches want may take seconds for an answer. False when it said nothing of use for so long that it
 * would hold up the stop. */
static bool ask_until_told(const struct cluster_options *cluster, const char *daemon_set, struct question *question,
			   struct gs_error *err)
{
	uint64_t deadline = uv_hrtime() + (uint64_t)ASK_PATIENCE_MS * 1000000;
	for (;;) {
		int result = ask(cluster, "GET", daemon_set, NULL, question, err);
		bool told = result == 0 &&
			    (question->status / 100 == 2 || question->status == 403 || question->status == 404);
		if (result == 0 && !told)
			gs_fail(err, GS_ERROR_SYSTEM, (int)question->status, "%s", question->problem);
		if (told || uv_hrtime() > deadline)
			return told;
		forget(question);
		uv_sleep(ASK_PAUSE_MS);
	}
}

bool node_daemon_set_is_going(const struct node_options *options, const char *daemon_set)
{
	struct gs_error err;
	struct gs_config config;
	struct cluster_options cluster;
	struct question question = {0};
	bool going = false;
	alarm(0);
	/* The loop that heard the first one is gone, and a second one must not cut this off. */
	signal(SIGTERM, SIG_IGN);
	if (read_settings(options, &config, &err) < 0)
		return false;
	bool known = cluster_of(&config, &cluster);
	if (known && !ask_until_told(&cluster, daemon_set, &question, &err)) {
		gs_log(GS_LOG_WARNING,
		       "the API server does not tell whether the DaemonSet is deleted; the node is left as it is",
		       GS_STR("daemonset", daemon_set), GS_STR("error", err.text));
	} else if (known) {
		json_t *object = json_loads(question.body, 0, NULL);
		going = question.status == 404 ||
			json_object_get(json_object_get(object, "metadata"), "deletionTimestamp") != NULL;
		json_decref(object);
	}
	forget(&question);
	gs_config_free(&config);
	return going;
}

int node_delete_daemon_set(const struct node_options *options, const char *daemon_set, unsigned seconds,
			   struct gs_error *err)
{
	/* In the foreground: the DaemonSet is gone when its pods are. */
	static const char how[] =
		"{\"kind\":\"DeleteOptions\",\"apiVersion\":\"v1\",\"propagationPolicy\":\"Foreground\"}";
	struct gs_config config;
	struct cluster_options cluster;
	struct question question = {0};
	if (read_settings(options, &config, err) < 0)
		return -1;
	int result = cluster_of(&config, &cluster)
			     ? ask(&cluster, "DELETE", daemon_set, how, &question, err)
			     : gs_fail(err, GS_ERROR_SYSTEM, 0,
				       "this is not a pod of a cluster, or the API server is not to be used");
	if (result == 0 && question.status != 404 && question.status / 100 != 2)
		result = gs_fail(err, GS_ERROR_SYSTEM, (int)question.status, "cannot delete DaemonSet %s: %s",
				 daemon_set, question.problem);
	while (result == 0 && question.status != 404 && seconds > 0) {
		sleep(POLL_SECONDS);
		seconds -= POLL_SECONDS;
		forget(&question);
		/* An API server that is away for a moment is asked again. */
		(void)ask(&cluster, "GET", daemon_set, NULL, &question, err);
	}
	if (result == 0)
		printf(question.status == 404
			       ? "DaemonSet %s is gone, and its nodes are clean\n"
			       : "DaemonSet %s is being deleted; nodes that are away are not clean yet\n",
		       daemon_set);
	fflush(stdout);
	forget(&question);
	gs_config_free(&config);
	return result;
}
