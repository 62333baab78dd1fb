#include "node.h"

struct sim_node *test_node;
static char directory[] = "/tmp/gpushare-test-cuda-XXXXXX";

const char test_ptx[] =
	".version 6.0\n"
	".target sm_50\n"
	".address_size 64\n"
	"// a comment with .entry nothing(\n"
	".visible .global .align 8 .b8 table[64] = {1, 2, 3};\n"
	".visible .entry gpushare_spin(.param .u64 gpushare_spin_param_0)\n"
	"{ .reg .b64 %rd<2>; ret; }\n"
	".visible .entry work(\n\t.param .u64 .ptr .global .align 4 work_param_0,\n\t.param .u32 work_param_1\n)\n"
	".maxntid 256, 1, 1\n{ ret; }\n";

static uint32_t model(const char *name)
{
	const struct sim_model *found = sim_model_by_name(name);
	assert_non_null(found);
	return (uint32_t)(found - sim_models);
}

int test_make_node(void **state)
{
	struct sim_spec spec = {.group_count = 2, .seed = 7};
	spec.groups[0] = (struct sim_gpu_spec){.model = model("A100-80GB"), .count = 2};
	spec.groups[1] = (struct sim_gpu_spec){.model = model("T4"), .count = 1};
	memcpy(directory + sizeof directory - 7, "XXXXXX", 6);
	struct gs_error error = {0};
	if (!mkdtemp(directory) || sim_node_create(directory, &spec, &test_node, &error) < 0) {
		fprintf(stderr, "cannot make a node: %s\n", error.text);
		return -1;
	}
	setenv("GPUSHARE_SIM", directory, 1);
	unsetenv("CUDA_VISIBLE_DEVICES");
	unsetenv("CUDA_DEVICE_ORDER");
	return 0;
}

int test_remove_node(void **state)
{
	sim_node_close(test_node);
	return sim_node_remove(directory, NULL);
}

pid_t test_start(void (*body)(void))
{
	fflush(NULL);
	pid_t child = fork();
	assert_true(child >= 0);
	if (child == 0) {
		body();
		_exit(0);
	}
	return child;
}

void test_join(pid_t child)
{
	int status = 0;
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
}

void test_in_process(void (*body)(void))
{
	test_join(test_start(body));
}

CUcontext test_context(void)
{
	CUcontext context;
	OK(cuInit(0));
	OK(cuCtxCreate_v4(&context, NULL, 0, 0));
	return context;
}
