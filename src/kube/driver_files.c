#include "kube/driver_files.h"

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
#include "gpushare/abi.h"

/* A folder of some driver with this many files is none. */
enum { FILES_MAX = 512, LINK_DEPTH_MAX = 16 };

/* Below the root; the first that has libcuda counts. Debian's own packages use the third. */
static const char *const library_folders[] = {
	"/usr/lib64",
	"/usr/lib/x86_64-linux-gnu",
	"/usr/lib/x86_64-linux-gnu/nvidia/current",
	"/usr/lib/aarch64-linux-gnu",
	"/usr/lib/aarch64-linux-gnu/nvidia/current",
	"/lib64",
	"/lib/x86_64-linux-gnu",
	"/lib/aarch64-linux-gnu",
	"/usr/lib",
};
static const char *const programs[] = {
	"nvidia-smi",  "nvidia-debugdump", "nvidia-persistenced", "nvidia-cuda-mps-control", "nvidia-cuda-mps-server",
	"nvidia-imex", "nvidia-imex-ctl",
};
static const char *const program_folders[] = {"/usr/bin", "/usr/sbin", "/bin", "/sbin"};
static const char *const sockets[] = {"/run/nvidia-persistenced/socket", "/run/nvidia-fabricmanager/socket"};
static const char *const firmware_folders[] = {"/lib/firmware/nvidia", "/usr/lib/firmware/nvidia"};

static char *join(const char *root, const char *path)
{
	size_t length = root ? strlen(root) : 0;
	while (length && root[length - 1] == '/')
		length--;
	return gs_printf("%.*s%s", (int)length, root ? root : "", path);
}

/* Where a file below the root really is, links followed as seen from that root; counted from the root, owned by the
 * caller. NULL when it is not there. */
static char *resolve(const char *root, const char *path)
{
	GS_AUTO_FREE char *rest = gs_strdup(path);
	char done[PATH_MAX] = "";
	int depth = 0;
	for (char *at = rest; *at;) {
		at += strspn(at, "/");
		size_t length = strcspn(at, "/"), before = strlen(done);
		if (!length)
			break;
		if ((length == 1 && at[0] == '.') || (length == 2 && !strncmp(at, "..", 2))) {
			char *slash = length == 2 ? strrchr(done, '/') : NULL;
			if (slash)
				*slash = '\0';
			at += length;
			continue;
		}
		if (before + length + 2 > sizeof done)
			return NULL;
		snprintf(done + before, sizeof done - before, "/%.*s", (int)length, at);
		GS_AUTO_FREE char *full = join(root, done);
		char target[PATH_MAX];
		ssize_t size = readlink(full, target, sizeof target - 1);
		if (size < 0 && errno != EINVAL)
			return NULL;
		at += length;
		if (size < 0)
			continue;
		target[size] = '\0';
		if (++depth > LINK_DEPTH_MAX)
			return NULL;
		done[*target == '/' ? 0 : before] = '\0';
		char *next = gs_printf("%s/%s", target, at);
		free(rest);
		rest = at = next;
	}
	return gs_strdup(done);
}

/* The file's real place if it is of this type (S_IFREG...), owned by the caller, or NULL. */
static char *find(const char *root, const char *path, mode_t type)
{
	struct stat about;
	char *real = resolve(root, path);
	GS_AUTO_FREE char *full = real ? join(root, real) : NULL;
	if (full && stat(full, &about) == 0 && (about.st_mode & S_IFMT) == type)
		return real;
	free(real);
	return NULL;
}

static bool add_mount(struct gs_driver_files *files, const struct gs_driver_places *places, const char *path,
		      const char *container, mode_t type)
{
	GS_AUTO_FREE char *real = find(places->here, path, type);
	if (!real || files->mounts.count >= FILES_MAX)
		return false;
	*GS_VEC_PUSH(&files->mounts) = (struct gs_driver_mount){
		.host = join(places->host, real), .container = gs_strdup(container), .socket = type == S_IFSOCK};
	return true;
}

/* Sorted names of a folder below the root that the filter takes. */
static int list(const char *root, const char *folder, int (*filter)(const struct dirent *), struct dirent ***names)
{
	GS_AUTO_FREE char *path = join(root, folder);
	return scandir(path, names, filter, alphasort);
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

/* Sets the folder and the version; false when no folder has the driver's libcuda. */
static bool find_folder(struct gs_driver_files *files, const struct gs_driver_places *places)
{
	bool any = !places->version || !*places->version;
	for (size_t i = 0; i < GS_ARRAY_LENGTH(library_folders) && !files->folder; i++) {
		struct dirent **names;
		int count = list(places->here, library_folders[i], is_library_name, &names);
		for (int j = 0; j < count && !files->folder; j++) {
			const char *version = version_of(names[j]->d_name);
			if (!version || (!any && strcmp(version, places->version) != 0))
				continue;
			files->folder = gs_strdup(library_folders[i]);
			files->version = gs_strdup(version);
		}
		free_list(names, count);
	}
	return files->folder != NULL;
}

static bool ends_with(const char *text, const char *end)
{
	size_t length = strlen(text), wanted = strlen(end);
	return length > wanted && !strcmp(text + length - wanted, end);
}

/* The libraries whose names end with the version, and the folder's links that lead to one of them. */
static void add_libraries(struct gs_driver_files *files, const struct gs_driver_places *places)
{
	struct dirent **names;
	GS_AUTO_FREE char *suffix = gs_printf(".so.%s", files->version);
	int count = list(places->here, files->folder, is_library_name, &names);
	for (int i = 0; i < count; i++) {
		const char *name = names[i]->d_name;
		GS_AUTO_FREE char *path = gs_printf("%s/%s", files->folder, name);
		if (ends_with(name, suffix)) {
			add_mount(files, places, path, path, S_IFREG);
			continue;
		}
		GS_AUTO_FREE char *real = find(places->here, path, S_IFREG);
		char target[PATH_MAX];
		GS_AUTO_FREE char *full = join(places->here, path);
		ssize_t size = readlink(full, target, sizeof target - 1);
		if (!real || !ends_with(real, suffix) || size < 0)
			continue;
		target[size] = '\0';
		/* Links elsewhere, such as to alternatives, are not there in a container. */
		const char *to = strchr(target, '/') ? strrchr(real, '/') + 1 : target;
		if (places->hook)
			*GS_VEC_PUSH(&files->links) =
				(struct gs_driver_link){.path = gs_strdup(path), .target = gs_strdup(to)};
		else
			add_mount(files, places, path, path, S_IFREG);
	}
	free_list(names, count);
}

static void add_programs(struct gs_driver_files *files, const struct gs_driver_places *places)
{
	for (size_t i = 0; i < GS_ARRAY_LENGTH(programs); i++)
		for (size_t j = 0; j < GS_ARRAY_LENGTH(program_folders); j++) {
			GS_AUTO_FREE char *path = gs_printf("%s/%s", program_folders[j], programs[i]);
			GS_AUTO_FREE char *inside = gs_printf("/usr/bin/%s", programs[i]);
			if (add_mount(files, places, path, inside, S_IFREG))
				break;
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
	if (!find_folder(files, places))
		return gs_fail(
			err, GS_ERROR_SYSTEM, ENOENT,
			"no library folder below %s has libcuda.so.%s; is the driver root right (--driver-root)?",
			places->here && *places->here ? places->here : "/",
			places->version && *places->version ? places->version : "VERSION");
	files->hook = places->hook ? gs_strdup(places->hook) : NULL;
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
	free(files->hook);
	free(files->sim_dir);
	*files = (struct gs_driver_files){0};
}
