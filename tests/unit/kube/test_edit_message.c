/* What protobuf-c, which has its own idea of the wire format, reads in the bytes of an edit. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "kube/plugin/edit_message.h"
#include "kube/proto/deviceplugin.pb-c.h"

static V1beta1__AllocateResponse *read_back(const struct gs_strbuf *bytes)
{
	V1beta1__AllocateResponse *response =
		v1beta1__allocate_response__unpack(NULL, bytes->length, (const uint8_t *)bytes->data);
	assert_non_null(response);
	return response;
}

static void says_all_of_an_edit(void **state)
{
	GS_AUTO_STRBUF struct gs_strbuf bytes = {0};
	struct gs_container_edit edit = {0};
	gs_container_edit_env(&edit, "NVIDIA_VISIBLE_DEVICES", "GPU-1,GPU-2");
	gs_container_edit_env(&edit, "EMPTY", "");
	gs_container_edit_annotation(&edit, "cdi.k8s.io/one", "nvidia.com/gpu=0");
	gs_container_edit_mount(&edit, "/dev/null", "/var/run/a", false);
	gs_container_edit_mount(&edit, "/host", "/container", true);
	gs_container_edit_device(&edit, "/root/dev/nvidia0", "/dev/nvidia0", "rw");
	gs_container_edit_cdi(&edit, "nvidia.com/gpu=0");
	gs_container_edit_cdi(&edit, "nvidia.com/gpu=1");
	kube_add_edit(&bytes, &edit);
	V1beta1__AllocateResponse *response = read_back(&bytes);
	assert_int_equal(response->n_container_responses, 1);
	const V1beta1__ContainerAllocateResponse *container = response->container_responses[0];
	assert_int_equal(container->base.n_unknown_fields, 0);
	assert_int_equal(container->n_envs, 2);
	assert_string_equal(container->envs[0]->key, "NVIDIA_VISIBLE_DEVICES");
	assert_string_equal(container->envs[0]->value, "GPU-1,GPU-2");
	assert_string_equal(container->envs[1]->key, "EMPTY");
	assert_string_equal(container->envs[1]->value, "");
	assert_int_equal(container->n_annotations, 1);
	assert_string_equal(container->annotations[0]->key, "cdi.k8s.io/one");
	assert_string_equal(container->annotations[0]->value, "nvidia.com/gpu=0");
	assert_int_equal(container->n_mounts, 2);
	assert_string_equal(container->mounts[0]->host_path, "/dev/null");
	assert_string_equal(container->mounts[0]->container_path, "/var/run/a");
	assert_false(container->mounts[0]->read_only);
	assert_string_equal(container->mounts[1]->host_path, "/host");
	assert_true(container->mounts[1]->read_only);
	assert_int_equal(container->n_devices, 1);
	assert_string_equal(container->devices[0]->host_path, "/root/dev/nvidia0");
	assert_string_equal(container->devices[0]->container_path, "/dev/nvidia0");
	assert_string_equal(container->devices[0]->permissions, "rw");
	assert_int_equal(container->n_cdi_devices, 2);
	assert_string_equal(container->cdi_devices[1]->name, "nvidia.com/gpu=1");
	v1beta1__allocate_response__free_unpacked(response, NULL);
	gs_container_edit_free(&edit);
}

/* Around each length at which a varint gets a byte more. */
static void says_texts_of_any_length(void **state)
{
	static const size_t lengths[] = {0, 1, 100, 113, 126, 127, 128, 129, 16381, 16383, 16384, 16385, 300000};
	for (size_t i = 0; i < GS_ARRAY_LENGTH(lengths); i++) {
		GS_AUTO_STRBUF struct gs_strbuf bytes = {0};
		GS_AUTO_FREE char *text = gs_malloc(lengths[i] + 1);
		memset(text, 'x', lengths[i]);
		text[lengths[i]] = '\0';
		struct gs_container_edit edit = {0};
		gs_container_edit_env(&edit, "KEY", text);
		gs_container_edit_mount(&edit, "/h", text, true);
		kube_add_edit(&bytes, &edit);
		kube_add_edit(&bytes, &(struct gs_container_edit){0});
		kube_add_edit(&bytes, &edit);
		V1beta1__AllocateResponse *response = read_back(&bytes);
		assert_int_equal(response->n_container_responses, 3);
		assert_int_equal(response->container_responses[1]->n_envs, 0);
		for (size_t j = 0; j < 3; j += 2) {
			assert_string_equal(response->container_responses[j]->envs[0]->value, text);
			assert_string_equal(response->container_responses[j]->mounts[0]->container_path, text);
			assert_true(response->container_responses[j]->mounts[0]->read_only);
		}
		v1beta1__allocate_response__free_unpacked(response, NULL);
		gs_container_edit_free(&edit);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(says_all_of_an_edit),
		cmocka_unit_test(says_texts_of_any_length),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
