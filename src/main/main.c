#include <stdio.h>
#include <unistd.h>

#include "cli/command.h"
#include "gpu/hangs.h"

int main(int argc, char **argv)
{
	int code = gs_cli_main(argc, argv);
	if (!gs_hangs_any())
		return code;
	/* A thread is with a driver that hangs, and exit would end the driver's library under it. */
	fflush(NULL);
	_exit(code);
}
