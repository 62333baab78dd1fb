/* The commands of nvidia-cuda-mps-control. What they print, also for nonsense, is what the real one of R550 prints where
 * that can be seen without a GPU; answers about clients follow its man page, and where that is silent they are guesses
 * (docs/simulator.md). */
#include "sim/mps/control.h"

#include <ctype.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/file.h"
#include "base/strbuf.h"

enum { WORDS_MAX = 8 };

struct command {
	struct mps_control *control;
	char *words[WORDS_MAX]; /* words[0] is the command; "" where there are no more */
	struct gs_strbuf answer;
};

static void say(struct command *command, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void say(struct command *command, const char *format, ...)
{
	va_list arguments;
	va_start(arguments, format);
	gs_strbuf_vprintf(&command->answer, format, arguments);
	va_end(arguments);
	gs_strbuf_add_char(&command->answer, '\n');
}

/* As atoi of the C library: of what is too large for it, the lower half of a long. */
static int number_of(const char *word)
{
	return (int)strtol(word, NULL, 10);
}

/* The server whose PID is a command's word; says so when there is none. */
static struct mps_server *named_server(struct command *command, const char *word)
{
	int pid = number_of(word);
	struct mps_server *server = mps_control_find_server(command->control, pid);
	if (!server)
		say(command, "Server %d not found", pid);
	return server;
}

static void get_server_list(struct command *command)
{
	for (size_t i = 0; i < command->control->servers.count; i++)
		say(command, "%d", (int)command->control->servers.items[i].pid);
}

static void get_server_status(struct command *command)
{
	static const char *const states[] = {"INITIALIZING", "ACTIVE", "FAULT"};
	char *end;
	strtol(command->words[1], &end, 10);
	if (end == command->words[1]) {
		say(command, "A server PID is required");
		return;
	}
	struct mps_server *server = named_server(command, command->words[1]);
	if (!server)
		return;
	int32_t state;
	if (!mps_control_ask(command->control, server, MPS_STATUS, 0, NULL, NULL, &state))
		say(command, "Server %d is <busy>", (int)server->pid);
	else
		say(command, "%s", server->ready ? states[state >= 0 && state <= MPS_FAULTED ? state : 0] : states[0]);
}

static void start_server(struct command *command)
{
	char *end;
	long uid = strtol(command->words[2], &end, 10);
	if (strcmp(command->words[1], "-uid") != 0 || end == command->words[2]) {
		say(command, "A user id (UID) is required to start a new server");
		return;
	}
	mps_control_start_server(command->control, (uid_t)uid);
}

static void shutdown_server(struct command *command)
{
	struct mps_server *server = named_server(command, command->words[1]);
	if (!server)
		return;
	bool force = strcmp(command->words[2], "-f") == 0;
	if (force)
		mps_control_log(command->control, "Force shutting down server %d", (int)server->pid);
	mps_control_tell(server, MPS_SHUTDOWN, force);
	server->ending = true;
}

static void add_pid(void *user, const struct mps_client_info *client)
{
	say(user, "%d", client->pid);
}

static void list_clients(struct command *command, struct mps_server *server,
			 void (*each)(void *user, const struct mps_client_info *client))
{
	int32_t value;
	if (!mps_control_ask(command->control, server, MPS_LIST, 0, each, command, &value))
		say(command, "Server %d is <busy>", (int)server->pid);
}

static void get_client_list(struct command *command)
{
	struct mps_server *server = named_server(command, command->words[1]);
	if (server)
		list_clients(command, server, add_pid);
}

static void add_devices(void *user, const struct mps_client_info *client)
{
	struct command *command = user;
	for (size_t i = 0; i < command->control->device_count; i++)
		if (client->devices >> i & 1)
			say(command, "%s %d", command->control->devices[i].uuid, client->pid);
}

static void get_device_client_list(struct command *command)
{
	if (number_of(command->words[1])) {
		struct mps_server *server = named_server(command, command->words[1]);
		if (server)
			list_clients(command, server, add_devices);
		return;
	}
	for (size_t i = 0; i < command->control->servers.count; i++)
		list_clients(command, &command->control->servers.items[i], add_devices);
}

static void say_percent(struct command *command, double percent)
{
	say(command, "%.1f", percent);
}

/* A value outside (0, 100] changes nothing; the answer is the value in force. */
static void set_percent(struct command *command, struct mps_settings *settings, const char *word)
{
	double percent = mps_parse_percent(word);
	if (percent > 0)
		settings->percent = percent;
	else
		mps_control_log(command->control, "Invalid percentage, expected between (0.0, 100.0]");
	say_percent(command, settings->percent);
}

static void get_default_active_thread_percentage(struct command *command)
{
	say_percent(command, command->control->defaults.percent);
}

static void set_default_active_thread_percentage(struct command *command)
{
	set_percent(command, &command->control->defaults, command->words[1]);
}

static void get_active_thread_percentage(struct command *command)
{
	struct mps_server *server = named_server(command, command->words[1]);
	if (server)
		say_percent(command, server->settings.percent);
}

static void set_active_thread_percentage(struct command *command)
{
	struct mps_server *server = named_server(command, command->words[1]);
	if (!server)
		return;
	set_percent(command, &server->settings, command->words[2]);
	mps_control_tell(server, MPS_SET, 0);
}

/* By ordinal or UUID; NULL when there is no such device. */
static uint64_t *limit_of(struct command *command, struct mps_settings *settings, const char *word)
{
	for (size_t i = 0; i < command->control->device_count; i++)
		if (strcmp(command->control->devices[i].uuid, word) == 0)
			return &settings->memory_bytes[i];
	int ordinal = strncmp(word, "GPU-", 4) == 0 || strncmp(word, "MIG-", 4) == 0 ? -1 : number_of(word);
	if (ordinal >= 0 && ordinal < SIM_GPUS_MAX)
		return &settings->memory_bytes[ordinal];
	mps_control_log(command->control, "Invalid device ordinal!");
	return NULL;
}

static void say_limit(struct command *command, struct mps_settings *settings, const char *word, const char *which)
{
	const uint64_t *limit = limit_of(command, settings, word);
	if (!limit)
		return;
	uint64_t mib = *limit >> 20;
	if (mib >= 1024)
		say(command, "%" PRIu64 "G", mib / 1024);
	else if (mib)
		say(command, "%" PRIu64 "M", mib);
	else
		mps_control_log(command->control, "No %spinned memory limit set for the device!", which);
}

static void get_default_device_pinned_mem_limit(struct command *command)
{
	say_limit(command, &command->control->defaults, command->words[1], "default ");
}

static void set_default_device_pinned_mem_limit(struct command *command)
{
	uint64_t *limit = limit_of(command, &command->control->defaults, command->words[1]);
	if (limit)
		*limit = mps_parse_limit(command->words[2]);
}

static void get_device_pinned_mem_limit(struct command *command)
{
	struct mps_server *server = named_server(command, command->words[1]);
	if (server)
		say_limit(command, &server->settings, command->words[2], "");
}

static void set_device_pinned_mem_limit(struct command *command)
{
	struct mps_server *server = named_server(command, command->words[1]);
	uint64_t *limit = server ? limit_of(command, &server->settings, command->words[2]) : NULL;
	if (!limit)
		return;
	*limit = mps_parse_limit(command->words[3]);
	mps_control_tell(server, MPS_SET, 0);
}

static void terminate_client(struct command *command)
{
	struct mps_server *server = named_server(command, command->words[1]);
	if (!server) {
		say(command, "Server %d not found!", number_of(command->words[1]));
		say(command, "1");
		return;
	}
	int32_t missing = 1;
	int pid = number_of(command->words[2]);
	if (!mps_control_ask(command->control, server, MPS_TERMINATE, pid, NULL, NULL, &missing))
		say(command, "Server %d is <busy>", (int)server->pid);
	else if (missing)
		say(command, "Invalid process %d!", pid);
	say(command, "%d", missing ? 1 : 0);
}

struct snapshot {
	struct command *command;
	pid_t server;
};

static void add_row(void *user, const struct mps_client_info *client)
{
	const struct snapshot *snapshot = user;
	GS_AUTO_FREE char *path = gs_printf("/proc/%d/cmdline", client->pid);
	GS_AUTO_FREE char *namespace_path = gs_printf("/proc/%d/ns/pid", client->pid);
	size_t length;
	GS_AUTO_FREE char *words = gs_read_file(path, 1 << 20, &length, NULL);
	struct stat namespace_file = {0};
	stat(namespace_path, &namespace_file);
	for (size_t i = 0; words && i < length && words[i];
	     i++) /* the first word only, and nothing that steers a terminal */
		if (iscntrl((unsigned char)words[i]))
			words[i] = '?';
	for (size_t i = 0; i < snapshot->command->control->device_count; i++)
		if (client->devices >> i & 1)
			say(snapshot->command, "%-10d%-10u%-15d%-20.18s%-15llu%-15s", client->pid, client->id,
			    (int)snapshot->server, snapshot->command->control->devices[i].uuid,
			    (unsigned long long)namespace_file.st_ino, words ? words : "");
}

static void ps(struct command *command)
{
	struct mps_control *control = command->control;
	bool one = strcmp(command->words[1], "-p") == 0;
	int only = number_of(command->words[2]);
	if (one && !named_server(command, command->words[2])) {
		say(command, "Server %d not found\n", only);
		return;
	}
	if (!control->servers.count) {
		say(command, "Server not found");
		return;
	}
	say(command, "%-10s%-10s%-15s%-20s%-15s%-15s", "PID", "ID", "SERVER", "DEVICE", "NAMESPACE", "COMMAND");
	for (size_t i = 0; i < control->servers.count; i++) {
		struct snapshot snapshot = {command, control->servers.items[i].pid};
		int32_t value;
		if (!one || only == snapshot.server)
			mps_control_ask(control, &control->servers.items[i], MPS_LIST, 0, add_row, &snapshot, &value);
	}
}

static void get_default_client_priority(struct command *command)
{
	say(command, "%u", command->control->defaults.priority);
}

static void set_default_client_priority(struct command *command)
{
	int priority = number_of(command->words[1]);
	if (priority < 0 || priority > 1)
		say(command, "Invalid priority value - must be 0 or 1!");
	else
		command->control->defaults.priority = (uint32_t)priority;
}

static const struct {
	const char *name;
	void (*run)(struct command *command);
} commands[] = {
	{"get_server_list", get_server_list},
	{"get_server_status", get_server_status},
	{"start_server", start_server},
	{"shutdown_server", shutdown_server},
	{"get_client_list", get_client_list},
	{"get_device_client_list", get_device_client_list},
	{"get_default_active_thread_percentage", get_default_active_thread_percentage},
	{"set_default_active_thread_percentage", set_default_active_thread_percentage},
	{"get_active_thread_percentage", get_active_thread_percentage},
	{"set_active_thread_percentage", set_active_thread_percentage},
	{"get_default_device_pinned_mem_limit", get_default_device_pinned_mem_limit},
	{"set_default_device_pinned_mem_limit", set_default_device_pinned_mem_limit},
	{"get_device_pinned_mem_limit", get_device_pinned_mem_limit},
	{"set_device_pinned_mem_limit", set_device_pinned_mem_limit},
	{"terminate_client", terminate_client},
	{"ps", ps},
	{"get_default_client_priority", get_default_client_priority},
	{"set_default_client_priority", set_default_client_priority},
};

static void log_lines(const struct mps_control *control, const char *text)
{
	for (const char *line = text; *line;) {
		const char *end = strchrnul(line, '\n');
		mps_control_log(control, "%.*s", (int)(end - line), line);
		line = *end ? end + 1 : end;
	}
}

static void answer(int fd, const char *text)
{
	struct mps_packet packet = {.magic = MPS_MAGIC, .kind = MPS_TEXT};
	for (size_t length = strlen(text); length > 0;) {
		size_t part = length < sizeof packet.text - 1 ? length : sizeof packet.text - 1;
		memcpy(packet.text, text, part);
		packet.text[part] = '\0';
		if (mps_send(fd, &packet, -1) < 0)
			return;
		text += part;
		length -= part;
	}
	packet.kind = MPS_END;
	packet.text[0] = '\0';
	mps_send(fd, &packet, -1);
}

void mps_command_run(struct mps_control *control, int fd, const char *line)
{
	mps_control_log(control, "Cmd:%s", line);
	GS_AUTO_FREE char *copy = gs_strdup(line);
	struct command command = {.control = control};
	static char nothing[1];
	char *rest = NULL;
	for (size_t i = 0; i < WORDS_MAX; i++) {
		char *word = strtok_r(i ? NULL : copy, " \t\r", &rest);
		command.words[i] = word ? word : nothing;
		if (!word)
			rest = nothing;
	}
	if (strcmp(command.words[0], "quit") == 0) {
		mps_control_quit(control, fd, strcmp(command.words[1], "-t") == 0 ? number_of(command.words[2]) : -1);
		return;
	}
	size_t which = 0;
	while (which < GS_ARRAY_LENGTH(commands) && strcmp(commands[which].name, command.words[0]) != 0)
		which++;
	if (which < GS_ARRAY_LENGTH(commands))
		commands[which].run(&command);
	else
		say(&command, "Unknown command \"%s\"", command.words[0]);
	GS_AUTO_FREE char *text = gs_strbuf_take(&command.answer);
	log_lines(control, text);
	answer(fd, text);
}
