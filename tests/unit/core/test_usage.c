/* The usage snapshot: random processes, named shares and figures against what must be so whatever they are; and single cases. */
#include "base/strbuf.h"
#include "core/usage/usage.h"
#include "fixture.h"
#include "mps/mps_clients.h"

enum { CASES = 3000, SEED = 20261129, PROCESSES = 12, GPUS = 3 };

static uint64_t random_state = SEED;

static uint32_t random_below(uint32_t limit)
{
	random_state = random_state * 6364136223846793005u + 1442695040888963407u;
	return (uint32_t)((random_state >> 33) % limit);
}

/* A node, its samples, and the snapshot of them. */
struct world {
	struct gs_inventory inventory;
	struct gs_plan plan;
	struct gs_gpu_sample samples[GPUS];
	const struct gs_gpu_sample *by_gpu[GPUS];
	struct gs_usage usage;
};

static const struct gs_usage_time now = {.ms = 5000, .seconds = 1000000};

static void make_node(struct world *world, unsigned migs, unsigned replicas, bool mps)
{
	struct gs_sharing_resource entry;
	struct gs_config config =
		fixture_time_slicing(&entry, migs ? "nvidia.com/mig-1g.10gb" : "nvidia.com/gpu", replicas);
	struct gs_error err = {0};
	if (mps) {
		config.mps = config.time_slicing;
		config.time_slicing = (struct gs_sharing){.fail_requests_greater_than_one = GS_UNSET};
	}
	if (replicas < 2)
		config.time_slicing.present = config.mps.present = false;
	config.flags.mig_strategy = migs ? GS_MIG_MIXED : GS_MIG_NONE;
	*world = (struct world){.inventory = fixture_inventory(GPUS, migs)};
	for (size_t i = 0; i < world->inventory.device_count; i++) {
		struct gs_device *device = &world->inventory.devices[i];
		device->gpu_instance = device->compute_instance = device->mig ? (uint32_t)i : UINT32_MAX;
	}
	assert_int_equal(
		gs_plan_build(&config, &world->inventory, gs_strategies, gs_strategy_count, &world->plan, &err), 0);
}

static void free_world(struct world *world)
{
	gs_usage_free(&world->usage);
	for (size_t i = 0; i < GPUS; i++) {
		for (size_t j = 0; j < world->samples[i].process_count; j++)
			free(world->samples[i].processes[j].shares);
		free(world->samples[i].processes);
	}
	gs_plan_free(&world->plan);
	gs_inventory_free(&world->inventory);
}

static struct gs_process_sample *add_process(struct world *world, uint32_t gpu, const char *shares, uint64_t bytes)
{
	struct gs_gpu_sample *sample = &world->samples[gpu];
	sample->processes = gs_reallocarray(sample->processes, sample->process_count + 1, sizeof *sample->processes);
	struct gs_process_sample *process = &sample->processes[sample->process_count++];
	*process = (struct gs_process_sample){.pid = (int)(1000 * gpu + sample->process_count),
					      .shares = gs_strdup(shares),
					      .memory_valid = true,
					      .memory_bytes = bytes,
					      .gpu_instance = UINT32_MAX,
					      .compute_instance = UINT32_MAX};
	return process;
}

static void sample_gpu(struct world *world, uint32_t gpu, uint64_t used, uint64_t free_bytes)
{
	struct gs_gpu_sample *sample = &world->samples[gpu];
	sample->at_ms = 4000;
	sample->valid |= GS_SAMPLE_MEMORY | GS_SAMPLE_PROCESSES;
	sample->memory_used_bytes = used;
	sample->memory_free_bytes = free_bytes;
	sample->memory_total_bytes = 1000;
	world->by_gpu[gpu] = sample;
}

static void take(struct world *world)
{
	gs_usage_begin(&world->usage, &world->plan, &world->inventory, now);
	gs_usage_attribute(&world->usage, world->by_gpu);
}

/* --- what must be so whatever is told --- */

/* As a reader of the environment would look for it. */
static bool names(const char *shares, const char *share)
{
	size_t length = strlen(share);
	for (const char *at = shares; (at = strstr(at, share)); at += length)
		if ((at == shares || at[-1] == ',') && (at[length] == '\0' || at[length] == ','))
			return true;
	return false;
}

static char *random_names(const struct gs_plan *plan)
{
	static const char *const noise[] = {"", "GPU-unknown::0", ":", "::", "GPU-", ",,,", "x::00"};
	char *text = gs_strdup("");
	for (uint32_t i = plan->resource_count ? random_below(4) : 0; i > 0; i--) {
		const struct gs_resource *resource = &plan->resources[random_below((uint32_t)plan->resource_count)];
		const char *name = resource->shares[random_below((uint32_t)resource->share_count)].id;
		if (!random_below(4))
			name = noise[random_below(GS_ARRAY_LENGTH(noise))];
		char *longer = gs_printf("%s%s%s", text, *text ? "," : "", name);
		free(text);
		text = longer;
	}
	return text;
}

static struct gs_place random_place(void)
{
	struct gs_place place = {.kind = random_below(8) ? GS_PLACE_CONTAINER : random_below(3)};
	if (place.kind == GS_PLACE_CONTAINER)
		place.container[0] = (char)('a' + random_below(random_below(2) + 1));
	return place;
}

static void random_sample(struct world *world, uint32_t gpu)
{
	struct gs_gpu_sample *sample = &world->samples[gpu];
	uint64_t total = random_below(2) ? 1000 + random_below(100000) : random_below(3) * UINT64_MAX / 2;
	for (uint32_t i = random_below(PROCESSES); i > 0; i--) {
		char *shares = random_names(&world->plan);
		struct gs_process_sample *process =
			add_process(world, gpu, shares, random_below(20) ? random_below(5000) : UINT64_MAX);
		free(shares);
		process->memory_valid = random_below(6);
		process->utilization_valid = random_below(6);
		process->utilization_percent = random_below(random_below(4) ? 20 : 101);
		const struct gs_device *device =
			&world->inventory.devices[random_below((uint32_t)world->inventory.device_count)];
		process->gpu_instance = device->gpu_instance;
		process->compute_instance = device->compute_instance;
		process->place = random_place();
	}
	sample->at_ms = random_below(10000);
	sample->valid = random_below(8) ? ~0u : random_below(32);
	sample->memory_total_bytes = total;
	sample->memory_free_bytes = random_below(5) ? total - total / (1 + random_below(9)) : UINT64_MAX;
	sample->memory_used_bytes = total / 2;
	sample->utilization_percent = random_below(random_below(9) ? 101 : 400);
	world->by_gpu[gpu] = random_below(10) ? sample : NULL;
}

static void check_process(const struct world *world, const struct gs_usage_process *process, size_t *claims)
{
	const struct gs_usage *usage = &world->usage;
	uint32_t which = (uint32_t)(process - usage->processes), first = GS_USAGE_NONE;
	bool claims_any = false;
	for (uint32_t i = 0; i < usage->share_count; i++) {
		const struct gs_usage_share *share = &usage->shares[i];
		const struct gs_device *device = &world->inventory.devices[share->share->device];
		bool listed = false;
		for (size_t j = 0; j < share->claim_count; j++) {
			const struct gs_usage_claim *claim = &usage->claims[share->first_claim + j];
			assert_int_equal(claim->share, i);
			assert_true(j == 0 || claim[-1].process < claim->process);
			listed |= claim->process == which;
		}
		bool named = device->gpu == process->gpu && names(process->sample->shares, share->share->id);
		assert_int_equal(listed, named);
		claims_any |= named;
		*claims += named;
		bool runs_there = !device->mig || !world->inventory.devices[process->device].mig ||
				  share->share->device == process->device;
		if (named && runs_there && !share->contested && first == GS_USAGE_NONE)
			first = i;
	}
	assert_int_equal(process->claims, claims_any);
	assert_int_equal(process->share, first);
}

/* All of a GPU's shares, what is nobody's, and what is idle are the GPU. */
static void check_balance(const struct gs_usage *usage, uint32_t gpu, bool sm)
{
	const struct gs_balance *balance = sm ? &usage->gpus[gpu].sm_permille : &usage->gpus[gpu].memory_bytes;
	uint64_t sum = 0;
	for (size_t i = 0; i < usage->share_count; i++) {
		const struct gs_usage_share *share = &usage->shares[i];
		const struct gs_figure *figure = sm ? &share->sm_permille : &share->memory_bytes;
		if (usage->groups[share->group].on->gpu == gpu && figure->source != GS_SOURCE_UNKNOWN)
			sum += figure->value;
	}
	bool known = balance->total.source != GS_SOURCE_UNKNOWN;
	assert_int_equal(known, balance->attributed.source != GS_SOURCE_UNKNOWN);
	assert_int_equal(known, balance->unattributed.source != GS_SOURCE_UNKNOWN);
	assert_int_equal(known, balance->idle.source != GS_SOURCE_UNKNOWN);
	if (!known)
		return;
	assert_true(sum == balance->attributed.value);
	assert_true(sum + balance->unattributed.value + balance->idle.value == balance->total.value);
	assert_true(balance->idle.value <= balance->total.value && balance->unattributed.value <= balance->total.value);
}

static void check_contested(const struct world *world, const struct gs_usage_share *share)
{
	const struct gs_usage *usage = &world->usage;
	bool contested = false;
	for (size_t i = 0; i < share->claim_count * share->claim_count; i++) {
		const struct gs_usage_claim *claims = &usage->claims[share->first_claim];
		const struct gs_place *a = &usage->processes[claims[i / share->claim_count].process].sample->place;
		const struct gs_place *b = &usage->processes[claims[i % share->claim_count].process].sample->place;
		contested |= a->kind != GS_PLACE_HOST && b->kind != GS_PLACE_HOST && !gs_place_equal(a, b);
	}
	assert_int_equal(share->contested, contested);
}

/* A share's figure is unknown exactly where the processes are, one of its own is, or nobody knows whose they are. */
static void check_unknown(const struct world *world, const struct gs_usage_share *share)
{
	const struct gs_usage *usage = &world->usage;
	uint32_t gpu = usage->groups[share->group].on->gpu;
	bool memory = usage->gpus[gpu].processes_known && !share->contested, sm = memory;
	for (size_t i = 0; i < usage->process_count; i++) {
		const struct gs_usage_process *process = &usage->processes[i];
		if (process->share != (uint32_t)(share - usage->shares))
			continue;
		memory &= process->sample->memory_valid;
		sm &= process->sample->utilization_valid;
	}
	assert_int_equal(share->memory_bytes.source, memory ? GS_SOURCE_PROCESSES : GS_SOURCE_UNKNOWN);
	assert_int_equal(share->sm_permille.source, sm ? GS_SOURCE_PROCESSES : GS_SOURCE_UNKNOWN);
	assert_true(memory || share->memory_bytes.value == 0);
}

static void check_world(const struct world *world)
{
	const struct gs_usage *usage = &world->usage;
	size_t processes = 0, claims = 0, shares = 0;
	for (uint32_t i = 0; i < GPUS; i++) {
		const struct gs_usage_gpu *gpu = &usage->gpus[i];
		size_t count = world->by_gpu[i] ? world->by_gpu[i]->process_count : 0;
		assert_int_equal(gpu->first_process, processes);
		assert_int_equal(gpu->process_count, count);
		for (size_t j = 0; j < count; j++)
			assert_ptr_equal(usage->processes[processes++].sample, &world->by_gpu[i]->processes[j]);
		bool valid = world->by_gpu[i] && world->by_gpu[i]->valid & GS_SAMPLE_MEMORY;
		assert_int_equal(gpu->memory_used_bytes.source, valid ? GS_SOURCE_NVML : GS_SOURCE_UNKNOWN);
		assert_int_equal(gpu->memory_bytes.total.source, valid ? GS_SOURCE_NVML : GS_SOURCE_UNKNOWN);
		check_balance(usage, i, false);
		check_balance(usage, i, true);
	}
	assert_int_equal(usage->process_count, processes);
	for (size_t i = 0; i < processes; i++)
		check_process(world, &usage->processes[i], &claims);
	assert_int_equal(usage->claim_count, claims);
	for (size_t i = 0; i < world->plan.resource_count; i++)
		for (size_t j = 0; j < world->plan.resources[i].share_count; j++)
			assert_ptr_equal(usage->shares[shares++].share, &world->plan.resources[i].shares[j]);
	assert_int_equal(usage->share_count, shares);
	for (size_t i = 0; i < shares; i++) {
		check_contested(world, &usage->shares[i]);
		check_unknown(world, &usage->shares[i]);
	}
}

static void test_random_nodes(void **state)
{
	for (int i = 0; i < CASES; i++) {
		struct world world;
		make_node(&world, random_below(2) * 3, 1 + random_below(4), random_below(2));
		for (uint32_t gpu = 0; gpu < GPUS; gpu++)
			random_sample(&world, gpu);
		take(&world);
		check_world(&world);
		free_world(&world);
	}
}

static void test_random_balances(void **state)
{
	for (int i = 0; i < CASES; i++) {
		uint64_t parts[8], before[8], sum = 0, total = random_below(1u << random_below(31)), wanted = 0;
		uint64_t idle = random_below(1u << random_below(31));
		size_t count = random_below(9);
		for (size_t j = 0; j < count; j++)
			wanted += before[j] = parts[j] = random_below(1u << random_below(31));
		struct gs_balance balance = {0};
		gs_usage_balance(total, idle, parts, count, &balance);
		for (size_t j = 0; j < count; j++) {
			assert_true(wanted <= total ? parts[j] == before[j] : parts[j] <= before[j]);
			sum += parts[j];
		}
		assert_true(balance.attributed.value == sum);
		assert_true(sum + balance.unattributed.value + balance.idle.value == total);
		assert_true(balance.idle.value <= (wanted > total ? 0 : idle));
		if (wanted <= total && idle <= total - wanted)
			assert_true(balance.idle.value == idle);
	}
}

/* --- single cases --- */

static void test_memory_goes_where_it_belongs(void **state)
{
	struct world world;
	make_node(&world, 0, 4, false);
	const struct gs_share *shares = world.plan.resources[0].shares;
	add_process(&world, 0, shares[2].id, 300);
	add_process(&world, 0, shares[2].id, 50);
	add_process(&world, 0, "", 100);
	sample_gpu(&world, 0, 500, 450);
	take(&world);
	const struct gs_balance *memory = &world.usage.gpus[0].memory_bytes;
	assert_int_equal(world.usage.shares[2].memory_bytes.value, 350);
	assert_int_equal(world.usage.shares[2].memory_bytes.source, GS_SOURCE_PROCESSES);
	assert_int_equal(world.usage.shares[1].memory_bytes.value, 0);
	assert_int_equal(world.usage.shares[1].memory_bytes.source, GS_SOURCE_PROCESSES);
	assert_int_equal(memory->attributed.value, 350);
	assert_int_equal(memory->unattributed.value, 200); /* the stranger's, and the driver's own */
	assert_int_equal(memory->idle.value, 450);
	assert_int_equal(gs_usage_age_ms(&world.usage, &memory->idle), 1000);
	assert_int_equal(world.usage.gpus[1].memory_bytes.total.source, GS_SOURCE_UNKNOWN);
	assert_int_equal(gs_usage_age_ms(&world.usage, &world.usage.gpus[1].memory_bytes.total), -1);
	assert_int_equal(world.usage.gpus[0].sm_permille.total.source, GS_SOURCE_UNKNOWN);
	free_world(&world);
}

static void test_nothing_is_known_without_samples(void **state)
{
	struct world world;
	make_node(&world, 0, 4, false);
	gs_usage_begin(&world.usage, &world.plan, &world.inventory, now);
	gs_usage_attribute(&world.usage, NULL);
	assert_int_equal(world.usage.process_count, 0);
	assert_false(world.usage.gpus[0].processes_known);
	assert_int_equal(world.usage.shares[0].memory_bytes.source, GS_SOURCE_UNKNOWN);
	assert_string_equal(world.usage.gpus[0].reason, "");
	free_world(&world);
}

/* A container writes its environment as it likes; where the driver says that it runs elsewhere, that counts. */
static void test_a_name_is_not_believed_against_the_driver(void **state)
{
	struct world world;
	make_node(&world, 2, 2, false);
	const struct gs_resource *resource = &world.plan.resources[0];
	const struct gs_share *share = &resource->shares[0];
	const struct gs_device *other = &world.inventory.devices[resource->shares[2].device];
	struct gs_process_sample *process = add_process(&world, 0, share->id, 10);
	process->gpu_instance = other->gpu_instance;
	process->compute_instance = other->compute_instance;
	sample_gpu(&world, 0, 10, 990);
	take(&world);
	assert_true(world.usage.processes[0].claims);
	assert_int_equal(world.usage.processes[0].share, GS_USAGE_NONE);
	assert_int_equal(world.usage.shares[0].memory_bytes.value, 0);
	assert_int_equal(world.usage.gpus[0].memory_bytes.unattributed.value, 10);
	free_world(&world);
}

/* Who names another's share must not have his use put on it. */
static void test_a_share_that_two_containers_name_is_nobodys(void **state)
{
	struct world world;
	make_node(&world, 0, 4, false);
	const struct gs_share *shares = world.plan.resources[0].shares;
	const struct gs_place one = {GS_PLACE_CONTAINER, "1"}, two = {GS_PLACE_CONTAINER, "2"},
			      host = {GS_PLACE_HOST, ""};
	add_process(&world, 0, shares[0].id, 10)->place = one;
	add_process(&world, 0, shares[0].id, 20)->place = two;
	add_process(&world, 0, shares[1].id, 40)->place = one;
	add_process(&world, 0, shares[1].id, 80)->place = host;
	sample_gpu(&world, 0, 150, 850);
	take(&world);
	assert_true(world.usage.shares[0].contested);
	assert_int_equal(world.usage.shares[0].memory_bytes.source, GS_SOURCE_UNKNOWN);
	assert_int_equal(world.usage.shares[0].claim_count, 2);
	assert_int_equal(world.usage.gpus[0].memory_bytes.unattributed.value, 30);
	assert_false(world.usage.shares[1].contested);
	assert_int_equal(world.usage.shares[1].memory_bytes.value, 120);
	free_world(&world);
}

#define ID    "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
#define OTHER "fedcba9876543210fedcba9876543210fedcba9876543210fedcba9876543210"

static void test_places(void **state)
{
	static const struct {
		const char *cgroups, *container; /* NULL: in none */
	} cases[] = {
		{"0::/system.slice/docker-" ID ".scope\n", ID},
		{"0::/kubepods.slice/kubepods-pod8a1f8d5a_5f0e_4a8b_9a51_6e9c4f0f1c2d.slice/cri-containerd-" ID
		 ".scope\n",
		 ID},
		{"12:memory:/kubepods/burstable/pod8a1f8d5a-5f0e-4a8b-9a51-6e9c4f0f1c2d/" ID "\n0::/\n", ID},
		{"1:name=systemd:/\n4:devices:/system.slice/containerd.service/kubepods-pod1.slice:cri-containerd:" ID
		 "\n",
		 ID},
		{"0::/../../kubepods-pod1.slice/crio-" ID ".scope/container\n", ID},
		/* What a container makes for itself. */
		{"0::/kubepods/pod1/" ID "/kubepods/pod2/" OTHER "\n", ID},
		{"0::/user.slice/user-1000.slice/session-3.scope\n", NULL},
		{"0::/a" ID "\n", NULL},
		{"0::/" ID "0\n", NULL},
		{"0::/\n", NULL},
	};
	for (size_t i = 0; i < GS_ARRAY_LENGTH(cases); i++) {
		struct gs_place place = gs_place_read(cases[i].cgroups, strlen(cases[i].cgroups));
		assert_int_equal(place.kind, cases[i].container ? GS_PLACE_CONTAINER : GS_PLACE_HOST);
		assert_string_equal(place.container, cases[i].container ? cases[i].container : "");
	}
	assert_int_equal(gs_place_read(ID, strlen(ID)).kind, GS_PLACE_CONTAINER);
	assert_int_equal(gs_place_read("", 0).kind, GS_PLACE_UNKNOWN);
}

/* An environment may name all shares there are; each process is listed all the same. */
static void test_named_shares_are_bounded(void **state)
{
	struct world world;
	struct gs_strbuf names_all = {0};
	make_node(&world, 0, 1000, false);
	const struct gs_resource *resource = &world.plan.resources[0];
	for (uint32_t i = 0; i < 1000; i++)
		gs_strbuf_printf(&names_all, "%s,", resource->shares[i].id);
	for (int i = 0; i < 100; i++)
		add_process(&world, 0, names_all.data, 1);
	sample_gpu(&world, 0, 100, 900);
	take(&world);
	assert_in_range(world.usage.claim_count, 100, GS_USAGE_CLAIMS_MAX + 100);
	for (size_t i = 0; i < 100; i++)
		assert_true(world.usage.processes[i].claims && world.usage.processes[i].share == 0);
	assert_int_equal(world.usage.shares[0].memory_bytes.value, 100);
	gs_strbuf_free(&names_all);
	free_world(&world);
}

static void test_holders(void **state)
{
	struct world world;
	struct gs_pod_holder pod = {"", "team", "train-0", "main"};
	make_node(&world, 0, 4, false);
	gs_usage_begin(&world.usage, &world.plan, &world.inventory, now);
	struct gs_usage_share *share = &world.usage.shares[0];
	assert_int_equal(gs_usage_holder(&world.usage, share), GS_HELD_BY_NOBODY);
	share->allocated_seconds = now.seconds - GS_USAGE_PROMISE_SECONDS;
	assert_int_equal(gs_usage_holder(&world.usage, share), GS_HELD_LATELY);
	share->allocated_seconds--;
	assert_int_equal(gs_usage_holder(&world.usage, share), GS_HELD_BY_NOBODY);

	world.usage.pods_known = true;
	share->allocated_seconds = now.seconds - GS_USAGE_NEW_SECONDS;
	assert_int_equal(gs_usage_holder(&world.usage, share), GS_HELD_LATELY);
	share->allocated_seconds--;
	assert_int_equal(gs_usage_holder(&world.usage, share), GS_HELD_BY_NOBODY);
	share->pods = &pod;
	share->pod_count = 1;
	assert_int_equal(gs_usage_holder(&world.usage, share), GS_HELD_BY_POD);

	/* What a list that was cut off does not name may be held; what it names is. */
	world.usage.pods_truncated = true;
	assert_int_equal(gs_usage_holder(&world.usage, share), GS_HELD_BY_POD);
	share->pod_count = 0;
	assert_int_equal(gs_usage_holder(&world.usage, share), GS_HELD_LATELY);
	free_world(&world);
}

static void note_client(void *user, const struct gs_usage_share *share, const struct gs_usage_process *process)
{
	struct gs_strbuf *text = user;
	gs_strbuf_printf(text, "%d:%s ", process->sample->pid, share ? strrchr(share->share->id, ':') + 1 : "-");
}

static void test_mps_clients(void **state)
{
	struct world world;
	struct gs_strbuf text = {0};
	static const int servers[] = {1003};
	make_node(&world, 0, 4, true);
	const struct gs_share *shares = world.plan.resources[0].shares;
	add_process(&world, 0, shares[1].id, 1);
	add_process(&world, 1, "", 1);
	add_process(&world, 1, shares[4].id, 1);
	add_process(&world, 1, "", 1); /* of pid 1003, once there are two before it */
	add_process(&world, 1, "", 1);
	snprintf(world.samples[1].processes[3].name, 64, "nvidia-cuda-mps");
	for (uint32_t gpu = 0; gpu < 2; gpu++)
		sample_gpu(&world, gpu, 10, 990);
	take(&world);
	const char *first = world.inventory.gpus[0].uuid, *second = world.inventory.gpus[1].uuid;
	struct gs_mps_spec specs[3] = {0};
	snprintf(specs[0].key, sizeof specs[0].key, "%s", second);
	snprintf(specs[1].key, sizeof specs[1].key, "%s-1", first);
	snprintf(specs[2].key, sizeof specs[2].key, "%s-2", first);
	for (size_t i = 0; i < GS_ARRAY_LENGTH(specs); i++)
		snprintf(specs[i].device, sizeof specs[i].device, "%s", i ? first : second);
	const struct gs_mps_status daemons[] = {
		{.spec = &specs[0], .servers = servers, .server_count = 1},
		{.spec = &specs[1]},
		{.spec = &specs[2]},
	};
	gs_mps_clients(&world.usage, &gs_strategy_mps, daemons, GS_ARRAY_LENGTH(daemons), note_client, &text);
	assert_string_equal(text.data, "1:1 1002:0 1001:- ");
	assert_int_equal(gs_mps_client_count(&world.usage, &gs_strategy_mps, daemons, GS_ARRAY_LENGTH(daemons), 0), 2);
	assert_int_equal(gs_mps_client_count(&world.usage, &gs_strategy_mps, daemons, GS_ARRAY_LENGTH(daemons), 1), 1);
	assert_int_equal(gs_mps_client_count(&world.usage, &gs_strategy_mps, daemons, GS_ARRAY_LENGTH(daemons), 2), 0);
	assert_null(gs_mps_group(&world.usage, &gs_strategy_mps, GS_USAGE_NONE));
	gs_strbuf_free(&text);
	free_world(&world);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_random_nodes),
		cmocka_unit_test(test_random_balances),
		cmocka_unit_test(test_memory_goes_where_it_belongs),
		cmocka_unit_test(test_nothing_is_known_without_samples),
		cmocka_unit_test(test_a_name_is_not_believed_against_the_driver),
		cmocka_unit_test(test_a_share_that_two_containers_name_is_nobodys),
		cmocka_unit_test(test_places),
		cmocka_unit_test(test_named_shares_are_bounded),
		cmocka_unit_test(test_holders),
		cmocka_unit_test(test_mps_clients),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
