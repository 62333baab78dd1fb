/* The kubelet's list of pods, read in place: against messages that protobuf-c makes, and against any bytes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "kube/plugin/pod_resources.h"
#include "kube/proto/podresources.pb-c.h"

static bool wants_gpus(void *user, const char *id, size_t length)
{
	return length > 4 && memcmp(id, "GPU-", 4) == 0;
}

static bool wants_all(void *user, const char *id, size_t length)
{
	return true;
}

enum { PODS_MAX = 8, CONTAINERS_MAX = 3, IDS_MAX = 4 };

/* A list of pods of which every container has devices of two resources. */
struct list {
	V1__ListPodResourcesResponse message;
	V1__PodResources pods[PODS_MAX], *pod_list[PODS_MAX];
	V1__ContainerResources containers[PODS_MAX][CONTAINERS_MAX], *container_lists[PODS_MAX][CONTAINERS_MAX];
	V1__ContainerDevices devices[PODS_MAX][CONTAINERS_MAX][2], *device_lists[PODS_MAX][CONTAINERS_MAX][2];
	char ids[PODS_MAX][CONTAINERS_MAX][IDS_MAX][64], *id_lists[PODS_MAX][CONTAINERS_MAX][IDS_MAX];
	char pod_names[PODS_MAX][64], container_names[CONTAINERS_MAX][64];
	char foreign[16], *foreign_list[1];
	V1__NodeTopology topology;
	V1__NumaCell cell, *cells[1];
};

static char text_default[] = "default", text_gpu[] = "nvidia.com/gpu", text_other[] = "example.com/fpga";

static void list_init(struct list *list, size_t pods, size_t containers, size_t ids)
{
	memset(list, 0, sizeof *list);
	v1__list_pod_resources_response__init(&list->message);
	v1__node_topology__init(&list->topology);
	v1__numa_cell__init(&list->cell);
	list->cell.id = 1;
	list->cells[0] = &list->cell;
	list->topology.nodes = list->cells;
	list->topology.n_nodes = 1;
	snprintf(list->foreign, sizeof list->foreign, "fpga-0");
	list->foreign_list[0] = list->foreign;
	list->message.pod_resources = list->pod_list;
	list->message.n_pod_resources = pods;
	for (size_t i = 0; i < pods; i++) {
		V1__PodResources *pod = list->pod_list[i] = &list->pods[i];
		v1__pod_resources__init(pod);
		snprintf(list->pod_names[i], sizeof list->pod_names[i], "train-%zu", i);
		pod->name = list->pod_names[i];
		pod->namespace_ = text_default;
		pod->containers = list->container_lists[i];
		pod->n_containers = containers;
		for (size_t j = 0; j < containers; j++) {
			V1__ContainerResources *container = list->container_lists[i][j] = &list->containers[i][j];
			v1__container_resources__init(container);
			snprintf(list->container_names[j], sizeof list->container_names[j], "main-%zu", j);
			container->name = list->container_names[j];
			container->devices = list->device_lists[i][j];
			container->n_devices = 2;
			for (int k = 0; k < 2; k++) {
				list->device_lists[i][j][k] = &list->devices[i][j][k];
				v1__container_devices__init(&list->devices[i][j][k]);
				list->devices[i][j][k].topology = &list->topology;
			}
			list->devices[i][j][0].resource_name = text_other;
			list->devices[i][j][0].device_ids = list->foreign_list;
			list->devices[i][j][0].n_device_ids = 1;
			list->devices[i][j][1].resource_name = text_gpu;
			list->devices[i][j][1].device_ids = list->id_lists[i][j];
			list->devices[i][j][1].n_device_ids = ids;
			for (size_t k = 0; k < ids; k++) {
				snprintf(list->ids[i][j][k], sizeof list->ids[i][j][k], "GPU-%zu%zu::%zu", i, j, k);
				list->id_lists[i][j][k] = list->ids[i][j][k];
			}
		}
	}
}

/* On the heap and of exact size, so that a sanitizer sees a read beyond it. */
static uint8_t *pack(const struct list *list, size_t *length)
{
	*length = v1__list_pod_resources_response__get_packed_size(&list->message);
	uint8_t *bytes = gs_malloc(*length ? *length : 1);
	v1__list_pod_resources_response__pack(&list->message, bytes);
	return bytes;
}

static void test_who_holds_what(void **state)
{
	static struct list list;
	struct kube_pod_table table;
	size_t length, count;
	list_init(&list, 5, 2, 3);
	GS_AUTO_FREE uint8_t *bytes = pack(&list, &length);
	assert_int_equal(kube_pod_table_read(bytes, length, wants_gpus, NULL, &table, NULL), 0);
	assert_int_equal(table.count, 5 * 2 * 3);
	assert_false(table.truncated);
	const struct gs_pod_holder *holder = kube_pod_table_find(&table, "GPU-31::2", &count);
	assert_int_equal(count, 1);
	assert_string_equal(holder->device, "GPU-31::2");
	assert_string_equal(holder->namespace, "default");
	assert_string_equal(holder->pod, "train-3");
	assert_string_equal(holder->container, "main-1");
	assert_null(kube_pod_table_find(&table, "fpga-0", &count));
	assert_null(kube_pod_table_find(&table, "GPU-31::20", &count));
	assert_int_equal(count, 0);
	kube_pod_table_free(&table);
}

static void test_empty_list(void **state)
{
	struct kube_pod_table table;
	size_t count;
	assert_int_equal(kube_pod_table_read(NULL, 0, wants_all, NULL, &table, NULL), 0);
	assert_int_equal(table.count, 0);
	assert_null(kube_pod_table_find(&table, "GPU-0", &count));
	kube_pod_table_free(&table);
}

static void test_two_pods_for_a_moment(void **state)
{
	static struct list list;
	struct kube_pod_table table;
	size_t length, count;
	list_init(&list, 2, 1, 1);
	snprintf(list.ids[1][0][0], sizeof list.ids[1][0][0], "%s", list.ids[0][0][0]);
	GS_AUTO_FREE uint8_t *bytes = pack(&list, &length);
	assert_int_equal(kube_pod_table_read(bytes, length, wants_gpus, NULL, &table, NULL), 0);
	const struct gs_pod_holder *holders = kube_pod_table_find(&table, "GPU-00::0", &count);
	assert_int_equal(count, 2);
	assert_string_equal(holders[0].pod, "train-0");
	assert_string_equal(holders[1].pod, "train-1");
	kube_pod_table_free(&table);
}

static void test_a_device_twice_is_held_once(void **state)
{
	static struct list list;
	struct kube_pod_table table;
	size_t length, count;
	list_init(&list, 1, 1, 2);
	snprintf(list.ids[0][0][1], sizeof list.ids[0][0][1], "%s", list.ids[0][0][0]);
	GS_AUTO_FREE uint8_t *bytes = pack(&list, &length);
	assert_int_equal(kube_pod_table_read(bytes, length, wants_gpus, NULL, &table, NULL), 0);
	assert_non_null(kube_pod_table_find(&table, "GPU-00::0", &count));
	assert_int_equal(count, 1);
	kube_pod_table_free(&table);
}

/* They go into JSON and onto a terminal. */
static void test_names_that_are_none_are_left_out(void **state)
{
	static const char *const bad[] = {"", "UPPER", "a/b", "\x1b[2J", "\xff\xfe", "a b"};
	for (size_t i = 0; i < GS_ARRAY_LENGTH(bad); i++) {
		for (int which = 0; which < 2; which++) {
			static struct list list;
			struct kube_pod_table table;
			size_t length, count;
			list_init(&list, 2, 1, 1);
			snprintf(which ? list.pod_names[0] : list.container_names[0], sizeof list.pod_names[0], "%s",
				 bad[i]);
			GS_AUTO_FREE uint8_t *bytes = pack(&list, &length);
			assert_int_equal(kube_pod_table_read(bytes, length, wants_gpus, NULL, &table, NULL), 0);
			assert_null(kube_pod_table_find(&table, "GPU-00::0", &count));
			/* All pods of the list share the container's name. */
			assert_int_equal(table.count, which ? 1 : 0);
			kube_pod_table_free(&table);
		}
	}
}

/* Fields in an order that no generator would choose: containers before the pod's name. */
static void test_fields_in_any_order(void **state)
{
	static const uint8_t bytes[] = {
		0x0a, 27,                                     /* pod */
		0x1a, 15,                                     /* container */
		0x12, 10, 0x12, 5,   'G', 'P', 'U', '-', '1', /* its devices: an id, */
		0x0a, 1,  'r',                                /* and the resource's name behind it */
		0x0a, 1,  'c',                                /* the container's name */
		0x12, 2,  'n',  's',                          /* namespace */
		0x0a, 4,  'p',  'o', 'd', '0',                /* name */
	};
	struct kube_pod_table table;
	size_t count;
	assert_int_equal(kube_pod_table_read(bytes, sizeof bytes, wants_gpus, NULL, &table, NULL), 0);
	const struct gs_pod_holder *holder = kube_pod_table_find(&table, "GPU-1", &count);
	assert_int_equal(count, 1);
	assert_string_equal(holder->namespace, "ns");
	assert_string_equal(holder->pod, "pod0");
	assert_string_equal(holder->container, "c");
	kube_pod_table_free(&table);
}

static void test_what_is_no_message(void **state)
{
	static const char html[] = "<html>no kubelet</html>";
	struct kube_pod_table table;
	struct gs_error err;
	assert_int_equal(kube_pod_table_read((const uint8_t *)html, strlen(html), wants_all, NULL, &table, &err), -1);
	assert_int_equal(table.count, 0);
	assert_non_null(strstr(err.text, "kubelet"));

	/* Cut off anywhere: either the rest is missing at a border of pods, or it is no message. */
	static struct list list;
	size_t length;
	list_init(&list, 3, 2, 2);
	GS_AUTO_FREE uint8_t *bytes = pack(&list, &length);
	for (size_t cut = 0; cut < length; cut++) {
		GS_AUTO_FREE uint8_t *part = gs_malloc(cut + 1);
		memcpy(part, bytes, cut);
		if (kube_pod_table_read(part, cut, wants_all, NULL, &table, NULL) == 0)
			assert_int_equal(table.count % 6, 0);
		kube_pod_table_free(&table);
	}
}

static void test_any_bytes(void **state)
{
	static struct list list;
	uint64_t seed = 3;
	size_t length;
	list_init(&list, 4, 2, 2);
	GS_AUTO_FREE uint8_t *good = pack(&list, &length);
	for (int round = 0; round < 20000; round++) {
		GS_AUTO_FREE uint8_t *bytes = gs_malloc(length);
		memcpy(bytes, good, length);
		for (int i = 0; i < 1 + round % 8; i++) {
			seed = seed * 6364136223846793005u + 1442695040888963407u;
			bytes[(seed >> 33) % length] = (uint8_t)(seed >> 56);
		}
		struct kube_pod_table table;
		kube_pod_table_read(bytes, length, wants_all, NULL, &table, NULL);
		for (size_t i = 0; i < table.count; i++)
			assert_true(*table.holders[i].pod && *table.holders[i].namespace &&
				    *table.holders[i].container);
		kube_pod_table_free(&table);
	}
}

/* A peer that repeats itself does not make us grow without bound. */
static void test_too_many_holders(void **state)
{
	enum { IDS = KUBE_PODS_HOLDERS_MAX + 1000, ID_BYTES = 9 };
	size_t devices = (size_t)IDS * (2 + ID_BYTES), at = 0;
	uint8_t *bytes = gs_malloc(devices + 64);
	/* Lengths as varints of four bytes. */
#define LONG_FIELD(tag, size)                                                                            \
	do {                                                                                             \
		size_t gs_size = (size);                                                                 \
		bytes[at++] = (tag);                                                                     \
		for (int gs_i = 0; gs_i < 4; gs_i++)                                                     \
			bytes[at++] = (uint8_t)((gs_size >> (7 * gs_i) & 0x7f) | (gs_i < 3 ? 0x80 : 0)); \
	} while (0)
	LONG_FIELD(0x0a, 3 + 3 + 5 + 3 + 5 + devices);
	memcpy(bytes + at, "\x0a\x01p\x12\x01n", 6);
	at += 6;
	LONG_FIELD(0x1a, 3 + 5 + devices);
	memcpy(bytes + at,
	       "\x0a\x01"
	       "c",
	       3);
	at += 3;
	LONG_FIELD(0x12, devices);
	for (unsigned i = 0; i < IDS; i++) {
		char id[ID_BYTES + 1];
		snprintf(id, sizeof id, "GPU%06u", i);
		bytes[at++] = 0x12;
		bytes[at++] = ID_BYTES;
		memcpy(bytes + at, id, ID_BYTES);
		at += ID_BYTES;
	}
	struct kube_pod_table table;
	assert_int_equal(kube_pod_table_read(bytes, at, wants_all, NULL, &table, NULL), 0);
	assert_int_equal(table.count, KUBE_PODS_HOLDERS_MAX);
	assert_true(table.truncated);
	kube_pod_table_free(&table);
	free(bytes);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_who_holds_what),
		cmocka_unit_test(test_empty_list),
		cmocka_unit_test(test_two_pods_for_a_moment),
		cmocka_unit_test(test_a_device_twice_is_held_once),
		cmocka_unit_test(test_names_that_are_none_are_left_out),
		cmocka_unit_test(test_fields_in_any_order),
		cmocka_unit_test(test_what_is_no_message),
		cmocka_unit_test(test_any_bytes),
		cmocka_unit_test(test_too_many_holders),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
