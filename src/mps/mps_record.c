#include "mps/mps_record.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/file.h"

enum { RECORD_BYTES_MAX = 1024 * 1024, RECORD_VERSION = 1, BOOT_BYTES_MAX = 128 };

static char *read_boot(void)
{
	size_t length;
	char *boot = gs_read_file("/proc/sys/kernel/random/boot_id", BOOT_BYTES_MAX, &length, NULL);
	if (boot)
		boot[strcspn(boot, "\n")] = '\0';
	return boot ? boot : gs_strdup("");
}

int gs_mps_record_parse(const char *text, size_t length, const char *boot, struct gs_mps_record *record)
{
	json_t *document = json_loadb(text, length, JSON_REJECT_DUPLICATES, NULL);
	json_t *modes = json_object_get(document, "computeModes"), *daemons = json_object_get(document, "daemons");
	const char *root = json_string_value(json_object_get(document, "root"));
	const char *its_boot = json_string_value(json_object_get(document, "boot"));
	bool good = json_integer_value(json_object_get(document, "version")) == RECORD_VERSION && json_is_object(modes);
	if (good) {
		record->modes = json_incref(modes);
		record->root = root ? gs_strdup(root) : NULL;
		if (json_is_object(daemons) && its_boot && strcmp(its_boot, boot) == 0)
			record->daemons = json_incref(daemons);
	}
	json_decref(document);
	return good ? 0 : -1;
}

void gs_mps_record_open(struct gs_mps_record *record, const char *state_dir, struct gs_error *problem)
{
	struct gs_error err = {0};
	size_t length;
	*record = (struct gs_mps_record){.path = gs_printf("%s/mps.json", state_dir)};
	GS_AUTO_FREE char *text = gs_read_own_file(record->path, RECORD_BYTES_MAX, &length, &err);
	GS_AUTO_FREE char *boot = read_boot();
	record->found = text && gs_mps_record_parse(text, length, boot, record) == 0;
	if (text && !record->found)
		gs_fail(&err, GS_ERROR_INPUT, 0, "%s: not a record of compute modes of version %d", record->path,
			RECORD_VERSION);
	if (err.source != GS_ERROR_NONE && !(err.source == GS_ERROR_SYSTEM && err.code == ENOENT)) {
		gs_set_aside(record->path, &err); /* it holds the GPUs' old compute modes, which an operator may need */
		if (problem)
			*problem = err;
	}
	if (!record->modes)
		record->modes = json_object();
	if (!record->daemons)
		record->daemons = json_object();
}

void gs_mps_record_free(struct gs_mps_record *record)
{
	json_decref(record->modes);
	json_decref(record->daemons);
	free(record->path);
	free(record->root);
	*record = (struct gs_mps_record){0};
}

static int save(const struct gs_mps_record *record, struct gs_error *err)
{
	GS_AUTO_FREE char *boot = read_boot();
	json_t *document = json_pack("{s:i, s:O, s:s*, s:s, s:O}", "version", RECORD_VERSION, "computeModes",
				     record->modes, "root", record->root, "boot", boot, "daemons", record->daemons);
	GS_AUTO_FREE char *text = json_dumps(document, JSON_INDENT(1));
	json_decref(document);
	if (!text)
		return gs_fail(err, GS_ERROR_INPUT, EINVAL, "%s can't be written: a path is not UTF-8", record->path);
	return gs_write_file(record->path, text, strlen(text), 0600, err);
}

struct gs_mps_known *gs_mps_record_known(const struct gs_mps_record *record, size_t *count)
{
	struct gs_mps_known *known = gs_calloc(json_object_size(record->daemons), sizeof *known);
	const char *directory;
	json_t *value;
	*count = 0;
	json_object_foreach(record->daemons, directory, value)
	{
		GS_AUTO_FREE char *pipes = gs_printf("%s/pipe", directory);
		json_int_t pid = json_integer_value(json_object_get(value, "pid"));
		json_int_t start = json_integer_value(json_object_get(value, "start"));
		char *root, *key = pid > 0 && pid <= INT32_MAX && start > 0 ? mps_parse_key(pipes, &root) : NULL;
		if (!key)
			continue;
		known[(*count)++] = (struct gs_mps_known){
			.root = root, .key = key, .identity = {.pid = (pid_t)pid, .start = (uint64_t)start}};
	}
	return known;
}

void gs_mps_known_free(struct gs_mps_known *known, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		free(known[i].root);
		free(known[i].key);
	}
	free(known);
}

int gs_mps_record_daemon(struct gs_mps_record *record, const char *directory, const struct mps_identity *identity,
			 struct gs_error *err)
{
	if (!identity->pid)
		json_object_del(record->daemons, directory);
	else
		json_object_set_new(
			record->daemons, directory,
			json_pack("{s:i, s:I}", "pid", (int)identity->pid, "start", (json_int_t)identity->start));
	return save(record, err);
}

char *gs_mps_root(const char *path)
{
	size_t length = strlen(path);
	while (length > 1 && path[length - 1] == '/')
		length--;
	return gs_printf("%.*s", (int)length, path);
}

int gs_mps_record_root(struct gs_mps_record *record, const char *root, struct gs_error *err)
{
	char *given = gs_mps_root(root);
	bool same = record->root && strcmp(record->root, given) == 0;
	free(record->root);
	record->root = given;
	return same ? 0 : save(record, err);
}

static int find(const struct gs_nvml *nvml, const char *gpu, nvmlDevice_t *device, struct gs_error *err)
{
	nvmlReturn_t code = GS_NVML(nvml, DeviceGetHandleByUUID, gpu, device);
	return code == NVML_SUCCESS ? 0 : gs_nvml_fail(nvml, code, "nvmlDeviceGetHandleByUUID", err);
}

static int set(const struct gs_nvml *nvml, nvmlDevice_t device, nvmlComputeMode_t mode, struct gs_error *err)
{
	nvmlReturn_t code = GS_NVML(nvml, DeviceSetComputeMode, device, mode);
	return code == NVML_SUCCESS ? 0 : gs_nvml_fail(nvml, code, "nvmlDeviceSetComputeMode", err);
}

int gs_mps_make_exclusive(struct gs_mps_record *record, const struct gs_nvml *nvml, const char *gpu,
			  struct gs_error *err)
{
	nvmlDevice_t device;
	nvmlComputeMode_t before;
	if (find(nvml, gpu, &device, err) < 0)
		return -1;
	nvmlReturn_t code = GS_NVML(nvml, DeviceGetComputeMode, device, &before);
	if (code != NVML_SUCCESS)
		return gs_nvml_fail(nvml, code, "nvmlDeviceGetComputeMode", err);
	if (!json_object_get(record->modes, gpu)) {
		json_object_set_new(record->modes, gpu, json_integer(before));
		if (save(record, err) < 0) {
			json_object_del(record->modes, gpu);
			return gs_error_prefix(err, "the compute mode is not changed without a record of it");
		}
	}
	return before == NVML_COMPUTEMODE_EXCLUSIVE_PROCESS
		       ? 0
		       : set(nvml, device, NVML_COMPUTEMODE_EXCLUSIVE_PROCESS, err);
}

/* With MIG on, drivers refuse compute modes, and the mode means nothing. */
static bool has_mig(const struct gs_nvml *nvml, nvmlDevice_t device)
{
	uint32_t current = 0, pending = 0;
	return GS_NVML(nvml, DeviceGetMigMode, device, &current, &pending) == NVML_SUCCESS &&
	       current == NVML_DEVICE_MIG_ENABLE;
}

static int put_back(const struct gs_nvml *nvml, nvmlDevice_t device, nvmlComputeMode_t before, struct gs_error *err)
{
	nvmlComputeMode_t now;
	if (GS_NVML(nvml, DeviceGetComputeMode, device, &now) == NVML_SUCCESS && now == before)
		return 0; /* another program, or a reset, changed it first */
	return set(nvml, device, before, err);
}

int gs_mps_restore(struct gs_mps_record *record, const struct gs_nvml *nvml, const char *gpu, struct gs_error *err)
{
	const json_t *before = json_object_get(record->modes, gpu);
	nvmlDevice_t device;
	if (before) {
		bool found = find(nvml, gpu, &device, err) == 0;
		/* A GPU that was taken out has no mode any more. */
		if (!found && err->code != NVML_ERROR_NOT_FOUND)
			return -1;
		if (found && has_mig(nvml, device))
			return 1;
		if (found && put_back(nvml, device, (nvmlComputeMode_t)json_integer_value(before), err) < 0)
			return -1;
		json_object_del(record->modes, gpu);
		record->unsaved = true;
	}
	if (record->unsaved && save(record, err) < 0)
		return -1;
	record->unsaved = false;
	return 0;
}
