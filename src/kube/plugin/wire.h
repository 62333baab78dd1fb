/* Reads protobuf wire format in place (https://protobuf.dev/programming-guides/encoding), for the one request whose
 * thousands of ids would cost more to copy than to use. */
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

static inline bool wire_varint(struct wire_reader *reader, uint64_t *value)
{
	/* Nearly all tags and lengths are one byte. */
	if (__builtin_expect(reader->at < reader->end && *reader->at < 0x80, 1)) {
		*value = *reader->at++;
		return true;
	}
	uint64_t result = 0;
	for (unsigned shift = 0; shift < 64 && reader->at < reader->end; shift += 7) {
		uint8_t byte = *reader->at++;
		result |= (uint64_t)(byte & 0x7f) << shift;
		if (!(byte & 0x80)) {
			*value = result;
			return true;
		}
	}
	reader->bad = true;
	return false;
}

/* The next field, or false at the end (see `bad`). Groups, gone since proto3, count as bad. */
static inline bool wire_next(struct wire_reader *reader, struct wire_field *field)
{
	uint64_t tag;
	if (reader->bad || reader->at == reader->end || !wire_varint(reader, &tag))
		return false;
	*field = (struct wire_field){.number = (uint32_t)(tag >> 3), .type = (unsigned)(tag & 7)};
	uint64_t size = 0;
	if (field->number == 0 || tag > UINT32_MAX) {
		reader->bad = true;
		return false;
	}
	switch (field->type) {
	case 0:
		return wire_varint(reader, &field->value);
	case 1:
		size = 8;
		break;
	case 5:
		size = 4;
		break;
	case 2:
		if (!wire_varint(reader, &size))
			return false;
		break;
	default:
		reader->bad = true;
		return false;
	}
	if (size > (size_t)(reader->end - reader->at)) {
		reader->bad = true;
		return false;
	}
	field->bytes = reader->at;
	field->length = (size_t)size;
	reader->at += size;
	return true;
}

/* How many fields a message has, and those in its messages of the field `nested` (0: none); counting stops above `most`. Bytes
 * that are no protobuf count as far as they go. An unpacked field takes many times the two bytes that it may be, so a
 * message from a peer is counted before it is unpacked. */
static inline size_t wire_count(const uint8_t *bytes, size_t length, uint32_t nested, size_t most)
{
	struct wire_reader reader = {.at = bytes, .end = bytes + length};
	struct wire_field field;
	size_t count = 0;
	while (count <= most && wire_next(&reader, &field)) {
		count++;
		if (nested && field.number == nested && field.type == 2)
			count += wire_count(field.bytes, field.length, 0, most - count < most ? most - count : 0);
	}
	return count;
}

#endif
