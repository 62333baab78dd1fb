#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "kube/proto/deviceplugin.pb-c.h"
#include "kube/plugin/wire.h"

#define READER(bytes)                                   \
	{                                               \
		(bytes), (bytes) + sizeof(bytes), false \
	}

static void reads_each_type(void **state)
{
	static const uint8_t bytes[] = {
		0x08, 0xac, 0x02,                         /* 1: varint 300 */
		0x11, 1,    2,    3,    4,    5, 6, 7, 8, /* 2: eight bytes */
		0x1a, 3,    'a',  'b',  'c',              /* 3: length-delimited */
		0x25, 9,    8,    7,    6,                /* 4: four bytes */
		0xfa, 0xff, 0xff, 0xff, 0x0f, 0,          /* 536870911, the largest number: empty */
	};
	struct wire_reader reader = READER(bytes);
	struct wire_field field = {0};

	assert_true(wire_next(&reader, &field));
	assert_true(field.number == 1 && field.type == 0 && field.value == 300);
	assert_true(wire_next(&reader, &field));
	assert_true(field.number == 2 && field.type == 1 && field.length == 8 && field.bytes[7] == 8);
	assert_true(wire_next(&reader, &field));
	assert_true(field.number == 3 && field.type == 2 && field.length == 3);
	assert_memory_equal(field.bytes, "abc", 3);
	assert_true(wire_next(&reader, &field));
	assert_true(field.number == 4 && field.type == 5 && field.length == 4 && field.bytes[0] == 9);
	assert_true(wire_next(&reader, &field));
	assert_true(field.number == 536870911 && field.type == 2 && field.length == 0);
	assert_false(wire_next(&reader, &field));
	assert_false(reader.bad);
}

static void reads_numbers_of_64_bits(void **state)
{
	static const uint8_t bytes[] = {0x08, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01};
	struct wire_reader reader = READER(bytes);
	struct wire_field field = {0};

	assert_true(wire_next(&reader, &field));
	assert_true(field.value == UINT64_MAX);
	assert_false(wire_next(&reader, &field));
	assert_false(reader.bad);
}

static void refuse(const uint8_t *bytes, size_t length)
{
	struct wire_reader reader = {bytes, bytes + length, false};
	struct wire_field field = {0};

	while (wire_next(&reader, &field))
		assert_true(field.length <= length);
	assert_true(reader.bad);
	assert_false(wire_next(&reader, &field)); /* bad for good */
}
#define REFUSE(...)                                           \
	do {                                                  \
		static const uint8_t bytes[] = {__VA_ARGS__}; \
		refuse(bytes, sizeof bytes);                  \
	} while (0)

static void refuses_what_is_no_message(void **state)
{
	REFUSE(0x00);                   /* field number 0 */
	REFUSE(0x02, 0);                /* the same, length-delimited */
	REFUSE(0x0b, 0x0c);             /* a group */
	REFUSE(0x0e);                   /* type 6 */
	REFUSE(0x0f);                   /* type 7 */
	REFUSE(0x08);                   /* no value */
	REFUSE(0x08, 0x80);             /* half a value */
	REFUSE(0x0a);                   /* no length */
	REFUSE(0x0a, 2, 'a');           /* a byte is missing */
	REFUSE(0x0d, 1, 2, 3);          /* three of four bytes */
	REFUSE(0x09, 1, 2, 3, 4, 5, 6); /* six of eight */
	/* A length that would wrap an address, a number that never ends, a tag above 32 bits. */
	REFUSE(0x0a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01);
	REFUSE(0x08, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x01);
	REFUSE(0x88, 0x80, 0x80, 0x80, 0x80, 0x01, 0);
}

/* What protobuf-c wrote is read back; cut anywhere, it ends early or is bad, and never reads on. */
static void reads_what_protobuf_c_writes(void **state)
{
	char *ids[] = {(char *)"GPU-1::0", (char *)"", (char *)"GPU-2::1"};
	V1beta1__ContainerPreferredAllocationRequest request = V1BETA1__CONTAINER_PREFERRED_ALLOCATION_REQUEST__INIT;
	request.available_deviceids = ids;
	request.n_available_deviceids = 3;
	request.allocation_size = 2;
	size_t length = v1beta1__container_preferred_allocation_request__get_packed_size(&request);
	GS_AUTO_FREE uint8_t *bytes = gs_malloc(length);
	v1beta1__container_preferred_allocation_request__pack(&request, bytes);

	for (size_t cut = 0; cut <= length; cut++) {
		GS_AUTO_FREE uint8_t *part = gs_malloc(cut ? cut : 1); /* of its own size, so that a sanitizer sees */
		memcpy(part, bytes, cut);
		struct wire_reader reader = {part, part + cut, false};
		struct wire_field field;
		size_t seen = 0;
		while (wire_next(&reader, &field)) {
			if (field.number == 1) {
				assert_int_equal(field.length, strlen(ids[seen]));
				assert_memory_equal(field.bytes, ids[seen], field.length);
			} else {
				assert_int_equal(field.number, 3);
				assert_int_equal(field.value, 2);
			}
			seen++;
		}
		assert_true(cut < length ? seen < 4 : seen == 4 && !reader.bad);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(reads_each_type),
		cmocka_unit_test(reads_numbers_of_64_bits),
		cmocka_unit_test(refuses_what_is_no_message),
		cmocka_unit_test(reads_what_protobuf_c_writes),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
