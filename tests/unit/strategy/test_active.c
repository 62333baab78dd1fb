/* Strategies on a node, without a node: a fake one among others, and MPS with a fake of all that is around it. */
#include <unistd.h>

#include "base/file.h"
#include "base/strbuf.h"
#include "strategy/active.h"
#include "tests/unit/core/fixture.h"

#define TEXT(literal) ((char *)(uintptr_t)(literal))

/* What was called of a fake, and of the node. */
static struct gs_strbuf called;

static void note(const char *what)
{
	gs_strbuf_printf(&called, "%s ", what);
}

static void assert_called(const char *expected)
{
	assert_string_equal(called.data ? called.data : "", expected);
	gs_strbuf_free(&called);
}

/* --- a strategy that nothing else knows --- */

static int fake_instance;

static void *fake_create(const struct gs_strategy_node *node)
{
	note("create");
	return &fake_instance;
}

static void fake_keep(const void *instance, const struct gs_config *now, struct gs_config *next)
{
	note("keep");
}

static void fake_activate(void *instance, const struct gs_strategy_context *context)
{
	assert_ptr_equal(instance, &fake_instance);
	note("activate");
}

static void fake_observe(void *instance, const char *gpu)
{
	note(gpu);
}

static bool fake_ready(const void *instance, const struct gs_strategy_context *context, uint32_t device,
		       const char **reason)
{
	*reason = device == 1 ? "it sleeps" : "";
	return device != 1;
}

static bool fake_share_ready(const void *instance, const struct gs_strategy_context *context,
			     const struct gs_resource_device *on, const struct gs_share *share)
{
	return share->replica == 2;
}

static void fake_problems(const void *instance, void (*say)(void *user, const char *text), void *user)
{
	say(user, "nothing works");
}

static json_t *fake_status(const void *instance, const struct gs_usage *usage)
{
	return json_pack("[s]", usage ? "with use" : "plain");
}

static void fake_clients(const void *instance, const struct gs_usage *usage, gs_usage_client *tell, void *user)
{
	note("clients");
}

static void fake_tell(const void *instance, gs_strategy_tell *tell, void *user)
{
	tell(user, NULL, 7);
}

static void fake_stop(void *instance)
{
	note("stop");
}

static void fake_free(void *instance)
{
	note("free");
}

static const struct gs_strategy_life fake_life = {
	.title = "Fake",
	.status_key = "fake",
	.metrics = (const struct gs_strategy_metric[]){{"fake_total", true, "Fakes", fake_tell}, {NULL}},
	.create = fake_create,
	.keep = fake_keep,
	.activate = fake_activate,
	.observe = fake_observe,
	.ready = fake_ready,
	.share_ready = fake_share_ready,
	.problems = fake_problems,
	.status = fake_status,
	.clients = fake_clients,
	.stop = fake_stop,
	.free = fake_free,
};

static void say(void *user, const char *text)
{
	note(text);
}

static void tell_value(void *user, const char *const *labels, double value)
{
	gs_strbuf_printf(&called, "%g ", value);
}

static void begin_metric(void *user, const struct gs_strategy_metric *metric, const void *instance)
{
	note(metric->name);
	metric->tell(instance, tell_value, NULL);
}

static void a_strategy_is_asked_by_its_interface_alone(void **state)
{
	const struct gs_strategy fake = {.name = "fake", .life = &fake_life};
	const struct gs_strategy *const strategies[] = {&gs_strategy_exclusive, &fake, &gs_strategy_time_slicing};
	const struct gs_strategy_node node = {0};
	const struct gs_strategy_context context = {0};
	const struct gs_usage usage = {0};
	const char *reason;
	struct gs_active *active = gs_active_new(strategies, GS_ARRAY_LENGTH(strategies), &node);
	gs_active_activate(active, &context);
	gs_active_observe(active, "GPU-1");
	gs_active_keep(active, NULL, NULL);
	gs_active_problems(active, say, NULL);
	gs_active_metrics(active, begin_metric, NULL);
	gs_active_clients(active, &usage, NULL, NULL);
	assert_called("create activate GPU-1 keep nothing works fake_total 7 clients ");

	assert_true(gs_active_ready(active, &context, 0, &reason));
	assert_false(gs_active_ready(active, &context, 1, &reason));
	assert_string_equal(reason, "it sleeps");
	const struct gs_resource_device ours = {.strategy = &fake}, other = {.strategy = &gs_strategy_exclusive};
	const struct gs_share share = {.replica = 2}, another = {.replica = 3};
	assert_true(gs_active_share_ready(active, &context, &ours, &share));
	assert_false(gs_active_share_ready(active, &context, &ours, &another));
	assert_true(gs_active_share_ready(active, &context, &other, &another));
	assert_ptr_equal(gs_active_instance(active, &fake), &fake_instance);
	assert_null(gs_active_instance(active, &gs_strategy_exclusive));

	json_t *status = json_object(), *expected = json_pack("{s:[s]}", "fake", "plain");
	gs_active_status(active, status);
	assert_true(json_equal(status, expected));
	json_t *details = gs_active_details(active, &usage);
	assert_string_equal(json_string_value(json_array_get(details, 0)), "with use");
	json_decref(details);
	json_decref(expected);
	json_decref(status);
	gs_active_stop(active);
	gs_active_free(active);
	assert_called("stop free ");
}

/* --- MPS --- */

struct world {
	uv_loop_t loop;
	char folder[64];
	struct gs_inventory inventory;
	struct gs_config config;
	struct gs_sharing_resource entry;
	struct gs_plan plan;
	struct gs_active *active;
};

/* There is no driver. */
static void work(void *user, void (*run)(const struct gs_nvml *nvml, void *of), void (*done)(void *of), void *of)
{
	note("work");
	run(NULL, of);
	done(of);
}

static void on_changed(void *user)
{
	*(bool *)user = true;
}

static bool changed;

static void on_again(void *user)
{
	note("again");
}

static void on_rescan(void *user)
{
	note("rescan");
}

static void open_world(struct world *world, bool mps)
{
	const struct gs_strategy_node node = {
		.loop = &world->loop,
		.state_dir = world->folder,
		.user = &changed,
		.work = work,
		.changed = on_changed,
		.again = on_again,
		.rescan = on_rescan,
	};
	*world = (struct world){.folder = "/tmp/gpushare-active-XXXXXX", .inventory = fixture_inventory(2, 0)};
	changed = false;
	assert_non_null(mkdtemp(world->folder));
	assert_int_equal(uv_loop_init(&world->loop), 0);
	for (size_t i = 0; i < world->inventory.gpu_count; i++)
		world->inventory.gpus[i].compute_major = 8;
	world->entry = (struct gs_sharing_resource){
		.name = TEXT("nvidia.com/gpu"), .replicas = 4, .devices = {.kind = GS_SELECT_COUNT, .count = 1}};
	world->config.flags.mps_root = gs_printf("%s/mps", world->folder);
	world->config.mps = (struct gs_sharing){.present = mps,
						.fail_requests_greater_than_one = GS_UNSET,
						.resources = &world->entry,
						.resource_count = mps};
	world->plan = fixture_plan(&world->config, &world->inventory);
	world->active = gs_active_new(gs_strategies, gs_strategy_count, &node);
}

static struct gs_strategy_context context_of(const struct world *world)
{
	return (struct gs_strategy_context){&world->config, &world->inventory, &world->plan};
}

static void close_world(struct world *world)
{
	GS_AUTO_FREE char *command = gs_printf("rm -r %s", world->folder);
	gs_active_stop(world->active);
	uv_run(&world->loop, UV_RUN_DEFAULT);
	assert_int_equal(uv_loop_close(&world->loop), 0);
	gs_active_free(world->active);
	gs_plan_free(&world->plan);
	gs_inventory_free(&world->inventory);
	free(world->config.flags.mps_root);
	assert_int_equal(system(command), 0);
	gs_strbuf_free(&called);
}

static void mps_that_nobody_wants_does_nothing(void **state)
{
	struct world world;
	const char *reason;
	open_world(&world, false);
	const struct gs_strategy_context context = context_of(&world);
	gs_active_activate(world.active, &context);
	gs_active_observe(world.active, world.inventory.gpus[0].uuid);
	gs_active_problems(world.active, say, NULL);
	assert_true(gs_active_ready(world.active, &context, 0, &reason));
	assert_string_equal(reason, "");
	assert_called("");
	assert_false(changed);
	assert_int_not_equal(access(world.config.flags.mps_root, F_OK), 0);
	/* What nobody uses may change. */
	struct gs_config next = {.flags.mps_root = TEXT("/another")};
	gs_active_keep(world.active, &world.config, &next);
	assert_string_equal(next.flags.mps_root, "/another");
	close_world(&world);
}

static void mps_waits_for_its_root_and_then_for_the_driver(void **state)
{
	struct world world;
	struct gs_error err;
	const char *reason;
	open_world(&world, true);
	const struct gs_strategy_context context = context_of(&world);
	assert_false(gs_active_ready(world.active, &context, 0, &reason));
	assert_string_equal(reason, "its MPS control daemon is being started");
	assert_int_equal(gs_make_directories(world.config.flags.mps_root, 0755, &err), 0);
	int other = gs_try_lock_directory(world.config.flags.mps_root, &err);
	assert_true(other >= 0);
	gs_active_activate(world.active, &context);
	assert_false(gs_active_ready(world.active, &context, 0, &reason));
	assert_non_null(strstr(reason, "another gpushare node uses flags.mpsRoot"));
	assert_true(gs_active_ready(world.active, &context, 1, &reason)); /* a GPU that MPS does not share */
	gs_active_problems(world.active, say, NULL);
	assert_non_null(strstr(called.data, "MPS: another gpushare node uses flags.mpsRoot"));
	gs_strbuf_free(&called);
	/* It stays where it is while the program runs. */
	struct gs_config next = {.flags.mps_root = gs_strdup("/another")};
	gs_active_keep(world.active, &world.config, &next);
	assert_string_equal(next.flags.mps_root, world.config.flags.mps_root);
	free(next.flags.mps_root);

	close(other);
	gs_active_activate(world.active, &context);
	uv_run(&world.loop, UV_RUN_NOWAIT);
	assert_called("work rescan ");
	assert_true(changed);
	gs_active_problems(world.active, say, NULL);
	assert_non_null(strstr(called.data, "the NVIDIA driver is not there"));
	assert_false(gs_active_ready(world.active, &context, 0, &reason));
	assert_string_equal(reason, "the NVIDIA driver is not there");
	assert_true(gs_active_ready(world.active, &context, 1, &reason));
	json_t *status = json_object();
	gs_active_status(world.active, status);
	json_t *daemon = json_array_get(json_object_get(status, "mps"), 0);
	assert_string_equal(json_string_value(json_object_get(daemon, "id")), world.inventory.gpus[0].uuid);
	assert_string_equal(json_string_value(json_object_get(daemon, "state")), "Failed");
	json_decref(status);
	close_world(&world);
}

/* A mode that an earlier daemon set is restored though nothing is shared by MPS any more, and until then nobody gets the GPU. */
static void mps_that_is_over_gives_the_mode_back(void **state)
{
	struct world world;
	const char *reason;
	open_world(&world, false);
	const struct gs_strategy_context context = context_of(&world);
	GS_AUTO_FREE char *path = gs_printf("%s/mps.json", world.folder);
	GS_AUTO_FREE char *record =
		gs_printf("{\"version\": 1, \"computeModes\": {\"%s\": 0}}", world.inventory.gpus[1].uuid);
	FILE *file = fopen(path, "w");
	assert_non_null(file);
	fputs(record, file);
	fclose(file);
	gs_active_activate(world.active, &context);
	assert_called("work rescan ");
	assert_true(changed);
	assert_true(gs_active_ready(world.active, &context, 0, &reason));
	assert_false(gs_active_ready(world.active, &context, 1, &reason));
	assert_string_equal(reason, "the compute mode that it had before MPS could not be restored yet");
	gs_active_problems(world.active, say, NULL);
	assert_non_null(strstr(called.data, "had before MPS could not be restored: the NVIDIA driver is not there"));
	gs_strbuf_free(&called);
	gs_active_activate(world.active, &context); /* once is enough: it is tried again by itself */
	assert_called("");
	close_world(&world);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_strategy_is_asked_by_its_interface_alone),
		cmocka_unit_test(mps_that_nobody_wants_does_nothing),
		cmocka_unit_test(mps_waits_for_its_root_and_then_for_the_driver),
		cmocka_unit_test(mps_that_is_over_gives_the_mode_back),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
