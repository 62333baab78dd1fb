#include <pthread.h>
#include <semaphore.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/lane.h"

/* What happened, in order: a letter a work; upper case when it ran, lower case when it was done, '!' when a lane closed. */
static char events[64];
static pthread_mutex_t events_lock = PTHREAD_MUTEX_INITIALIZER;

static void note(char what)
{
	pthread_mutex_lock(&events_lock);
	size_t length = strlen(events);
	assert_true(length + 1 < sizeof events);
	events[length] = what;
	events[length + 1] = '\0';
	pthread_mutex_unlock(&events_lock);
}

struct work {
	char letter;
	sem_t *wait; /* before it is over; NULL: it does not wait */
	sem_t *dropped;
	sem_t *post; /* once it is done */
	pthread_t thread;
};

static void run(void *user)
{
	struct work *work = user;
	work->thread = pthread_self();
	if (work->wait)
		sem_wait(work->wait);
	note((char)(work->letter - 'a' + 'A'));
}

static void done(void *user)
{
	const struct work *work = user;
	note(work->letter);
	if (work->post)
		sem_post(work->post);
}

static void drop(void *user)
{
	const struct work *work = user;
	note('-');
	sem_post(work->dropped);
}

static void on_closed(void *user)
{
	note('!');
}

static void give(struct lane *lane, struct work *work)
{
	lane_run(lane, &(struct lane_work){.run = run, .done = done, .drop = drop, .user = work});
}

static int set_up(void **state)
{
	static uv_loop_t loop;
	events[0] = '\0';
	uv_loop_init(&loop);
	*state = &loop;
	return 0;
}

static int tear_down(void **state)
{
	return uv_loop_close(*state); /* EBUSY when a handle is left */
}

static void test_works_of_one_lane_keep_their_order(void **state)
{
	struct lane *lane = lane_new(*state, "test");
	struct work works[] = {{.letter = 'a'}, {.letter = 'b'}, {.letter = 'c'}};
	for (size_t i = 0; i < 3; i++)
		give(lane, &works[i]);
	assert_true(lane_is_busy(lane));
	uv_run(*state, UV_RUN_DEFAULT); /* returns although the lane is open: it is idle */
	assert_false(lane_is_busy(lane));
	assert_string_equal(events, "AaBbCc");
	lane_close(lane, on_closed, NULL);
	uv_run(*state, UV_RUN_DEFAULT);
	assert_string_equal(events, "AaBbCc!");
}

static void test_one_lane_does_not_delay_another(void **state)
{
	struct lane *slow = lane_new(*state, "slow"), *quick = lane_new(*state, "quick");
	sem_t hold;
	sem_init(&hold, 0, 0);
	/* The slow one is over only once the quick one is done. */
	struct work waits = {.letter = 'a', .wait = &hold}, passes = {.letter = 'b', .post = &hold};
	give(slow, &waits);
	give(quick, &passes);
	uv_run(*state, UV_RUN_DEFAULT);
	assert_string_equal(events, "BbAa");
	assert_false(pthread_equal(waits.thread, passes.thread));
	lane_close(slow, NULL, NULL);
	lane_close(quick, NULL, NULL);
	uv_run(*state, UV_RUN_DEFAULT);
	sem_destroy(&hold);
}

static void test_a_lane_that_closes_does_what_it_has(void **state)
{
	struct lane *lane = lane_new(*state, "test");
	struct work works[] = {{.letter = 'a'}, {.letter = 'b'}};
	give(lane, &works[0]);
	give(lane, &works[1]);
	lane_close(lane, on_closed, NULL);
	uv_run(*state, UV_RUN_DEFAULT);
	assert_string_equal(events, "AaBb!");
}

static void test_a_thread_that_is_left_behind_delays_nobody(void **state)
{
	struct lane *lane = lane_new(*state, "test");
	sem_t hold, dropped;
	sem_init(&hold, 0, 0);
	sem_init(&dropped, 0, 0);
	struct work hangs = {.letter = 'a', .wait = &hold, .dropped = &dropped}, next = {.letter = 'b'};
	give(lane, &hangs);
	give(lane, &next);
	lane_abandon(lane);
	assert_int_equal(lane_left_behind(lane), 1);
	uv_run(*state, UV_RUN_DEFAULT);
	assert_string_equal(events, "Bb");
	lane_close(lane, on_closed, NULL);
	uv_run(*state, UV_RUN_DEFAULT);
	sem_post(&hold); /* it comes back after the lane is closed */
	sem_wait(&dropped);
	assert_string_equal(events, "Bb!A-");
	sem_destroy(&hold);
}

static struct work second = {.letter = 'b'};

static void done_and_give(void *user)
{
	note('a');
	give(user, &second);
}

static void run_nothing(void *user)
{
	note('A');
}

static void test_work_that_is_given_when_another_is_done(void **state)
{
	struct lane *lane = lane_new(*state, "test");
	lane_run(lane, &(struct lane_work){.run = run_nothing, .done = done_and_give, .user = lane});
	uv_run(*state, UV_RUN_DEFAULT);
	assert_string_equal(events, "AaBb");
	lane_close(lane, NULL, NULL);
	uv_run(*state, UV_RUN_DEFAULT);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_works_of_one_lane_keep_their_order, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_one_lane_does_not_delay_another, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_a_lane_that_closes_does_what_it_has, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_a_thread_that_is_left_behind_delays_nobody, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_work_that_is_given_when_another_is_done, set_up, tear_down),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
