/* Reads protobuf wire format in place (https://protobuf.dev/programming-guides/encoding), so that ids are not
 * copied to be looked up, and a few bytes of a peer do not become many. */
#ifndef GPUSHARE_KUBE_WIRE_H
#define GPUSHARE_KUBE_WIRE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct wire_reader {
	const uint8_t *at, *end;
	bool bad; /* set when the bytes are not protobuf; reading stops there */
};

/* One field: `bytes`/`length` of a length-delimited one (type 2), else `value`. */
struct wire_field {
	uint32_t number;
	unsigned type;
	uint64_t value;
	const uint8_t *bytes;
	size_t length;
};

/* Moves `*at` past a varint; false when there is none. */
static inline bool wire_varint(const uint8_t **at, const uint8_t *end, uint64_t *value)
{
	uint64_t result = 0;
	for (unsigned shift = 0; shift < 64 && *at < end; shift += 7) {
		uint8_t byte = *(*at)++;
		result |= (uint64_t)(byte & 0x7f) << shift;
		if (!(byte & 0x80)) {
			*value = result;
			return true;
		}
	}
	return false;
}

/* The field at `at`, any field. Returns where the next one begins, or NULL when this is none. */
static inline const uint8_t *wire_read(const uint8_t *at, const uint8_t *end, struct wire_field *field)
{
	uint64_t tag, size = 0;
	if (!wire_varint(&at, end, &tag) || tag > UINT32_MAX || tag >> 3 == 0)
		return NULL;
	*field = (struct wire_field){.number = (uint32_t)(tag >> 3), .type = (unsigned)(tag & 7)};
	switch (field->type) {
	case 0:
		return wire_varint(&at, end, &field->value) ? at : NULL;
	case 1:
		size = 8;
		break;
	case 5:
		size = 4;
		break;
	case 2:
		if (!wire_varint(&at, end, &size))
			return NULL;
		break;
	default:
		return NULL;
	}
	if (size > (size_t)(end - at))
		return NULL;
	field->bytes = at;
	field->length = (size_t)size;
	return at + size;
}

/* The next field, or false at the end (see `bad`). Groups, gone since proto3, count as bad. */
static inline __attribute__((always_inline)) bool wire_next(struct wire_reader *reader, struct wire_field *field)
{
	const uint8_t *at = reader->at;
	if (reader->bad || at == reader->end)
		return false;
	/* Nearly all fields are short strings, whose tag and length are a byte each. */
	if (reader->end - at >= 2 && (*at & 0x87) == 2 && *at >= 8 && at[1] < 0x80 && at[1] <= reader->end - at - 2) {
		*field = (struct wire_field){.number = *at >> 3, .type = 2, .bytes = at + 2, .length = at[1]};
		reader->at = at + 2 + at[1];
		return true;
	}
	/* By copies, so that a loop's reader and field can stay in registers. */
	struct wire_field any;
	at = wire_read(at, reader->end, &any);
	if (!at) {
		reader->bad = true;
		return false;
	}
	*field = any;
	reader->at = at;
	return true;
}

#endif
