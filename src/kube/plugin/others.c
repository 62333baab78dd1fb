#include "kube/plugin/others.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "kube/plugin/wire.h"

enum {
	WIRE_BYTES = 2, /* type of a length-delimited field */
	/* Field numbers of src/kube/proto/podresources.proto and deviceplugin.proto. */
	ALLOCATABLE_DEVICES = 1,
	DEVICES_RESOURCE = 1,
	DEVICES_IDS = 2,
	LIST_DEVICES = 1,
	DEVICE_ID = 1,
	FDS_MAX = 4096, /* of a process, looked at */
};

/* --- the process behind a socket --- */

static bool maps_management_library(const char *proc, pid_t pid)
{
	GS_AUTO_FREE char *path = gs_printf("%s/%d/maps", proc, (int)pid);
	FILE *file = fopen(path, "re");
	char line[512]; /* a longer line comes in pieces, and a name that is cut is not found */
	bool found = false;
	while (file && !found && fgets(line, sizeof line, file))
		found = strstr(line, "libnvidia-ml.so") != NULL;
	if (file)
		fclose(file);
	return found;
}

static bool has_control_node_open(const char *proc, pid_t pid)
{
	GS_AUTO_FREE char *path = gs_printf("%s/%d/fd", proc, (int)pid);
	DIR *folder = opendir(path);
	bool found = false;
	if (!folder)
		return false;
	int left = FDS_MAX;
	for (struct dirent *entry; !found && left-- > 0 && (entry = readdir(folder));) {
		char target[64];
		ssize_t length = readlinkat(dirfd(folder), entry->d_name, target, sizeof target - 1);
		target[length > 0 ? length : 0] = '\0';
		found = strcmp(target, "/dev/nvidiactl") == 0;
	}
	closedir(folder);
	return found;
}

static void read_name(const char *proc, struct kube_other *other)
{
	GS_AUTO_FREE char *path = gs_printf("%s/%d/comm", proc, (int)other->pid);
	FILE *file = fopen(path, "re");
	if (!file)
		return;
	if (!fgets(other->process, sizeof other->process, file))
		other->process[0] = '\0';
	fclose(file);
	for (char *at = other->process; *at; at++)
		if (!isprint((unsigned char)*at))
			*at = at[1] ? '?' : '\0';
}

/* Not "nvidia.com_...", which plugins for network cards use. */
static bool is_gpu_plugin_name(const char *name)
{
	return strncasecmp(name, "nvidia", 6) == 0 && name[6] != '.';
}

/* Whether a process listens at other->path, and which one, as the kernel reports it. A socket that was left behind
 * refuses. */
static bool connect_to(struct kube_other *other)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	struct ucred peer;
	socklen_t size = sizeof peer;
	if (strlen(other->path) >= sizeof address.sun_path)
		return false;
	memcpy(address.sun_path, other->path, strlen(other->path) + 1);
	GS_AUTO_CLOSE int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return false;
	if (connect(fd, (struct sockaddr *)&address, sizeof address) < 0)
		return errno == EAGAIN; /* its queue is full */
	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) == 0 && peer.pid > 0)
		other->pid = peer.pid;
	return true;
}

static int compare(const void *a, const void *b)
{
	return strcmp(((const struct kube_other *)a)->path, ((const struct kube_other *)b)->path);
}

void kube_others_find(const char *folder, const char *kubelet, const char *proc, struct kube_others *others)
{
	*others = (struct kube_others){0};
	DIR *dir = opendir(folder);
	if (!dir)
		return;
	int left = KUBE_OTHERS_ENTRIES_MAX;
	for (struct dirent *entry; left-- > 0 && others->items.count < KUBE_OTHERS_MAX && (entry = readdir(dir));) {
		struct kube_other other = {.path = gs_printf("%s/%s", folder, entry->d_name)};
		struct stat about;
		bool is_socket = stat(other.path, &about) == 0 && S_ISSOCK(about.st_mode);
		if (!is_socket || strcmp(entry->d_name, "kubelet.sock") == 0 || strcmp(other.path, kubelet) == 0 ||
		    !connect_to(&other) || other.pid == getpid()) {
			free(other.path);
			continue;
		}
		other.device = about.st_dev;
		other.inode = about.st_ino;
		other.changed = about.st_ctim;
		other.has_gpus = is_gpu_plugin_name(entry->d_name);
		if (other.pid) {
			read_name(proc, &other);
			other.has_gpus = other.has_gpus || maps_management_library(proc, other.pid) ||
					 has_control_node_open(proc, other.pid);
		}
		*GS_VEC_PUSH(&others->items) = other;
	}
	closedir(dir);
	if (others->items.count)
		qsort(others->items.items, others->items.count, sizeof *others->items.items, compare);
}

void kube_others_free(struct kube_others *others)
{
	for (size_t i = 0; i < others->items.count; i++)
		free(others->items.items[i].path);
	GS_VEC_FREE(&others->items);
}

/* --- what it serves --- */

static bool contains(const uint8_t *bytes, size_t length, const char *text)
{
	return *text && memmem(bytes, length, text, strlen(text)) != NULL;
}

bool kube_other_names_gpu(const struct gs_inventory *inventory, const uint8_t *id, size_t length)
{
	for (size_t i = 0; i < inventory->device_count; i++)
		if (contains(id, length, inventory->devices[i].uuid))
			return true;
	for (size_t i = 0; i < inventory->gpu_count; i++)
		if (contains(id, length, inventory->gpus[i].uuid))
			return true;
	size_t digits = 0;
	if (length < 7 || memcmp(id, "nvidia", 6) != 0)
		return false;
	while (6 + digits < length && isdigit(id[6 + digits]))
		digits++;
	return digits > 0 && (6 + digits == length || id[6 + digits] == '/');
}

static bool read_ids(const struct wire_field *devices, kube_allocatable_device *tell, void *user, bool *bad)
{
	struct wire_reader reader = {.at = devices->bytes, .end = devices->bytes + devices->length};
	struct wire_field field, resource = {0};
	while (wire_next(&reader, &field)) /* fields may come in any order */
		if (field.number == DEVICES_RESOURCE && field.type == WIRE_BYTES)
			resource = field;
	*bad |= reader.bad;
	reader = (struct wire_reader){.at = devices->bytes, .end = devices->bytes + devices->length};
	while (wire_next(&reader, &field))
		if (field.number == DEVICES_IDS && field.type == WIRE_BYTES &&
		    !tell(user, resource.bytes, resource.length, field.bytes, field.length))
			return false;
	return true;
}

int kube_allocatable_read(const uint8_t *bytes, size_t length, kube_allocatable_device *tell, void *user)
{
	struct wire_reader reader = {.at = bytes, .end = bytes + length};
	struct wire_field field;
	bool bad = false;
	while (wire_next(&reader, &field))
		if (field.number == ALLOCATABLE_DEVICES && field.type == WIRE_BYTES &&
		    !read_ids(&field, tell, user, &bad))
			break;
	return reader.bad || bad ? -1 : 0;
}

int kube_plugin_list_read(const uint8_t *bytes, size_t length, kube_allocatable_device *tell, void *user)
{
	struct wire_reader reader = {.at = bytes, .end = bytes + length};
	struct wire_field device, field;
	bool bad = false, more = true;
	while (more && wire_next(&reader, &device)) {
		if (device.number != LIST_DEVICES || device.type != WIRE_BYTES)
			continue;
		struct wire_reader inner = {.at = device.bytes, .end = device.bytes + device.length};
		while (more && wire_next(&inner, &field))
			if (field.number == DEVICE_ID && field.type == WIRE_BYTES)
				more = tell(user, NULL, 0, field.bytes, field.length);
		bad |= inner.bad;
	}
	return reader.bad || bad ? -1 : 0;
}
