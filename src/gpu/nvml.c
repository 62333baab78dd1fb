#include "gpu/nvml.h"

#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/driver_root.h"

enum { REOPEN_PATIENCE_S = 5 };

static const char library_name[] = "libnvidia-ml.so.1";

static void *find_library(const char *driver_root, struct gs_error *err)
{
	void *library = dlopen(library_name, RTLD_NOW | RTLD_LOCAL);
	if (library)
		return library;
	GS_AUTO_FREE char *path = gs_driver_library(driver_root, library_name, err);
	if (!path)
		return NULL;
	library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
	if (!library) {
		const char *reason = dlerror();
		gs_fail(err, GS_ERROR_SYSTEM, 0, "%s", reason ? reason : path);
	}
	return library;
}

static void load_table(struct gs_nvml *nvml, void *library)
{
	void *symbol;
	nvml->library = library;
	/* ISO C has no cast from object to function pointer; dlsym(3) asks for this copy. */
#define GS_NVML_LOAD(name, newest, older)                  \
	symbol = dlsym(library, #newest);                  \
	symbol = symbol ? symbol : dlsym(library, #older); \
	memcpy(&nvml->name, &symbol, sizeof symbol);
	GS_NVML_CALLS(GS_NVML_LOAD)
#undef GS_NVML_LOAD
}

int gs_nvml_fail(const struct gs_nvml *nvml, nvmlReturn_t code, const char *call, struct gs_error *err)
{
	const char *words = nvml->ErrorString ? nvml->ErrorString(code) : NULL;
	return gs_fail(err, GS_ERROR_NVML, (int)code, "%s: %s (NVML error %d)", call, words ? words : "unknown error",
		       (int)code);
}

int gs_nvml_open(const char *driver_root, struct gs_nvml **ret, struct gs_error *err)
{
	void *library = find_library(driver_root, err);
	if (!library)
		return -1;
	GS_AUTO_FREE struct gs_nvml *nvml = gs_calloc(1, sizeof *nvml);
	load_table(nvml, library);
	nvmlReturn_t code = GS_NVML(nvml, Init);
	if (code != NVML_SUCCESS) {
		gs_nvml_fail(nvml, code, "nvmlInit_v2", err);
		/* Not initialised, so nothing of it runs: a driver that is installed later is found afresh. */
		dlclose(library);
		return -1;
	}
	nvml->open = gs_malloc(sizeof *nvml->open);
	pthread_rwlock_init(nvml->open, NULL);
	*ret = GS_STEAL(nvml);
	return 0;
}

int gs_nvml_open_below(const char *const *roots, struct gs_nvml **nvml, struct gs_error *err)
{
	bool said = false;
	for (; *roots; roots++) {
		struct gs_error why;
		if (gs_nvml_open(*roots, nvml, &why) == 0)
			return 0;
		/* A root that is there is meant; one that is not is a default of another kind of installation. */
		if (err && !said)
			*err = why;
		said |= access(*roots, F_OK) == 0;
	}
	return -1;
}

void gs_nvml_hold(const struct gs_nvml *nvml)
{
	if (nvml->open)
		pthread_rwlock_rdlock(nvml->open);
}

void gs_nvml_release(const struct gs_nvml *nvml)
{
	if (nvml->open)
		pthread_rwlock_unlock(nvml->open);
}

bool gs_nvml_is_stale(const struct gs_nvml *nvml, const char *proc, size_t *driver_count)
{
	GS_AUTO_FREE char *path = gs_printf("%s/driver/nvidia/gpus", proc);
	DIR *folder = opendir(path);
	uint32_t count;
	*driver_count = 0;
	if (!folder)
		return false;
	for (struct dirent *entry; (entry = readdir(folder));)
		*driver_count += entry->d_name[0] != '.';
	closedir(folder);
	return GS_NVML(nvml, DeviceGetCount, &count) == NVML_SUCCESS && count != *driver_count;
}

int gs_nvml_reopen(const struct gs_nvml *nvml, struct gs_error *err)
{
	struct timespec until;
	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += REOPEN_PATIENCE_S;
	/* A call that hangs must not stop the thread that listens to events. */
	if (nvml->open && pthread_rwlock_timedwrlock(nvml->open, &until) != 0)
		return gs_fail(err, GS_ERROR_SYSTEM, EBUSY, "NVML can't be opened anew while a call to it hangs");
	(void)GS_NVML(nvml, Shutdown);
	nvmlReturn_t code = GS_NVML(nvml, Init);
	gs_nvml_release(nvml);
	return code == NVML_SUCCESS ? 0 : gs_nvml_fail(nvml, code, "nvmlInit_v2", err);
}

void gs_nvml_close(struct gs_nvml *nvml)
{
	if (!nvml)
		return;
	(void)GS_NVML(nvml, Shutdown);
	if (nvml->open)
		pthread_rwlock_destroy(nvml->open);
	free(nvml->open);
	free(nvml);
}
