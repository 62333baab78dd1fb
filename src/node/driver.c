#include "node/driver.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/file.h"
#include "gpushare/abi.h"

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

int node_driver_files(const struct gs_config *config, const char *state_dir, const char *version,
		      struct gs_driver_files *files, char **hook_problem, struct gs_error *err)
{
	const char *configured = config->flags.plugin.nvidia_ctk_path;
	const char *here = config->flags.plugin.container_driver_root;
	const char *host = config->flags.nvidia_driver_root;
	bool own = !configured || !*configured || strcmp(configured, HOOK_DEFAULT) == 0;
	struct gs_error why;
	GS_AUTO_FREE char *hook = own ? install_hook(state_dir, &why) : gs_strdup(configured);
	*hook_problem = hook ? NULL : gs_strdup(why.text);
	const struct gs_driver_places places = {
		.here = is_folder(here) ? here : host,
		.host = host,
		.version = version,
		.hook = hook,
		.sim_dir = getenv(GPUSHARE_ENV_SIM),
	};
	return gs_driver_files_find(&places, files, err);
}
