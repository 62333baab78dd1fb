#include "mps/mps_record.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/file.h"

enum { RECORD_BYTES_MAX = 1024 * 1024, RECORD_VERSION = 1 };

void gs_mps_record_open(struct gs_mps_record *record, const char *state_dir, struct gs_error *problem)
{
	struct gs_error err = {0};
	size_t length;
	record->path = gs_printf("%s/mps.json", state_dir);
	GS_AUTO_FREE char *text = gs_read_own_file(record->path, RECORD_BYTES_MAX, &length, &err);
	json_t *document = text ? json_loadb(text, length, JSON_REJECT_DUPLICATES, NULL) : NULL;
	json_t *modes = json_object_get(document, "computeModes");
	bool good = json_integer_value(json_object_get(document, "version")) == RECORD_VERSION && json_is_object(modes);
	if (text && !good)
		gs_fail(&err, GS_ERROR_INPUT, 0, "%s: not a record of compute modes of version %d", record->path,
			RECORD_VERSION);
	if (problem && err.source != GS_ERROR_NONE && !(err.source == GS_ERROR_SYSTEM && err.code == ENOENT))
		*problem = err;
	record->modes = good ? json_incref(modes) : json_object();
	const char *root = json_string_value(json_object_get(document, "root"));
	record->root = good && root ? gs_strdup(root) : NULL;
	json_decref(document);
}

void gs_mps_record_free(struct gs_mps_record *record)
{
	json_decref(record->modes);
	free(record->path);
	free(record->root);
	*record = (struct gs_mps_record){0};
}

static int save(const struct gs_mps_record *record, struct gs_error *err)
{
	json_t *document = json_pack("{s:i, s:O, s:s*}", "version", RECORD_VERSION, "computeModes", record->modes,
				     "root", record->root);
	GS_AUTO_FREE char *text = json_dumps(document, JSON_INDENT(1));
	json_decref(document);
	return gs_write_file(record->path, text, strlen(text), 0600, err);
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

int gs_mps_restore(struct gs_mps_record *record, const struct gs_nvml *nvml, const char *gpu, struct gs_error *err)
{
	const json_t *before = json_object_get(record->modes, gpu);
	nvmlDevice_t device;
	if (before) {
		bool found = find(nvml, gpu, &device, err) == 0;
		/* A GPU that was taken out has no mode any more. */
		if (!found && err->code != NVML_ERROR_NOT_FOUND)
			return -1;
		if (found && set(nvml, device, (nvmlComputeMode_t)json_integer_value(before), err) < 0)
			return -1;
		json_object_del(record->modes, gpu);
		record->unsaved = true;
	}
	if (record->unsaved && save(record, err) < 0)
		return -1;
	record->unsaved = false;
	return 0;
}
