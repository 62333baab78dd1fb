#include "kube/cdi/cdi.h"

#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "gpushare/abi.h"
#include "base/file.h"

/* The oldest version that allows hostPath and names that begin with a digit, so that every runtime with CDI reads it. */
#define CDI_VERSION "0.5.0"

enum {
	CDI_FILE_BYTES_MAX = 4 * 1024 * 1024,
	HOOK_SECONDS_MAX = 60, /* after which the runtime ends a hook: much more than one needs, on a busy node too */
};

const char *const gs_cdi_classes[] = {"gpu", "imex-channel", "gdrcopy", "gds", "mofed", NULL};

const char *gs_cdi_device_name(const struct gs_config *config, const struct gs_device *device)
{
	return config->flags.plugin.device_id_strategy == GS_DEVICE_ID_INDEX ? device->index : device->uuid;
}

static bool dev_root_is_plain(const struct gs_config *config)
{
	const char *root = config->flags.nvidia_dev_root;

	return !root || !*root || !strcmp(root, "/");
}

char *gs_dev_root_path(const struct gs_config *config, const char *node)
{
	const char *root = config->flags.nvidia_dev_root;

	if (dev_root_is_plain(config))
		return gs_strdup(node);
	size_t length = strlen(root);
	while (length && root[length - 1] == '/')
		length--;
	return gs_printf("%.*s%s", (int)length, root, node);
}

/* jansson makes NULL of text that is no UTF-8 (a config is, and a UUID should be) and takes NULL in, adding nothing. */
static void append_node(json_t *nodes, const struct gs_config *config, const char *path)
{
	json_t *node = json_pack("{s:s}", "path", path);

	if (!dev_root_is_plain(config)) {
		GS_AUTO_FREE char *host = gs_dev_root_path(config, path);
		json_object_set_new(node, "hostPath", json_string(host));
	}
	json_object_set_new(node, "permissions", json_string("rw"));
	json_array_append_new(nodes, node);
}

static json_t *new_device(const char *name, json_t *nodes)
{
	return json_pack("{s:s, s:{s:o}}", "name", name, "containerEdits", "deviceNodes", nodes);
}

static bool has_node(const json_t *nodes, const char *path)
{
	size_t i;
	json_t *node;

	json_array_foreach(nodes, i, node)
	{
		const char *other = json_string_value(json_object_get(node, "path"));
		if (other && !strcmp(other, path))
			return true;
	}
	return false;
}

/* One entry for each device, and "all" for all of them, as nvidia-ctk makes it. */
static json_t *gpu_devices(const struct gs_config *config, const struct gs_inventory *inventory)
{
	json_t *devices = json_array(), *all = json_array();
	bool none = config->flags.mig_strategy == GS_MIG_NONE;

	for (size_t i = 0; i < inventory->device_count; i++) {
		const struct gs_device *device = &inventory->devices[i];
		gs_device_node paths[GS_DEVICE_NODES_MAX];
		size_t count = gs_device_nodes(inventory, i, paths);
		if (!count || (device->mig ? none : inventory->gpus[device->gpu].mig_enabled && !none))
			continue;
		json_t *nodes = json_array();
		for (size_t j = 0; j < count; j++) {
			append_node(nodes, config, paths[j]);
			if (!has_node(all, paths[j]))
				append_node(all, config, paths[j]);
		}
		json_array_append_new(devices, new_device(gs_cdi_device_name(config, device), nodes));
	}
	if (json_array_size(all))
		json_array_append_new(devices, new_device("all", all));
	else
		json_decref(all);
	return devices;
}

/* The edits that every device of class gpu needs. The environment variable keeps NVIDIA's own runtime, where it is in
 * charge too, from adding every GPU because an image asks for all. */
static json_t *gpu_common(const struct gs_config *config, const struct gs_node_check *check)
{
	json_t *nodes = json_array();

	for (const char *const *node = gs_control_nodes; *node; node++)
		if (gs_node_exists(check, *node))
			append_node(nodes, config, *node);
	json_t *edits = json_pack("{s:[s]}", "env", "NVIDIA_VISIBLE_DEVICES=void");
	if (json_array_size(nodes))
		json_object_set(edits, "deviceNodes", nodes);
	json_decref(nodes);
	return edits;
}

/* NVIDIA's program has its hooks behind a word of their own; its other one, and ours, do not. */
static json_t *new_hook(const char *path, const char *command)
{
	const char *name = strrchr(path, '/') ? strrchr(path, '/') + 1 : path;
	json_t *arguments = json_pack("[s]", name);

	if (!strcmp(name, "nvidia-ctk"))
		json_array_append_new(arguments, json_string("hook"));
	json_array_append_new(arguments, json_string(command));
	return json_pack("{s:s, s:s, s:o, s:i}", "hookName", "createContainer", "path", path, "args", arguments,
			 "timeout", HOOK_SECONDS_MAX);
}

static void append_argument(json_t *hook, const char *option, const char *value)
{
	json_t *arguments = json_object_get(hook, "args");

	json_array_append_new(arguments, json_string(option));
	json_array_append_new(arguments, json_string(value));
}

/* A container joins a simulated node by its state and its clients' locks and pids, which it writes; all else there (the libraries
 * and programs, which other containers and the daemon run) it may only read. */
static void add_sim_mounts(json_t *mounts, const char *sim_dir)
{
	static const struct {
		const char *name, *access;
	} parts[] = {{"", "ro"}, {"/state", "rw"}, {"/clients", "rw"}, {"/pids", "rw"}};

	for (size_t i = 0; i < GS_ARRAY_LENGTH(parts); i++) {
		GS_AUTO_FREE char *path = gs_printf("%s%s", sim_dir, parts[i].name);
		json_array_append_new(mounts,
				      json_pack("{s:s, s:s, s:[s,s,s,s,s]}", "hostPath", path, "containerPath", path,
						"options", parts[i].access, "nosuid", "nodev", "rbind", "rprivate"));
	}
}

/* Options as NVIDIA's toolkit sets them: nothing that a container could use to change the node. */
static json_t *driver_mounts(const struct gs_driver_files *driver)
{
	json_t *mounts = json_array();

	for (size_t i = 0; i < driver->mounts.count; i++) {
		const struct gs_driver_mount *mount = &driver->mounts.items[i];
		json_t *options = json_pack("[s,s,s,s,s]", "ro", "nosuid", "nodev", "rbind", "rprivate");
		if (mount->socket)
			json_array_append_new(options, json_string("noexec"));
		json_array_append_new(mounts, json_pack("{s:s, s:s, s:o}", "hostPath", mount->host, "containerPath",
							mount->container, "options", options));
	}
	if (driver->sim_dir)
		add_sim_mounts(mounts, driver->sim_dir);
	return mounts;
}

/* In the order of NVIDIA's toolkit: the loader's cache is made once the links and the image's own libcuda are known. */
static json_t *driver_hooks(const struct gs_driver_files *driver)
{
	json_t *hooks = json_array();

	for (size_t i = 0; i < GS_HOOK_COUNT; i++) {
		enum gs_hook kind = (enum gs_hook)(1u << i);
		if (!(driver->hooks & kind) || (kind == GS_HOOK_CREATE_SYMLINKS && !driver->links.count))
			continue;
		json_t *hook = new_hook(driver->hook, gs_hook_names[i]);
		if (kind == GS_HOOK_UPDATE_LDCACHE)
			append_argument(hook, "--folder", driver->folder);
		if (kind == GS_HOOK_ENABLE_CUDA_COMPAT) {
			GS_AUTO_FREE char *version = gs_printf("--host-driver-version=%s", driver->version);
			json_array_append_new(json_object_get(hook, "args"), json_string(version));
		}
		for (size_t j = 0; kind == GS_HOOK_CREATE_SYMLINKS && j < driver->links.count; j++) {
			GS_AUTO_FREE char *link =
				gs_printf("%s::%s", driver->links.items[j].target, driver->links.items[j].path);
			append_argument(hook, "--link", link);
		}
		json_array_append_new(hooks, hook);
	}
	return hooks;
}

static void add_driver(json_t *edits, const struct gs_driver_files *driver)
{
	if (driver->sim_dir) {
		GS_AUTO_FREE char *node = gs_printf(GPUSHARE_ENV_SIM "=%s", driver->sim_dir);
		json_array_append_new(json_object_get(edits, "env"), json_string(node));
		json_array_append_new(json_object_get(edits, "env"), json_string(GPUSHARE_ENV_SIM_DEVICES "=/dev"));
	}
	json_object_set_new(edits, "mounts", driver_mounts(driver));
	json_t *hooks = driver_hooks(driver);
	if (json_array_size(hooks))
		json_object_set(edits, "hooks", hooks);
	json_decref(hooks);
}

static json_t *imex_devices(const struct gs_config *config, const struct gs_node_check *check)
{
	json_t *devices = json_array();

	for (size_t i = 0; i < config->imex_channel_count; i++) {
		gs_device_node path;
		char name[24];
		gs_imex_node(config->imex_channel_ids[i], path);
		if (!gs_node_exists(check, path))
			continue;
		snprintf(name, sizeof name, "%" PRId64, config->imex_channel_ids[i]);
		json_t *nodes = json_array();
		append_node(nodes, config, path);
		json_array_append_new(devices, new_device(name, nodes));
	}
	return devices;
}

struct node_list {
	const struct gs_config *config;
	json_t *nodes;
};

static bool append_found(const char *path, void *user)
{
	struct node_list *list = user;

	append_node(list->nodes, list->config, path);
	return true;
}

static json_t *extra_devices(const struct gs_config *config, const char *class_name, const struct gs_node_check *check)
{
	json_t *devices = json_array();

	for (size_t i = 0; i < GS_EXTRA_COUNT; i++) {
		const struct gs_extra *extra = &gs_extras[i];
		struct node_list list = {config, NULL};
		if (strcmp(extra->class_name, class_name) || !gs_extra_enabled(config, extra))
			continue;
		list.nodes = json_array();
		gs_extra_nodes(extra, check, append_found, &list);
		if (!json_array_size(list.nodes)) {
			json_decref(list.nodes);
			continue;
		}
		json_t *device = new_device("all", list.nodes), *mounts = json_array();
		for (size_t j = 0; j < 2 && extra->mounts[j]; j++)
			if (gs_node_exists(check, extra->mounts[j]))
				json_array_append_new(mounts, json_pack("{s:s, s:s, s:[s, s]}", "hostPath",
									extra->mounts[j], "containerPath",
									extra->mounts[j], "options", "ro", "rbind"));
		if (json_array_size(mounts))
			json_object_set(json_object_get(device, "containerEdits"), "mounts", mounts);
		json_decref(mounts);
		json_array_append_new(devices, device);
	}
	return devices;
}

char *gs_cdi_render(const struct gs_config *config, const struct gs_inventory *inventory, const char *class_name,
		    const struct gs_node_check *check, const struct gs_driver_files *driver)
{
	bool gpu = !strcmp(class_name, "gpu");
	json_t *devices;

	if (gpu)
		devices = gpu_devices(config, inventory);
	else if (!strcmp(class_name, "imex-channel"))
		devices = imex_devices(config, check);
	else
		devices = extra_devices(config, class_name, check);
	if (!json_array_size(devices)) {
		json_decref(devices);
		return NULL;
	}
	GS_AUTO_FREE char *kind = gs_printf(GS_CDI_VENDOR "/%s", class_name);
	json_t *spec = json_pack("{s:s, s:s, s:o}", "cdiVersion", CDI_VERSION, "kind", kind, "devices", devices);
	json_t *edits = gpu ? gpu_common(config, check) : json_pack("{s:[]}", "env");
	if (gpu && driver)
		add_driver(edits, driver);
	json_array_append_new(json_object_get(edits, "env"), json_string(GS_CDI_MARK));
	json_object_set_new(spec, "containerEdits", edits);
	char *dumped = json_dumps(spec, JSON_INDENT(2));
	json_decref(spec);
	if (!dumped)
		return NULL;
	char *text = gs_printf("%s\n", dumped);
	free(dumped);
	return text;
}

char *gs_cdi_path(const char *dir, const char *class_name)
{
	return gs_printf("%s/" GS_CDI_VENDOR "-%s.json", dir, class_name);
}

static bool gs_cdi_is_ours(const char *text)
{
	return strstr(text, "\"" GS_CDI_MARK "\"") != NULL;
}

/* The file's present state. Text is owned by the caller, NULL when it is no text of ours or there is no file. -1 when
 * the file can't be read now. */
static int look(const char *path, bool *there, char **text, struct gs_error *err)
{
	struct stat about;
	struct gs_error why = {0};
	size_t length;

	*text = NULL;
	*there = lstat(path, &about) == 0;
	if (!*there)
		return errno == ENOENT || errno == ENOTDIR ? 0 : gs_fail_errno(err, "cannot look at %s", path);
	if (!S_ISREG(about.st_mode))
		return 0;
	GS_AUTO_FREE char *found = gs_read_own_file(path, CDI_FILE_BYTES_MAX, &length, &why);
	if (!found && why.source == GS_ERROR_SYSTEM) {
		*err = why;
		return -1;
	}
	if (found && gs_cdi_is_ours(found))
		*text = GS_STEAL(found);
	return 0;
}

int gs_cdi_remove(const char *dir, const char *class_name, bool *removed, struct gs_error *err)
{
	GS_AUTO_FREE char *path = gs_cdi_path(dir, class_name);
	GS_AUTO_FREE char *aside = gs_printf("%s" GS_CDI_ASIDE, path);
	GS_AUTO_FREE char *before = NULL;
	bool there;

	*removed = false;
	if (look(path, &there, &before, err) < 0)
		return -1;
	if (there && !before) { /* another program made it since, and the file put aside is older */
		unlink(aside);
		return 0;
	}
	if (rename(aside, path) == 0) {
		*removed = before != NULL;
		return 0;
	}
	if (!there || unlink(path) == 0) {
		*removed = there;
		return 0;
	}
	return gs_fail_errno(err, "cannot remove %s", path);
}

int gs_cdi_write(const char *dir, const char *class_name, const char *text, bool *written, struct gs_error *err)
{
	GS_AUTO_FREE char *path = gs_cdi_path(dir, class_name);
	GS_AUTO_FREE char *aside = gs_printf("%s" GS_CDI_ASIDE, path);
	GS_AUTO_FREE char *before = NULL;
	bool there;

	*written = false;
	if (!text)
		return gs_cdi_remove(dir, class_name, written, err);
	if (look(path, &there, &before, err) < 0)
		return -1;
	if (before && !strcmp(before, text))
		return 0;
	if (there && !before && rename(path, aside) < 0)
		return gs_fail_errno(err, "cannot put aside %s, which another program wrote", path);
	if (gs_make_directories(dir, 0755, err))
		return -1;
	*written = true;
	return gs_write_file(path, text, strlen(text), 0644, err);
}
