#include "kube/plugin/edit_message.h"

#include <stdint.h>
#include <string.h>

#include "base/cleanup.h"

/* Fields of AllocateResponse and of ContainerAllocateResponse (k8s.io/kubelet, api.proto). The messages in it have strings
 * from field 1 on, in the order in which they are passed below; a mount also has a flag. */
enum { CONTAINER_RESPONSES = 1 };
enum { ENVS = 1, MOUNTS, DEVICES, ANNOTATIONS, CDI_DEVICES };
enum { MOUNT_READ_ONLY = 3 };

enum { ROOM = 512 }; /* for what most edits are, so that buffers need not grow */
enum { VARINT = 0, LENGTH_DELIMITED = 2, STRINGS_MAX = 3, HEAD_BYTES_MAX = 1 + 10 };

static size_t varint_bytes(size_t value)
{
	size_t count = 1;
	for (; value >= 0x80; value >>= 7)
		count++;
	return count;
}

/* Tag and length of what follows. All fields here have numbers below 16, so that a tag is one byte. */
static void add_head(struct gs_strbuf *out, unsigned field, size_t length)
{
	uint8_t head[HEAD_BYTES_MAX];
	size_t count = 0;

	head[count++] = (uint8_t)(field << 3 | LENGTH_DELIMITED);
	for (; length >= 0x80; length >>= 7)
		head[count++] = (uint8_t)(length | 0x80);
	head[count++] = (uint8_t)length;
	gs_strbuf_add_bytes(out, head, count);
}

/* A message whose fields 1 to `count` are these strings, and whose field `flag`, unless 0, is true. */
static void add_strings(struct gs_strbuf *out, unsigned field, const char *const *strings, size_t count, unsigned flag)
{
	size_t lengths[STRINGS_MAX], total = flag ? 2 : 0;

	for (size_t i = 0; i < count; i++) {
		lengths[i] = strlen(strings[i]);
		total += 1 + varint_bytes(lengths[i]) + lengths[i];
	}
	add_head(out, field, total);
	for (size_t i = 0; i < count; i++) {
		add_head(out, (unsigned)i + 1, lengths[i]);
		gs_strbuf_add_bytes(out, strings[i], lengths[i]);
	}
	if (flag)
		gs_strbuf_add_bytes(out, (const uint8_t[]){(uint8_t)(flag << 3 | VARINT), 1}, 2);
}

static void add_pairs(struct gs_strbuf *out, unsigned field, const struct gs_edit_pair *pairs, size_t count)
{
	for (size_t i = 0; i < count; i++)
		add_strings(out, field, (const char *const[]){pairs[i].key, pairs[i].value}, 2, 0);
}

void kube_add_edit(struct gs_strbuf *response, const struct gs_container_edit *edit)
{
	GS_AUTO_STRBUF struct gs_strbuf container = {0};

	gs_strbuf_reserve(&container, ROOM);
	add_pairs(&container, ENVS, edit->env, edit->env_count);
	for (size_t i = 0; i < edit->mount_count; i++)
		add_strings(&container, MOUNTS,
			    (const char *const[]){edit->mounts[i].container_path, edit->mounts[i].host_path}, 2,
			    edit->mounts[i].read_only ? MOUNT_READ_ONLY : 0);
	for (size_t i = 0; i < edit->device_count; i++)
		add_strings(&container, DEVICES,
			    (const char *const[]){edit->devices[i].container_path, edit->devices[i].host_path,
						  edit->devices[i].permissions},
			    3, 0);
	add_pairs(&container, ANNOTATIONS, edit->annotations, edit->annotation_count);
	for (size_t i = 0; i < edit->cdi_device_count; i++)
		add_strings(&container, CDI_DEVICES, (const char *const[]){edit->cdi_devices[i]}, 1, 0);
	gs_strbuf_reserve(response, HEAD_BYTES_MAX + container.length);
	add_head(response, CONTAINER_RESPONSES, container.length);
	gs_strbuf_add_bytes(response, container.data, container.length);
}
