/* What CDI specs say about the driver: its files, and the program that a container runtime calls. */
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/file.h"
#include "base/log.h"
#include "gpushare/abi.h"
#include "kube/driver_files.h"
#include "node/node_internal.h"

enum { HOOK_BYTES_MAX = 64 * 1024 * 1024 };
#define HOOK_NAME "gpushare-cdi-hook"
/* Stands in a configuration that says nothing: then the hook is our own. */
#define HOOK_DEFAULT "/usr/bin/nvidia-ctk"

/* The hook beside this program: in a build tree, or where it was installed. Owned by the caller; NULL if it is not. */
static char *find_hook(void)
{
	static const char *const places[] = {"src/hook", "../" GPUSHARE_LIBDIR "/gpushare"};
	char program[PATH_MAX];
	ssize_t length = readlink("/proc/self/exe", program, sizeof program - 1);
	if (length <= 0)
		return NULL;
	program[length] = '\0';
	*strrchr(program, '/') = '\0';
	for (size_t i = 0; i < GS_ARRAY_LENGTH(places); i++) {
		char *path = gs_printf("%s/%s/" HOOK_NAME, program, places[i]);
		if (access(path, X_OK) == 0)
			return path;
		free(path);
	}
	return NULL;
}

/* Puts the hook where the node's container runtime can run it: this program's own folder may be an image's. Its path,
 * owned by the caller, or NULL. */
static char *install_hook(const char *state_dir, struct gs_error *err)
{
	size_t length, installed_length;
	GS_AUTO_FREE char *from = find_hook();
	if (!from) {
		gs_fail(err, GS_ERROR_SYSTEM, ENOENT, HOOK_NAME " is not beside this program; install gpushare whole");
		return NULL;
	}
	GS_AUTO_FREE char *content = gs_read_file(from, HOOK_BYTES_MAX, &length, err);
	GS_AUTO_FREE char *path = gs_printf("%s/" HOOK_NAME, state_dir);
	if (!content)
		return NULL;
	GS_AUTO_FREE char *installed = gs_read_own_file(path, HOOK_BYTES_MAX, &installed_length, NULL);
	if (installed && installed_length == length && !memcmp(installed, content, length) && access(path, X_OK) == 0)
		return GS_STEAL(path);
	if (gs_make_directories(state_dir, 0755, err) < 0 || gs_write_file(path, content, length, 0755, err) < 0)
		return NULL;
	return GS_STEAL(path);
}

static bool is_folder(const char *path)
{
	struct stat about;
	return path && stat(path, &about) == 0 && S_ISDIR(about.st_mode);
}

/* Said once, until it changes. */
static void say(struct node *node, bool found, const char *text)
{
	if (node->driver_said && strcmp(node->driver_said, text) == 0)
		return;
	free(node->driver_said);
	node->driver_said = gs_strdup(text);
	if (found)
		gs_log(GS_LOG_INFO, "containers get the driver's files through CDI", GS_STR("driver", text));
	else
		gs_log(GS_LOG_WARNING,
		       "containers get no driver files through CDI; NVIDIA's runtime or the image must bring them",
		       GS_STR("reason", text));
}

bool node_driver_files(struct node *node, struct gs_driver_files *files)
{
	struct gs_error err;
	const char *configured = node->config.flags.plugin.nvidia_ctk_path;
	const char *here = node->config.flags.plugin.container_driver_root;
	const char *host = node->config.flags.nvidia_driver_root;
	bool own = !configured || !*configured || strcmp(configured, HOOK_DEFAULT) == 0;
	struct gs_driver_places places = {
		.here = is_folder(here) ? here : host,
		.host = host,
		.version = gpus_driver_version(node->gpus),
		.sim_dir = getenv(GPUSHARE_ENV_SIM),
	};
	GS_AUTO_FREE char *hook = own ? install_hook(node->options->state_dir, &err) : gs_strdup(configured);
	if (!hook)
		gs_log(GS_LOG_WARNING,
		       "the hook for containers can't be put in place; they find the driver's libraries only in the "
		       "loader's own folders",
		       GS_STR("error", err.text));
	places.hook = hook;
	if (gs_driver_files_find(&places, files, &err) < 0) {
		say(node, false, err.text);
		return false;
	}
	GS_AUTO_FREE char *text = gs_printf("%s: %zu files in %s", files->version, files->mounts.count, files->folder);
	say(node, true, text);
	return true;
}
