/* The library as a client meets it: by dlopen, name by name. */
#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "node.h"

enum kind { SIMULATED, DEVICE, POINTER, VALUE };

static const struct name {
	const char *text;
	enum kind kind;
} names[] = {
#define NVML_SIMULATED(name)      {#name, SIMULATED},
#define NVML_ABSENT_DEVICE(name)  {#name, DEVICE},
#define NVML_ABSENT_POINTER(name) {#name, POINTER},
#define NVML_ABSENT_VALUE(name)   {#name, VALUE},
#include "sim/nvml/names.def"
};

/* Every function of NVML takes at most six words and looks at no more than it declares. */
typedef nvmlReturn_t (*any_function)(void *, void *, void *, void *, void *, void *);

static void *library;

static int open_library(void **state)
{
	(void)state;
	library = dlopen(getenv("NVML_LIBRARY"), RTLD_NOW | RTLD_LOCAL);
	if (!library)
		print_error("%s\n", dlerror());
	return library ? 0 : -1;
}

static any_function look_up(const char *name)
{
	any_function function;
	*(void **)&function = dlsym(library, name);
	return function;
}

/* Those that are not ordinary calls. */
static bool is_special(const char *name)
{
	static const char *const special[] = {"nvmlInit",     "nvmlInit_v2",     "nvmlInitWithFlags",
					      "nvmlShutdown", "nvmlErrorString", "nvmlInternalGetExportTable"};
	for (size_t i = 0; i < GS_ARRAY_LENGTH(special); i++)
		if (strcmp(name, special[i]) == 0)
			return true;
	return false;
}

static void every_name_is_there(void **state)
{
	(void)state;
	assert_true(GS_ARRAY_LENGTH(names) > 412);
	for (size_t i = 0; i < GS_ARRAY_LENGTH(names); i++) {
		bool left_out = !NVIDIA_SMI && strcmp(names[i].text, "nvmlInternalGetExportTable") == 0;
		if (!look_up(names[i].text) != left_out)
			fail_msg("%s is %s", names[i].text, left_out ? "there" : "missing");
	}
}

static void nothing_works_before_init(void **state)
{
	(void)state;
	for (size_t i = 0; i < GS_ARRAY_LENGTH(names); i++)
		if (!is_special(names[i].text) && look_up(names[i].text)(NULL, NULL, NULL, NULL, NULL, NULL) != 1)
			fail_msg("%s does not say that NVML is not initialised", names[i].text);
	assert_int_equal(look_up("nvmlShutdown")(NULL, NULL, NULL, NULL, NULL, NULL), NVML_ERROR_UNINITIALIZED);
}

static void begin(const char *spec)
{
	node_make(spec);
	assert_int_equal(look_up("nvmlInit_v2")(NULL, NULL, NULL, NULL, NULL, NULL), NVML_SUCCESS);
}

static void end(void)
{
	assert_int_equal(look_up("nvmlShutdown")(NULL, NULL, NULL, NULL, NULL, NULL), NVML_SUCCESS);
	assert_int_equal(look_up("nvmlShutdown")(NULL, NULL, NULL, NULL, NULL, NULL), NVML_ERROR_UNINITIALIZED);
	assert_int_equal(node_end(NULL), 0);
}

static void null_arguments_are_refused(void **state)
{
	(void)state;
	begin("A100-80GB");
	for (size_t i = 0; i < GS_ARRAY_LENGTH(names); i++) {
		if (is_special(names[i].text))
			continue;
		nvmlReturn_t expected = names[i].kind == VALUE ? NVML_ERROR_NOT_SUPPORTED : NVML_ERROR_INVALID_ARGUMENT;
		if (look_up(names[i].text)(NULL, NULL, NULL, NULL, NULL, NULL) != expected)
			fail_msg("%s does not answer %d to null arguments", names[i].text, expected);
	}
	end();
}

static void *device_of_library(void)
{
	void *device = NULL;
	assert_int_equal(look_up("nvmlDeviceGetHandleByIndex_v2")(NULL, &device, NULL, NULL, NULL, NULL), NVML_SUCCESS);
	return device;
}

static bool takes_device(const struct name *name)
{
	return name->kind == DEVICE ||
	       (name->kind == SIMULATED &&
		(strncmp(name->text, "nvmlDeviceGet", 13) == 0 || strcmp(name->text, "nvmlGpmSampleGet") == 0) &&
		strncmp(name->text, "nvmlDeviceGetHandleBy", 21) != 0 &&
		strncmp(name->text, "nvmlDeviceGetCount", 18) != 0);
}

/* Where a number says how large the caller's buffer is, nothing can be checked. */
static bool trusts_a_number(const char *name)
{
	return strstr(name, "Affinity") || strstr(name, "FieldValues");
}

/* Whatever a client passes beside the handle, an answer comes and not a crash. */
static void a_handle_with_anything_else_is_survived(void **state)
{
	(void)state;
	begin("A100-80GB");
	void *device = device_of_library();
	char *room = calloc(1, 1 << 20);
	assert_non_null(room);
	for (size_t i = 0; i < GS_ARRAY_LENGTH(names); i++) {
		if (!takes_device(&names[i]) || trusts_a_number(names[i].text))
			continue;
		any_function function = look_up(names[i].text);
		nvmlReturn_t with_nothing = function(device, NULL, NULL, NULL, NULL, NULL);
		if (names[i].kind == DEVICE && with_nothing != NVML_ERROR_NOT_SUPPORTED)
			fail_msg("%s answers %d", names[i].text, with_nothing);
		/* Zeroes: an empty buffer, a struct of version 0, a number 0. */
		memset(room, 0, 1 << 20);
		function(device, room, room + 1024, room + 2048, room + 4096, room + 8192);
	}
	free(room);
	end();
}

static void a_foreign_handle_is_refused(void **state)
{
	(void)state;
	begin("A100-80GB");
	char room[4096] = {0};
	for (size_t i = 0; i < GS_ARRAY_LENGTH(names); i++)
		if (takes_device(&names[i]) && look_up(names[i].text)(room, room + 512, room + 1024, room + 1536,
								      room + 2048, room) != NVML_ERROR_INVALID_ARGUMENT)
			fail_msg("%s takes any pointer for a device", names[i].text);
	end();
}

static void set_lost(struct sim_gpu *gpu, void *user)
{
	gpu->lost = *(uint32_t *)user;
}

static void a_lost_gpu_answers_nothing_else(void **state)
{
	(void)state;
	begin("2xA100-80GB");
	char room[8192] = {0};
	void *device = device_of_library();
	sim_gpu_update(node, 0, set_lost, &(uint32_t){1});
	for (size_t i = 0; i < GS_ARRAY_LENGTH(names); i++) {
		if (!takes_device(&names[i]))
			continue;
		nvmlReturn_t code =
			look_up(names[i].text)(device, room, room + 1024, room + 2048, room + 4096, room + 4096);
		if (code != NVML_ERROR_GPU_IS_LOST && code != NVML_ERROR_INVALID_ARGUMENT)
			fail_msg("%s answers %d for a lost GPU", names[i].text, code);
	}
	static const char *const sure[] = {
		"nvmlDeviceGetUUID",       "nvmlDeviceGetMemoryInfo", "nvmlDeviceGetUtilizationRates",
		"nvmlDeviceGetPciInfo_v3", "nvmlDeviceGetMigMode",    "nvmlDeviceGetIndex"};
	for (size_t i = 0; i < GS_ARRAY_LENGTH(sure); i++)
		assert_int_equal(look_up(sure[i])(device, room, room + 64, NULL, NULL, NULL), NVML_ERROR_GPU_IS_LOST);
	assert_int_equal(look_up("nvmlDeviceGetHandleByIndex_v2")(NULL, &device, NULL, NULL, NULL, NULL),
			 NVML_ERROR_GPU_IS_LOST);
	sim_gpu_update(node, 0, set_lost, &(uint32_t){0});
	assert_int_equal(look_up("nvmlDeviceGetUUID")(device, room, (void *)(uintptr_t)96, NULL, NULL, NULL),
			 NVML_SUCCESS);
	end();
}

static void without_a_node_there_is_no_driver(void **state)
{
	(void)state;
	unsetenv("GPUSHARE_SIM");
	assert_int_equal(look_up("nvmlInit_v2")(NULL, NULL, NULL, NULL, NULL, NULL), NVML_ERROR_DRIVER_NOT_LOADED);
	setenv("GPUSHARE_SIM", "/nowhere", 1);
	assert_int_equal(look_up("nvmlInit")(NULL, NULL, NULL, NULL, NULL, NULL), NVML_ERROR_DRIVER_NOT_LOADED);
	unsetenv("GPUSHARE_SIM");
	assert_int_equal(look_up("nvmlDeviceGetCount_v2")(NULL, NULL, NULL, NULL, NULL, NULL),
			 NVML_ERROR_UNINITIALIZED);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_name_is_there),
		cmocka_unit_test(nothing_works_before_init),
		cmocka_unit_test(without_a_node_there_is_no_driver),
		cmocka_unit_test(null_arguments_are_refused),
		cmocka_unit_test(a_handle_with_anything_else_is_survived),
		cmocka_unit_test(a_foreign_handle_is_refused),
		cmocka_unit_test(a_lost_gpu_answers_nothing_else),
	};
	return cmocka_run_group_tests(tests, open_library, NULL);
}
