/* Partitions: what NVML says of them, and its rules for making and destroying them. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "node.h"
#include "sim/mig.h"

#define MIB (UINT64_C(1) << 20)

/* Only root may partition; elsewhere these tests have nothing to look at. */
static void begin(const char *spec)
{
	node_make(spec);
	if (geteuid() != 0) {
		node_end(NULL);
		skip();
	}
}

static void end(void)
{
	assert_int_equal(node_end(NULL), 0);
}

static void set_mode(unsigned index, uint32_t mode)
{
	nvmlReturn_t activation = NVML_ERROR_UNKNOWN;
	assert_int_equal(nvmlDeviceSetMigMode(node_device(index), mode, &activation), NVML_SUCCESS);
	assert_int_equal(activation, NVML_SUCCESS);
}

static void expect_mode(unsigned index, uint32_t current, uint32_t pending)
{
	uint32_t now, next;
	assert_int_equal(nvmlDeviceGetMigMode(node_device(index), &now, &next), NVML_SUCCESS);
	assert_int_equal(now, current);
	assert_int_equal(next, pending);
}

static nvmlGpuInstance_t make(unsigned index, uint32_t profile_id)
{
	nvmlGpuInstance_t made = NULL;
	assert_int_equal(nvmlDeviceCreateGpuInstance(node_device(index), profile_id, &made), NVML_SUCCESS);
	assert_non_null(made);
	return made;
}

static nvmlGpuInstanceInfo_t info_of(nvmlGpuInstance_t instance)
{
	nvmlGpuInstanceInfo_t info;
	assert_int_equal(nvmlGpuInstanceGetInfo(instance, &info), NVML_SUCCESS);
	return info;
}

static nvmlComputeInstance_t make_compute(nvmlGpuInstance_t instance, uint32_t profile)
{
	nvmlComputeInstance_t made = NULL;
	assert_int_equal(nvmlGpuInstanceCreateComputeInstance(instance, profile, &made), NVML_SUCCESS);
	return made;
}

/* Makes instances of the profiles and compares their ids, which tell where they are: "13 11 12". */
static void expect_ids(const uint32_t *profiles, size_t count, const char *expected)
{
	char ids[128] = "";
	size_t length = 0;
	for (size_t i = 0; i < count; i++)
		length += (size_t)snprintf(ids + length, sizeof ids - length, "%s%u", i ? " " : "",
					   info_of(make(0, profiles[i])).id);
	assert_string_equal(ids, expected);
}

static void the_mode_of_an_idle_gpu_changes_at_once(void **state)
{
	uint32_t current, pending, count;
	nvmlReturn_t activation;
	begin("A100-80GB,H100-80GB,T4");
	for (unsigned i = 0; i < 2; i++) {
		expect_mode(i, 0, 0);
		assert_int_equal(nvmlDeviceGetMaxMigDeviceCount(node_device(i), &count), NVML_SUCCESS);
		assert_int_equal(count, 0);
		set_mode(i, NVML_DEVICE_MIG_ENABLE);
		expect_mode(i, 1, 1);
		assert_int_equal(nvmlDeviceGetMaxMigDeviceCount(node_device(i), &count), NVML_SUCCESS);
		assert_int_equal(count, 7);
		set_mode(i, NVML_DEVICE_MIG_DISABLE);
		expect_mode(i, 0, 0);
	}
	assert_int_equal(nvmlDeviceGetMigMode(node_device(2), &current, &pending), NVML_ERROR_NOT_SUPPORTED);
	assert_int_equal(nvmlDeviceSetMigMode(node_device(2), 1, &activation), NVML_ERROR_NOT_SUPPORTED);
	assert_int_equal(nvmlDeviceSetMigMode(node_device(0), 2, &activation), NVML_ERROR_INVALID_ARGUMENT);
	end();
}

static void needs_reset(struct sim_gpu *gpu, void *user)
{
	(void)user;
	gpu->mig_needs_reset = 1;
}

static void a_mode_that_cannot_be_had_yet_is_pending(void **state)
{
	nvmlReturn_t activation;
	struct gs_error err;
	begin("A100-80GB,H100-80GB");
	/* In use: pending until a reset, which takes an idle GPU. */
	int slot = node_client(0, SIM_CLIENT_COMPUTE, 1);
	assert_int_equal(nvmlDeviceSetMigMode(node_device(0), 1, &activation), NVML_SUCCESS);
	assert_int_equal(activation, NVML_ERROR_IN_USE);
	expect_mode(0, 0, 1);
	assert_int_equal(sim_gpu_reset(node, 0, &err), -1);
	sim_client_detach(node, slot);
	expect_mode(0, 0, 1);
	assert_int_equal(sim_gpu_reset(node, 0, &err), 0);
	expect_mode(0, 1, 1);
	set_mode(0, 0);

	/* Where the driver cannot reset the board by itself; Hopper needs none. */
	for (uint32_t i = 0; i < 2; i++)
		sim_gpu_update(node, i, needs_reset, NULL);
	assert_int_equal(nvmlDeviceSetMigMode(node_device(0), 1, &activation), NVML_SUCCESS);
	assert_int_equal(activation, NVML_ERROR_RESET_REQUIRED);
	expect_mode(0, 0, 1);
	set_mode(0, 0); /* thought better of */
	expect_mode(0, 0, 0);
	set_mode(1, 1);
	expect_mode(1, 1, 1);
	end();
}

static void profiles_are_told_by_number_and_used_by_id(void **state)
{
	begin("A100-80GB,A100-40GB,T4");
	nvmlGpuInstanceProfileInfo_t info;
	nvmlGpuInstanceProfileInfo_v2_t second = {.version = nvmlGpuInstanceProfileInfo_v2};
	nvmlGpuInstanceProfileInfo_v3_t third = {.version = nvmlGpuInstanceProfileInfo_v3};
	/* The mode does not matter. */
	assert_int_equal(nvmlDeviceGetGpuInstanceProfileInfo(node_device(0), NVML_GPU_INSTANCE_PROFILE_1_SLICE, &info),
			 NVML_SUCCESS);
	assert_int_equal(info.id, 19);
	assert_int_equal(info.memorySizeMB, 9728);
	assert_int_equal(info.instanceCount, 7);
	assert_int_equal(info.multiprocessorCount, 14);
	assert_int_equal(
		nvmlDeviceGetGpuInstanceProfileInfoV(node_device(0), NVML_GPU_INSTANCE_PROFILE_3_SLICE, &second),
		NVML_SUCCESS);
	assert_string_equal(second.name, "MIG 3g.40gb");
	assert_int_equal(second.id, 9);
	assert_int_equal(
		nvmlDeviceGetGpuInstanceProfileInfoV(node_device(0), NVML_GPU_INSTANCE_PROFILE_7_SLICE, (void *)&third),
		NVML_SUCCESS);
	assert_string_equal(third.name, "MIG 7g.80gb");
	assert_int_equal(third.sliceCount, 7);
	/* One name, two profiles: on the smaller board 1g.10gb is the one with double memory. */
	assert_int_equal(nvmlDeviceGetGpuInstanceProfileInfoByIdV(node_device(0), 19, &second), NVML_SUCCESS);
	assert_string_equal(second.name, "MIG 1g.10gb");
	assert_int_equal(nvmlDeviceGetGpuInstanceProfileInfoByIdV(node_device(1), 15, &second), NVML_SUCCESS);
	assert_string_equal(second.name, "MIG 1g.10gb");

	assert_int_equal(nvmlDeviceGetGpuInstanceProfileInfo(node_device(0), NVML_GPU_INSTANCE_PROFILE_8_SLICE, &info),
			 NVML_ERROR_NOT_SUPPORTED);
	assert_int_equal(nvmlDeviceGetGpuInstanceProfileInfo(node_device(0), NVML_GPU_INSTANCE_PROFILE_COUNT, &info),
			 NVML_ERROR_INVALID_ARGUMENT);
	assert_int_equal(nvmlDeviceGetGpuInstanceProfileInfo(node_device(2), NVML_GPU_INSTANCE_PROFILE_1_SLICE, &info),
			 NVML_ERROR_NOT_SUPPORTED);
	assert_int_equal(nvmlDeviceGetGpuInstanceProfileInfoByIdV(node_device(0), 3, &second),
			 NVML_ERROR_INVALID_ARGUMENT);
	second.version = NVML_STRUCT_WORD(second, 4);
	assert_int_equal(nvmlDeviceGetGpuInstanceProfileInfoByIdV(node_device(0), 19, &second),
			 NVML_ERROR_ARGUMENT_VERSION_MISMATCH);
	end();
}

/* Every row of every model holds together, whatever the figures. */
static void the_tables_are_sound(void **state)
{
	(void)state;
	for (size_t i = 0; i < sim_model_count; i++) {
		const struct sim_mig_model *model = sim_mig_model_of(&sim_models[i]);
		assert_int_equal(model != NULL, sim_models[i].mig_capable);
		for (size_t k = 0; model && k < model->profile_count; k++) {
			const struct sim_mig_profile *profile = &model->profiles[k];
			uint32_t ids = 0, starts = 0;
			for (uint32_t start = 0; start < model->grid; start++) {
				if (!(profile->starts >> start & 1))
					continue;
				assert_true(start + profile->size <= model->grid);
				assert_true(start % profile->size == 0);
				uint32_t id = sim_mig_id_of(model->grid, start, profile->size);
				assert_true(id < SIM_MIG_INSTANCES_MAX && !(ids >> id & 1));
				ids |= 1u << id;
				starts++;
			}
			assert_true(profile->count >= 1 && profile->count <= starts);
			assert_true(profile->multiprocessors <= sim_models[i].multiprocessors);
			assert_true((uint64_t)profile->memory_mib << 20 <= sim_models[i].memory_total);
			for (size_t other = 0; other < k; other++)
				assert_true(model->profiles[other].id != profile->id &&
					    model->profiles[other].number != profile->number &&
					    strcmp(model->profiles[other].name, profile->name) != 0);
			struct sim_mig_compute compute;
			uint32_t whole = 0;
			for (uint32_t number = 0; number < SIM_MIG_COMPUTE_PROFILES; number++)
				if (sim_mig_compute_of(model, profile, number, &compute)) {
					assert_true(compute.count >= 1 && compute.multiprocessors * compute.count <=
										  profile->multiprocessors);
					whole += compute.slices == profile->slices;
				}
			assert_int_equal(whole, 1);
		}
	}
}

static void instances_go_where_drivers_put_them(void **state)
{
	/* Sequences that were seen on boards; the ids tell the places. */
	begin("A100-80GB");
	set_mode(0, 1);
	expect_ids((uint32_t[]){19, 19, 19, 19, 19, 19, 19}, 7, "13 11 12 7 8 9 10");
	end();
	begin("A100-40GB");
	set_mode(0, 1);
	expect_ids((uint32_t[]){9, 9}, 2, "2 1");
	end();
	begin("A100-40GB");
	set_mode(0, 1);
	expect_ids((uint32_t[]){9, 14, 19, 19}, 4, "2 3 9 10");
	end();
	begin("RTX-PRO-6000");
	set_mode(0, 1);
	expect_ids((uint32_t[]){0}, 1, "0");
	end();
	begin("H100-80GB");
	set_mode(0, 1);
	expect_ids((uint32_t[]){9, 15, 19}, 3, "2 3 9");
	end();
	setenv("NODE_DRIVER", "560.35.03", 1); /* chooses other places */
	begin("H100-80GB");
	set_mode(0, 1);
	expect_ids((uint32_t[]){9, 15, 19}, 3, "1 5 13");
	end();
	unsetenv("NODE_DRIVER");
	/* The order counts: after two small ones and a 2g no half of the board is left. */
	begin("A100-80GB");
	set_mode(0, 1);
	expect_ids((uint32_t[]){19, 19, 14}, 3, "13 11 3");
	nvmlGpuInstance_t none;
	assert_int_equal(nvmlDeviceCreateGpuInstance(node_device(0), 9, &none), NVML_ERROR_INSUFFICIENT_RESOURCES);
	end();
}

static void a_place_can_be_asked_for(void **state)
{
	nvmlGpuInstance_t made, other;
	begin("A100-80GB");
	set_mode(0, 1);
	nvmlGpuInstancePlacement_t place = {.start = 4, .size = 4};
	assert_int_equal(nvmlDeviceCreateGpuInstanceWithPlacement(node_device(0), 9, &place, &made), NVML_SUCCESS);
	assert_int_equal(info_of(made).placement.start, 4);
	assert_int_equal(nvmlDeviceCreateGpuInstanceWithPlacement(node_device(0), 9, &place, &other),
			 NVML_ERROR_INSUFFICIENT_RESOURCES);
	place.start = 2;
	assert_int_equal(nvmlDeviceCreateGpuInstanceWithPlacement(node_device(0), 9, &place, &other),
			 NVML_ERROR_INVALID_ARGUMENT);
	place.start = UINT32_MAX;
	assert_int_equal(nvmlDeviceCreateGpuInstanceWithPlacement(node_device(0), 9, &place, &other),
			 NVML_ERROR_INVALID_ARGUMENT);
	setenv("GPUSHARE_SIM_MIG_PLACEMENT", "lowest", 1);
	assert_int_equal(info_of(make(0, 19)).placement.start, 0);
	setenv("GPUSHARE_SIM_MIG_PLACEMENT", "highest", 1);
	assert_int_equal(info_of(make(0, 19)).placement.start, 3);
	unsetenv("GPUSHARE_SIM_MIG_PLACEMENT");

	nvmlGpuInstancePlacement_t places[8];
	uint32_t count = 0;
	assert_int_equal(nvmlDeviceGetGpuInstancePossiblePlacements_v2(node_device(0), 15, NULL, &count), NVML_SUCCESS);
	assert_int_equal(count, 4);
	assert_int_equal(nvmlDeviceGetGpuInstancePossiblePlacements_v2(node_device(0), 15, places, &count),
			 NVML_SUCCESS);
	assert_int_equal(places[3].start, 6);
	assert_int_equal(places[3].size, 2);
	end();
}

static uint32_t remaining(uint32_t profile_id)
{
	uint32_t count = UINT32_MAX;
	assert_int_equal(nvmlDeviceGetGpuInstanceRemainingCapacity(node_device(0), profile_id, &count), NVML_SUCCESS);
	return count;
}

static void capacity_is_what_still_fits(void **state)
{
	uint32_t count;
	begin("A100-80GB");
	assert_int_equal(remaining(19), 0); /* MIG is off */
	set_mode(0, 1);
	assert_int_equal(remaining(19), 7);
	assert_int_equal(remaining(20), 1);
	assert_int_equal(remaining(0), 1);
	make(0, 9); /* the upper half */
	assert_int_equal(remaining(19), 4);
	assert_int_equal(remaining(14), 2);
	assert_int_equal(remaining(9), 1);
	assert_int_equal(remaining(5), 1);
	assert_int_equal(remaining(0), 0);
	make(0, 20);
	assert_int_equal(remaining(20), 0); /* one has the media engines */
	assert_int_equal(remaining(19), 3);
	assert_int_equal(nvmlDeviceGetGpuInstanceRemainingCapacity(node_device(0), 77, &count),
			 NVML_ERROR_INVALID_ARGUMENT);
	end();
}

static void things_in_use_are_not_destroyed(void **state)
{
	begin("A100-80GB");
	nvmlReturn_t activation;
	set_mode(0, 1);
	nvmlGpuInstance_t instance = make(0, 9);
	uint32_t id = info_of(instance).id;
	nvmlComputeInstance_t compute = make_compute(instance, NVML_COMPUTE_INSTANCE_PROFILE_3_SLICE);
	struct gs_error err;
	assert_int_equal(sim_client_attach(node, 0, SIM_CLIENT_COMPUTE, &err), -1); /* not the whole GPU */
	int slot = sim_client_attach_instance(node, 0, id, 0, SIM_CLIENT_COMPUTE, &err);
	assert_true(slot >= 0);

	assert_int_equal(nvmlComputeInstanceDestroy(compute), NVML_ERROR_IN_USE);
	assert_int_equal(nvmlGpuInstanceDestroy(instance), NVML_ERROR_IN_USE);
	assert_int_equal(nvmlDeviceSetMigMode(node_device(0), 0, &activation), NVML_ERROR_IN_USE);
	expect_mode(0, 1, 1);
	sim_client_detach(node, slot);
	assert_int_equal(nvmlGpuInstanceDestroy(instance), NVML_ERROR_IN_USE);
	assert_int_equal(nvmlComputeInstanceDestroy(compute), NVML_SUCCESS);
	assert_int_equal(nvmlDeviceSetMigMode(node_device(0), 0, &activation), NVML_ERROR_IN_USE);
	assert_int_equal(nvmlGpuInstanceDestroy(instance), NVML_SUCCESS);

	/* The handles name nothing any more, also when something new is in their place. */
	assert_int_equal(nvmlComputeInstanceDestroy(compute), NVML_ERROR_INVALID_ARGUMENT);
	assert_int_equal(nvmlGpuInstanceDestroy(instance), NVML_ERROR_INVALID_ARGUMENT);
	struct sim_mig_name made;
	assert_int_equal(sim_mig_create(node, 0, 4, NULL, SIM_MIG_AS_DRIVER, &made), NVML_SUCCESS);
	assert_int_equal(made.gpu_instance, id);
	nvmlGpuInstanceInfo_t info;
	assert_int_equal(nvmlGpuInstanceGetInfo(instance, &info), NVML_ERROR_INVALID_ARGUMENT);
	end();
}

static void compute_instances_share_their_gpu_instance(void **state)
{
	begin("A100-80GB");
	set_mode(0, 1);
	nvmlGpuInstance_t instance = make(0, 9);
	uint32_t count;
	nvmlComputeInstanceProfileInfo_v2_t info = {.version = nvmlComputeInstanceProfileInfo_v2};
	assert_int_equal(nvmlGpuInstanceGetComputeInstanceProfileInfoV(instance, 0, 0, &info), NVML_SUCCESS);
	assert_string_equal(info.name, "MIG 1c.3g.40gb");
	assert_int_equal(info.instanceCount, 3);
	assert_int_equal(info.multiprocessorCount, 14);
	assert_int_equal(nvmlGpuInstanceGetComputeInstanceProfileInfoV(instance, 2, 0, &info), NVML_SUCCESS);
	assert_string_equal(info.name, "MIG 3g.40gb");
	assert_int_equal(nvmlGpuInstanceGetComputeInstanceProfileInfoV(
				 instance, NVML_COMPUTE_INSTANCE_PROFILE_7_SLICE_NVL, 0, &info),
			 NVML_ERROR_NOT_SUPPORTED);
	assert_int_equal(nvmlGpuInstanceGetComputeInstanceProfileInfoV(instance, 0, 1, &info),
			 NVML_ERROR_INVALID_ARGUMENT);

	make_compute(instance, 1);
	assert_int_equal(nvmlGpuInstanceGetComputeInstanceRemainingCapacity(instance, 0, &count), NVML_SUCCESS);
	assert_int_equal(count, 1);
	nvmlComputeInstance_t one = make_compute(instance, 0), none;
	assert_int_equal(nvmlGpuInstanceCreateComputeInstance(instance, 0, &none), NVML_ERROR_INSUFFICIENT_RESOURCES);
	assert_int_equal(nvmlGpuInstanceCreateComputeInstance(instance, 3, &none), NVML_ERROR_INVALID_ARGUMENT);
	nvmlComputeInstanceInfo_t where;
	assert_int_equal(nvmlComputeInstanceGetInfo_v2(one, &where), NVML_SUCCESS);
	assert_ptr_equal(where.gpuInstance, instance);
	assert_int_equal(where.id, 1);
	assert_int_equal(where.placement.start, 2);
	nvmlComputeInstance_t list[3];
	assert_int_equal(nvmlGpuInstanceGetComputeInstances(instance, 0, list, &count), NVML_SUCCESS);
	assert_int_equal(count, 1);
	assert_ptr_equal(list[0], one);
	assert_int_equal(nvmlGpuInstanceGetComputeInstanceById(instance, 2, &none), NVML_ERROR_NOT_FOUND);
	end();
}

static void mig_devices_answer_for_their_part(void **state)
{
	begin("2xA100-80GB");
	set_mode(1, 1);
	nvmlDevice_t board = node_device(1), device, parent;
	nvmlGpuInstance_t small = make(1, 19), large = make(1, 9);
	assert_int_equal(nvmlDeviceGetMigDeviceHandleByIndex(board, 0, &device), NVML_ERROR_NOT_FOUND);
	make_compute(small, 0);
	make_compute(large, 0);
	assert_int_equal(nvmlDeviceGetMigDeviceHandleByIndex(board, 0, &device), NVML_SUCCESS);

	uint32_t number, is_mig;
	char text[128], uuid[96];
	nvmlDeviceAttributes_t attributes;
	nvmlMemory_v2_t memory = {.version = nvmlMemory_v2};
	assert_int_equal(nvmlDeviceIsMigDeviceHandle(device, &is_mig), NVML_SUCCESS);
	assert_int_equal(is_mig, 1);
	assert_int_equal(nvmlDeviceIsMigDeviceHandle(board, &is_mig), NVML_SUCCESS);
	assert_int_equal(is_mig, 0);
	assert_int_equal(nvmlDeviceGetGpuInstanceId(device, &number), NVML_SUCCESS);
	assert_int_equal(number, info_of(large).id);
	assert_int_equal(nvmlDeviceGetGpuInstanceId(board, &number), NVML_ERROR_INVALID_ARGUMENT);
	assert_int_equal(nvmlDeviceGetComputeInstanceId(device, &number), NVML_SUCCESS);
	assert_int_equal(number, 0);
	assert_int_equal(nvmlDeviceGetDeviceHandleFromMigDeviceHandle(device, &parent), NVML_SUCCESS);
	assert_ptr_equal(parent, board);
	assert_int_equal(nvmlDeviceGetName(device, text, sizeof text), NVML_SUCCESS);
	assert_string_equal(text, "NVIDIA A100-SXM4-80GB MIG 1c.3g.40gb");
	assert_int_equal(nvmlDeviceGetIndex(device, &number), NVML_SUCCESS);
	assert_int_equal(number, 0);
	assert_int_equal(nvmlDeviceGetAttributes_v2(device, &attributes), NVML_SUCCESS);
	assert_int_equal(attributes.multiprocessorCount, 14);
	assert_int_equal(attributes.gpuInstanceSliceCount, 3);
	assert_int_equal(attributes.computeInstanceSliceCount, 1);
	assert_int_equal(attributes.memorySizeMB, 40192);
	assert_int_equal(nvmlDeviceGetAttributes_v2(board, &attributes), NVML_ERROR_NOT_SUPPORTED);

	assert_int_equal(nvmlDeviceGetUUID(device, uuid, sizeof uuid), NVML_SUCCESS);
	assert_int_equal(strlen(uuid), 40);
	assert_int_equal(strncmp(uuid, "MIG-", 4), 0);
	assert_int_equal(nvmlDeviceGetHandleByUUID(uuid, &parent), NVML_SUCCESS);
	assert_ptr_equal(parent, device);
	assert_int_equal(nvmlDeviceGetUUID(board, text, sizeof text), NVML_SUCCESS);
	snprintf(uuid, sizeof uuid, "MIG-%s/%u/0", text, info_of(large).id);
	assert_int_equal(nvmlDeviceGetHandleByUUID(uuid, &parent), NVML_SUCCESS);
	assert_ptr_equal(parent, device);

	/* Whose memory: the GPU instance's, and the GPU's is the sum. */
	struct gs_error err;
	int slot = sim_client_attach_instance(node, 1, info_of(large).id, 0, SIM_CLIENT_COMPUTE, &err);
	assert_int_equal(sim_client_allocate(node, slot, 40193 * MIB), -1);
	assert_int_equal(sim_client_allocate(node, slot, 40192 * MIB), 0);
	assert_int_equal(nvmlDeviceGetMemoryInfo_v2(device, &memory), NVML_SUCCESS);
	assert_int_equal(memory.total, 40192 * MIB);
	assert_int_equal(memory.free, 0);
	assert_int_equal(nvmlDeviceGetMemoryInfo_v2(board, &memory), NVML_SUCCESS);
	assert_int_equal(memory.used, 40192 * MIB);
	assert_int_equal(nvmlDeviceGetMigDeviceHandleByIndex(board, 1, &parent), NVML_SUCCESS);
	assert_int_equal(nvmlDeviceGetMemoryInfo_v2(parent, &memory), NVML_SUCCESS);
	assert_int_equal(memory.used, 0);

	/* Whose processes. */
	nvmlProcessInfo_t list[2];
	uint32_t count = 2;
	assert_int_equal(nvmlDeviceGetComputeRunningProcesses_v3(board, &count, list), NVML_SUCCESS);
	assert_int_equal(count, 1);
	assert_int_equal(list[0].gpuInstanceId, info_of(large).id);
	assert_int_equal(list[0].computeInstanceId, 0);
	count = 2;
	assert_int_equal(nvmlDeviceGetComputeRunningProcesses_v3(device, &count, list), NVML_SUCCESS);
	assert_int_equal(count, 1);
	count = 2;
	assert_int_equal(nvmlDeviceGetComputeRunningProcesses_v3(parent, &count, list), NVML_SUCCESS);
	assert_int_equal(count, 0);

	/* What neither a partitioned GPU nor its parts tell. */
	nvmlUtilization_t rates;
	assert_int_equal(nvmlDeviceGetUtilizationRates(board, &rates), NVML_ERROR_NOT_SUPPORTED);
	assert_int_equal(nvmlDeviceGetUtilizationRates(device, &rates), NVML_ERROR_NOT_SUPPORTED);
	assert_int_equal(nvmlDeviceGetUtilizationRates(node_device(0), &rates), NVML_SUCCESS);
	uint32_t rows[4];
	assert_int_equal(nvmlDeviceGetRemappedRows(board, &rows[0], &rows[1], &rows[2], &rows[3]),
			 NVML_ERROR_NOT_SUPPORTED);
	assert_int_equal(nvmlDeviceGetRemappedRows(node_device(0), &rows[0], &rows[1], &rows[2], &rows[3]),
			 NVML_SUCCESS);
	end();
}

__attribute__((format(printf, 1, 2))) static bool is_file(const char *format, ...)
{
	char below[128], path[512];
	struct stat info;
	va_list args;
	va_start(args, format);
	vsnprintf(below, sizeof below, format, args);
	va_end(args);
	snprintf(path, sizeof path, "%s/root/%s", sim_node_dir(node), below);
	return stat(path, &info) == 0;
}

static void capability_files_come_and_go(void **state)
{
	begin("2xA100-80GB");
	set_mode(1, 1);
	nvmlGpuInstance_t instance = make(1, 9);
	uint32_t id = info_of(instance).id, minor = sim_mig_cap_minor(1, id, 0);
	nvmlComputeInstance_t compute = make_compute(instance, 2);
	assert_int_equal(minor, 3 + 135 + 9 * id + 1);
	assert_true(is_file("proc/driver/nvidia/capabilities/gpu%u/mig/gi%u/access", 1, id));
	assert_true(is_file("proc/driver/nvidia/capabilities/gpu%u/mig/gi%u/ci0/access", 1, id));
	assert_true(is_file("dev/nvidia-caps/nvidia-cap%u", minor));
	assert_true(is_file("dev/nvidia-caps/nvidia-cap%u", minor - 1));

	char path[256], line[64], wanted[64], last[64] = "";
	bool found = false;
	snprintf(path, sizeof path, "%s/root/proc/driver/nvidia-caps/mig-minors", sim_node_dir(node));
	snprintf(wanted, sizeof wanted, "gpu1/gi%u/ci0/access %u\n", id, minor);
	GS_AUTO_FCLOSE FILE *minors = fopen(path, "r");
	assert_non_null(minors);
	while (fgets(line, sizeof line, minors)) {
		found = found || strcmp(line, wanted) == 0;
		memcpy(last, line, sizeof last);
	}
	assert_true(found);
	assert_string_equal(last, "gpu31/gi14/ci7/access 4322\n");

	assert_int_equal(nvmlComputeInstanceDestroy(compute), NVML_SUCCESS);
	assert_false(is_file("proc/driver/nvidia/capabilities/gpu%u/mig/gi%u/ci0/access", 1, id));
	assert_int_equal(nvmlGpuInstanceDestroy(instance), NVML_SUCCESS);
	assert_false(is_file("proc/driver/nvidia/capabilities/gpu%u/mig/gi%u", 1, id));
	assert_true(is_file("proc/driver/nvidia/capabilities/gpu%u/mig", 1));
	set_mode(1, 0);
	assert_false(is_file("proc/driver/nvidia/capabilities/gpu%u/mig", 1));
	end();
}

static void changes_are_events(void **state)
{
	begin("A100-80GB");
	nvmlEventSet_t set;
	nvmlEventData_t data;
	assert_int_equal(nvmlEventSetCreate(&set), NVML_SUCCESS);
	assert_int_equal(nvmlDeviceRegisterEvents(node_device(0), nvmlEventMigConfigChange, set), NVML_SUCCESS);
	assert_int_equal(nvmlEventSetWait_v2(set, &data, 0), NVML_ERROR_TIMEOUT);
	set_mode(0, 1);
	assert_int_equal(nvmlEventSetWait_v2(set, &data, 1000), NVML_SUCCESS);
	assert_int_equal(data.eventType, nvmlEventMigConfigChange);
	assert_int_equal(data.gpuInstanceId, UINT32_MAX);
	nvmlGpuInstance_t instance = make(0, 9);
	make_compute(instance, 2);
	assert_int_equal(nvmlEventSetWait_v2(set, &data, 1000), NVML_SUCCESS);
	assert_int_equal(data.gpuInstanceId, info_of(instance).id);
	assert_int_equal(data.computeInstanceId, UINT32_MAX);
	assert_int_equal(nvmlEventSetWait_v2(set, &data, 1000), NVML_SUCCESS);
	assert_int_equal(data.computeInstanceId, 0);
	assert_int_equal(nvmlEventSetFree(set), NVML_SUCCESS);
	end();
}

static void a_new_board_and_a_reset_board_have_no_instances(void **state)
{
	struct gs_error err;
	begin("2xA100-80GB");
	struct sim_mig mig;
	uint32_t is_mig;
	set_mode(0, 1);
	set_mode(1, 1);
	nvmlGpuInstance_t instance = make(0, 9);
	make_compute(instance, 2);
	nvmlDevice_t device;
	assert_int_equal(nvmlDeviceGetMigDeviceHandleByIndex(node_device(0), 0, &device), NVML_SUCCESS);
	assert_int_equal(sim_gpu_reset(node, 0, &err), 0);
	expect_mode(0, 1, 1);
	assert_int_equal(nvmlDeviceIsMigDeviceHandle(device, &is_mig), NVML_ERROR_INVALID_ARGUMENT);
	assert_true(sim_mig_get(node, 0, &mig));
	assert_int_equal(mig.gis[2].serial, 0);

	make(1, 9);
	assert_int_equal(sim_gpu_unplug(node, 1, &err), 0);
	assert_false(sim_mig_get(node, 1, &mig));
	end();
}

static void touch(const char *directory, const char *name)
{
	char path[512];
	snprintf(path, sizeof path, "%s/%s", directory, name);
	FILE *file = fopen(path, "w");
	assert_non_null(file);
	fclose(file);
}

/* A container sees what it has the device nodes of. */
static void a_container_sees_what_it_was_given(void **state)
{
	char directory[256], path[320], name[64], uuid[96];
	nvmlDevice_t device, board, other;
	nvmlGpuInstance_t none;
	uint32_t count, profile_count;
	begin("2xA100-80GB");
	set_mode(1, 1);
	nvmlGpuInstance_t first = make(1, 19), second = make(1, 19);
	make_compute(first, 0);
	make_compute(second, 0);
	uint32_t id = info_of(second).id;
	assert_int_equal(nvmlDeviceGetMigDeviceHandleByIndex(node_device(1), 1, &device), NVML_SUCCESS);
	assert_int_equal(nvmlDeviceGetUUID(device, uuid, sizeof uuid),
			 NVML_SUCCESS); /* listed by id, so it is the first's */

	snprintf(directory, sizeof directory, "%s/root/container", sim_node_dir(node));
	snprintf(path, sizeof path, "%s/nvidia-caps", directory);
	assert_int_equal(mkdir(directory, 0700), 0);
	assert_int_equal(mkdir(path, 0700), 0);
	setenv("GPUSHARE_SIM_DEVICES", directory, 1);
	assert_int_equal(nvmlDeviceGetCount_v2(&count), NVML_SUCCESS);
	assert_int_equal(count, 0);
	touch(directory, "nvidia1");
	assert_int_equal(nvmlDeviceGetCount_v2(&count), NVML_SUCCESS);
	assert_int_equal(count, 1);
	board = node_device(0);
	assert_int_equal(nvmlDeviceGetMigDeviceHandleByIndex(board, 0, &device), NVML_ERROR_NOT_FOUND);
	snprintf(name, sizeof name, "nvidia-caps/nvidia-cap%u", sim_mig_cap_minor(1, id, SIM_MIG_NONE));
	touch(directory, name);
	assert_int_equal(nvmlDeviceGetMigDeviceHandleByIndex(board, 0, &device), NVML_ERROR_NOT_FOUND);
	snprintf(name, sizeof name, "nvidia-caps/nvidia-cap%u", sim_mig_cap_minor(1, id, 0));
	touch(directory, name);
	assert_int_equal(nvmlDeviceGetMigDeviceHandleByIndex(board, 0, &device), NVML_SUCCESS);
	assert_int_equal(nvmlDeviceGetGpuInstanceId(device, &count), NVML_SUCCESS);
	assert_int_equal(count, id);
	assert_int_equal(nvmlDeviceGetIndex(device, &count), NVML_SUCCESS);
	assert_int_equal(count, 0);
	assert_int_equal(nvmlDeviceGetMigDeviceHandleByIndex(board, 1, &other), NVML_ERROR_NOT_FOUND);
	assert_int_equal(nvmlDeviceGetHandleByUUID(uuid, &other), NVML_ERROR_NOT_FOUND);
	/* And it may not partition. */
	assert_int_equal(nvmlDeviceCreateGpuInstance(board, 9, &none), NVML_ERROR_NO_PERMISSION);
	assert_int_equal(nvmlDeviceGetGpuInstances(board, 19, &none, &profile_count), NVML_ERROR_NO_PERMISSION);
	assert_int_equal(nvmlGpuInstanceDestroy(first), NVML_ERROR_NO_PERMISSION);
	unsetenv("GPUSHARE_SIM_DEVICES");
	end();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_mode_of_an_idle_gpu_changes_at_once),
		cmocka_unit_test(a_mode_that_cannot_be_had_yet_is_pending),
		cmocka_unit_test(profiles_are_told_by_number_and_used_by_id),
		cmocka_unit_test(the_tables_are_sound),
		cmocka_unit_test(instances_go_where_drivers_put_them),
		cmocka_unit_test(a_place_can_be_asked_for),
		cmocka_unit_test(capacity_is_what_still_fits),
		cmocka_unit_test(things_in_use_are_not_destroyed),
		cmocka_unit_test(compute_instances_share_their_gpu_instance),
		cmocka_unit_test(mig_devices_answer_for_their_part),
		cmocka_unit_test(capability_files_come_and_go),
		cmocka_unit_test(changes_are_events),
		cmocka_unit_test(a_container_sees_what_it_was_given),
		cmocka_unit_test(a_new_board_and_a_reset_board_have_no_instances),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
