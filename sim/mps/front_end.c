/* nvidia-cuda-mps-control without options: passes lines of standard input to the daemon and prints what it answers. */
#include "sim/mps/mps.h"

#include <stdio.h>
#include <string.h>

#include "base/cleanup.h"

/* The daemon's answer to one command; -1 when the connection broke. */
static int hear(int daemon, int *status)
{
	for (;;) {
		struct mps_packet packet;
		if (mps_receive(daemon, &packet, -1, NULL) < 0)
			return -1;
		if (packet.kind == MPS_END) {
			*status = packet.value;
			return 0;
		}
		fputs(packet.text, stdout);
		fflush(stdout);
	}
}

int mps_front_end_run(void)
{
	GS_AUTO_FREE char *directory = mps_pipe_directory();
	GS_AUTO_CLOSE int daemon = mps_connect(directory);
	if (daemon < 0) {
		fputs("Cannot find MPS control daemon process\n", stderr);
		return 1;
	}
	char line[MPS_TEXT_BYTES];
	while (fgets(line, sizeof line, stdin)) {
		struct mps_packet packet = {.magic = MPS_MAGIC, .kind = MPS_COMMAND};
		line[strcspn(line, "\n")] = '\0';
		memcpy(packet.text, line, strlen(line) + 1);
		int status = 0;
		if (mps_send(daemon, &packet, -1) < 0 || hear(daemon, &status) < 0)
			return 1;
		if (strncmp(line, "quit", 4) == 0)
			return status;
	}
	return 0;
}
