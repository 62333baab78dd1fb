#include "node/specs.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/lane.h"
#include "base/log.h"
#include "gpushare/abi.h"
#include "kube/cdi/cdi.h"
#include "node/driver.h"
#include "node/mig_manager.h"
#include "node/node_internal.h"
#include "node/others.h"

/* A device in the spec, and its name there, as containers are given it. A name that is an index may be another device's. */
struct entry {
	char *uuid, *name;
	char *problem; /* why it can't be used; NULL: it can */
};

/* The task, and its result. */
struct job {
	struct gs_config config; /* node->config as it was; borrowed, unless it was replaced meanwhile */
	bool owns_config;
	struct gs_inventory inventory;
	char *version;
	char *driver_root; /* where the driver's files were found before; NULL: they were not */

	char *problem; /* of all; NULL: the specs are true */
	GS_VEC(struct entry) entries;
	bool written;
	bool found; /* the driver's files */
	char *driver, *hook_problem;
	struct node_hook_seen hook_seen;
};

struct node_specs {
	struct node *node;
	struct lane *lane;
	struct job *job;     /* NULL: none is under way */
	bool again, discard; /* what comes of the job does not count */
	bool stopping;

	bool known, due; /* `due`: not yet for the plan in force */
	char *problem;
	GS_VEC(struct entry) entries;
	char *driver_root, *driver_said, *hook_said;
	struct node_hook_seen hook_seen;
};

static bool are_wanted(const struct gs_config *config)
{
	return config->flags.plugin.device_list_strategy & (GS_DEVICE_LIST_CDI_ANNOTATIONS | GS_DEVICE_LIST_CDI_CRI);
}

static void free_entries(struct entry *entries, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		free(entries[i].uuid);
		free(entries[i].name);
		free(entries[i].problem);
	}
	free(entries);
}

static void free_job(struct job *job)
{
	if (job->owns_config)
		gs_config_free(&job->config);
	gs_inventory_free(&job->inventory);
	free_entries(job->entries.items, job->entries.count);
	free(job->version);
	free(job->driver_root);
	free(job->problem);
	free(job->driver);
	free(job->hook_problem);
	free(job);
}

/* --- on the worker's thread --- */

static bool node_exists(const char *path, void *user)
{
	GS_AUTO_FREE char *full = gs_dev_root_path(user, path);
	return access(full, F_OK) == 0;
}

/* A simulated node has no device nodes; where the driver has its control node, it should have those of its GPUs too. */
static char *missing_node(const struct gs_node_check *check, const struct gs_inventory *inventory, size_t device)
{
	gs_device_node paths[GS_DEVICE_NODES_MAX];
	size_t count = gs_node_exists(check, gs_control_nodes[0]) ? gs_device_nodes(inventory, device, paths) : 0;
	for (size_t i = 0; i < count; i++)
		if (!gs_node_exists(check, paths[i]))
			return gs_printf(
				"its device node %s is not there; the driver makes it (nvidia-modprobe -u -c 0)",
				paths[i]);
	return NULL;
}

static void note_entries(struct job *job, const struct gs_node_check *check)
{
	for (size_t i = 0; i < job->inventory.device_count; i++)
		*GS_VEC_PUSH(&job->entries) = (struct entry){
			.uuid = gs_strdup(job->inventory.devices[i].uuid),
			.name = gs_strdup(gs_cdi_device_name(&job->config, &job->inventory.devices[i])),
			.problem = missing_node(check, &job->inventory, i),
		};
}

/* A driver that had files here before has lost them: a container would start without, and fail later. */
static bool find_driver(const struct node *node, struct job *job, struct gs_driver_files *driver)
{
	struct gs_error err;
	job->found = node_driver_files(&job->config, node->options->state_dir, job->version,
				       node->options->cdi_disable_hooks, &job->hook_seen, driver, &job->hook_problem,
				       &err) == 0;
	job->driver = job->found
			      ? gs_printf("%s: %zu files in %s", driver->version, driver->mounts.count, driver->source)
			      : gs_strdup(err.text);
	if (job->found || !job->driver_root || strcmp(job->driver_root, job->config.flags.nvidia_driver_root) != 0)
		return true;
	job->problem = gs_printf("the driver's files that containers got are gone: %s; if the driver was upgraded, "
				 "restart the node, or unload and load the driver",
				 err.text);
	return false;
}

static void make_specs(const struct node *node, struct job *job)
{
	const struct gs_node_check check = {node_exists, &job->config};
	struct gs_driver_files driver = {0};
	struct gs_error err;
	bool wanted = are_wanted(&job->config);
	if (wanted && job->inventory.device_count > 0 && !find_driver(node, job, &driver))
		return;
	for (const char *const *class = gs_cdi_classes; *class; class ++) {
		bool written;
		GS_AUTO_FREE char *spec = wanted ? gs_cdi_render(&job->config, &job->inventory, *class, &check,
								 job->found ? &driver : NULL)
						 : NULL;
		int result = gs_cdi_write(node->options->cdi_dir, *class, spec, &written, &err);
		job->written |= result == 0 && written;
		if (result < 0 && !job->problem)
			job->problem = gs_strdup(err.text);
	}
	gs_driver_files_free(&driver);
	if (wanted)
		note_entries(job, &check);
}

static void run(void *user)
{
	struct node_specs *specs = user;
	make_specs(specs->node, specs->job);
}

/* --- on the loop's thread --- */

static bool differ(const char *a, const char *b)
{
	return a && b ? strcmp(a, b) != 0 : a != b;
}

/* Said once, until it changes. */
static void say_driver(struct node_specs *specs, struct job *job)
{
	if (job->driver && differ(specs->driver_said, job->driver)) {
		if (job->found)
			gs_log(GS_LOG_INFO, "containers get the driver's files through CDI",
			       GS_STR("driver", job->driver));
		else
			gs_log(GS_LOG_WARNING,
			       "containers get no driver files through CDI; NVIDIA's runtime or the image must bring "
			       "them",
			       GS_STR("reason", job->driver));
		free(specs->driver_said);
		specs->driver_said = GS_STEAL(job->driver);
	}
	if (job->hook_problem && differ(specs->hook_said, job->hook_problem))
		gs_log(GS_LOG_WARNING,
		       "the hook for containers can't be put in place; they find the driver's libraries only in the "
		       "loader's own folders",
		       GS_STR("error", job->hook_problem));
	free(specs->hook_said);
	specs->hook_said = GS_STEAL(job->hook_problem);
	specs->hook_seen = job->hook_seen;
}

static bool same_entries(const struct node_specs *specs, const struct job *job)
{
	if (specs->entries.count != job->entries.count)
		return false;
	for (size_t i = 0; i < job->entries.count; i++)
		if (differ(specs->entries.items[i].uuid, job->entries.items[i].uuid) ||
		    differ(specs->entries.items[i].name, job->entries.items[i].name) ||
		    differ(specs->entries.items[i].problem, job->entries.items[i].problem))
			return false;
	return true;
}

static void adopt(struct node_specs *specs, struct job *job)
{
	bool first = !specs->known || specs->due;
	bool changed = differ(specs->problem, job->problem) || !same_entries(specs, job);
	if (job->problem && differ(specs->problem, job->problem))
		gs_log(GS_LOG_ERROR, "containers can't get their GPU through CDI", GS_STR("error", job->problem));
	if (!job->problem && specs->problem)
		gs_log(GS_LOG_INFO, "containers get their GPU through CDI again");
	if (job->written)
		gs_log(GS_LOG_INFO, are_wanted(&job->config) ? "CDI specs written" : "CDI specs removed",
		       GS_STR("directory", specs->node->options->cdi_dir));
	say_driver(specs, job);
	free(specs->problem);
	specs->problem = GS_STEAL(job->problem);
	if (!specs->problem || job->entries.count) { /* else the file's content is as it was */
		free_entries(specs->entries.items, specs->entries.count);
		memcpy(&specs->entries, &job->entries, sizeof specs->entries);
		memset(&job->entries, 0, sizeof job->entries);
	}
	if (job->found && differ(specs->driver_root, job->config.flags.nvidia_driver_root)) {
		free(specs->driver_root);
		specs->driver_root = gs_strdup(job->config.flags.nvidia_driver_root);
	}
	specs->known = true;
	specs->due = false;
	if (changed || first)
		node_publish_health(specs->node);
	if (first)
		node_retry_publish(specs->node);
}

static void free_specs(struct node_specs *specs)
{
	free_entries(specs->entries.items, specs->entries.count);
	free(specs->problem);
	free(specs->driver_root);
	free(specs->driver_said);
	free(specs->hook_said);
	lane_close(specs->lane, NULL, NULL);
	free(specs);
}

static void after_run(void *user)
{
	struct node_specs *specs = user;
	struct job *job = specs->job;
	specs->job = NULL;
	if (!specs->stopping && !specs->discard && !specs->again)
		adopt(specs, job);
	free_job(job);
	if (specs->stopping)
		free_specs(specs);
	else if (specs->again)
		node_specs_look(specs->node);
}

void node_specs_look(struct node *node)
{
	struct node_specs *specs = node->specs;
	if (!specs || !node->options->device_plugin || node_others_hold(node) || mig_manager_holds(node) ||
	    !node->config_ready || !node->inventory_known)
		return;
	specs->again = specs->job != NULL;
	if (specs->job)
		return;
	specs->discard = false;
	specs->job = gs_calloc(1, sizeof *specs->job);
	specs->job->config = node->config;
	gs_inventory_copy(&specs->job->inventory, &node->inventory);
	specs->job->hook_seen = specs->hook_seen;
	specs->job->version = gs_strdup(gpus_driver_version(node->gpus));
	specs->job->driver_root = specs->driver_root ? gs_strdup(specs->driver_root) : NULL;
	lane_run(specs->lane, &(struct lane_work){.run = run, .done = after_run, .user = specs});
}

void node_specs_renew(struct node *node)
{
	if (node->specs)
		node->specs->due = true;
	node_specs_look(node);
}

void node_specs_forget(struct node *node)
{
	struct node_specs *specs = node->specs;
	if (!specs)
		return;
	specs->discard = true;
	specs->known = false;
	free(specs->problem);
	specs->problem = NULL;
	free_entries(specs->entries.items, specs->entries.count);
	memset(&specs->entries, 0, sizeof specs->entries);
}

bool node_specs_known(const struct node *node)
{
	return !are_wanted(&node->config) || (node->specs && node->specs->known && !node->specs->due);
}

bool node_specs_ready(const struct node *node, uint32_t which, const char **reason)
{
	if (!node->specs || !are_wanted(&node->config))
		return true;
	if (node->specs->problem) {
		*reason = node->specs->problem;
		return false;
	}
	const struct gs_device *device = &node->inventory.devices[which];
	const char *name = gs_cdi_device_name(&node->config, device);
	for (size_t i = 0; i < node->specs->entries.count; i++) {
		const struct entry *entry = &node->specs->entries.items[i];
		if (strcmp(entry->uuid, device->uuid) != 0 || strcmp(entry->name, name) != 0)
			continue;
		*reason = entry->problem ? entry->problem : "";
		return !entry->problem;
	}
	*reason = "its CDI spec is being written";
	return false;
}

const char *node_specs_problem(const struct node *node)
{
	return node->specs && are_wanted(&node->config) ? node->specs->problem : NULL;
}

void node_specs_release(struct node *node, struct gs_config *config)
{
	struct job *job = node->specs ? node->specs->job : NULL;
	if (!job || job->owns_config)
		gs_config_free(config);
	else
		job->owns_config = true; /* and has its pointers */
}

void node_specs_start(struct node *node)
{
	node->specs = gs_calloc(1, sizeof *node->specs);
	node->specs->node = node;
	node->specs->lane = lane_new(&node->loop, "cdi-specs");
}

void node_specs_stop(struct node *node)
{
	struct node_specs *specs = node->specs;
	node->specs = NULL;
	if (!specs)
		return;
	specs->stopping = true;
	if (!specs->job)
		free_specs(specs);
}
