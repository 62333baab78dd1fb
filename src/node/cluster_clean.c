/* Takes back what the daemon said about the node. A loop of its own: no daemon runs. */
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "kube/api.h"
#include "node/cluster.h"

static const char *const managers[] = {"gpushare", "gpushare-mig"};
static const char *const condition_types[] = {"GPUShareConfigured", "GPUShareHealthy", "GPUShareServing",
					      "GPUShareMIG"};

struct cleaning {
	uv_loop_t loop;
	struct api *api;
	unsigned left; /* requests under way */
	struct gs_error *err;
	int result;
};

static void on_answer(void *user, const struct api_reply *reply)
{
	struct cleaning *cleaning = user;
	cleaning->left--;
	/* A node that is gone has nothing left on it. */
	if (*reply->problem && reply->status != 404)
		cleaning->result = gs_fail(cleaning->err, GS_ERROR_SYSTEM, (int)reply->status, "%s", reply->problem);
	if (cleaning->left == 0)
		uv_stop(&cleaning->loop);
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

int cluster_clean(const struct cluster_options *options, struct gs_error *err)
{
	struct cleaning cleaning = {.err = err};
	int failed = uv_loop_init(&cleaning.loop);
	if (failed)
		return gs_fail(err, GS_ERROR_SYSTEM, -failed, "cannot make an event loop: %s", uv_strerror(failed));
	const struct api_options api_options = {
		.host = options->host, .port = options->port, .credentials_dir = options->service_account_dir};
	if (api_open(&cleaning.loop, &api_options, &cleaning.api, err) < 0) {
		uv_loop_close(&cleaning.loop);
		return -1;
	}
	send_all(&cleaning, options->node_name);
	if (cleaning.left > 0)
		uv_run(&cleaning.loop, UV_RUN_DEFAULT);
	api_close(cleaning.api);
	uv_run(&cleaning.loop, UV_RUN_DEFAULT);
	uv_loop_close(&cleaning.loop);
	return cleaning.result;
}
