#include "kube/cdi/driver_files.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/driver_root.h"
#include "base/strbuf.h"
#include "gpushare/abi.h"

/* A folder of some driver with this many files is none. */
enum { FILES_MAX = 512 };

/* The container's folder of the libraries when the root itself is their folder: where NVIDIA's images look. */
#define PLAIN_FOLDER "/usr/local/nvidia/lib64"
/* Windows' driver for its Linux: libraries without a version, which load others from the second folder. */
#define WSL_FOLDER  "/usr/lib/wsl/lib"
#define WSL_DRIVERS "/usr/lib/wsl/drivers"

const char *const gs_hook_names[GS_HOOK_COUNT] = {
	"create-symlinks",
	"enable-cuda-compat",
	"update-ldcache",
	"disable-device-node-modification",
	"update-application-profile",
};
static const char *const programs[] = {
	"nvidia-smi",  "nvidia-debugdump", "nvidia-persistenced", "nvidia-cuda-mps-control", "nvidia-cuda-mps-server",
	"nvidia-imex", "nvidia-imex-ctl",
};
static const char *const sockets[] = {"/run/nvidia-persistenced/socket", "/run/nvidia-fabricmanager/socket"};
static const char *const firmware_folders[] = {"/lib/firmware/nvidia", "/usr/lib/firmware/nvidia"};

static bool add_mount(struct gs_driver_files *files, const struct gs_driver_places *places, const char *path,
		      const char *container, mode_t type)
{
	GS_AUTO_FREE char *real = gs_root_find(places->here, path, type);
	if (!real || files->mounts.count >= FILES_MAX)
		return false;
	*GS_VEC_PUSH(&files->mounts) = (struct gs_driver_mount){.host = gs_root_join(places->host, real),
								.container = gs_strdup(container),
								.socket = type == S_IFSOCK};
	return true;
}

/* Sorted names of a folder below the root that the filter takes. */
static int list(const char *root, const char *folder, int (*filter)(const struct dirent *), struct dirent ***names)
{
	GS_AUTO_FREE char *real = gs_root_find(root, folder, S_IFDIR);
	GS_AUTO_FREE char *path = real ? gs_root_join(root, real) : NULL;
	return path ? scandir(path, names, filter, alphasort) : -1;
}

static void free_list(struct dirent **names, int count)
{
	for (int i = 0; i < count; i++)
		free(names[i]);
	if (count >= 0)
		free(names);
}

static int is_library_name(const struct dirent *entry)
{
	return !strncmp(entry->d_name, "lib", 3) && strstr(entry->d_name, ".so") != NULL;
}

/* "550.163.01" of "libcuda.so.550.163.01"; NULL for "libcuda.so.1" and others. */
static const char *version_of(const char *name)
{
	static const char prefix[] = "libcuda.so.";
	if (strncmp(name, prefix, sizeof prefix - 1) != 0)
		return NULL;
	const char *version = name + sizeof prefix - 1;
	bool plain = isdigit((unsigned char)*version) && strchr(version, '.');
	return plain && version[strspn(version, "0123456789.")] == '\0' ? version : NULL;
}

/* Whether the folder has the driver's libcuda, for this machine; then the folder and the version are set. */
static bool take_folder(struct gs_driver_files *files, const struct gs_driver_places *places, const char *folder)
{
	struct dirent **names;
	bool any = !places->version || !*places->version, wsl = strcmp(folder, WSL_FOLDER) == 0;
	int count = list(places->here, folder, is_library_name, &names);
	for (int i = 0; i < count && !files->folder; i++) {
		const char *version = version_of(names[i]->d_name);
		if (!version || (!any && !wsl && strcmp(version, places->version) != 0))
			continue;
		GS_AUTO_FREE char *path = gs_printf("%s/%s", folder, names[i]->d_name);
		GS_AUTO_FREE char *real = gs_root_find(places->here, path, S_IFREG);
		GS_AUTO_FREE char *full = real ? gs_root_join(places->here, real) : NULL;
		if (!full || !gs_library_fits(full))
			continue;
		files->source = gs_strdup(folder);
		files->folder = gs_strdup(strcmp(folder, "/") == 0 ? PLAIN_FOLDER : folder);
		files->version = gs_strdup(wsl && !any ? places->version : version);
	}
	free_list(names, count);
	return files->folder != NULL;
}

static int find_folder(struct gs_driver_files *files, const struct gs_driver_places *places, struct gs_error *err)
{
	enum { NAMED_BYTES_MAX = 250 };
	struct gs_root_folders folders;
	GS_AUTO_STRBUF struct gs_strbuf looked = {0};
	gs_driver_library_folders(places->here, &folders);
	for (size_t i = 0; i < folders.count && !take_folder(files, places, folders.items[i]); i++)
		if (looked.length < NAMED_BYTES_MAX)
			gs_strbuf_printf(&looked, "%s%s", looked.length ? ", " : "", folders.items[i]);
	gs_root_folders_free(&folders);
	if (files->folder)
		return 0;
	return gs_fail(err, GS_ERROR_SYSTEM, ENOENT,
		       "no library folder below %s has libcuda.so.%s; looked in %s%s; is the driver root right "
		       "(--driver-root)?",
		       places->here && *places->here ? places->here : "/",
		       places->version && *places->version ? places->version : "VERSION",
		       looked.length ? looked.data : "none, for none is there",
		       looked.length >= NAMED_BYTES_MAX ? " and more" : "");
}

static bool ends_with(const char *text, const char *end)
{
	size_t length = strlen(text), wanted = strlen(end);
	return length > wanted && !strcmp(text + length - wanted, end);
}

/* A link of the folder to one of the libraries: made in the container by the hook, or mounted where no hook runs. */
static void add_library_link(struct gs_driver_files *files, const struct gs_driver_places *places, const char *path,
			     const char *inside, const char *real)
{
	char target[PATH_MAX];
	GS_AUTO_FREE char *full = gs_root_join(places->here, path);
	ssize_t size = places->hook && places->hooks & GS_HOOK_CREATE_SYMLINKS
			       ? readlink(full, target, sizeof target - 1)
			       : -1;
	if (size < 0) {
		add_mount(files, places, path, inside, S_IFREG);
		return;
	}
	target[size] = '\0';
	/* Links elsewhere, such as to alternatives, are not there in a container. */
	const char *to = strchr(target, '/') ? strrchr(real, '/') + 1 : target;
	if (strcmp(to, strrchr(inside, '/') + 1) != 0)
		*GS_VEC_PUSH(&files->links) =
			(struct gs_driver_link){.path = gs_strdup(inside), .target = gs_strdup(to)};
}

/* The libraries whose names end with the version, and the folder's links that lead to one of them; all there are on Windows. */
static void add_libraries(struct gs_driver_files *files, const struct gs_driver_places *places)
{
	struct dirent **names;
	bool wsl = strcmp(files->source, WSL_FOLDER) == 0;
	GS_AUTO_FREE char *suffix = gs_printf(".so.%s", files->version);
	int count = list(places->here, files->source, is_library_name, &names);
	for (int i = 0; i < count; i++) {
		const char *name = names[i]->d_name;
		GS_AUTO_FREE char *path = gs_printf("%s/%s", files->source, name);
		GS_AUTO_FREE char *inside = gs_printf("%s/%s", files->folder, name);
		GS_AUTO_FREE char *real = gs_root_find(places->here, path, S_IFREG);
		bool is_link = real && strcmp(strrchr(real, '/') + 1, name) != 0;
		if (ends_with(name, suffix) || (wsl && !is_link))
			add_mount(files, places, path, inside, S_IFREG);
		else if (is_link && (wsl || ends_with(real, suffix)))
			add_library_link(files, places, path, inside, real);
	}
	free_list(names, count);
	if (wsl)
		add_mount(files, places, WSL_DRIVERS, WSL_DRIVERS, S_IFDIR);
}

static void add_programs(struct gs_driver_files *files, const struct gs_driver_places *places)
{
	for (size_t i = 0; i < GS_ARRAY_LENGTH(programs); i++) {
		GS_AUTO_FREE char *path = gs_driver_program(places->here, programs[i]);
		GS_AUTO_FREE char *inside = gs_printf("/usr/bin/%s", programs[i]);
		if (path)
			add_mount(files, places, path, inside, S_IFREG);
	}
}

static int is_firmware_name(const struct dirent *entry)
{
	return !strncmp(entry->d_name, "gsp", 3) && ends_with(entry->d_name, ".bin");
}

static void add_firmware(struct gs_driver_files *files, const struct gs_driver_places *places)
{
	for (size_t i = 0; i < GS_ARRAY_LENGTH(firmware_folders); i++) {
		struct dirent **names;
		GS_AUTO_FREE char *folder = gs_printf("%s/%s", firmware_folders[i], files->version);
		int count = list(places->here, folder, is_firmware_name, &names);
		for (int j = 0; j < count; j++) {
			GS_AUTO_FREE char *path = gs_printf("%s/%s", folder, names[j]->d_name);
			add_mount(files, places, path, path, S_IFREG);
		}
		free_list(names, count);
		if (count > 0)
			return;
	}
}

int gs_driver_files_find(const struct gs_driver_places *places, struct gs_driver_files *files, struct gs_error *err)
{
	*files = (struct gs_driver_files){0};
	if (find_folder(files, places, err) < 0)
		return -1;
	files->hook = places->hook ? gs_strdup(places->hook) : NULL;
	files->hooks = places->hook ? places->hooks : 0;
	add_libraries(files, places);
	add_programs(files, places);
	add_firmware(files, places);
	for (size_t i = 0; i < GS_ARRAY_LENGTH(sockets); i++)
		add_mount(files, places, sockets[i], sockets[i], S_IFSOCK);
	files->sim_dir = places->sim_dir ? gs_strdup(places->sim_dir) : NULL;
	return 0;
}

void gs_driver_files_free(struct gs_driver_files *files)
{
	for (size_t i = 0; i < files->mounts.count; i++) {
		free(files->mounts.items[i].host);
		free(files->mounts.items[i].container);
	}
	for (size_t i = 0; i < files->links.count; i++) {
		free(files->links.items[i].path);
		free(files->links.items[i].target);
	}
	GS_VEC_FREE(&files->mounts);
	GS_VEC_FREE(&files->links);
	free(files->version);
	free(files->folder);
	free(files->source);
	free(files->hook);
	free(files->sim_dir);
	*files = (struct gs_driver_files){0};
}
