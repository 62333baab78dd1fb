/* nvidia-cuda-mps-control of a simulated node: options, exit status and words of the real one (R550). */
#include <stdio.h>
#include <string.h>

#include "sim/mps/mps.h"

static bool knows_multi_user(void)
{
	struct sim_node *node;
	if (sim_node_open(NULL, &node, NULL) < 0)
		return false;
	bool knows = mps_knows_multi_user(sim_node_driver_version(node));
	sim_node_close(node);
	return knows;
}

int main(int argc, char **argv)
{
	bool multi_user = argc == 3 && strcmp(argv[2], "-M") == 0 && knows_multi_user();
	if ((argc == 2 || multi_user) && strcmp(argv[1], "-d") == 0)
		return mps_control_run(false, multi_user);
	if ((argc == 2 || multi_user) && strcmp(argv[1], "-f") == 0)
		return mps_control_run(true, multi_user);
	if (argc == 2 && (strcmp(argv[1], "-h") == 0 || strcmp(argv[1], "--help") == 0)) {
		puts("CUDA MPS Control of a simulated node (gpushare sim).\n\n"
		     "  Without options: reads commands from standard input. -d starts the daemon in the background, "
		     "-f in\n"
		     "  the foreground; -M after it lets clients of all users share one server. "
		     "CUDA_MPS_PIPE_DIRECTORY and\n"
		     "  CUDA_MPS_LOG_DIRECTORY say where its files are.");
		return 0;
	}
	return mps_front_end_run();
}
