/* Processes on the GPUs: who is alive, what memory they hold, and the one timeline of work per GPU. */
#include "sim/layout.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { COMPUTE_MODE_PROHIBITED = 2, COMPUTE_MODE_EXCLUSIVE_PROCESS = 3 };

/* An hour of work in one call, or an end two centuries away, is a caller's mistake and would only overflow sums. */
#define DURATION_MAX_NS 3600000000000ull
#define END_MAX_NS      (UINT64_MAX / 4)

static uint32_t client_slots(const struct sim_state *state)
{
	return state->client_slots < SIM_CLIENTS_MAX ? state->client_slots : SIM_CLIENTS_MAX;
}

static bool is_on(const struct sim_client *client, uint32_t gpu)
{
	return client->used && client->gpu == gpu;
}

/* The byte of DIR/clients that belongs to a slot. */
static struct flock slot_lock(int slot, short type)
{
	return (struct flock){.l_type = type, .l_whence = SEEK_SET, .l_start = slot, .l_len = 1};
}

static bool is_alive(const struct sim_node *node, int slot)
{
	if (node->mine[slot] || node->clients_fd < 0)
		return true;
	struct flock lock = slot_lock(slot, F_WRLCK);
	return fcntl(node->clients_fd, F_OFD_GETLK, &lock) < 0 || lock.l_type != F_UNLCK;
}

/* The client of a slot that this handle holds and whose GPU still has it; NULL otherwise. */
static struct sim_client *own_client(struct sim_node *node, int slot)
{
	if (slot < 0 || slot >= SIM_CLIENTS_MAX || !node->mine[slot])
		return NULL;
	struct sim_client *client = &node->state->clients[slot];
	return client->used && client->gpu < sim_slots(node->state) ? client : NULL;
}

static bool is_on_instance(const struct sim_client *client, uint32_t gpu, uint32_t gpu_instance,
			   uint32_t compute_instance)
{
	return is_on(client, gpu) && (gpu_instance == SIM_MIG_NONE || client->gpu_instance == gpu_instance) &&
	       (compute_instance == SIM_MIG_NONE || client->compute_instance == compute_instance);
}

/* The compute instance that a client is on, whatever the file says; NULL: it is on the whole GPU. */
static struct sim_mig_ci *instance_of(struct sim_state *state, const struct sim_client *client)
{
	if (client->gpu_instance >= SIM_MIG_INSTANCES_MAX || client->compute_instance >= SIM_MIG_COMPUTES_MAX)
		return NULL;
	return &state->migs[client->gpu].gis[client->gpu_instance].cis[client->compute_instance];
}

/* The end of the timeline that the client's work queues up on: each instance has its own. */
static uint64_t *timeline_of(struct sim_state *state, const struct sim_client *client)
{
	struct sim_mig_ci *instance = instance_of(state, client);
	/* MPS clients run side by side. */
	if (client->kind == SIM_CLIENT_MPS)
		return &state->clients[client - state->clients].queued_to_ns;
	return instance ? &instance->busy_until_ns : &state->gpus[client->gpu].busy_until_ns;
}

/* Adds `amount` ns of work that ran evenly over from .. to. */
static void charge(struct sim_busy *busy, uint64_t from, uint64_t to, uint64_t amount)
{
	if (to - from > SIM_BUCKETS * SIM_BUCKET_NS) { /* only the end is still in the ring */
		uint64_t kept = SIM_BUCKETS * SIM_BUCKET_NS;
		amount = (uint64_t)((unsigned __int128)amount * kept / (to - from));
		from = to - kept;
	}
	uint64_t span = to - from, given = 0;
	for (uint64_t at = from; at < to;) {
		uint64_t bucket = at / SIM_BUCKET_NS;
		uint64_t end = (bucket + 1) * SIM_BUCKET_NS < to ? (bucket + 1) * SIM_BUCKET_NS : to;
		uint64_t due = (uint64_t)((unsigned __int128)amount * (end - from) / span);
		size_t cell = bucket % SIM_BUCKETS;
		if (busy->bucket_of[cell] != bucket) {
			busy->bucket_of[cell] = bucket;
			busy->busy_ns[cell] = 0;
		}
		uint64_t sum = busy->busy_ns[cell] + (due - given);
		busy->busy_ns[cell] = sum < SIM_BUCKET_NS ? (uint32_t)sum : (uint32_t)SIM_BUCKET_NS;
		given = due;
		at = end;
	}
}

/* Moves what has run by `now_ns` from the client's queue to the histories. */
static void settle(struct sim_state *state, struct sim_client *client, uint64_t now_ns)
{
	uint64_t from = client->queued_from_ns, to = client->queued_to_ns;
	if (!client->queued_ns || now_ns <= from)
		return;
	if (to <= from || to > END_MAX_NS) { /* damaged */
		client->queued_ns = 0;
		return;
	}
	uint64_t until = now_ns < to ? now_ns : to;
	uint64_t done = (uint64_t)((unsigned __int128)client->queued_ns * (until - from) / (to - from));
	charge(&client->busy, from, until, done);
	/* An instance that is busy all the time keeps that share of the GPU busy. */
	uint64_t of_gpu = client->share_permille < 1000 ? done * client->share_permille / 1000 : done;
	charge(&state->gpu_busy[client->gpu], from, until, of_gpu);
	state->gpus[client->gpu].busy_ns_total += of_gpu;
	struct sim_mig_ci *instance = instance_of(state, client);
	if (instance)
		instance->busy_ns_total += done;
	client->queued_ns -= done;
	client->queued_from_ns = until;
}

/* The timeline of a client that is gone ends where the last live client's work ends: what the dead one had queued is not
 * run. */
static void shorten_timeline(struct sim_state *state, const struct sim_client *gone, uint64_t now_ns)
{
	uint64_t *timeline = timeline_of(state, gone), end = now_ns;
	for (uint32_t slot = 0; slot < client_slots(state); slot++) {
		const struct sim_client *client = &state->clients[slot];
		if (is_on(client, gone->gpu) && timeline_of(state, client) == timeline && client->queued_ns &&
		    client->queued_to_ns > end)
			end = client->queued_to_ns;
	}
	if (*timeline > end)
		*timeline = end;
}

void sim_settle_gpu(struct sim_state *state, uint32_t gpu, uint64_t now_ns)
{
	for (uint32_t slot = 0; slot < client_slots(state); slot++)
		if (is_on(&state->clients[slot], gpu))
			settle(state, &state->clients[slot], now_ns);
}

static void remove_client(struct sim_state *state, struct sim_client *client, uint64_t now_ns)
{
	client->used = 0;
	shorten_timeline(state, client, now_ns);
}

/* Whether what an MPS client has on its GPU is gone, since it was in its server's hands. */
static bool has_lost_server(const struct sim_state *state, const struct sim_client *client)
{
	if (client->kind != SIM_CLIENT_MPS || !client->server_pid)
		return false;
	for (uint32_t slot = 0; slot < client_slots(state); slot++) {
		const struct sim_client *other = &state->clients[slot];
		if (is_on(other, client->gpu) && other->kind == SIM_CLIENT_COMPUTE && other->pid == client->server_pid)
			return false;
	}
	return true;
}

void sim_sweep_gpu(struct sim_node *node, uint32_t gpu, uint64_t now_ns)
{
	struct sim_state *state = node->state;
	sim_settle_gpu(state, gpu, now_ns);
	for (uint32_t slot = 0; slot < client_slots(state); slot++) {
		struct sim_client *client = &state->clients[slot];
		if (!is_on(client, gpu) || is_alive(node, (int)slot))
			continue;
		remove_client(state, client, now_ns);
	}
	for (uint32_t slot = 0; slot < client_slots(state); slot++)
		if (is_on(&state->clients[slot], gpu) && has_lost_server(state, &state->clients[slot]))
			remove_client(state, &state->clients[slot], now_ns);
}

bool sim_has_clients(const struct sim_state *state, uint32_t gpu, uint32_t gpu_instance, uint32_t compute_instance)
{
	for (uint32_t slot = 0; slot < client_slots(state); slot++)
		if (is_on_instance(&state->clients[slot], gpu, gpu_instance, compute_instance))
			return true;
	return false;
}

void sim_repair_clients(struct sim_state *state)
{
	state->client_slots = 0;
	for (uint32_t slot = 0; slot < SIM_CLIENTS_MAX; slot++) {
		struct sim_client *client = &state->clients[slot];
		if (client->gpu >= sim_slots(state))
			client->used = 0;
		if (client->used)
			state->client_slots = slot + 1;
		client->name[sizeof client->name - 1] = '\0';
		if (client->queued_to_ns < client->queued_from_ns)
			client->queued_ns = 0;
	}
}

static uint64_t memory_used(const struct sim_state *state, uint32_t gpu, uint32_t gpu_instance)
{
	uint64_t used = 0;
	for (uint32_t slot = 0; slot < client_slots(state); slot++)
		if (is_on_instance(&state->clients[slot], gpu, gpu_instance, SIM_MIG_NONE))
			used += state->clients[slot].memory_bytes;
	return used;
}

/* A free slot whose byte of DIR/clients is now locked by this handle, or -1. */
static int take_slot(struct sim_node *node)
{
	for (int slot = 0; slot < SIM_CLIENTS_MAX; slot++) {
		if (node->state->clients[slot].used || node->mine[slot])
			continue;
		struct flock lock = slot_lock(slot, F_WRLCK);
		if (fcntl(node->clients_fd, F_OFD_SETLK, &lock) == 0)
			return slot;
	}
	return -1;
}

/* Whether there is such an instance, and if none is meant, whether the GPU is one that is not partitioned. */
static int check_instance(struct sim_state *state, const struct sim_client *client, struct gs_error *err)
{
	const struct sim_gpu *gpu = &state->gpus[client->gpu];
	if (client->gpu_instance == SIM_MIG_NONE) {
		if (!gpu->mig_mode)
			return 0;
		return gs_fail(err, GS_ERROR_SYSTEM, ENODEV, "GPU %u is in MIG mode; only its instances take work",
			       client->gpu);
	}
	const struct sim_mig_ci *instance = instance_of(state, client);
	if (!gpu->mig_mode || !instance || !instance->serial)
		return gs_fail(err, GS_ERROR_SYSTEM, ENODEV, "GPU %u has no MIG instance %u/%u", client->gpu,
			       client->gpu_instance, client->compute_instance);
	return 0;
}

/* Whether the GPU takes one more process. */
static int check_admission(struct sim_state *state, const struct sim_client *wanted, struct gs_error *err)
{
	uint32_t gpu_index = wanted->gpu;
	if (gpu_index >= sim_slots(state) || !state->gpus[gpu_index].present)
		return gs_fail(err, GS_ERROR_SYSTEM, ENODEV, "GPU %u is not there", gpu_index);
	const struct sim_gpu *gpu = &state->gpus[gpu_index];
	if (gpu->lost)
		return gs_fail(err, GS_ERROR_SYSTEM, ENODEV, "GPU %u has fallen off the bus", gpu_index);
	if (check_instance(state, wanted, err) < 0)
		return -1;
	if (gpu->compute_mode == COMPUTE_MODE_PROHIBITED)
		return gs_fail(err, GS_ERROR_SYSTEM, EBUSY, "GPU %u is in compute mode Prohibited", gpu_index);
	/* An MPS client comes through its server, which is the one process there. */
	if (gpu->compute_mode != COMPUTE_MODE_EXCLUSIVE_PROCESS || wanted->kind == SIM_CLIENT_MPS)
		return 0;
	for (uint32_t slot = 0; slot < client_slots(state); slot++)
		if (is_on_instance(&state->clients[slot], gpu_index, wanted->gpu_instance, wanted->compute_instance) &&
		    state->clients[slot].kind != SIM_CLIENT_GRAPHICS && state->clients[slot].pid != getpid())
			return gs_fail(err, GS_ERROR_SYSTEM, EBUSY,
				       "GPU %u is in compute mode Exclusive_Process and in use", gpu_index);
	return 0;
}

/* A client in a slot that this handle holds from now on; -1: none is left. */
static int add_client(struct sim_node *node, const struct sim_client *wanted, uint64_t now)
{
	struct sim_state *state = node->state;
	int slot = take_slot(node);
	if (slot < 0) { /* the dead of the other GPUs may hold some */
		for (uint32_t other = 0; other < sim_slots(state); other++)
			sim_sweep_gpu(node, other, now);
		slot = take_slot(node);
	}
	if (slot < 0)
		return -1;
	struct sim_client *client = &state->clients[slot];
	*client = *wanted;
	client->pid = getpid();
	client->start_ns = now;
	client->share_permille = 1000;
	if (instance_of(state, client))
		client->share_permille = sim_mig_share_permille(&state->gpus[client->gpu],
								&state->migs[client->gpu].gis[client->gpu_instance],
								instance_of(state, client));
	if (readlink("/proc/self/exe", client->name, sizeof client->name - 1) < 0)
		snprintf(client->name, sizeof client->name, "[Not Found]");
	node->mine[slot] = true;
	sim_pid_take(node, slot);
	if (client_slots(state) <= (uint32_t)slot)
		state->client_slots = (uint32_t)slot + 1;
	client->used = 1;
	return slot;
}

int sim_client_attach_instance(struct sim_node *node, uint32_t gpu, uint32_t gpu_instance, uint32_t compute_instance,
			       enum sim_client_kind kind, struct gs_error *err)
{
	struct sim_client wanted = {
		.gpu = gpu, .kind = kind, .gpu_instance = gpu_instance, .compute_instance = compute_instance};
	if (node->clients_fd < 0)
		return gs_fail(err, GS_ERROR_SYSTEM, EIO, "%s/clients cannot be opened", node->dir);
	if (!sim_lock(node))
		return gs_fail(err, GS_ERROR_SYSTEM, EIO, "the lock of the simulated node in %s is broken", node->dir);
	uint64_t now = sim_now_ns();
	int slot = -1;
	if (gpu < sim_slots(node->state))
		sim_sweep_gpu(node, gpu, now);
	if (check_admission(node->state, &wanted, err) == 0) {
		slot = add_client(node, &wanted, now);
		if (slot < 0)
			gs_fail(err, GS_ERROR_LIMIT, ENOSPC, "the simulated node has room for %d (process, GPU) pairs",
				SIM_CLIENTS_MAX);
	}
	sim_unlock(node);
	return slot;
}

int sim_client_attach(struct sim_node *node, uint32_t gpu, enum sim_client_kind kind, struct gs_error *err)
{
	return sim_client_attach_instance(node, gpu, SIM_MIG_NONE, SIM_MIG_NONE, kind, err);
}

void sim_client_detach(struct sim_node *node, int slot)
{
	if (slot < 0 || slot >= SIM_CLIENTS_MAX || !sim_lock(node))
		return;
	if (node->mine[slot]) {
		struct sim_client *client = own_client(node, slot);
		if (client) {
			uint64_t now = sim_now_ns();
			settle(node->state, client, now);
			remove_client(node->state, client, now);
		}
		node->mine[slot] = false;
		sim_pid_drop(node, slot);
		struct flock lock = slot_lock(slot, F_UNLCK);
		fcntl(node->clients_fd, F_OFD_SETLK, &lock);
	}
	sim_unlock(node);
}

void sim_client_limit(struct sim_node *node, int slot, uint32_t permille)
{
	if (permille >= 1000 || !sim_lock(node))
		return;
	struct sim_client *client = own_client(node, slot);
	if (client)
		client->share_permille = client->share_permille * permille / 1000;
	if (client && !client->share_permille)
		client->share_permille = 1;
	sim_unlock(node);
}

void sim_client_serve(struct sim_node *node, int slot, int32_t server_pid)
{
	if (!sim_lock(node))
		return;
	struct sim_client *client = own_client(node, slot);
	if (client)
		client->server_pid = server_pid;
	sim_unlock(node);
}

size_t sim_client_fault(struct sim_node *node, int32_t pid, uint32_t result)
{
	size_t count = 0;
	if (!sim_lock(node))
		return 0;
	for (uint32_t slot = 0; slot < client_slots(node->state); slot++) {
		struct sim_client *client = &node->state->clients[slot];
		if (!client->used || sim_pid_of(node, (int)slot) != pid || !is_alive(node, (int)slot))
			continue;
		client->fault = result;
		count++;
	}
	sim_unlock(node);
	return count;
}

uint32_t sim_client_take_fault(struct sim_node *node, int slot)
{
	if (slot < 0 || slot >= SIM_CLIENTS_MAX)
		return 0;
	/* Nearly always there is none: then a look without the lock is enough. */
	struct sim_client *client = &node->state->clients[slot];
	return __atomic_load_n(&client->fault, __ATOMIC_RELAXED)
		       ? __atomic_exchange_n(&client->fault, 0, __ATOMIC_RELAXED)
		       : 0;
}

/* How much longer an MPS client's work takes because the others want more of the GPU than there is, in permille. */
static uint64_t crowding_permille(const struct sim_state *state, const struct sim_client *client, uint64_t now_ns)
{
	const struct sim_mig_gi *gi = client->gpu_instance < SIM_MIG_INSTANCES_MAX
					      ? &state->migs[client->gpu].gis[client->gpu_instance]
					      : NULL;
	uint64_t wanted = client->share_permille, whole = 1000;
	if (gi && client->compute_instance < SIM_MIG_COMPUTES_MAX) /* of the instance there is no more than that */
		whole = sim_mig_share_permille(&state->gpus[client->gpu], gi, &gi->cis[client->compute_instance]);
	for (uint32_t slot = 0; slot < client_slots(state); slot++) {
		const struct sim_client *other = &state->clients[slot];
		if (other != client && other->kind == SIM_CLIENT_MPS && other->queued_ns &&
		    other->queued_to_ns > now_ns &&
		    is_on_instance(other, client->gpu, client->gpu_instance, client->compute_instance))
			wanted += other->share_permille;
	}
	return wanted > whole && whole ? wanted * 1000 / whole : 1000;
}

/* What clients may have in all: the GPU's memory, or that of the GPU instance. */
static uint64_t room_of(const struct sim_state *state, const struct sim_client *client)
{
	const struct sim_gpu *gpu = &state->gpus[client->gpu];
	if (client->gpu_instance >= SIM_MIG_INSTANCES_MAX)
		return gpu->memory_total > gpu->memory_reserved ? gpu->memory_total - gpu->memory_reserved : 0;
	uint32_t profile = state->migs[client->gpu].gis[client->gpu_instance].profile;
	const struct sim_mig_model *model =
		gpu->model < sim_model_count ? sim_mig_model_of(&sim_models[gpu->model]) : NULL;
	return model && profile < model->profile_count ? (uint64_t)model->profiles[profile].memory_mib << 20 : 0;
}

/* Whether `bytes` more fit, given what clients hold now. */
static bool fits(const struct sim_state *state, const struct sim_client *client, uint64_t bytes)
{
	uint64_t room = room_of(state, client), used = memory_used(state, client->gpu, client->gpu_instance);
	return used <= room && bytes <= room - used;
}

int sim_client_allocate(struct sim_node *node, int slot, uint64_t bytes)
{
	int result = -1;
	if (!sim_lock(node))
		return -1;
	struct sim_client *client = own_client(node, slot);
	if (client && node->state->gpus[client->gpu].present && !node->state->gpus[client->gpu].lost) {
		/* Looking for the dead costs a system call a client, so only when memory is short. */
		if (!fits(node->state, client, bytes))
			sim_sweep_gpu(node, client->gpu, sim_now_ns());
		if (fits(node->state, client, bytes)) {
			client->memory_bytes += bytes;
			result = 0;
		}
	}
	sim_unlock(node);
	return result;
}

void sim_client_release(struct sim_node *node, int slot, uint64_t bytes)
{
	if (!sim_lock(node))
		return;
	struct sim_client *client = own_client(node, slot);
	if (client)
		client->memory_bytes -= bytes < client->memory_bytes ? bytes : client->memory_bytes;
	sim_unlock(node);
}

uint64_t sim_client_submit(struct sim_node *node, int slot, uint64_t earliest_ns, uint64_t duration_ns)
{
	uint64_t now = sim_now_ns(), end = now;
	if (!sim_lock(node))
		return now;
	struct sim_client *client = own_client(node, slot);
	if (client) {
		struct sim_gpu *gpu = &node->state->gpus[client->gpu];
		uint64_t *busy_until_ns = timeline_of(node->state, client);
		if (*busy_until_ns > now + SIM_BUCKET_NS) /* a long queue: is all of it from the living? */
			sim_sweep_gpu(node, client->gpu, now);
		if (*busy_until_ns > END_MAX_NS)
			*busy_until_ns = now;
		if (duration_ns > DURATION_MAX_NS)
			duration_ns = DURATION_MAX_NS;
		if (client->kind == SIM_CLIENT_MPS)
			duration_ns = duration_ns * crowding_permille(node->state, client, now) / 1000;
		uint64_t start = earliest_ns < END_MAX_NS && earliest_ns > now ? earliest_ns : now;
		if (start < *busy_until_ns)
			start = *busy_until_ns;
		end = start + duration_ns;
		settle(node->state, client, now);
		if (!client->queued_ns)
			client->queued_from_ns = start;
		client->queued_to_ns = end;
		client->queued_ns += duration_ns;
		client->busy_ns_total += duration_ns;
		*busy_until_ns = end;
		gpu->launches++;
	}
	sim_unlock(node);
	return end;
}

size_t sim_clients(struct sim_node *node, uint32_t gpu, struct sim_client *copies, size_t capacity)
{
	size_t count = 0;
	if (!sim_lock(node))
		return 0;
	if (gpu < sim_slots(node->state))
		sim_sweep_gpu(node, gpu, sim_now_ns());
	for (uint32_t slot = 0; slot < client_slots(node->state); slot++) {
		const struct sim_client *client = &node->state->clients[slot];
		if (!is_on(client, gpu))
			continue;
		if (count < capacity) {
			copies[count] = *client;
			copies[count].pid = sim_pid_of(node, (int)slot);
			copies[count].name[sizeof client->name - 1] = '\0';
		}
		count++;
	}
	sim_unlock(node);
	return count;
}

uint64_t sim_instance_memory_used(struct sim_node *node, uint32_t gpu, uint32_t gpu_instance)
{
	if (!sim_lock(node))
		return 0;
	uint64_t used = 0;
	if (gpu < sim_slots(node->state)) {
		sim_sweep_gpu(node, gpu, sim_now_ns());
		used = memory_used(node->state, gpu, gpu_instance);
	}
	sim_unlock(node);
	return used;
}

uint64_t sim_gpu_memory_used(struct sim_node *node, uint32_t gpu)
{
	return sim_instance_memory_used(node, gpu, SIM_MIG_NONE);
}

/* Busy permille of the window that ends now, which every cell is settled to. */
static uint32_t busy_permille(const struct sim_busy *busy, uint64_t now_ns, uint64_t window_ns)
{
	if (window_ns > SIM_WINDOW_MAX_NS)
		window_ns = SIM_WINDOW_MAX_NS;
	if (window_ns > now_ns)
		window_ns = now_ns;
	if (!window_ns)
		return 0;
	uint64_t from = now_ns - window_ns, sum = 0;
	for (size_t cell = 0; cell < SIM_BUCKETS; cell++) {
		uint64_t bucket = busy->bucket_of[cell];
		if (bucket < from / SIM_BUCKET_NS || bucket > now_ns / SIM_BUCKET_NS)
			continue;
		uint64_t begin = bucket * SIM_BUCKET_NS;
		/* The oldest bucket counts by the part of it that lies in the window. */
		uint64_t share = begin < from ? begin + SIM_BUCKET_NS - from : SIM_BUCKET_NS;
		sum += busy->busy_ns[cell] * share / SIM_BUCKET_NS;
	}
	uint64_t permille = sum * 1000 / window_ns;
	return permille < 1000 ? (uint32_t)permille : 1000;
}

uint32_t sim_gpu_busy_permille(struct sim_node *node, uint32_t gpu, uint64_t window_ns)
{
	if (!sim_lock(node))
		return 0;
	uint32_t permille = 0;
	if (gpu < sim_slots(node->state)) {
		uint64_t now = sim_now_ns();
		sim_sweep_gpu(node, gpu, now);
		permille = busy_permille(&node->state->gpu_busy[gpu], now, window_ns);
	}
	sim_unlock(node);
	return permille;
}

/* Busy permille of the part of the GPU that a compute instance, or all of a GPU instance, is. */
uint32_t sim_instance_busy_permille(struct sim_node *node, uint32_t gpu, uint32_t gpu_instance,
				    uint32_t compute_instance, uint64_t window_ns)
{
	if (gpu_instance >= SIM_MIG_INSTANCES_MAX || !sim_lock(node))
		return 0;
	uint64_t busy = 0, whole = 0;
	if (gpu < sim_slots(node->state)) {
		const struct sim_mig_gi *gi = &node->state->migs[gpu].gis[gpu_instance];
		uint64_t now = sim_now_ns();
		sim_sweep_gpu(node, gpu, now);
		for (uint32_t id = 0; id < SIM_MIG_COMPUTES_MAX; id++)
			if (gi->cis[id].serial && (compute_instance == SIM_MIG_NONE || compute_instance == id))
				whole += sim_mig_share_permille(&node->state->gpus[gpu], gi, &gi->cis[id]);
		for (uint32_t slot = 0; slot < client_slots(node->state); slot++) {
			const struct sim_client *client = &node->state->clients[slot];
			if (is_on_instance(client, gpu, gpu_instance, compute_instance))
				busy += (uint64_t)client->share_permille * busy_permille(&client->busy, now, window_ns);
		}
	}
	sim_unlock(node);
	uint64_t permille = whole ? busy / whole : 0;
	return permille < 1000 ? (uint32_t)permille : 1000;
}

uint32_t sim_client_busy_permille(const struct sim_client *client, uint64_t now_ns, uint64_t window_ns)
{
	return busy_permille(&client->busy, now_ns, window_ns);
}
