/* Packets, connections and the numbers in them: shared by the daemon, its servers and libcuda. */
#include "sim/mps/mps.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "gpushare/abi.h"

char *mps_pipe_directory(void)
{
	const char *wanted = getenv("CUDA_MPS_PIPE_DIRECTORY");
	if (wanted && *wanted)
		return gs_strdup(wanted);
	const char *node = getenv(GPUSHARE_ENV_SIM);
	return gs_printf("%s/root/tmp/nvidia-mps", node ? node : "");
}

int mps_send(int socket, const struct mps_packet *packet, int fd)
{
	struct iovec part = {(void *)(uintptr_t)packet, sizeof *packet};
	union {
		struct cmsghdr header;
		char space[CMSG_SPACE(sizeof fd)];
	} control = {0};
	struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
	if (fd >= 0) {
		message.msg_control = &control;
		message.msg_controllen = sizeof control;
		control.header = (struct cmsghdr){
			.cmsg_len = CMSG_LEN(sizeof fd), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS};
		memcpy(CMSG_DATA(&control.header), &fd, sizeof fd);
	}
	ssize_t sent;
	do
		sent = sendmsg(socket, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
	while (sent < 0 && errno == EINTR);
	return sent == (ssize_t)sizeof *packet ? 0 : -1;
}

int mps_send_in_turn(int socket, const struct mps_packet *packet)
{
	struct pollfd room = {.fd = socket, .events = POLLOUT};
	while (poll(&room, 1, MPS_ASK_MS) < 0 && errno == EINTR)
		continue;
	return mps_send(socket, packet, -1);
}

/* Descriptors that a message brought: the first one is kept if wanted. */
static void take_descriptors(struct msghdr *message, int *fd)
{
	for (struct cmsghdr *header = CMSG_FIRSTHDR(message); header; header = CMSG_NXTHDR(message, header)) {
		if (header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS)
			continue;
		for (size_t i = 0; i < (header->cmsg_len - CMSG_LEN(0)) / sizeof(int); i++) {
			int got;
			memcpy(&got, CMSG_DATA(header) + i * sizeof got, sizeof got);
			if (fd && *fd < 0)
				*fd = got;
			else
				close(got);
		}
	}
}

int mps_receive(int socket, struct mps_packet *packet, int timeout_ms, int *fd)
{
	struct pollfd watched = {.fd = socket, .events = POLLIN};
	int ready;
	do
		ready = poll(&watched, 1, timeout_ms);
	while (ready < 0 && errno == EINTR);
	if (ready <= 0)
		return ready;
	struct iovec part = {packet, sizeof *packet};
	union {
		struct cmsghdr header;
		char space[CMSG_SPACE(4 * sizeof(int))];
	} control;
	struct msghdr message = {
		.msg_iov = &part, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
	if (fd)
		*fd = -1;
	ssize_t got = recvmsg(socket, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
	if (got < 0 && (errno == EAGAIN || errno == EINTR))
		return 0;
	if (got < 0)
		return -1;
	take_descriptors(&message, fd);
	bool whole = got == (ssize_t)sizeof *packet && packet->magic == MPS_MAGIC;
	if (!whole) {
		if (fd && *fd >= 0) {
			close(*fd);
			*fd = -1;
		}
		return -1;
	}
	packet->text[sizeof packet->text - 1] = '\0';
	if (packet->device_count > SIM_GPUS_MAX)
		packet->device_count = SIM_GPUS_MAX;
	for (uint32_t i = 0; i < packet->device_count; i++)
		packet->devices[i].uuid[sizeof packet->devices[i].uuid - 1] = '\0';
	return 1;
}

int mps_connect(const char *directory)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int length = snprintf(address.sun_path, sizeof address.sun_path, "%s/control", directory);
	if (length < 0 || (size_t)length >= sizeof address.sun_path)
		return -1;
	GS_AUTO_CLOSE int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof address) < 0)
		return -1;
	int connected = fd;
	fd = -1;
	return connected;
}

uint64_t mps_parse_limit(const char *text)
{
	char *end;
	uint64_t number = strtoull(text, &end, 10);
	if (end == text)
		return 0;
	unsigned shift = *end == 'G' || *end == 'g' ? 30 : 20;
	return number << shift;
}

void mps_parse_limits(const char *text, uint64_t bytes[SIM_GPUS_MAX])
{
	while (text && *text) {
		char *end;
		unsigned long ordinal = strtoul(text, &end, 10);
		if (end != text && *end == '=' && ordinal < SIM_GPUS_MAX)
			bytes[ordinal] = mps_parse_limit(end + 1);
		text = strchr(text, ',');
		text = text ? text + 1 : NULL;
	}
}

double mps_parse_percent(const char *text)
{
	char *end;
	double percent = strtod(text, &end);
	return end != text && percent > 0.0 && percent <= 100.0 ? percent : 0;
}

unsigned mps_clients_max(uint32_t compute_major, const char *driver_version)
{
	if (compute_major < 7)
		return 16;
	return strtoul(driver_version, NULL, 10) >= 590 ? MPS_CLIENTS_MAX : 48;
}

bool mps_knows_multi_user(const char *driver_version)
{
	return strtoul(driver_version, NULL, 10) >= 560;
}

void mps_log(const char *directory, const char *name, const char *who, const char *format, ...)
{
	GS_AUTO_FREE char *path = gs_printf("%s/%s.log", directory, name);
	GS_AUTO_FCLOSE FILE *file = fopen(path, "ae");
	if (!file)
		return;
	struct timespec now;
	struct tm parts;
	char when[32];
	clock_gettime(CLOCK_REALTIME, &now);
	localtime_r(&now.tv_sec, &parts);
	strftime(when, sizeof when, "%Y-%m-%d %H:%M:%S", &parts);
	fprintf(file, "[%s.%03ld %7s %5d] ", when, now.tv_nsec / 1000000, who, (int)getpid());
	va_list arguments;
	va_start(arguments, format);
	vfprintf(file, format, arguments);
	va_end(arguments);
	fputc('\n', file);
}
