/* nvidia-cuda-mps-server of a simulated node: started by nvidia-cuda-mps-control only. */
#include <stdio.h>
#include <sys/socket.h>

#include "sim/mps/mps.h"

enum { FIRST_PACKET_MS = 10000 };

static int is_connected(void)
{
	int type;
	socklen_t length = sizeof type;
	return getsockopt(MPS_SERVER_FD, SOL_SOCKET, SO_TYPE, &type, &length) == 0 && type == SOCK_SEQPACKET;
}

int main(int argc, char **argv)
{
	struct mps_packet packet;
	if (argc != 2 || !is_connected()) {
		puts("nvidia-cuda-mps-server is started by the MPS control daemon; see nvidia-cuda-mps-control -h.");
		return 0;
	}
	if (mps_receive(MPS_SERVER_FD, &packet, FIRST_PACKET_MS, NULL) <= 0 || packet.kind != MPS_SET)
		return 1;
	mps_server_run(&(struct mps_server_setup){.control = MPS_SERVER_FD,
						  .log_directory = argv[1],
						  .settings = &packet.settings,
						  .devices = packet.devices,
						  .device_count = packet.device_count});
}
