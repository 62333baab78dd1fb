#include "base/driver_root.h"

#include <dirent.h>
#include <elf.h>
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
#include "base/file.h"
#include "base/strbuf.h"
#include "base/text.h"

enum {
	LINK_DEPTH_MAX = 32,
	FOLDERS_MAX = 64,
	CONF_BYTES_MAX = 64 * 1024,
};

/* The loader's own folders come first, 64 bits before /usr/lib, which some distributions have for 32. */
static const char *const library_folders[] = {
	"/usr/lib64",
	"/usr/lib/x86_64-linux-gnu",
	"/usr/lib/aarch64-linux-gnu",
	"/lib64",
	"/lib/x86_64-linux-gnu",
	"/lib/aarch64-linux-gnu",
	"/usr/lib/wsl/lib",                                /* Windows' kernel brings it */
	"/usr/local/glibc/usr/lib",                        /* Talos, whose own libc is another */
	"/usr/local/glibc/lib",                            /* Talos, earlier */
	"/run/opengl-driver/lib",                          /* NixOS */
	"/home/kubernetes/bin/nvidia/lib64",               /* Container-Optimized OS */
	"/opt/nvidia/lib64",                               /* Flatcar */
	"/opt/nvidia/current/lib64",                       /* Flatcar */
	"/opt/nvidia/current/usr/lib64",                   /* Flatcar */
	"/opt/nvidia/usr/lib64",                           /* Flatcar */
	"/x86_64-bottlerocket-linux-gnu/sys-root/usr/lib", /* Bottlerocket */
	"/aarch64-bottlerocket-linux-gnu/sys-root/usr/lib",
	"/snap/nvidia-core24/current/usr/lib/x86_64-linux-gnu", /* Ubuntu Core */
	"/snap/nvidia-core22/current/usr/lib/x86_64-linux-gnu",
	"/var/lib/snapd/lib/gl",
	"/usr/local/nvidia/lib64",
	"/usr/local/lib64",
	"/usr/local/lib",
	"/usr/lib",
	"/lib",
	"/", /* a root that is the libraries' folder itself */
};
static const char *const program_folders[] = {
	"/usr/bin",
	"/usr/sbin",
	"/bin",
	"/sbin",
	"/usr/local/bin",
	"/usr/lib/wsl/lib",
	"/usr/local/glibc/usr/bin",
	"/run/current-system/sw/bin",
	"/run/opengl-driver/bin",
	"/home/kubernetes/bin/nvidia/bin",
	"/opt/nvidia/bin",
	"/opt/nvidia/current/bin",
	"/opt/nvidia/current/usr/bin",
	"/opt/nvidia/usr/bin",
	"/opt/bin",
	"/usr/libexec/nvidia/tesla/bin",
	"/x86_64-bottlerocket-linux-gnu/sys-root/usr/libexec/nvidia/tesla/bin",
	"/aarch64-bottlerocket-linux-gnu/sys-root/usr/libexec/nvidia/tesla/bin",
	"/usr/lib/nvidia/current",
	"/snap/nvidia-core24/current/usr/bin",
	"/snap/nvidia-core22/current/usr/bin",
	"/usr/local/nvidia/bin",
	"/",
};

char *gs_root_join(const char *root, const char *path)
{
	size_t length = root ? strlen(root) : 0;
	while (length && root[length - 1] == '/')
		length--;
	return gs_printf("%.*s%s", (int)length, root ? root : "", path);
}

/* Where a file below the root really is, counted from the root; owned by the caller. NULL when it is not there. */
static char *gs_root_resolve(const char *root, const char *path)
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
		GS_AUTO_FREE char *full = gs_root_join(root, done);
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
	return gs_strdup(*done ? done : "/");
}

char *gs_root_find(const char *root, const char *path, mode_t type)
{
	struct stat about;
	GS_AUTO_FREE char *real = gs_root_resolve(root, path);
	GS_AUTO_FREE char *full = real ? gs_root_join(root, real) : NULL;
	if (full && lstat(full, &about) == 0 && (about.st_mode & S_IFMT) == type)
		return GS_STEAL(real);
	return NULL;
}

/* --- folders --- */

static void add_folder(const char *root, const char *path, struct gs_root_folders *folders)
{
	GS_AUTO_FREE char *real = gs_root_find(root, path, S_IFDIR);
	if (!real || folders->count >= FOLDERS_MAX)
		return;
	for (size_t i = 0; i < folders->count; i++)
		if (strcmp(folders->items[i], path) == 0)
			return;
	*GS_VEC_PUSH(folders) = gs_strdup(path);
}

static int is_of_nvidia(const struct dirent *entry)
{
	return strncmp(entry->d_name, "nvidia", 6) == 0 &&
	       (entry->d_type == DT_DIR || entry->d_type == DT_LNK || entry->d_type == DT_UNKNOWN);
}

static int is_visible(const struct dirent *entry)
{
	return entry->d_name[0] != '.' &&
	       (entry->d_type == DT_DIR || entry->d_type == DT_LNK || entry->d_type == DT_UNKNOWN);
}

/* The folders in one whose names the filter takes, sorted; `then` is done to each. */
static void each_folder(const char *root, const char *folder, int (*filter)(const struct dirent *),
			void (*then)(const char *root, const char *folder, struct gs_root_folders *folders),
			struct gs_root_folders *folders)
{
	struct dirent **names;
	GS_AUTO_FREE char *real = gs_root_find(root, folder, S_IFDIR);
	GS_AUTO_FREE char *full = real ? gs_root_join(root, real) : NULL;
	int count = full ? scandir(full, &names, filter, alphasort) : -1;
	if (count < 0)
		return;
	for (int i = 0; i < count; i++) {
		GS_AUTO_FREE char *path = gs_printf("%s/%s", folder, names[i]->d_name);
		then(root, path, folders);
		free(names[i]);
	}
	free(names);
}

static void add_with_inner(const char *root, const char *path, struct gs_root_folders *folders)
{
	add_folder(root, path, folders);
	each_folder(root, path, is_visible, add_folder, folders);
}

/* Debian has nvidia/current and nvidia/tesla-535 in the loader's folder, Bottlerocket nvidia/tesla, RPM Fusion nvidia. */
static void add_of_nvidia(const char *root, const char *folder, struct gs_root_folders *folders)
{
	each_folder(root, folder, is_of_nvidia, add_with_inner, folders);
}

/* The folders that one file of the loader's configuration names, a line each. */
static void add_from_conf(const char *root, const char *path, struct gs_root_folders *folders)
{
	size_t length;
	GS_AUTO_FREE char *real = gs_root_find(root, path, S_IFREG);
	GS_AUTO_FREE char *full = real ? gs_root_join(root, real) : NULL;
	GS_AUTO_FREE char *text = full ? gs_read_file_again(full, CONF_BYTES_MAX, &length, NULL) : NULL;
	char *rest = text;
	for (char *line; (line = strsep(&rest, "\n"));) {
		line[strcspn(line, "#=")] = '\0';
		line = gs_trim(line);
		if (*line == '/')
			add_folder(root, line, folders);
	}
}

static int is_conf_name(const struct dirent *entry)
{
	const char *end = strrchr(entry->d_name, '.');
	return end && strcmp(end, ".conf") == 0;
}

void gs_driver_library_folders(const char *root, struct gs_root_folders *folders)
{
	*folders = (struct gs_root_folders){0};
	for (size_t i = 0; i < GS_ARRAY_LENGTH(library_folders); i++) {
		add_folder(root, library_folders[i], folders);
		if (strcmp(library_folders[i], "/") != 0)
			add_of_nvidia(root, library_folders[i], folders);
	}
	add_from_conf(root, "/etc/ld.so.conf", folders);
	each_folder(root, "/etc/ld.so.conf.d", is_conf_name, add_from_conf, folders);
}

void gs_root_folders_free(struct gs_root_folders *folders)
{
	for (size_t i = 0; i < folders->count; i++)
		free(folders->items[i]);
	GS_VEC_FREE(folders);
}

/* --- libraries and programs --- */

bool gs_library_fits(const char *path)
{
	Elf64_Ehdr other = {0}, own = {0};
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	ssize_t size = fd < 0 ? -1 : pread(fd, &other, sizeof other, 0);
	if (fd >= 0)
		close(fd);
	if (size < (ssize_t)sizeof other || memcmp(other.e_ident, ELFMAG, SELFMAG) != 0)
		return true; /* no library at all: the loader says so best */
	fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
	size = fd < 0 ? -1 : pread(fd, &own, sizeof own, 0);
	if (fd >= 0)
		close(fd);
	return size < (ssize_t)sizeof own ||
	       (other.e_ident[EI_CLASS] == own.e_ident[EI_CLASS] && other.e_machine == own.e_machine);
}

char *gs_driver_library(const char *root, const char *name, struct gs_error *err)
{
	enum { NAMED_BYTES_MAX = 300 };
	struct gs_root_folders folders;
	GS_AUTO_STRBUF struct gs_strbuf looked = {0};
	char *found = NULL;
	bool cut = false;
	gs_driver_library_folders(root, &folders);
	for (size_t i = 0; i < folders.count && !found; i++) {
		GS_AUTO_FREE char *path = gs_printf("%s/%s", folders.items[i], name);
		GS_AUTO_FREE char *real = gs_root_find(root, path, S_IFREG);
		GS_AUTO_FREE char *full = real ? gs_root_join(root, real) : NULL;
		if (full && gs_library_fits(full))
			found = GS_STEAL(full);
		cut |= looked.length > NAMED_BYTES_MAX;
		if (!cut)
			gs_strbuf_printf(&looked, "%s%s%s", looked.length ? ", " : "", folders.items[i],
					 real ? " (of another machine)" : "");
	}
	gs_root_folders_free(&folders);
	if (!found)
		gs_fail(err, GS_ERROR_SYSTEM, ENOENT, "no %s below %s; looked in %s%s", name,
			root && *root ? root : "/", looked.length ? looked.data : "no folder, for none is there",
			cut ? " and more" : "");
	return found;
}

char *gs_driver_program(const char *root, const char *name)
{
	for (size_t i = 0; i < GS_ARRAY_LENGTH(program_folders); i++) {
		GS_AUTO_FREE char *path = gs_printf("%s/%s", program_folders[i], name);
		char *real = gs_root_find(root, path, S_IFREG);
		if (real)
			return real;
	}
	return NULL;
}

static bool is_on_path(const char *name)
{
	const char *path = getenv("PATH");
	GS_AUTO_FREE char *copy = gs_strdup(path ? path : "");
	char *rest = copy, *directory;
	while ((directory = strsep(&rest, ":"))) {
		GS_AUTO_FREE char *full = gs_printf("%s/%s", *directory ? directory : ".", name);
		if (access(full, X_OK) == 0)
			return true;
	}
	return false;
}

char *gs_driver_command(const char *const *roots, const char *name)
{
	for (; *roots && !is_on_path(name); roots++) {
		GS_AUTO_FREE char *real = gs_driver_program(*roots, name);
		GS_AUTO_FREE char *full = real ? gs_root_join(*roots, real) : NULL;
		if (full && access(full, X_OK) == 0)
			return GS_STEAL(full);
	}
	return gs_strdup(name);
}
