#include "helpers.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "sim/models.h"

uint32_t model_index(const char *spec_name)
{
	const struct sim_model *model = sim_model_by_name(spec_name);
	assert_non_null(model);
	return (uint32_t)(model - sim_models);
}

int world_begin(void **state)
{
	struct world *world = calloc(1, sizeof *world);
	struct gs_error err;
	struct sim_spec spec = {
		.groups = {{.model = model_index("A100-40GB"), .count = 2}}, .group_count = 1, .seed = 42};
	assert_non_null(world);
	const char *base = getenv("TMPDIR");
	snprintf(world->dir, sizeof world->dir, "%s/gpushare-unit-XXXXXX", base && base[0] ? base : "/tmp");
	assert_non_null(mkdtemp(world->dir));
	assert_int_equal(sim_node_create(world->dir, &spec, &world->owner, &err), 0);
	assert_int_equal(sim_node_open(world->dir, &world->node, &err), 0);
	*state = world;
	return 0;
}

int world_end(void **state)
{
	struct world *world = *state;
	sim_node_close(world->node);
	sim_node_close(world->owner);
	int removed = sim_node_remove(world->dir, NULL);
	free(world);
	return removed;
}

uint64_t next_random(uint64_t *seed)
{
	*seed ^= *seed << 13;
	*seed ^= *seed >> 7;
	*seed ^= *seed << 17;
	return *seed;
}

void in_killed_child(void (*work)(struct world *world), struct world *world)
{
	int ready[2];
	char byte;
	assert_int_equal(pipe(ready), 0);
	pid_t child = fork();
	assert_true(child >= 0);
	if (child == 0) {
		work(world);
		if (write(ready[1], "", 1) != 1)
			_exit(1);
		for (;;)
			pause();
	}
	close(ready[1]);
	assert_int_equal(read(ready[0], &byte, 1), 1);
	close(ready[0]);
	assert_int_equal(kill(child, SIGKILL), 0);
	assert_int_equal(waitpid(child, NULL, 0), child);
}
