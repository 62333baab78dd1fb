/* What /proc tells of a process that calls itself a program of MPS: its environment, its words, its cgroups and its start. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "gpu/sample.h"
#include "mps/mps_process.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(int fact)
{
	if (!fact)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	GS_AUTO_FREE char *text = malloc(size + 1);
	GS_AUTO_FREE char *root = NULL;
	if (!text)
		return 0;
	memcpy(text, data, size);
	text[size] = '\0';
	GS_AUTO_FREE char *value = gs_environment_value(text, size, "CUDA_MPS_PIPE_DIRECTORY");
	require(strlen(value) <= size);
	GS_AUTO_FREE char *key = mps_parse_key(value, &root);
	require(!key || (*root == '/' && *key && *key != '.' && !strchr(key, '/')));
	if (mps_words_have(text, size, "-d"))
		require(memmem(text, size + 1, "-d", 3) != NULL);
	mps_words_run(text, "nvidia-cuda-mps-control");
	mps_parse_start(text);
	mps_cgroup_is_ours("1:name=systemd:/a\n0::/a\n", text);
	mps_cgroup_is_ours(text, "1:name=systemd:/a\n0::/a\n");
	if (mps_cgroup_is_ours("", text))
		require(!strstr(text, "/a\n")); /* nothing but what is above all containers */
	return 0;
}
