/* gpushare sim --hold: a simulated node for others to join, whose root looks like the root of a machine with a driver. */
#include "sim/tools/hold.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/file.h"
#include "cli/command.h"

#ifdef __aarch64__
#define LIBRARY_FOLDER "usr/lib/aarch64-linux-gnu"
#else
#define LIBRARY_FOLDER "usr/lib/x86_64-linux-gnu"
#endif

enum { FILE_BYTES_MAX = 64 * 1024 * 1024 };

/* As a driver's installer leaves them: the file has the version in its name, links have the names that programs use. */
static const struct {
	const char *name;     /* as built */
	const char *file;     /* %s: the driver's version */
	const char *links[3]; /* each to the one before, the first to the file */
	const char *path;     /* the variable whose folders have it */
} parts[] = {
	{"libnvidia-ml.so.1", "libnvidia-ml.so.%s", {"libnvidia-ml.so.1"}, "LD_LIBRARY_PATH"},
	{"libcuda.so.1", "libcuda.so.%s", {"libcuda.so.1", "libcuda.so"}, "LD_LIBRARY_PATH"},
	{"nvidia-cuda-mps-control", NULL, {NULL}, "PATH"},
	{"nvidia-cuda-mps-server", NULL, {NULL}, "PATH"},
};

/* The first file of this name in a list of folders, owned by the caller; NULL if none has it. */
static char *find(const char *name, const char *folders)
{
	while (folders && *folders) {
		int length = (int)strcspn(folders, ":");
		char *path = gs_printf("%.*s/%s", length, folders, name);
		if (access(path, R_OK) == 0)
			return path;
		free(path);
		folders += length + (folders[length] == ':');
	}
	return NULL;
}

static int make_link(const char *folder, const char *name, const char *target, struct gs_error *err)
{
	GS_AUTO_FREE char *path = gs_printf("%s/%s", folder, name);
	if (unlink(path) < 0 && errno != ENOENT)
		return gs_fail_errno(err, "cannot replace %s", path);
	if (symlink(target, path) < 0)
		return gs_fail_errno(err, "cannot create %s", path);
	return 0;
}

static int add_part(const char *dir, const char *version, size_t which, struct gs_error *err)
{
	GS_AUTO_FREE char *from = find(parts[which].name, getenv(parts[which].path));
	size_t length;
	if (!from)
		return gs_fail(err, GS_ERROR_SYSTEM, ENOENT, "%s is in no folder of %s", parts[which].name,
			       parts[which].path);
	GS_AUTO_FREE char *content = gs_read_file(from, FILE_BYTES_MAX, &length, err);
	bool library = parts[which].file != NULL;
	GS_AUTO_FREE char *folder = gs_printf("%s/root/%s", dir, library ? LIBRARY_FOLDER : "usr/bin");
	if (!content || gs_make_directories(folder, 0755, err) < 0)
		return -1;
	const char *stem = library ? parts[which].file : "%s";
	int stem_length = (int)strcspn(stem, "%");
	GS_AUTO_FREE char *file = gs_printf("%.*s%s", stem_length, stem, library ? version : parts[which].name);
	GS_AUTO_FREE char *path = gs_printf("%s/%s", folder, file);
	if (gs_write_file(path, content, length, 0755, err) < 0)
		return -1;
	const char *target = file;
	for (size_t i = 0; i < GS_ARRAY_LENGTH(parts[which].links) && parts[which].links[i]; i++) {
		if (make_link(folder, parts[which].links[i], target, err) < 0)
			return -1;
		target = parts[which].links[i];
	}
	return 0;
}

/* Processes of every user may join, such as containers'. */
static int open_to_all(const char *dir, struct gs_error *err)
{
	static const struct {
		const char *name;
		mode_t mode;
	} opened[] = {{".", 0755}, {"state", 0666}, {"clients", 0666}, {"pids", 0666}};
	for (size_t i = 0; i < GS_ARRAY_LENGTH(opened); i++) {
		GS_AUTO_FREE char *path = gs_printf("%s/%s", dir, opened[i].name);
		if (chmod(path, opened[i].mode) < 0)
			return gs_fail_errno(err, "cannot open %s to other users", path);
	}
	return 0;
}

int sim_hold(const char *dir, const char *driver_version, struct gs_error *err)
{
	static const int ending[] = {SIGHUP, SIGINT, SIGQUIT, SIGTERM};
	int number;
	sigset_t signals;
	sigemptyset(&signals);
	for (size_t i = 0; i < GS_ARRAY_LENGTH(ending); i++)
		sigaddset(&signals, ending[i]);
	sigprocmask(SIG_BLOCK, &signals, NULL);
	for (size_t i = 0; i < GS_ARRAY_LENGTH(parts); i++)
		if (add_part(dir, driver_version, i, err) < 0)
			return -1;
	if (open_to_all(dir, err) < 0)
		return -1;
	printf("the simulated node in %s is up\n", dir);
	fflush(stdout);
	sigwait(&signals, &number);
	return 0;
}
