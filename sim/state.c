/* A simulated node's state: creation, joining, the lock, and its GPUs.
 *
 * Three locks that the kernel drops when a process dies keep the truth about who is alive: flock on DIR itself (the
 * node's owner), an OFD lock on one byte of DIR/clients per client (clients.c), and the robust mutex in the mapping. */
#include "sim/layout.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <limits.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "gpushare/abi.h"
#include "sim/models.h"

enum { LOCK_PATIENCE_S = 10 };

uint64_t sim_now_ns(void)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000ull + (uint64_t)now.tv_nsec;
}

/* Fork: a child shares its parent's open files, so it would keep the parent's clients alive. It gets a description of
 * its own for the same file, and no slots. */

static pthread_mutex_t handles_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_once_t handles_once = PTHREAD_ONCE_INIT;
static struct sim_node *handles;

static void before_fork(void)
{
	pthread_mutex_lock(&handles_lock);
}

static void after_fork_parent(void)
{
	pthread_mutex_unlock(&handles_lock);
}

static void after_fork_child(void)
{
	for (struct sim_node *node = handles; node; node = node->next) {
		if (node->clients_fd >= 0) {
			char path[64];
			snprintf(path, sizeof path, "/proc/self/fd/%d", node->clients_fd);
			int fd = open(path, O_RDWR | O_CLOEXEC);
			close(node->clients_fd);
			node->clients_fd = fd;
		}
		if (node->owner_fd >= 0)
			close(node->owner_fd);
		node->owner_fd = -1;
		memset(node->mine, 0, sizeof node->mine);
	}
	pthread_mutex_unlock(&handles_lock);
}

static void watch_forks(void)
{
	pthread_atfork(before_fork, after_fork_parent, after_fork_child);
}

static void register_handle(struct sim_node *node)
{
	pthread_once(&handles_once, watch_forks);
	pthread_mutex_lock(&handles_lock);
	node->next = handles;
	handles = node;
	pthread_mutex_unlock(&handles_lock);
}

static void forget_handle(struct sim_node *node)
{
	pthread_mutex_lock(&handles_lock);
	for (struct sim_node **link = &handles; *link; link = &(*link)->next)
		if (*link == node) {
			*link = node->next;
			break;
		}
	pthread_mutex_unlock(&handles_lock);
}

static void repair(struct sim_state *state)
{
	if (state->gpu_count > SIM_GPUS_MAX)
		state->gpu_count = SIM_GPUS_MAX;
	sim_repair_clients(state);
	sim_repair_events(state);
}

bool sim_lock(struct sim_node *node)
{
	struct timespec deadline;
	clock_gettime(CLOCK_REALTIME, &deadline);
	deadline.tv_sec += LOCK_PATIENCE_S;
	int r = pthread_mutex_timedlock(&node->state->lock, &deadline);
	if (r == EOWNERDEAD) {
		repair(node->state);
		r = pthread_mutex_consistent(&node->state->lock);
	}
	return r == 0;
}

void sim_unlock(struct sim_node *node)
{
	pthread_mutex_unlock(&node->state->lock);
}

uint32_t sim_slots(const struct sim_state *state)
{
	return state->gpu_count < SIM_GPUS_MAX ? state->gpu_count : SIM_GPUS_MAX;
}

/* Well mixed numbers from a seed (the finaliser of splitmix64). */
static uint64_t mix(uint64_t value)
{
	value += 0x9E3779B97F4A7C15ull;
	value = (value ^ (value >> 30)) * 0xBF58476D1CE4E5B9ull;
	value = (value ^ (value >> 27)) * 0x94D049BB133111EBull;
	return value ^ (value >> 31);
}

static uint64_t seed_from_name(const char *dir)
{
	const char *name = strrchr(dir, '/');
	uint64_t hash = 14695981039346656037ull;
	for (const char *c = name && name[1] ? name + 1 : dir; *c; c++)
		hash = (hash ^ (unsigned char)*c) * 1099511628211ull;
	return hash ? hash : 1;
}

/* Bus numbers in the order NVML lists GPUs: the first eight as in an eight-GPU server. */
static uint32_t bus_of_slot(uint32_t slot)
{
	static const uint8_t server[] = {0x07, 0x0F, 0x47, 0x4E, 0x87, 0x90, 0xB7, 0xBD};
	return slot < GS_ARRAY_LENGTH(server) ? server[slot] : 0xC1 + 2 * (slot - (uint32_t)GS_ARRAY_LENGTH(server));
}

static void fill_identity(struct sim_state *state, struct sim_gpu *gpu)
{
	uint64_t board = state->boards++;
	uint64_t halves[2] = {mix(state->seed ^ mix(2 * board)), mix(state->seed ^ mix(2 * board + 1))};
	for (size_t i = 0; i < sizeof gpu->uuid_bytes; i++)
		gpu->uuid_bytes[i] = (uint8_t)(halves[i / 8] >> (56 - 8 * (i % 8)));
	const uint8_t *u = gpu->uuid_bytes;
	snprintf(gpu->uuid, sizeof gpu->uuid,
		 "GPU-%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x", u[0], u[1], u[2], u[3],
		 u[4], u[5], u[6], u[7], u[8], u[9], u[10], u[11], u[12], u[13], u[14], u[15]);
	snprintf(gpu->serial, sizeof gpu->serial, "132%010" PRIu64, (uint64_t)(mix(halves[0]) % 10000000000ull));
}

/* A new board of `model` in a slot; whatever the slot held before is gone. */
static void fill_gpu(struct sim_state *state, uint32_t slot, uint32_t model, int32_t numa_node)
{
	const struct sim_model *facts = &sim_models[model];
	struct sim_gpu *gpu = &state->gpus[slot];
	uint64_t plugged = gpu->plugged;
	memset(gpu, 0, sizeof *gpu);
	memset(state->migs[slot].gis, 0, sizeof state->migs[slot].gis);
	gpu->model = model;
	gpu->plugged = plugged + 1;
	gpu->minor = slot;
	fill_identity(state, gpu);
	gpu->pci_bus = bus_of_slot(slot);
	gpu->numa_node = numa_node;
	gpu->memory_total = facts->memory_total;
	gpu->memory_reserved = facts->memory_reserved;
	gpu->persistence_mode = 1;
	gpu->power_limit_mw = facts->power_limit_mw;
	gpu->energy_time_ns = sim_now_ns();
	gpu->present = 1;
}

static int fill_gpus(struct sim_state *state, const struct sim_spec *spec, struct gs_error *err)
{
	uint64_t total = 0;
	for (size_t g = 0; g < spec->group_count && g < SIM_GPUS_MAX; g++)
		total += spec->groups[g].count;
	if (total > SIM_GPUS_MAX)
		return gs_fail(err, GS_ERROR_LIMIT, 0, "a node holds at most %d GPUs, not %" PRIu64, SIM_GPUS_MAX,
			       total);
	for (size_t g = 0; g < spec->group_count && g < SIM_GPUS_MAX; g++) {
		const struct sim_gpu_spec *group = &spec->groups[g];
		if (group->model >= sim_model_count)
			return gs_fail(err, GS_ERROR_INTERNAL, 0, "GPU model number %u is unknown", group->model);
		const struct sim_model *facts = &sim_models[group->model];
		if (group->memory_total && group->memory_total <= facts->memory_reserved)
			return gs_fail(err, GS_ERROR_INPUT, 0,
				       "%s needs more memory than the %" PRIu64 " MiB it reserves", facts->spec_name,
				       facts->memory_reserved >> 20);
		for (uint32_t i = 0; i < group->count; i++) {
			uint32_t slot = state->gpu_count++;
			int32_t numa = total >= 4 && slot >= (total + 1) / 2 ? 1 : 0;
			fill_gpu(state, slot, group->model, group->numa_set ? group->numa_node : numa);
			if (group->memory_total)
				state->gpus[slot].memory_total = group->memory_total;
		}
	}
	return 0;
}

static int init_lock(struct sim_state *state, struct gs_error *err)
{
	pthread_mutexattr_t attributes;
	pthread_mutexattr_init(&attributes);
	pthread_mutexattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED);
	pthread_mutexattr_setrobust(&attributes, PTHREAD_MUTEX_ROBUST);
	errno = pthread_mutex_init(&state->lock, &attributes);
	pthread_mutexattr_destroy(&attributes);
	return errno ? gs_fail_errno(err, "cannot make the node's lock") : 0;
}

enum { FOUND_A_FILE = 1 };

static int stop_at_a_file(const char *path, const struct stat *info, int kind, struct FTW *walk)
{
	return kind == FTW_D || kind == FTW_DP ? 0 : FOUND_A_FILE;
}

/* Only a directory without files, or one that held a node before, may become a node: its files are replaced. Folders may
 * be what a program that had joined an earlier node made there. */
static int check_directory(int fd, const char *dir, struct gs_error *err)
{
	if (faccessat(fd, "state", F_OK, AT_SYMLINK_NOFOLLOW) == 0 ||
	    faccessat(fd, "clients", F_OK, AT_SYMLINK_NOFOLLOW) == 0)
		return 0;
	int found = nftw(dir, stop_at_a_file, 16, FTW_PHYS | FTW_MOUNT);
	if (found < 0)
		return gs_fail_errno(err, "cannot read %s", dir);
	if (found == FOUND_A_FILE)
		return gs_fail(err, GS_ERROR_INPUT, EEXIST,
			       "%s is not empty and holds no simulated node; give an empty or new directory", dir);
	return 0;
}

/* Takes the directory for a new owner. A reader that asks whether a node is live holds the lock for an instant, so a
 * failure is only believed when it lasts. */
static int own_directory(const char *dir, struct gs_error *err)
{
	if (mkdir(dir, 0700) < 0 && errno != EEXIST)
		return gs_fail_errno(err, "cannot create %s", dir);
	GS_AUTO_CLOSE int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return gs_fail_errno(err, "cannot open %s", dir);
	for (int attempt = 0; flock(fd, LOCK_EX | LOCK_NB) < 0; attempt++) {
		if (errno != EWOULDBLOCK && errno != EINTR)
			return gs_fail_errno(err, "cannot lock %s", dir);
		if (attempt == 10)
			return gs_fail(err, GS_ERROR_SYSTEM, EBUSY,
				       "a simulated node is already running in %s; join it with 'gpushare sim --join "
				       "%s', or give another directory",
				       dir, dir);
		nanosleep(&(struct timespec){.tv_nsec = 5000000}, NULL);
	}
	if (check_directory(fd, dir, err) < 0)
		return -1;
	return sim_take_fd(&fd);
}

static int make_clients_file(int dir_fd, const char *dir, uint64_t *inode, struct gs_error *err)
{
	/* A new file: what is left of an earlier node in this directory keeps its locks in the old one. */
	if (unlinkat(dir_fd, "clients", 0) < 0 && errno != ENOENT)
		return gs_fail_errno(err, "cannot replace %s/clients", dir);
	GS_AUTO_CLOSE int fd = openat(dir_fd, "clients", O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	struct stat info;
	if (fd < 0 || fstat(fd, &info) < 0)
		return gs_fail_errno(err, "cannot create %s/clients", dir);
	*inode = info.st_ino;
	return sim_take_fd(&fd);
}

static struct sim_state *map_state(int fd)
{
	void *mapping = mmap(NULL, sizeof(struct sim_state), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	return mapping == MAP_FAILED ? NULL : mapping;
}

/* Writes DIR/state under another name, so that no process ever opens half of one. */
static struct sim_state *make_state_file(int dir_fd, const char *dir, const struct sim_spec *spec,
					 uint64_t clients_inode, struct gs_error *err)
{
	unlinkat(dir_fd, "state.new", 0);
	GS_AUTO_CLOSE int fd = openat(dir_fd, "state.new", O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (fd < 0) {
		gs_fail_errno(err, "cannot create %s/state", dir);
		return NULL;
	}
	/* Blocks are allocated now: a full disk is an error here and not a SIGBUS in some client later. */
	errno = posix_fallocate(fd, 0, sizeof(struct sim_state));
	struct sim_state *state = errno ? NULL : map_state(fd);
	if (!state) {
		gs_fail_errno(err, "cannot write %s/state", dir);
		unlinkat(dir_fd, "state.new", 0);
		return NULL;
	}
	state->version = SIM_STATE_VERSION;
	state->size = sizeof *state;
	state->seed = spec->seed ? spec->seed : seed_from_name(dir);
	state->clients_inode = clients_inode;
	snprintf(state->driver_version, sizeof state->driver_version, "%s",
		 spec->driver_version[0] ? spec->driver_version : SIM_DRIVER_VERSION_DEFAULT);
	state->magic = SIM_STATE_MAGIC;
	if (init_lock(state, err) < 0 || fill_gpus(state, spec, err) < 0 || sim_root_create(dir, state, err) < 0)
		goto fail;
	if (renameat(dir_fd, "state.new", dir_fd, "state") < 0) {
		gs_fail_errno(err, "cannot create %s/state", dir);
		goto fail;
	}
	return state;
fail:
	munmap(state, sizeof *state);
	unlinkat(dir_fd, "state.new", 0);
	return NULL;
}

static struct sim_node *new_handle(struct sim_state *state, char *dir, int clients_fd, int owner_fd)
{
	struct sim_node *node = gs_calloc(1, sizeof *node);
	node->state = state;
	node->dir = dir;
	node->clients_fd = clients_fd;
	node->owner_fd = owner_fd;
	snprintf(node->driver_version, sizeof node->driver_version, "%.*s", (int)sizeof state->driver_version - 1,
		 state->driver_version);
	register_handle(node);
	return node;
}

static int partition(struct sim_node *node, const struct sim_spec *spec, struct gs_error *err)
{
	uint32_t gpu = 0;
	for (size_t g = 0; g < spec->group_count; g++)
		for (uint32_t i = 0; i < spec->groups[g].count; i++, gpu++)
			if (spec->groups[g].mig[0] && sim_mig_layout_apply(node, gpu, spec->groups[g].mig, err) < 0)
				return -1;
	return 0;
}

int sim_node_create(const char *dir, const struct sim_spec *spec, struct sim_node **node, struct gs_error *err)
{
	GS_AUTO_CLOSE int owner_fd = own_directory(dir, err);
	if (owner_fd < 0)
		return -1;
	GS_AUTO_FREE char *path = realpath(dir, NULL);
	if (!path)
		return gs_fail_errno(err, "cannot resolve %s", dir);
	uint64_t clients_inode = 0;
	GS_AUTO_CLOSE int clients_fd = make_clients_file(owner_fd, path, &clients_inode, err);
	if (clients_fd < 0)
		return -1;
	if (sim_pids_create(owner_fd, path, err) < 0)
		return -1;
	struct sim_state *state = make_state_file(owner_fd, path, spec, clients_inode, err);
	if (!state)
		return -1;
	struct sim_node *made = new_handle(state, GS_STEAL(path), sim_take_fd(&clients_fd), sim_take_fd(&owner_fd));
	if (partition(made, spec, err) < 0) {
		sim_node_close(made);
		return -1;
	}
	*node = made;
	return 0;
}

/* Finds what is wrong with a file that claims to be a node's state. */
static int check_state(const struct sim_state *state, const char *dir, struct gs_error *err)
{
	if (state->magic != SIM_STATE_MAGIC)
		return gs_fail(err, GS_ERROR_INPUT, EINVAL, "%s/state is not the state of a simulated node", dir);
	if (state->version != SIM_STATE_VERSION || state->size != sizeof *state)
		return gs_fail(err, GS_ERROR_INPUT, EINVAL,
			       "%s/state has version %u (size %u), this gpushare reads version %d (size %zu); use the "
			       "gpushare that made it",
			       dir, state->version, state->size, SIM_STATE_VERSION, sizeof *state);
	bool sane = state->gpu_count <= SIM_GPUS_MAX &&
		    memchr(state->driver_version, 0, sizeof state->driver_version) != NULL;
	for (uint32_t i = 0; sane && i < state->gpu_count; i++)
		sane = state->gpus[i].model < sim_model_count;
	if (!sane)
		return gs_fail(err, GS_ERROR_INPUT, EINVAL, "%s/state is damaged; create the node again", dir);
	return 0;
}

int sim_node_open(const char *dir, struct sim_node **node, struct gs_error *err)
{
	if (!dir)
		dir = getenv(GPUSHARE_ENV_SIM);
	if (!dir || !dir[0])
		return gs_fail(
			err, GS_ERROR_INPUT, ENOENT,
			"no simulated node: GPUSHARE_SIM is not set; run this under 'gpushare sim SPEC -- COMMAND'");
	GS_AUTO_FREE char *path = realpath(dir, NULL);
	GS_AUTO_CLOSE int dir_fd = path ? open(path, O_PATH | O_DIRECTORY | O_CLOEXEC) : -1;
	if (dir_fd < 0)
		return gs_fail_errno(err, "cannot open the simulated node in %s", dir);
	GS_AUTO_CLOSE int fd = openat(dir_fd, "state", O_RDWR | O_NOFOLLOW | O_CLOEXEC);
	GS_AUTO_CLOSE int clients_fd = fd >= 0 ? openat(dir_fd, "clients", O_RDWR | O_NOFOLLOW | O_CLOEXEC) : -1;
	struct stat info, clients;
	if (clients_fd < 0 || fstat(fd, &info) < 0 || fstat(clients_fd, &clients) < 0)
		return gs_fail_errno(err, "there is no simulated node in %s", path);
	if (!S_ISREG(info.st_mode) || info.st_size != (off_t)sizeof(struct sim_state))
		return gs_fail(err, GS_ERROR_INPUT, EINVAL,
			       "%s/state has %lld bytes where %zu are due; create the node again", path,
			       (long long)info.st_size, sizeof(struct sim_state));
	struct sim_state *state = map_state(fd);
	if (!state)
		return gs_fail_errno(err, "cannot map %s/state", path);
	if (check_state(state, path, err) < 0) {
		munmap(state, sizeof *state);
		return -1;
	}
	if (state->clients_inode != clients.st_ino) {
		munmap(state, sizeof *state);
		return gs_fail(err, GS_ERROR_SYSTEM, EAGAIN,
			       "the simulated node in %s is just being created; try again", path);
	}
	struct sim_node *handle = new_handle(state, GS_STEAL(path), sim_take_fd(&clients_fd), -1);
	if (!sim_lock(handle)) {
		gs_fail(err, GS_ERROR_INPUT, EINVAL,
			"the lock in %s/state cannot be had: a stopped process holds it, or the file is damaged",
			handle->dir);
		sim_node_close(handle);
		return -1;
	}
	sim_unlock(handle);
	*node = handle;
	return 0;
}

void sim_node_close(struct sim_node *node)
{
	if (!node)
		return;
	for (int slot = 0; slot < SIM_CLIENTS_MAX; slot++)
		if (node->mine[slot])
			sim_client_detach(node, slot);
	forget_handle(node);
	if (node->clients_fd >= 0)
		close(node->clients_fd);
	if (node->owner_fd >= 0)
		close(node->owner_fd);
	munmap(node->state, sizeof *node->state);
	free(node->dir);
	free(node);
}

const char *sim_node_dir(const struct sim_node *node)
{
	return node->dir;
}

const char *sim_node_driver_version(const struct sim_node *node)
{
	return node->driver_version;
}

bool sim_node_is_live(const char *dir)
{
	GS_AUTO_CLOSE int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return fd >= 0 && flock(fd, LOCK_SH | LOCK_NB) < 0 && errno == EWOULDBLOCK;
}

int sim_node_remove(const char *dir, struct gs_error *err)
{
	static const char *const files[] = {"state", "state.new", "clients", "pids"};
	GS_AUTO_FREE char *root = gs_printf("%s/root", dir);
	if (sim_remove_tree(root, err) < 0)
		return -1;
	for (size_t i = 0; i < GS_ARRAY_LENGTH(files); i++) {
		GS_AUTO_FREE char *path = gs_printf("%s/%s", dir, files[i]);
		if (unlink(path) < 0 && errno != ENOENT)
			return gs_fail_errno(err, "cannot remove %s", path);
	}
	if (rmdir(dir) == 0 || errno == ENOENT)
		return 0;
	if (errno != ENOTEMPTY && errno != EEXIST)
		return gs_fail_errno(err, "cannot remove %s", dir);
	/* What others put there stays, and the next node may still begin here: this tells it so. */
	GS_AUTO_FREE char *mark = gs_printf("%s/clients", dir);
	GS_AUTO_CLOSE int fd = open(mark, O_WRONLY | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
	return fd < 0 ? gs_fail_errno(err, "cannot create %s", mark) : 0;
}

uint32_t sim_gpu_count(struct sim_node *node)
{
	if (!sim_lock(node))
		return 0;
	uint32_t count = sim_slots(node->state);
	sim_unlock(node);
	return count;
}

bool sim_gpu_get(struct sim_node *node, uint32_t gpu, struct sim_gpu *copy)
{
	if (!sim_lock(node))
		return false;
	bool found = gpu < sim_slots(node->state);
	if (found) {
		sim_settle_gpu(node->state, gpu, sim_now_ns());
		*copy = node->state->gpus[gpu];
		copy->uuid[sizeof copy->uuid - 1] = '\0';
		copy->serial[sizeof copy->serial - 1] = '\0';
	}
	sim_unlock(node);
	return found && copy->model < sim_model_count;
}

void sim_gpu_update(struct sim_node *node, uint32_t gpu, void (*change)(struct sim_gpu *gpu, void *user), void *user)
{
	if (!sim_lock(node))
		return;
	if (gpu < sim_slots(node->state))
		change(&node->state->gpus[gpu], user);
	sim_unlock(node);
}

/* A slot for a new board: one never used, else one whose board is gone. */
static int slot_to_plug(struct sim_state *state)
{
	if (sim_slots(state) < SIM_GPUS_MAX)
		return (int)state->gpu_count++;
	for (int slot = 0; slot < SIM_GPUS_MAX; slot++)
		if (!state->gpus[slot].present)
			return slot;
	return -1;
}

int sim_gpu_plug(struct sim_node *node, uint32_t model, struct gs_error *err)
{
	if (model >= sim_model_count)
		return gs_fail(err, GS_ERROR_INTERNAL, 0, "GPU model number %u is unknown", model);
	if (!sim_lock(node))
		return gs_fail(err, GS_ERROR_SYSTEM, EIO, "the lock of the simulated node in %s is broken", node->dir);
	int slot = slot_to_plug(node->state);
	struct sim_gpu copy;
	if (slot >= 0) {
		/* Clients of the board that was there before do not own anything on the new one. */
		for (int i = 0; i < SIM_CLIENTS_MAX; i++)
			if (node->state->clients[i].used && node->state->clients[i].gpu == (uint32_t)slot)
				node->state->clients[i].used = 0;
		fill_gpu(node->state, (uint32_t)slot, model, slot > 0 ? node->state->gpus[slot - 1].numa_node : 0);
		copy = node->state->gpus[slot];
	}
	sim_unlock(node);
	if (slot < 0)
		return gs_fail(err, GS_ERROR_LIMIT, 0, "a node holds at most %d GPUs; unplug one first", SIM_GPUS_MAX);
	if (sim_root_add_gpu(node->dir, node->state, &copy, err) < 0)
		return -1;
	return slot;
}

int sim_gpu_unplug(struct sim_node *node, uint32_t gpu, struct gs_error *err)
{
	struct sim_gpu copy;
	if (!sim_gpu_get(node, gpu, &copy) || !copy.present)
		return gs_fail(err, GS_ERROR_INPUT, ENODEV, "there is no GPU %u to unplug", gpu);
	if (!sim_lock(node))
		return gs_fail(err, GS_ERROR_SYSTEM, EIO, "the lock of the simulated node in %s is broken", node->dir);
	node->state->gpus[gpu].present = 0;
	sim_unlock(node);
	sim_root_remove_gpu(node->dir, &copy);
	return 0;
}
