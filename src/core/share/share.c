/* Resources: their shares, and finding a share by the bytes of its id. */
#include "core/share/share.h"

#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"

/* An item of ListAndWatchResponse beside its id, at most: tags and lengths of the item (3) and the id (2), health
 * "Unhealthy" (11), topology with one NUMA node below 128 (6). */
enum { LIST_ITEM_BYTES = 3 + 2 + 11 + 6 };

enum { REPLICA_DIGITS_MAX = 9 };

static void *grow(void *items, size_t wanted, size_t *capacity, size_t size)
{
	if (wanted <= *capacity)
		return items;
	/* The first device tells how many there will be at least; after that, doubling. */
	size_t doubled = *capacity * 2;
	*capacity = doubled > wanted ? doubled : wanted;
	return gs_reallocarray(items, *capacity, size);
}

/* From the beginning behind "GPU-" and the end, where UUIDs differ; an id that a peer looks up is never inserted, so no
 * peer can make the table slow. */
static inline uint32_t hash(const char *bytes, size_t length)
{
	uint64_t begin = 0, end = 0;

	if (length >= 12) {
		memcpy(&begin, bytes + 4, sizeof begin);
		memcpy(&end, bytes + length - sizeof end, sizeof end);
	} else {
		memcpy(&begin, bytes, length < sizeof begin ? length : sizeof begin);
	}
	/* Swapped, so that the last characters are the low bytes, which a multiplication spreads furthest. */
	return (uint32_t)((begin * 0x9e3779b97f4a7c15u + __builtin_bswap64(end) * 0xc2b2ae3d27d4eb4fu) >> 32);
}

/* Length of the UUID at the start of a share's id. */
static size_t uuid_length(const char *id, bool replicated)
{
	const char *mark = replicated ? strstr(id, "::") : NULL;

	return mark ? (size_t)(mark - id) : strlen(id);
}

static void insert(struct gs_resource *resource, uint32_t position)
{
	const struct gs_resource_device *device = &resource->devices[position];
	const char *id = resource->shares[device->first_share].id;
	uint32_t slot = hash(id, uuid_length(id, device->replicated)) & resource->slot_mask;

	while (resource->slots[slot])
		slot = (slot + 1) & resource->slot_mask;
	resource->slots[slot] = position + 1;
}

static void index_device(struct gs_resource *resource)
{
	uint32_t size = resource->slots ? resource->slot_mask + 1 : 0;

	if (resource->device_count * 2 <= size) {
		insert(resource, (uint32_t)resource->device_count - 1);
		return;
	}
	size = size ? size * 2 : 16;
	free(resource->slots);
	resource->slots = gs_calloc(size, sizeof *resource->slots);
	resource->slot_mask = size - 1;
	for (uint32_t i = 0; i < resource->device_count; i++)
		insert(resource, i);
}

/* "<uuid>" or "<uuid>::<n>"; printf takes most of the time of a plan with thousands of shares. Returns the length. */
static size_t write_id(char *id, const char *uuid, size_t uuid_bytes, bool replicated, uint32_t n)
{
	char digits[10];
	size_t count = 0;

	memcpy(id, uuid, uuid_bytes);
	if (!replicated)
		return uuid_bytes;
	do
		digits[count++] = (char)('0' + n % 10);
	while (n /= 10);
	id[uuid_bytes] = id[uuid_bytes + 1] = ':';
	for (size_t i = 0; i < count; i++)
		id[uuid_bytes + 2 + i] = digits[count - 1 - i];
	return uuid_bytes + 2 + count;
}

struct gs_share *gs_resource_add_device(struct gs_resource *resource, const struct gs_inventory *inventory,
					uint32_t device, uint32_t replicas)
{
	const struct gs_device *hardware = &inventory->devices[device];
	uint32_t count = replicas < 1 ? 1 : replicas > GS_REPLICAS_MAX ? GS_REPLICAS_MAX : replicas;
	size_t uuid_bytes = strnlen(hardware->uuid, sizeof hardware->uuid - 1);

	resource->shares = grow(resource->shares, resource->share_count + count, &resource->share_capacity,
				sizeof *resource->shares);
	resource->devices = grow(resource->devices, resource->device_count + 1, &resource->device_capacity,
				 sizeof *resource->devices);
	struct gs_share *first = &resource->shares[resource->share_count];
	for (uint32_t n = 0; n < count; n++) {
		struct gs_share *share = &first[n];
		memset(share, 0, sizeof *share);
		uint32_t number = resource->number_from + n;
		size_t length = write_id(share->id, hardware->uuid, uuid_bytes, replicas > 0, number);
		share->device = device;
		share->replica = number;
		share->memory_bytes = hardware->memory_bytes / count;
		share->compute_permille = 1000 / count;
		resource->list_bytes += length + LIST_ITEM_BYTES;
	}
	resource->devices[resource->device_count++] = (struct gs_resource_device){
		.device = device,
		.gpu = hardware->gpu,
		.uuid_bytes = (uint32_t)uuid_bytes,
		.first_share = (uint32_t)resource->share_count,
		.share_count = count,
		.first_replica = resource->number_from,
		.replicated = replicas > 0,
	};
	resource->share_count += count;
	index_device(resource);
	return first;
}

void gs_resource_drop_last(struct gs_resource *resource)
{
	const struct gs_resource_device *last = &resource->devices[resource->device_count - 1];

	/* It was inserted last, so that nothing else was put off by it. */
	for (uint32_t slot = 0; slot <= resource->slot_mask; slot++)
		if (resource->slots[slot] == resource->device_count)
			resource->slots[slot] = 0;
	for (uint32_t i = 0; i < last->share_count; i++)
		resource->list_bytes -= strlen(resource->shares[last->first_share + i].id) + LIST_ITEM_BYTES;
	resource->share_count -= last->share_count;
	free(last->kept);
	resource->device_count--;
}

/* The device with this UUID, or NULL. */
static inline const struct gs_resource_device *find_device(const struct gs_resource *resource, const char *uuid,
							   size_t length)
{
	if (!resource->slots)
		return NULL;
	for (uint32_t slot = hash(uuid, length) & resource->slot_mask; resource->slots[slot];
	     slot = (slot + 1) & resource->slot_mask) {
		const struct gs_resource_device *device = &resource->devices[resource->slots[slot] - 1];
		if (device->uuid_bytes == length && !memcmp(resource->shares[device->first_share].id, uuid, length))
			return device;
	}
	return NULL;
}

int64_t gs_resource_find(const struct gs_resource *resource, const char *id, size_t length)
{
	if (!length || length >= GS_SHARE_ID_SIZE)
		return -1;
	/* The number at the end, from its last digit on; longer ones than a replica has are not looked at. */
	const char *end = id + length, *at = end;
	uint32_t number = 0;
	for (uint32_t unit = 1, digit; at > id && (digit = (uint32_t)(uint8_t)at[-1] - '0') <= 9; unit *= 10) {
		number += digit * unit;
		at--;
	}
	size_t digits = (size_t)(end - at);
	bool replicated = digits && at - id > 2 && at[-1] == ':' && at[-2] == ':';
	const struct gs_resource_device *device =
		find_device(resource, id, replicated ? (size_t)(at - id) - 2 : length);
	if (!device || device->replicated != replicated)
		return -1;
	if (!replicated)
		return device->first_share;
	uint32_t replica = number - device->first_replica; /* huge when it is less */
	if (replica >= device->share_count || digits > REPLICA_DIGITS_MAX || (digits > 1 && *at == '0'))
		return -1; /* leading zeros: not as we write it */
	return (int64_t)device->first_share + replica;
}

const struct gs_resource_device *gs_resource_device_of(const struct gs_resource *resource, uint32_t share)
{
	size_t low = 0, high = resource->device_count;

	while (high - low > 1) {
		size_t middle = low + (high - low) / 2;
		if (resource->devices[middle].first_share <= share)
			low = middle;
		else
			high = middle;
	}
	return &resource->devices[low];
}
