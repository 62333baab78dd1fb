#include "node/driver.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/driver_root.h"
#include "base/file.h"
#include "base/text.h"
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

/* A word of a list with commas; "all" is every word. */
static bool is_listed(const char *list, const char *word)
{
	GS_AUTO_FREE char *copy = gs_strdup(list ? list : "");
	char *rest = copy;
	for (char *item; (item = strsep(&rest, ","));) {
		item = gs_trim(item);
		if (strcmp(item, word) == 0 || strcmp(item, "all") == 0)
			return true;
	}
	return false;
}

/* The sub-commands whose names a program file contains. An old program ends with an error when the container runtime
 * calls it with a new sub-command, and then no container starts. A program that can't be read counts as a current one,
 * as in NVIDIA's plugin. */
static unsigned hooks_in(const char *path)
{
	size_t length;
	unsigned hooks = 0;
	GS_AUTO_FREE char *content = gs_read_file_again(path, HOOK_BYTES_MAX, &length, NULL);
	for (size_t i = 0; i < GS_HOOK_COUNT; i++)
		if (!content || memmem(content, length, gs_hook_names[i], strlen(gs_hook_names[i])))
			hooks |= 1u << i;
	return hooks;
}

/* The same for the node's hook program; a file is read once. The operator's is a script that calls the program beside it. */
static unsigned hooks_of_program(const char *root, const char *program, struct node_hook_seen *seen)
{
	GS_AUTO_FREE char *beside = gs_printf("%s.real", program);
	GS_AUTO_FREE char *real = gs_root_find(root, beside, S_IFREG);
	if (!real)
		real = gs_root_find(root, program, S_IFREG);
	GS_AUTO_FREE char *path = real ? gs_root_join(root, real) : NULL;
	struct stat about;
	if (!path || stat(path, &about) < 0)
		return ~0u;
	if (seen->inode != about.st_ino || seen->bytes != about.st_size || seen->changed != about.st_mtim.tv_sec)
		*seen = (struct node_hook_seen){about.st_ino, about.st_size, about.st_mtim.tv_sec, hooks_in(path)};
	return seen->hooks;
}

/* Our own hook makes links and tells the loader. NVIDIA's does what nvidia-ctk asks of it, as far as it can. */
static unsigned wanted_hooks(unsigned known, bool own, const char *disabled)
{
	const unsigned basic = GS_HOOK_CREATE_SYMLINKS | GS_HOOK_UPDATE_LDCACHE;
	unsigned hooks = own ? basic : basic | known;
	for (size_t i = 0; i < GS_HOOK_COUNT; i++)
		if (is_listed(disabled, gs_hook_names[i]))
			hooks &= ~(1u << i);
	return hooks;
}

int node_driver_files(const struct gs_config *config, const char *state_dir, const char *version,
		      const char *disabled_hooks, struct node_hook_seen *seen, struct gs_driver_files *files,
		      char **hook_problem, struct gs_error *err)
{
	const char *configured = config->flags.plugin.nvidia_ctk_path;
	const char *here = config->flags.plugin.container_driver_root;
	const char *host = config->flags.nvidia_driver_root;
	bool own = !configured || !*configured || strcmp(configured, HOOK_DEFAULT) == 0;
	struct gs_error why;
	GS_AUTO_FREE char *hook = own ? install_hook(state_dir, &why) : gs_strdup(configured);
	*hook_problem = hook ? NULL : gs_strdup(why.text);
	const char *root = is_folder(here) ? here : host;
	const struct gs_driver_places places = {
		.here = root,
		.host = host,
		.version = version,
		.hook = hook,
		.hooks = hook ? wanted_hooks(own ? 0 : hooks_of_program(root, hook, seen), own, disabled_hooks) : 0,
		.sim_dir = getenv(GPUSHARE_ENV_SIM),
	};
	return gs_driver_files_find(&places, files, err);
}
