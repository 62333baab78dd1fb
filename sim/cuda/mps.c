/* The MPS client in libcuda: one connection to a server, which says what this process may have and whom it fails with. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "sim/cuda/internal.h"
#include "sim/mps/mps.h"

struct simcu_mps {
	int socket; /* -1: the server is gone */
	int32_t server_pid;
	struct mps_settings settings;
	struct mps_device devices[SIM_GPUS_MAX];
	size_t device_count;
	CUresult lost; /* why, once all is lost */
};

/* What the environment of this process asks for: it can only lower what the server gives. */
static struct mps_packet hello(void)
{
	struct mps_packet packet = {.magic = MPS_MAGIC, .kind = MPS_HELLO};
	const char *percent = getenv("CUDA_MPS_ACTIVE_THREAD_PERCENTAGE"),
		   *priority = getenv("CUDA_MPS_CLIENT_PRIORITY");
	packet.settings.percent = percent ? mps_parse_percent(percent) : 0;
	packet.settings.priority = priority && strcmp(priority, "1") == 0;
	mps_parse_limits(getenv("CUDA_MPS_PINNED_DEVICE_MEM_LIMIT"), packet.settings.memory_bytes);
	return packet;
}

CUresult simcu_mps_connect(void)
{
	if (simcu.mps)
		return simcu.mps->lost;
	GS_AUTO_FREE char *directory = mps_pipe_directory();
	GS_AUTO_CLOSE int socket = mps_connect(directory);
	if (socket < 0)
		return CUDA_SUCCESS;
	struct mps_packet packet = hello();
	if (mps_send(socket, &packet, -1) < 0 || mps_receive(socket, &packet, -1, NULL) <= 0 ||
	    packet.kind != MPS_WELCOME)
		return CUDA_ERROR_MPS_CONNECTION_FAILED;
	simcu.mps = gs_calloc(1, sizeof *simcu.mps);
	*simcu.mps = (struct simcu_mps){.socket = socket,
					.server_pid = packet.server_pid,
					.settings = packet.settings,
					.device_count = packet.device_count};
	memcpy(simcu.mps->devices, packet.devices, sizeof packet.devices);
	socket = -1;
	return CUDA_SUCCESS;
}

const struct mps_device *simcu_mps_devices(size_t *count)
{
	*count = simcu.mps ? simcu.mps->device_count : 0;
	return simcu.mps ? simcu.mps->devices : NULL;
}

uint32_t simcu_mps_permille(void)
{
	if (!simcu.mps)
		return 1000;
	uint32_t permille = (uint32_t)(simcu.mps->settings.percent * 10 + 0.5);
	return permille ? permille : 1;
}

int32_t simcu_mps_server(void)
{
	return simcu.mps ? simcu.mps->server_pid : 0;
}

void simcu_mps_describe(struct simcu_device *device, const char *uuid)
{
	if (!simcu.mps)
		return;
	for (size_t i = 0; i < simcu.mps->device_count; i++)
		if (strcmp(simcu.mps->devices[i].uuid, uuid) == 0)
			device->mps_ordinal = (int)i;
	if (device->mps_ordinal < 0)
		return;
	device->memory_limit = simcu.mps->settings.memory_bytes[device->mps_ordinal];
	/* A client sees only the multiprocessors that it may use: at least one. */
	uint64_t usable = ((uint64_t)device->multiprocessors * simcu_mps_permille() + 999) / 1000;
	device->multiprocessors = usable ? (uint32_t)usable : 1;
}

/* Everything of this process on the device, or (ordinal -1) on all of them. */
static void lose(int32_t ordinal, CUresult result)
{
	for (int i = 0; i < simcu.device_count; i++) {
		struct simcu_device *device = &simcu.devices[i];
		if (device->mps_ordinal >= 0 && (ordinal < 0 || device->mps_ordinal == ordinal) && !device->broken)
			device->broken = result;
	}
}

static void lose_server(void)
{
	struct simcu_mps *mps = simcu.mps;
	if (mps->socket >= 0)
		close(mps->socket);
	mps->socket = -1;
	mps->lost = CUDA_ERROR_MPS_RPC_FAILURE;
	lose(-1, mps->lost);
}

/* The next packet of the server; what it lost is taken note of on the way. 0: none in time; -1: the server is gone. */
static int hear(struct mps_packet *packet, int timeout_ms)
{
	for (;;) {
		int got = mps_receive(simcu.mps->socket, packet, timeout_ms, NULL);
		if (got < 0)
			lose_server();
		if (got <= 0 || packet->kind != MPS_BROKEN)
			return got;
		lose(packet->ordinal, (CUresult)packet->value);
	}
}

void simcu_mps_listen(void)
{
	struct mps_packet packet;
	if (simcu.mps && simcu.mps->socket >= 0)
		while (hear(&packet, 0) > 0)
			continue;
}

static int tell(enum mps_kind kind, const struct simcu_device *device, int32_t value)
{
	struct mps_packet packet = {.magic = MPS_MAGIC, .kind = kind, .ordinal = device->mps_ordinal, .value = value};
	return mps_send(simcu.mps->socket, &packet, -1);
}

CUresult simcu_mps_attach(struct simcu_device *device)
{
	struct mps_packet packet;
	if (!simcu.mps)
		return CUDA_SUCCESS;
	if (simcu.mps->lost)
		return simcu.mps->lost;
	if (tell(MPS_ATTACH, device, 0) < 0 || hear(&packet, -1) <= 0)
		return CUDA_ERROR_MPS_RPC_FAILURE;
	return packet.kind == MPS_ATTACHED ? (CUresult)packet.value : CUDA_ERROR_MPS_RPC_FAILURE;
}

void simcu_mps_detach(struct simcu_device *device)
{
	if (simcu.mps && simcu.mps->socket >= 0)
		tell(MPS_DETACH, device, 0);
}

void simcu_mps_report_fault(struct simcu_device *device, CUresult result)
{
	if (simcu.mps && simcu.mps->socket >= 0)
		tell(MPS_FAULT, device, (int32_t)result);
}

void simcu_mps_forget(void)
{
	if (!simcu.mps)
		return;
	if (simcu.mps->socket >= 0)
		close(simcu.mps->socket);
	simcu.mps->socket = -1;
}
