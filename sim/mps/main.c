/* nvidia-cuda-mps-control of a simulated node: options, exit status and words of the real one (R550). */
#include <stdio.h>
#include <string.h>

#include "sim/mps/mps.h"

int main(int argc, char **argv)
{
	if (argc == 2 && strcmp(argv[1], "-d") == 0)
		return mps_control_run(false);
	if (argc == 2 && strcmp(argv[1], "-f") == 0)
		return mps_control_run(true);
	if (argc == 2 && (strcmp(argv[1], "-h") == 0 || strcmp(argv[1], "--help") == 0)) {
		puts("CUDA MPS Control of a simulated node (gpushare sim).\n\n"
		     "  Without options: reads commands from standard input. -d starts the daemon in the background, "
		     "-f in\n"
		     "  the foreground. CUDA_MPS_PIPE_DIRECTORY and CUDA_MPS_LOG_DIRECTORY say where its files are.");
		return 0;
	}
	return mps_front_end_run();
}
