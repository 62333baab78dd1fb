/* A program on a MIG instance: what it sees, what it can have, and what others see of it. */
#include "node.h"

#include "sim/mig.h"

static struct sim_mig_name instances[3]; /* a 3g.40gb on GPU 0, two 1g.10gb on GPU 1 */

static struct sim_mig_name make(uint32_t gpu, const char *name)
{
	const struct sim_mig_model *model = sim_mig_model_of(sim_model_by_name("A100-80GB"));
	const struct sim_mig_profile *profile = sim_mig_profile_by_name(model, name);
	struct sim_mig_name instance, compute;
	assert_int_equal(sim_mig_create(test_node, gpu, (uint32_t)(profile - model->profiles), NULL, SIM_MIG_AS_DRIVER,
					&instance),
			 NVML_SUCCESS);
	assert_int_equal(sim_mig_create_compute(test_node, &instance, profile->slices - 1, NULL, &compute),
			 NVML_SUCCESS);
	return compute;
}

static int begin(void **state)
{
	nvmlReturn_t activation;
	if (test_make_node(state) < 0)
		return -1;
	for (uint32_t gpu = 0; gpu < 2; gpu++)
		assert_int_equal(sim_mig_set_mode(test_node, gpu, true, &activation), NVML_SUCCESS);
	instances[0] = make(0, "3g.40gb");
	instances[1] = make(1, "1g.10gb");
	instances[2] = make(1, "1g.10gb");
	return 0;
}

static void choose(int which, bool old_form)
{
	struct sim_gpu gpu;
	char text[96];
	CHECK(sim_gpu_get(test_node, instances[which].gpu, &gpu));
	if (old_form)
		snprintf(text, sizeof text, "MIG-%s/%u/%u", gpu.uuid, instances[which].gpu_instance,
			 instances[which].compute_instance);
	else
		sim_mig_uuid(&gpu, instances[which].gpu_instance, instances[which].compute_instance, text);
	setenv("CUDA_VISIBLE_DEVICES", text, 1);
}

static void the_first_one_body(void)
{
	int count, value;
	char name[96];
	size_t bytes;
	OK(cuInit(0));
	OK(cuDeviceGetCount(&count));
	CHECK(count == 1);
	OK(cuDeviceGetName(name, sizeof name, 0));
	CHECK(strcmp(name, "NVIDIA A100-SXM4-80GB MIG 3g.40gb") == 0);
	OK(cuDeviceTotalMem_v2(&bytes, 0));
	CHECK(bytes == (size_t)40192 << 20);
	OK(cuDeviceGetAttribute(&value, CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT, 0));
	CHECK(value == 42);
}

static void without_a_choice_it_is_the_first_one(void **state)
{
	test_in_process(the_first_one_body);
}

static void chosen_body(void)
{
	struct sim_gpu gpu;
	CUuuid parent, own;
	char uuid[48], *end = uuid;
	choose(2, false);
	OK(cuInit(0));
	OK(cuDeviceGetUuid(&parent, 0));
	OK(cuDeviceGetUuid_v2(&own, 0));
	CHECK(sim_gpu_get(test_node, 1, &gpu));
	CHECK(memcmp(parent.bytes, gpu.uuid_bytes, 16) == 0);
	end += sprintf(end, "MIG-");
	for (int i = 0; i < 16; i++)
		end += sprintf(end, "%s%02x", i == 4 || i == 6 || i == 8 || i == 10 ? "-" : "", (uint8_t)own.bytes[i]);
	CHECK(strcmp(uuid, getenv("CUDA_VISIBLE_DEVICES")) == 0);
}

static void old_form_body(void)
{
	int value;
	choose(1, true);
	OK(cuInit(0));
	OK(cuDeviceGetAttribute(&value, CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT, 0));
	CHECK(value == 14);
}

static void gone_body(void)
{
	choose(1, false);
	CHECK(sim_mig_destroy_compute(test_node, &instances[1]) == NVML_SUCCESS);
	EXPECT(CUDA_ERROR_NO_DEVICE, cuInit(0));
}

static void a_program_chooses_by_name(void **state)
{
	test_in_process(chosen_body);
	test_in_process(old_form_body);
	test_in_process(gone_body);
}

static void memory_body(void)
{
	CUcontext context;
	CUdeviceptr pointer, second;
	size_t free_bytes, total;
	choose(1, false);
	context = test_context();
	CHECK(context);
	OK(cuMemGetInfo_v2(&free_bytes, &total));
	CHECK(total == (size_t)9728 << 20 && free_bytes < total);
	EXPECT(CUDA_ERROR_OUT_OF_MEMORY, cuMemAlloc_v2(&pointer, total));
	OK(cuMemAlloc_v2(&pointer, (size_t)8 << 30));
	EXPECT(CUDA_ERROR_OUT_OF_MEMORY, cuMemAlloc_v2(&second, (size_t)2 << 30));
	/* It is listed there, keeps the instance alive, and leaves its neighbour's memory alone. */
	struct sim_client clients[2];
	CHECK(sim_clients(test_node, 1, clients, 2) == 1);
	CHECK(clients[0].gpu_instance == instances[1].gpu_instance && clients[0].compute_instance == 0);
	CHECK(sim_mig_destroy_compute(test_node, &instances[1]) == NVML_ERROR_IN_USE);
	CHECK(sim_instance_memory_used(test_node, 1, instances[2].gpu_instance) == 0);
	OK(cuCtxDestroy_v2(context));
	CHECK(sim_mig_destroy_compute(test_node, &instances[1]) == NVML_SUCCESS);
	EXPECT(CUDA_ERROR_DEVICE_UNAVAILABLE, cuCtxCreate_v2(&context, 0, 0));
}

static void memory_is_the_instances(void **state)
{
	test_in_process(memory_body);
}

/* How long one grid of many blocks takes on a device, in the node's time. */
static float grid_milliseconds(void)
{
	CUmodule module;
	CUfunction function;
	CUevent start, stop;
	float milliseconds;
	uint64_t pointer = 0;
	uint32_t count = 0;
	OK(cuModuleLoadData(&module, test_ptx));
	OK(cuModuleGetFunction(&function, module, "work"));
	OK(cuEventCreate(&start, 0));
	OK(cuEventCreate(&stop, 0));
	OK(cuEventRecord(start, NULL));
	OK(cuLaunchKernel(function, 1 << 20, 1, 1, 256, 1, 1, 0, NULL, (void *[]){&pointer, &count}, NULL));
	OK(cuEventRecord(stop, NULL));
	OK(cuEventSynchronize(stop));
	OK(cuEventElapsedTime_v2(&milliseconds, start, stop));
	return milliseconds;
}

static int shared_pipe[2];

static void speed_body(void)
{
	test_context();
	float milliseconds = grid_milliseconds();
	CHECK(write(shared_pipe[1], &milliseconds, sizeof milliseconds) == sizeof milliseconds);
}

static void large_body(void)
{
	choose(0, false);
	speed_body();
}

static void small_body(void)
{
	choose(1, false);
	speed_body();
}

static void speed_goes_by_multiprocessors(void **state)
{
	float large, small;
	assert_int_equal(pipe(shared_pipe), 0);
	test_in_process(large_body);
	assert_int_equal(read(shared_pipe[0], &large, sizeof large), sizeof large);
	test_in_process(small_body);
	assert_int_equal(read(shared_pipe[0], &small, sizeof small), sizeof small);
	close(shared_pipe[0]);
	close(shared_pipe[1]);
	/* 42 to 14; simulated time, which no load of the machine stretches, and a small start-up. */
	assert_true(small > 2.9f * large && small < 3.1f * large);
}

int main(void)
{
#define WITH_INSTANCES(test) cmocka_unit_test_setup_teardown(test, begin, test_remove_node)
	const struct CMUnitTest tests[] = {
		WITH_INSTANCES(without_a_choice_it_is_the_first_one),
		WITH_INSTANCES(a_program_chooses_by_name),
		WITH_INSTANCES(memory_is_the_instances),
		WITH_INSTANCES(speed_goes_by_multiprocessors),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
