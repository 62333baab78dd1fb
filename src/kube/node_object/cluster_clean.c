/* Takes back what the daemon said about the node. A loop of its own: no daemon runs. */
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "kube/api/api.h"
#include "kube/api/api_text.h"
#include "kube/node_object/cluster.h"

enum { REQUEST_MS = 15000, PAUSE_MS = 500, PATIENCE_MS = 6000 };

static const char *const managers[] = {"gpushare", "gpushare-mig"};
static const char *const condition_types[] = {"GPUShareConfigured", "GPUShareHealthy", "GPUShareServing",
					      "GPUShareMIG"};

struct cleaning {
	uv_loop_t loop;
	struct api *api;
	unsigned left; /* requests under way */
	char *feature; /* path of the NodeFeature object; NULL: none */
	struct gs_error *err;
	int result;
	bool again; /* what failed may go well in a moment */
};

/* An API server that is busy or restarts, or a token that is being replaced. */
static bool may_pass(long status)
{
	return status == 0 || status == 401 || status == 409 || status == 429 || status >= 500;
}

static void on_answer(void *user, const struct api_reply *reply)
{
	struct cleaning *cleaning = user;
	cleaning->left--;
	/* A node that is gone has nothing left on it. */
	if (*reply->problem && reply->status != 404) {
		cleaning->again |= may_pass(reply->status);
		cleaning->result = gs_fail(cleaning->err, GS_ERROR_SYSTEM, (int)reply->status, "%s", reply->problem);
	}
	if (cleaning->left == 0)
		uv_stop(&cleaning->loop);
}

/* RBAC does not allow us to write such objects, so there is none of ours. */
static void on_feature_removed(void *user, const struct api_reply *reply)
{
	const struct api_reply nothing = {.status = 404, .body = "", .problem = ""};
	on_answer(user, reply->status == 403 ? &nothing : reply);
}

/* NVIDIA's gpu-feature-discovery gives its object the same name, so only one that we wrote goes. */
static void on_feature(void *user, const struct api_reply *reply)
{
	struct cleaning *cleaning = user;
	json_t *object = api_json_load(reply->body, reply->length, NULL);
	const json_t *fields = json_object_get(json_object_get(object, "metadata"), "managedFields"), *field;
	bool ours = false;
	size_t i;
	json_array_foreach(fields, i, field)
	{
		const char *manager = json_string_value(json_object_get(field, "manager"));
		ours |= manager && strcmp(manager, CLUSTER_FEATURE_MANAGER) == 0;
	}
	json_decref(object);
	if (ours && !*reply->problem &&
	    api_send(cleaning->api, "DELETE", cleaning->feature, NULL, NULL, on_feature_removed, cleaning,
		     cleaning->err) == 0)
		cleaning->left++;
	on_feature_removed(cleaning, reply);
}

static void remove_feature(struct cleaning *cleaning, const struct cluster_options *options)
{
	if (!options->feature_namespace)
		return;
	cleaning->feature = gs_printf(CLUSTER_FEATURE_PATH, options->feature_namespace, options->node_name);
	if (api_send(cleaning->api, "GET", cleaning->feature, NULL, NULL, on_feature, cleaning, cleaning->err) == 0)
		cleaning->left++;
	else
		cleaning->result = -1;
}

static void patch(struct cleaning *cleaning, const char *path, const char *type, json_t *body)
{
	GS_AUTO_FREE char *text = json_dumps(body, JSON_COMPACT);
	if (api_send(cleaning->api, "PATCH", path, type, text, on_answer, cleaning, cleaning->err) == 0)
		cleaning->left++;
	else
		cleaning->result = -1;
	json_decref(body);
}

static void send_all(struct cleaning *cleaning, const char *node_name)
{
	for (size_t i = 0; i < GS_ARRAY_LENGTH(managers); i++) {
		GS_AUTO_FREE char *path =
			gs_printf("/api/v1/nodes/%s?fieldManager=%s&force=true", node_name, managers[i]);
		patch(cleaning, path, "application/apply-patch+yaml",
		      json_pack("{s:s, s:s, s:{s:s}}", "apiVersion", "v1", "kind", "Node", "metadata", "name",
				node_name));
	}
	json_t *conditions = json_array();
	for (size_t i = 0; i < GS_ARRAY_LENGTH(condition_types); i++)
		json_array_append_new(conditions,
				      json_pack("{s:s, s:s}", "$patch", "delete", "type", condition_types[i]));
	GS_AUTO_FREE char *path = gs_printf("/api/v1/nodes/%s/status", node_name);
	patch(cleaning, path, "application/strategic-merge-patch+json",
	      json_pack("{s:{s:o}}", "status", "conditions", conditions));
}

static int clean_once(const struct cluster_options *options, bool *again, struct gs_error *err)
{
	struct cleaning cleaning = {.err = err};
	int failed = uv_loop_init(&cleaning.loop);
	if (failed)
		return gs_fail(err, GS_ERROR_SYSTEM, -failed, "cannot make an event loop: %s", uv_strerror(failed));
	const struct api_options api_options = {.host = options->host,
						.port = options->port,
						.credentials_dir = options->service_account_dir,
						.timeout_ms = REQUEST_MS};
	if (api_open(&cleaning.loop, &api_options, &cleaning.api, err) < 0) {
		uv_loop_close(&cleaning.loop);
		return -1;
	}
	send_all(&cleaning, options->node_name);
	remove_feature(&cleaning, options);
	if (cleaning.left > 0)
		uv_run(&cleaning.loop, UV_RUN_DEFAULT);
	api_close(cleaning.api);
	uv_run(&cleaning.loop, UV_RUN_DEFAULT);
	uv_loop_close(&cleaning.loop);
	free(cleaning.feature);
	*again = cleaning.again;
	return cleaning.result;
}

int cluster_clean(const struct cluster_options *options, struct gs_error *err)
{
	uint64_t deadline = uv_hrtime() + (uint64_t)PATIENCE_MS * 1000000;
	for (;;) {
		bool again = false;
		int result = clean_once(options, &again, err);
		if (result == 0 || !again || uv_hrtime() > deadline)
			return result;
		uv_sleep(PAUSE_MS);
	}
}
