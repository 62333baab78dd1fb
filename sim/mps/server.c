/* An MPS server: one process that holds the GPUs for the clients of one user, keeps their limits, and fails with them.
 *
 * A client's fault is everybody's who has a context on that GPU; the GPU then takes no new client until those are gone,
 * while the server's other GPUs go on (NVIDIA, "Multi-Process Service", error containment). */
#include "sim/mps/mps.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/vec.h"
#include "gpushare/cuda.h"
#include "sim/mig.h"
#include "sim/models.h"

/* What nvidia-smi shows for a server that has no clients. */
#define SERVER_BYTES (30ull << 20)

struct client {
	int fd;
	struct mps_client_info info;
};

struct device {
	struct mps_device is;
	int attachment; /* our client slot of the node; -1: no context there yet */
	unsigned clients_max;
	bool faulted; /* until the clients that were there are gone */
};

struct server {
	const struct mps_server_setup *setup;
	struct sim_node *node;
	struct mps_settings settings;
	struct device devices[SIM_GPUS_MAX];
	size_t device_count;
	GS_VEC(struct client) clients;
	uint32_t next_id;
	bool ending; /* when the last client is gone */
};

#define LOG(server, ...) mps_log((server)->setup->log_directory, "server", "Server", __VA_ARGS__)

static struct mps_packet packet_of(enum mps_kind kind)
{
	return (struct mps_packet){.magic = MPS_MAGIC, .kind = kind, .server_pid = getpid(), .ordinal = -1};
}

static void end(struct server *server, int status)
{
	LOG(server, "MPS Server is exiting");
	for (size_t i = 0; i < server->device_count; i++)
		if (server->devices[i].attachment >= 0)
			sim_client_detach(server->node, server->devices[i].attachment);
	exit(status);
}

static bool is_used(const struct server *server, size_t ordinal)
{
	for (size_t i = 0; i < server->clients.count; i++)
		if (server->clients.items[i].info.devices & 1u << ordinal)
			return true;
	return false;
}

static size_t count_users(const struct server *server, size_t ordinal)
{
	size_t count = 0;
	for (size_t i = 0; i < server->clients.count; i++)
		count += server->clients.items[i].info.devices >> ordinal & 1;
	return count;
}

/* The server gives back a GPU that no client uses any more; the GPU is whole again. */
static void give_back(struct server *server)
{
	for (size_t i = 0; i < server->device_count; i++) {
		struct device *device = &server->devices[i];
		if (is_used(server, i) || device->attachment < 0)
			continue;
		if (device->faulted)
			LOG(server, "Device %s (ordinal %zu) recovered", device->is.uuid, i);
		device->faulted = false;
		sim_client_detach(server->node, device->attachment);
		device->attachment = -1;
	}
}

static void drop(struct server *server, size_t which)
{
	struct client *client = &server->clients.items[which];
	LOG(server, "Client %d disconnected", client->info.pid);
	close(client->fd);
	*client = server->clients.items[--server->clients.count];
	give_back(server);
}

/* The server's own context, which holds the GPU in the compute mode EXCLUSIVE_PROCESS. */
static CUresult hold(struct server *server, struct device *device)
{
	if (device->attachment >= 0)
		return CUDA_SUCCESS;
	struct gs_error err;
	struct sim_mig_name instance = {.gpu_instance = SIM_MIG_NONE, .compute_instance = SIM_MIG_NONE};
	if (strncmp(device->is.uuid, "MIG-", 4) == 0 && !sim_mig_find(server->node, device->is.uuid, &instance))
		return CUDA_ERROR_MPS_SERVER_NOT_READY;
	device->attachment = sim_client_attach_instance(server->node, device->is.slot, instance.gpu_instance,
							instance.compute_instance, SIM_CLIENT_COMPUTE, &err);
	if (device->attachment < 0) {
		LOG(server, "Failed to create a context on %s: %s", device->is.uuid, err.text);
		return CUDA_ERROR_MPS_SERVER_NOT_READY;
	}
	if (sim_client_allocate(server->node, device->attachment, SERVER_BYTES) == 0)
		return CUDA_SUCCESS;
	sim_client_detach(server->node, device->attachment);
	device->attachment = -1;
	return CUDA_ERROR_OUT_OF_MEMORY;
}

static CUresult attach(struct server *server, struct client *client, int32_t ordinal)
{
	if (ordinal < 0 || (size_t)ordinal >= server->device_count)
		return CUDA_ERROR_INVALID_DEVICE;
	struct device *device = &server->devices[ordinal];
	if (device->faulted)
		return CUDA_ERROR_MPS_SERVER_NOT_READY;
	if (client->info.devices & 1u << ordinal)
		return CUDA_SUCCESS;
	if (count_users(server, (size_t)ordinal) >= device->clients_max)
		return CUDA_ERROR_MPS_MAX_CLIENTS_REACHED;
	CUresult result = hold(server, device);
	if (result == CUDA_SUCCESS)
		client->info.devices |= 1u << ordinal;
	return result;
}

static void tell_broken(const struct client *client, int32_t ordinal, int32_t result)
{
	struct mps_packet packet = packet_of(MPS_BROKEN);
	packet.ordinal = ordinal;
	packet.value = result;
	mps_send(client->fd, &packet, -1);
}

static void fault(struct server *server, const struct client *cause, int32_t ordinal, int32_t result)
{
	if (ordinal < 0 || (size_t)ordinal >= server->device_count || !(cause->info.devices & 1u << ordinal))
		return;
	LOG(server, "Client %d caused a fatal fault %d on device %s; its clients are lost", cause->info.pid, result,
	    server->devices[ordinal].is.uuid);
	server->devices[ordinal].faulted = true;
	for (size_t i = 0; i < server->clients.count; i++)
		if (server->clients.items[i].info.devices & 1u << ordinal)
			tell_broken(&server->clients.items[i], ordinal, result);
}

static void welcome(struct server *server, int fd, const struct mps_packet *hello)
{
	struct mps_packet packet = packet_of(MPS_WELCOME);
	packet.settings = server->settings;
	if (hello->settings.percent > 0 && hello->settings.percent < packet.settings.percent)
		packet.settings.percent = hello->settings.percent;
	if (hello->settings.priority > packet.settings.priority)
		packet.settings.priority = hello->settings.priority;
	packet.device_count = (uint32_t)server->device_count;
	for (size_t i = 0; i < server->device_count; i++) {
		uint64_t *mine = &packet.settings.memory_bytes[i], wanted = hello->settings.memory_bytes[i];
		if (wanted && (!*mine || wanted < *mine))
			*mine = wanted;
		packet.devices[i] = server->devices[i].is;
	}
	if (mps_send(fd, &packet, -1) < 0) {
		close(fd);
		return;
	}
	struct client *client = GS_VEC_PUSH(&server->clients);
	*client = (struct client){.fd = fd, .info = hello->client};
	client->info.id = server->next_id++;
	client->info.devices = 0;
	LOG(server, "New client %d connected", client->info.pid);
}

static void hear_client(struct server *server, size_t which)
{
	struct client *client = &server->clients.items[which];
	struct mps_packet packet, answer;
	int got = mps_receive(client->fd, &packet, 0, NULL);
	if (got < 0) {
		drop(server, which);
		return;
	}
	if (got == 0)
		return;
	switch (packet.kind) {
	case MPS_ATTACH:
		answer = packet_of(MPS_ATTACHED);
		answer.ordinal = packet.ordinal;
		answer.value = (int32_t)attach(server, client, packet.ordinal);
		if (mps_send(client->fd, &answer, -1) < 0)
			drop(server, which);
		break;
	case MPS_DETACH:
		if (packet.ordinal >= 0 && packet.ordinal < SIM_GPUS_MAX)
			client->info.devices &= ~(1u << packet.ordinal);
		give_back(server);
		break;
	case MPS_FAULT:
		fault(server, client, packet.ordinal, packet.value);
		break;
	default:
		drop(server, which);
	}
}

static void answer_end(const struct server *server, int32_t value)
{
	struct mps_packet packet = packet_of(MPS_END);
	packet.value = value;
	mps_send_in_turn(server->setup->control, &packet);
}

static void list(const struct server *server)
{
	for (size_t i = 0; i < server->clients.count; i++) {
		struct mps_packet packet = packet_of(MPS_CLIENT);
		packet.client = server->clients.items[i].info;
		mps_send_in_turn(server->setup->control, &packet);
	}
	answer_end(server, 0);
}

static int32_t terminate(struct server *server, int32_t pid)
{
	int32_t missing = 1;
	for (size_t i = 0; i < server->clients.count; i++) {
		if (server->clients.items[i].info.pid != pid)
			continue;
		LOG(server, "Client %d is terminated", pid);
		tell_broken(&server->clients.items[i], -1, CUDA_ERROR_MPS_CLIENT_TERMINATED);
		missing = 0;
	}
	return missing;
}

static enum mps_server_state state_of(const struct server *server)
{
	for (size_t i = 0; i < server->device_count; i++)
		if (server->devices[i].faulted)
			return MPS_FAULTED;
	return MPS_ACTIVE;
}

static void hear_daemon(struct server *server)
{
	struct mps_packet packet;
	int fd, got = mps_receive(server->setup->control, &packet, 0, &fd);
	if (got < 0) /* the daemon died: clients go on, no new one can come */
		server->ending = true;
	if (got <= 0)
		return;
	switch (packet.kind) {
	case MPS_TAKE_CLIENT:
		if (fd >= 0)
			welcome(server, fd, &packet);
		return;
	case MPS_LIST:
		list(server);
		break;
	case MPS_STATUS:
		answer_end(server, (int32_t)state_of(server));
		break;
	case MPS_SET:
		server->settings = packet.settings;
		break;
	case MPS_TERMINATE:
		answer_end(server, terminate(server, packet.client.pid));
		break;
	case MPS_SHUTDOWN:
		if (packet.value) {
			for (size_t i = 0; i < server->clients.count; i++)
				tell_broken(&server->clients.items[i], -1, CUDA_ERROR_MPS_RPC_FAILURE);
			end(server, 0);
		}
		server->ending = true;
		break;
	}
	if (fd >= 0)
		close(fd);
}

static void set_up(struct server *server, const struct mps_server_setup *setup)
{
	*server = (struct server){.setup = setup, .settings = *setup->settings, .device_count = setup->device_count};
	struct gs_error err;
	LOG(server, "MPS Server: Received start");
	if (sim_node_open(NULL, &server->node, &err) < 0) {
		LOG(server, "Failed to initialize: %s", err.text);
		exit(1);
	}
	for (size_t i = 0; i < server->device_count; i++) {
		struct sim_gpu gpu = {0};
		sim_gpu_get(server->node, setup->devices[i].slot, &gpu);
		uint32_t major = gpu.model < sim_model_count ? sim_models[gpu.model].compute_major : 0;
		server->devices[i] =
			(struct device){.is = setup->devices[i],
					.attachment = -1,
					.clients_max = mps_clients_max(major, sim_node_driver_version(server->node))};
	}
	struct mps_packet ready = packet_of(MPS_READY);
	mps_send_in_turn(setup->control, &ready);
	LOG(server, "MPS Server is ready");
}

_Noreturn void mps_server_run(const struct mps_server_setup *setup)
{
	struct server server;
	set_up(&server, setup);
	bool orphaned = false;
	for (;;) {
		if (server.ending && server.clients.count == 0)
			end(&server, 0);
		GS_VEC(struct pollfd) watched = {0};
		*GS_VEC_PUSH(&watched) = (struct pollfd){.fd = orphaned ? -1 : setup->control, .events = POLLIN};
		for (size_t i = 0; i < server.clients.count; i++)
			*GS_VEC_PUSH(&watched) = (struct pollfd){.fd = server.clients.items[i].fd, .events = POLLIN};
		poll(watched.items, watched.count, -1);
		/* From the end, since a client that goes is replaced by the last one. */
		for (size_t i = server.clients.count; i > 0; i--)
			if (watched.items[i].revents)
				hear_client(&server, i - 1);
		if (watched.items[0].revents) {
			orphaned =
				watched.items[0].revents & (POLLHUP | POLLERR) && !(watched.items[0].revents & POLLIN);
			hear_daemon(&server);
		}
		GS_VEC_FREE(&watched);
	}
}
