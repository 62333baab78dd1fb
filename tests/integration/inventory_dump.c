/* What the gpu room sees of a node, as lines of JSON: one for each line on stdin, and one for each event.
 *
 *     {"differs": false, "gpus": [{"uuid": ..., "probe": {...}, "sample": {...}}], "links": [...], "problems": [...]}
 *     {"event": "xid", "uuid": ..., "data": 79}
 */
#include <jansson.h>
#include <pthread.h>
#include <stdio.h>

#include "base/cleanup.h"
#include "gpu/inventory_read.h"
#include "gpu/nvml.h"
#include "gpu/probe.h"
#include "gpu/sample.h"
#include "gpu/watch.h"

static pthread_mutex_t output = PTHREAD_MUTEX_INITIALIZER;

static void put(json_t *line)
{
	pthread_mutex_lock(&output);
	json_dumpf(line, stdout, JSON_COMPACT);
	putchar('\n');
	fflush(stdout);
	pthread_mutex_unlock(&output);
	json_decref(line);
}

static void on_event(void *user, const struct gs_watch_event *event)
{
	static const char *const names[] = {[GS_WATCH_XID] = "xid",
					    [GS_WATCH_ECC_DOUBLE] = "ecc",
					    [GS_WATCH_MIG_CHANGED] = "mig",
					    [GS_WATCH_PROBLEM] = "problem"};
	if (event->kind == GS_WATCH_MIG_WATCHED || event->kind == GS_WATCH_REOPENED)
		return; /* nothing happened to a GPU */
	put(json_pack("{ss ss sI sI sI ss}", "event", names[event->kind], "uuid", event->uuid, "data",
		      (json_int_t)event->data, "gpu_instance", (json_int_t)event->gpu_instance, "compute_instance",
		      (json_int_t)event->compute_instance, "text", event->text));
}

static json_t *probe_of(const struct gs_nvml *nvml, const char *uuid)
{
	static const char *const results[] = {
		[GS_PROBE_OK] = "ok", [GS_PROBE_LOST] = "lost", [GS_PROBE_FAILED] = "failed"};
	struct gs_probe probe;
	gs_probe_read(nvml, uuid, &probe);
	return json_pack("{ss sb sb}", "result", results[probe.result], "recovery_known", probe.recovery_known,
			 "remap_known", probe.remap_known);
}

static json_t *sample_of(const struct gs_nvml *nvml, const char *uuid)
{
	struct gs_gpu_sample sample;
	gs_sample_read(nvml, uuid, "/proc", &sample);
	json_t *json =
		json_pack("{si sI sI si si}", "valid", (int)sample.valid, "used", (json_int_t)sample.memory_used_bytes,
			  "total", (json_int_t)sample.memory_total_bytes, "utilization",
			  (int)sample.utilization_percent, "processes", (int)sample.process_count);
	gs_sample_free(&sample);
	return json;
}

static json_t *gpus_of(const struct gs_nvml *nvml, const struct gs_inventory *inventory)
{
	json_t *gpus = json_array();
	for (size_t i = 0; i < inventory->gpu_count; i++) {
		const struct gs_gpu *gpu = &inventory->gpus[i];
		json_array_append_new(gpus, json_pack("{ss ss ss si si sI si so so}", "uuid", gpu->uuid, "name",
						      gpu->name, "bus", gpu->pci_bus_id, "index", (int)gpu->index,
						      "minor", gpu->minor, "memory", (json_int_t)gpu->memory_bytes,
						      "numa", gpu->numa_node, "probe", probe_of(nvml, gpu->uuid),
						      "sample", sample_of(nvml, gpu->uuid)));
	}
	return gpus;
}

static json_t *devices_of(const struct gs_inventory *inventory)
{
	json_t *devices = json_array();
	for (size_t i = 0; i < inventory->device_count; i++) {
		const struct gs_device *device = &inventory->devices[i];
		json_array_append_new(devices,
				      json_pack("{ss ss si ss sI si si}", "uuid", device->uuid, "index", device->index,
						"gpu", (int)device->gpu, "profile", device->mig_profile, "memory",
						(json_int_t)device->memory_bytes, "gi_cap", (int)device->gi_cap,
						"ci_cap", (int)device->ci_cap));
	}
	return devices;
}

int main(int count, char **arguments)
{
	const struct gs_inventory_places places = {.sysfs = "/sys",
						   .driver_roots = {count > 1 ? arguments[1] : "", NULL}};
	static struct gs_nvml *nvml; /* the watch's thread may use it until the end */
	struct gs_watch *watch = NULL;
	struct gs_inventory before = {0};
	struct gs_error err;
	char line[16];
	if (gs_nvml_open("/", &nvml, &err) < 0) {
		fprintf(stderr, "%s\n", err.text);
		return 1;
	}
	while (fgets(line, sizeof line, stdin)) {
		struct gs_problems problems = {0};
		struct gs_inventory now = {0};
		bool differs = gs_inventory_differs(nvml, &before);
		if (gs_inventory_read(nvml, &places, &before, &now, &problems, &err) < 0) {
			put(json_pack("{ss si}", "error", err.text, "code", err.code));
			continue;
		}
		json_t *links = json_array(), *texts = json_array();
		for (size_t i = 0; i < now.gpu_count * now.gpu_count; i++)
			json_array_append_new(links, json_integer(now.link_score[i]));
		for (size_t i = 0; i < problems.count; i++)
			json_array_append_new(texts, json_string(problems.items[i]));
		put(json_pack("{sb so so so so}", "differs", differs, "gpus", gpus_of(nvml, &now), "devices",
			      devices_of(&now), "links", links, "problems", texts));
		gs_problems_free(&problems);
		gs_inventory_free(&before);
		before = now;
		if (watch)
			gs_watch_set_inventory(watch, &before);
		else
			gs_watch_start(nvml, &before, on_event, NULL, &watch, NULL);
	}
	if (watch)
		gs_watch_stop(watch);
	gs_inventory_free(&before);
	return 0;
}
