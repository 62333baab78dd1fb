#include "node/missing.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/file.h"
#include "base/lane.h"
#include "base/log.h"
#include "base/timestamp.h"
#include "gpushare/abi.h"

enum { FILE_VERSION = 1, FILE_BYTES_MAX = 256 * 1024, GPUS_MAX = 2 * GS_GPUS_MAX };

struct expected {
	struct gs_gpu gpu;     /* as it was last */
	int64_t since_seconds; /* that it is missing; 0: it is there */
	bool reported;         /* the cluster knows that it is missing */
};

struct missing {
	struct node *node;
	char *path;
	char *machine; /* "": a real one */
	GS_VEC(struct expected) gpus;
	bool changed;      /* since it was last written */
	struct lane *lane; /* NULL: it stops */
	char *text;        /* being written; NULL: no write is under way */
	int result;
	struct gs_error error;
	bool failed; /* said once, until a write works again */
};

/* --- the file --- */

/* A simulated node that is made anew in the same directory is another machine: its GPUs have nothing to do with those that
 * were there before. */
static char *identify_machine(void)
{
	const char *sim = getenv(GPUSHARE_ENV_SIM);
	GS_AUTO_FREE char *path = sim && *sim ? gs_printf("%s/clients", sim) : NULL;
	struct stat info;
	if (!path || stat(path, &info) < 0)
		return gs_strdup("");
	return gs_printf("simulated %" PRIu64 " %" PRId64 ".%09ld", (uint64_t)info.st_ino, (int64_t)info.st_mtim.tv_sec,
			 info.st_mtim.tv_nsec);
}

static bool copy_text(const json_t *object, const char *key, char *to, size_t size)
{
	const char *text = json_string_value(json_object_get(object, key));
	if (!text || strlen(text) >= size)
		return false;
	memcpy(to, text, strlen(text) + 1);
	return true;
}

static bool read_gpu(const json_t *item, struct expected *expected)
{
	struct gs_gpu *gpu = &expected->gpu;
	json_int_t index = json_integer_value(json_object_get(item, "index"));
	*expected = (struct expected){0};
	expected->since_seconds = json_integer_value(json_object_get(item, "missingSince"));
	gpu->index = index >= 0 && index < GS_GPUS_MAX ? (unsigned)index : 0;
	gpu->minor = (int)json_integer_value(json_object_get(item, "minor"));
	return copy_text(item, "uuid", gpu->uuid, sizeof gpu->uuid) && *gpu->uuid &&
	       copy_text(item, "name", gpu->name, sizeof gpu->name) &&
	       copy_text(item, "pciBusId", gpu->pci_bus_id, sizeof gpu->pci_bus_id) && expected->since_seconds >= 0;
}

static int read_file(struct missing *missing, struct gs_error *err)
{
	size_t length;
	GS_AUTO_FREE char *text = gs_read_own_file(missing->path, FILE_BYTES_MAX, &length, err);
	if (!text)
		return -1;
	json_t *document = json_loadb(text, length, 0, NULL), *gpus = json_object_get(document, "gpus");
	const char *machine = json_string_value(json_object_get(document, "machine"));
	bool valid = json_integer_value(json_object_get(document, "version")) == FILE_VERSION && machine &&
		     json_is_array(gpus) && json_array_size(gpus) <= GPUS_MAX;
	bool same = valid && strcmp(machine, missing->machine) == 0;
	for (size_t i = 0; same && valid && i < json_array_size(gpus); i++)
		valid = read_gpu(json_array_get(gpus, i), GS_VEC_PUSH(&missing->gpus));
	json_decref(document);
	if (valid)
		return 0;
	missing->gpus.count = 0;
	return gs_fail(err, GS_ERROR_INPUT, 0, "%s: not a list of GPUs of version %d", missing->path, FILE_VERSION);
}

struct missing *node_missing_open(struct node *node)
{
	struct missing *missing = gs_calloc(1, sizeof *missing);
	struct gs_error err;
	missing->node = node;
	missing->path = gs_printf("%s/gpus.json", node->options->state_dir);
	missing->machine = identify_machine();
	missing->lane = lane_new(&node->loop, "gpus-file");
	if (read_file(missing, &err) < 0 && !(err.source == GS_ERROR_SYSTEM && err.code == ENOENT)) {
		gs_set_aside(missing->path, &err);
		gs_log(GS_LOG_WARNING, "what GPUs this node should have could not be read", GS_STR("error", err.text));
	}
	return missing;
}

void node_missing_stop(struct missing *missing)
{
	if (!missing || !missing->lane)
		return;
	lane_close(missing->lane, NULL, NULL);
	missing->lane = NULL;
}

void node_missing_free(struct missing *missing)
{
	if (!missing)
		return;
	GS_VEC_FREE(&missing->gpus);
	free(missing->path);
	free(missing->machine);
	free(missing);
}

static char *render(const struct missing *missing)
{
	json_t *gpus = json_array();
	for (size_t i = 0; i < missing->gpus.count; i++) {
		const struct expected *expected = &missing->gpus.items[i];
		json_t *item = json_pack("{s:s, s:s, s:s, s:i, s:i}", "uuid", expected->gpu.uuid, "name",
					 expected->gpu.name, "pciBusId", expected->gpu.pci_bus_id, "index",
					 (int)expected->gpu.index, "minor", expected->gpu.minor);
		if (expected->since_seconds)
			json_object_set_new(item, "missingSince", json_integer(expected->since_seconds));
		json_array_append_new(gpus, item);
	}
	json_t *document =
		json_pack("{s:i, s:s, s:o}", "version", FILE_VERSION, "machine", missing->machine, "gpus", gpus);
	char *text = json_dumps(document, JSON_INDENT(1));
	json_decref(document);
	return text;
}

static void write_text(void *user)
{
	struct missing *missing = user;
	missing->result = gs_write_file(missing->path, missing->text, strlen(missing->text), 0600, &missing->error);
}

static void save(struct missing *missing);

static void on_written(void *user)
{
	struct missing *missing = user;
	free(missing->text);
	missing->text = NULL;
	bool failed = missing->result < 0;
	if (failed && !missing->failed)
		gs_log(GS_LOG_WARNING, "what GPUs this node should have can't be kept for the next start",
		       GS_STR("error", missing->error.text));
	missing->failed = failed;
	missing->changed |= failed;
	if (!failed)
		save(missing);
}

/* On a worker thread, because a disk can be slow. One that fails is tried again at the next look. */
static void save(struct missing *missing)
{
	if (!missing->changed || missing->text || !missing->lane)
		return;
	missing->text = render(missing);
	if (!missing->text)
		return;
	missing->changed = false;
	lane_run(missing->lane, &(struct lane_work){.run = write_text, .done = on_written, .user = missing});
}

/* --- missing GPUs --- */

static void drop(struct missing *missing, size_t which)
{
	missing->gpus.count--;
	memmove(&missing->gpus.items[which], &missing->gpus.items[which + 1],
		(missing->gpus.count - which) * sizeof *missing->gpus.items);
	missing->changed = true;
}

static struct expected *find(struct missing *missing, const char *uuid)
{
	for (size_t i = 0; i < missing->gpus.count; i++)
		if (strcmp(missing->gpus.items[i].gpu.uuid, uuid) == 0)
			return &missing->gpus.items[i];
	return NULL;
}

/* A GPU that was never here before is where one was: that one was replaced. */
static void drop_replaced(struct missing *missing, const struct gs_gpu *newcomer)
{
	for (size_t i = missing->gpus.count; i > 0; i--) {
		const struct expected *expected = &missing->gpus.items[i - 1];
		if (!expected->since_seconds || !*newcomer->pci_bus_id ||
		    strcmp(expected->gpu.pci_bus_id, newcomer->pci_bus_id) != 0)
			continue;
		gs_log(GS_LOG_INFO, "a GPU was replaced", GS_STR("gpu", expected->gpu.uuid),
		       GS_STR("by", newcomer->uuid), GS_STR("address", newcomer->pci_bus_id));
		drop(missing, i - 1);
	}
}

static void add(struct missing *missing, const struct gs_gpu *gpu)
{
	size_t oldest = 0;
	drop_replaced(missing, gpu);
	while (oldest < missing->gpus.count && !missing->gpus.items[oldest].since_seconds)
		oldest++;
	if (missing->gpus.count >= GPUS_MAX)
		drop(missing, oldest); /* no more than half of them can be there */
	*GS_VEC_PUSH(&missing->gpus) = (struct expected){.gpu = *gpu};
	missing->changed = true;
}

static void update_there(struct missing *missing, const struct gs_gpu *gpu)
{
	struct expected *expected = find(missing, gpu->uuid);
	if (!expected)
		return;
	if (expected->since_seconds)
		gs_log(GS_LOG_INFO, "a GPU that was missing is back", GS_STR("gpu", expected->gpu.uuid));
	missing->changed |= expected->since_seconds != 0 || expected->gpu.index != gpu->index ||
			    strcmp(expected->gpu.pci_bus_id, gpu->pci_bus_id) != 0;
	expected->gpu = *gpu;
	expected->since_seconds = 0;
}

void node_missing_update(struct node *node, const struct gs_inventory *inventory)
{
	struct missing *missing = node->missing;
	if (node->stopping)
		return;
	for (size_t i = 0; i < inventory->gpu_count; i++)
		update_there(missing, &inventory->gpus[i]);
	for (size_t i = 0; i < missing->gpus.count; i++) {
		struct expected *expected = &missing->gpus.items[i];
		if (expected->since_seconds || gs_inventory_has(inventory, expected->gpu.uuid))
			continue;
		expected->since_seconds = (int64_t)time(NULL);
		missing->changed = true;
		gs_log(GS_LOG_WARNING, "a GPU is missing", GS_INT("index", expected->gpu.index),
		       GS_STR("gpu", expected->gpu.uuid), GS_STR("address", expected->gpu.pci_bus_id));
	}
	for (size_t i = 0; i < inventory->gpu_count; i++)
		if (!find(missing, inventory->gpus[i].uuid))
			add(missing, &inventory->gpus[i]);
	save(missing);
}

void node_missing_looked(struct node *node)
{
	save(node->missing);
}

size_t node_missing_count(const struct node *node)
{
	size_t count = 0;
	for (size_t i = 0; i < node->missing->gpus.count; i++)
		count += node->missing->gpus.items[i].since_seconds != 0;
	return count;
}

void node_missing_each(const struct node *node, void (*tell)(void *user, const struct gs_gpu *gpu), void *user)
{
	for (size_t i = 0; i < node->missing->gpus.count; i++)
		if (node->missing->gpus.items[i].since_seconds)
			tell(user, &node->missing->gpus.items[i].gpu);
}

static const char *since(const struct expected *expected, char text[GS_TIMESTAMP_SIZE])
{
	return gs_timestamp((struct timespec){.tv_sec = expected->since_seconds}, 0, text);
}

void node_missing_problems(const struct node *node, json_t *problems)
{
	char when[GS_TIMESTAMP_SIZE];
	for (size_t i = 0; i < node->missing->gpus.count; i++) {
		const struct expected *expected = &node->missing->gpus.items[i];
		const struct gs_gpu *gpu = &expected->gpu;
		if (!expected->since_seconds)
			continue;
		GS_AUTO_FREE char *text = gs_printf(
			"GPU %u (%s, %s, at %s) is missing since %s; dmesg may tell why. If it was taken out for good: "
			"gpushare forget %s",
			gpu->index, gpu->name, gpu->uuid, *gpu->pci_bus_id ? gpu->pci_bus_id : "an unknown address",
			since(expected, when), gpu->uuid);
		json_array_append_new(problems, json_string(text));
	}
	if (node->missing->failed)
		json_array_append_new(problems, json_string("what GPUs this node should have can't be kept for the "
							    "next start; see the log"));
}

json_t *node_missing_json(const struct node *node)
{
	json_t *list = json_array();
	char when[GS_TIMESTAMP_SIZE];
	for (size_t i = 0; i < node->missing->gpus.count; i++) {
		const struct expected *expected = &node->missing->gpus.items[i];
		if (expected->since_seconds)
			json_array_append_new(
				list, json_pack("{s:i, s:s, s:s, s:s, s:s}", "index", (int)expected->gpu.index, "uuid",
						expected->gpu.uuid, "name", expected->gpu.name, "pciBusId",
						expected->gpu.pci_bus_id, "since", since(expected, when)));
	}
	return list;
}

void node_missing_report(struct node *node, struct gs_strbuf *text)
{
	for (size_t i = 0; i < node->missing->gpus.count; i++) {
		struct expected *expected = &node->missing->gpus.items[i];
		GS_AUTO_FREE char *name = gs_printf("GPU %u (%s)", expected->gpu.index, expected->gpu.uuid);
		if (expected->since_seconds)
			gs_strbuf_printf(text, "%s%s is missing", text->length ? "; " : "", name);
		if (expected->reported == (expected->since_seconds != 0))
			continue;
		expected->reported = !expected->reported;
		GS_AUTO_FREE char *message =
			gs_printf(expected->reported ? "%s is missing; if it was taken out for good, tell the daemon: "
						       "gpushare forget %s"
						     : "%s is there again",
				  name, expected->gpu.uuid);
		cluster_event(node->cluster, expected->reported, expected->reported ? "GPUMissing" : "GPUFound",
			      "CheckHealth", message);
	}
}

/* --- what an operator says is gone --- */

/* The GPUs of the request that are missing are forgotten; without any, all that are. The reply lists them. */
static json_t *forget(struct missing *missing, const json_t *uuids)
{
	json_t *forgotten = json_array();
	for (size_t i = missing->gpus.count; i > 0; i--) {
		const struct expected *expected = &missing->gpus.items[i - 1];
		bool named = json_array_size(uuids) == 0;
		for (size_t j = 0; j < json_array_size(uuids); j++) {
			const char *uuid = json_string_value(json_array_get(uuids, j));
			named |= uuid && strcmp(uuid, expected->gpu.uuid) == 0;
		}
		if (!named || !expected->since_seconds)
			continue;
		gs_log(GS_LOG_INFO, "a missing GPU is forgotten, as an operator said",
		       GS_STR("gpu", expected->gpu.uuid));
		json_array_insert_new(forgotten, 0, json_string(expected->gpu.uuid));
		drop(missing, i - 1);
	}
	return forgotten;
}

void node_on_forget(struct rpc_call *call, const uint8_t *request, size_t length, void *user)
{
	struct node *node = user;
	json_t *document = length ? json_loadb((const char *)request, length, 0, NULL) : NULL;
	json_t *uuids = json_object_get(document, "gpus");
	if (!json_is_array(uuids) || json_array_size(uuids) > GPUS_MAX || node->stopping) {
		rpc_call_finish(call, node->stopping ? RPC_UNAVAILABLE : RPC_INVALID_ARGUMENT,
				"the request must be {\"gpus\": [UUID, ...]}");
		json_decref(document);
		return;
	}
	json_t *reply = json_pack("{s:o}", "forgotten", forget(node->missing, uuids));
	char *text = json_dumps(reply, JSON_COMPACT);
	json_decref(reply);
	json_decref(document);
	save(node->missing);
	node_report(node);
	rpc_call_send(call, (const uint8_t *)text, strlen(text));
	rpc_call_finish(call, RPC_OK, NULL);
	free(text);
}
