"""MPS on a simulated node as CUDA programs meet it: limits, faults, dead servers, and what NVML shows."""
import os
import pathlib
import re
import signal
import subprocess
import sys
import tempfile

import pytest

from cuda_client import (CONNECTION_FAILED, DEVICE_UNAVAILABLE, ILLEGAL_ADDRESS, MAX_CLIENTS, NO_DEVICE, OUT_OF_MEMORY, RPC_FAILURE,
                         SERVER_NOT_READY, SUCCESS, TERMINATED, Client)
from kubelet import BUILD
from node import GPUSHARE, wait_until

OURS = os.path.join(BUILD, "sim", "mps", "nvidia-cuda-mps-control")

class MpsNode:
    """A simulated node with an MPS control daemon whose files are in a folder of its own."""

    def __init__(self, path, spec="2xA100-80GB", driver="550.163.01"):
        path.mkdir(exist_ok=True)
        self.path, self.clients = path, []
        self.process = subprocess.Popen([GPUSHARE, "sim", spec, "--driver", driver, "--state", str(path / "node"), "--", "sh", "-c", "env >&2; echo; exec cat"],
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=open(path / "env", "w"), text=True)
        self.process.stdout.readline()
        self.env = dict(line.split("=", 1) for line in (path / "env").read_text().splitlines() if "=" in line)
        self.env.update(CUDA_MPS_PIPE_DIRECTORY=str(path / "pipe"), CUDA_MPS_LOG_DIRECTORY=str(path / "log"))

    def command(self, *words, **options):
        return subprocess.run(words, env=self.env, capture_output=True, text=True, timeout=60, **options)

    def daemon(self, **env):
        assert subprocess.run([OURS, "-d"], env=dict(self.env, **env), timeout=60).returncode == 0

    def say(self, command):
        return self.command(OURS, input=command + "\n").stdout

    def daemon_pid(self):
        return int(pathlib.Path(self.env["CUDA_MPS_PIPE_DIRECTORY"], "nvidia-cuda-mps-control.pid").read_text())

    def server(self):
        return int(self.say("get_server_list").split()[0])

    def client(self, *wrap, **env):
        self.clients.append(Client(dict(self.env, **env), lambda *command: (*wrap, *command)))
        return self.clients[-1]

    def stop(self):
        servers = self.say("get_server_list").split()
        for client in self.clients:
            client.stop()
        self.say("quit -t 5")
        for pid in servers + [str(self.daemon_pid())] if (self.path / "pipe" / "nvidia-cuda-mps-control.pid").exists() else servers:
            try:
                os.kill(int(pid), signal.SIGKILL)
            except ProcessLookupError:
                pass
        self.process.stdin.close()
        self.process.wait(60)
        self.process.stdout.close()


@pytest.fixture
def start(tmp_path):
    nodes = []

    def begin(name="mps", **options):
        nodes.append(MpsNode(tmp_path / name, **options))
        return nodes[-1]

    yield begin
    for node in nodes:
        node.stop()


@pytest.fixture
def node(start):
    made = start()
    made.daemon()
    return made


def test_the_node_has_a_control_program_of_its_own(start):
    node = start()
    found = node.command("sh", "-c", "command -v nvidia-cuda-mps-control").stdout.strip()
    assert os.path.realpath(found) == os.path.realpath(OURS)


def test_without_a_daemon_nothing_is_different(start):
    client = start().client().ready()
    assert client("attribute(16)") == 108 and client("alloc(70000)") == SUCCESS


def test_the_daemons_limits_reach_clients_and_clients_only_lower_them(node):
    node.say("set_default_device_pinned_mem_limit 0 4G")
    node.say("set_default_active_thread_percentage 50")
    plain = node.client().ready()
    assert plain("attribute(16)") == 54
    assert plain("alloc(3000)") == SUCCESS and plain("alloc(1000)") == OUT_OF_MEMORY and plain("alloc(100)") == SUCCESS
    lower = node.client(CUDA_MPS_PINNED_DEVICE_MEM_LIMIT="0=1G", CUDA_MPS_ACTIVE_THREAD_PERCENTAGE="10").ready()
    assert lower("attribute(16)") == 11 and lower("alloc(1000)") == OUT_OF_MEMORY and lower("alloc(500)") == SUCCESS
    greedy = node.client(CUDA_MPS_PINNED_DEVICE_MEM_LIMIT="0=60G", CUDA_MPS_ACTIVE_THREAD_PERCENTAGE="100").ready()
    assert greedy("attribute(16)") == 54 and greedy("alloc(5000)") == OUT_OF_MEMORY
    assert greedy("alloc(3000)") == SUCCESS  # who went over a limit took nothing from the others
    # A server keeps what it started with; a command for it reaches the clients that come after.
    node.say("set_default_active_thread_percentage 20")
    assert node.client().ready()("attribute(16)") == 54
    assert node.say("set_active_thread_percentage %d 20" % node.server()) == "20.0\n"
    assert node.client().ready()("attribute(16)") == 22


def test_who_is_there(node):
    first, second = node.client().ready(), node.client().ready(1)
    server = node.server()
    assert node.say("get_server_status %d" % server) == "ACTIVE\n"
    assert node.say("get_client_list %d" % server).split() == [str(first.pid), str(second.pid)]
    rows = [line.split() for line in node.say("ps").splitlines()]
    assert rows[0] == ["PID", "ID", "SERVER", "DEVICE", "NAMESPACE", "COMMAND"]
    assert [row[:3] for row in rows[1:]] == [[str(first.pid), "0", str(server)], [str(second.pid), "1", str(server)]]
    assert len(rows[1][3]) == 18 and rows[1][3] != rows[2][3]
    second.stop()
    wait_until(lambda: node.say("get_client_list %d" % server).split() == [str(first.pid)], "the second client is gone")


EXCLUSIVE = """
import ctypes
nvml, device = ctypes.CDLL("libnvidia-ml.so.1"), ctypes.c_void_p()
assert nvml.nvmlInit_v2() == 0 and nvml.nvmlDeviceGetHandleByIndex_v2(0, ctypes.byref(device)) == 0
assert nvml.nvmlDeviceSetComputeMode(device, 3) == 0
"""


def test_an_exclusive_gpu_is_the_servers(node):
    assert node.command(sys.executable, "-c", EXCLUSIVE).returncode == 0
    first, second = node.client().ready(), node.client().ready()
    assert (first("run(1000)"), second("run(1000)")) == (SUCCESS, SUCCESS)
    stranger = node.client(CUDA_MPS_PIPE_DIRECTORY=str(node.path / "nobody"))
    assert stranger("init()") == SUCCESS and stranger("create()") == DEVICE_UNAVAILABLE
    first.stop()
    second.stop()
    wait_until(lambda: stranger("create()") == SUCCESS, "the server gives the GPU back with its last client")
    late = node.client()
    assert late("init()") == SUCCESS and late("create()") == SERVER_NOT_READY


def test_a_fault_is_shared_by_the_gpus_clients_only(node):
    guilty, neighbour, elsewhere = node.client().ready(), node.client().ready(), node.client().ready(1)
    server = node.server()
    done = node.command(GPUSHARE, "sim", "inject", "fault=%d" % guilty.pid)
    assert done.returncode == 0, done.stderr
    assert guilty("run(1000)") == ILLEGAL_ADDRESS
    wait_until(lambda: node.say("get_server_status %d" % server) == "FAULT\n", "the server knows of the fault")
    wait_until(lambda: neighbour("run(1000)") == ILLEGAL_ADDRESS, "the neighbour feels it")
    assert elsewhere("run(1000)") == SUCCESS
    late = node.client()
    assert late("init()") == SUCCESS and late("create()") == SERVER_NOT_READY and late("create(1)") == SUCCESS
    guilty.stop()
    assert late("create()") == SERVER_NOT_READY  # the neighbour still holds a context there
    neighbour.stop()
    wait_until(lambda: node.say("get_server_status %d" % server) == "ACTIVE\n", "the server has recovered")
    assert late("create()") == SUCCESS


def test_a_terminated_client_ends_alone(node):
    victim, other = node.client().ready(), node.client().ready()
    assert node.say("terminate_client %d %d" % (node.server(), victim.pid)) == "0\n"
    wait_until(lambda: victim("run(1000)") == TERMINATED, "the client hears of it")
    assert other("run(1000)") == SUCCESS
    assert node.say("terminate_client %d 1" % node.server()) == "Invalid process 1!\n1\n"


def test_a_dead_server_takes_its_clients_along(node):
    client, old = node.client().ready(), node.server()
    os.kill(old, signal.SIGKILL)
    wait_until(lambda: client("run(1000)") == RPC_FAILURE, "the client hears of it")
    wait_until(lambda: node.say("get_server_list") == "", "the daemon hears of it")
    assert node.client().ready()("run(1000)") == SUCCESS and node.server() != old
    assert node.command(OURS, input="quit -t 1\n").returncode == 1  # one server did not end gracefully


def test_what_clients_have_goes_with_their_server(start):
    """It was in the server's hands: also the memory of a client that has not noticed yet."""
    node = start(spec="1xA100-80GB")
    node.daemon()
    old = node.client().ready()
    assert old("alloc(70000)") == SUCCESS and node.client().ready()("alloc(70000)") == OUT_OF_MEMORY
    os.kill(node.server(), signal.SIGKILL)
    wait_until(lambda: node.say("get_server_list") == "", "the daemon hears of it")
    assert node.client().ready()("alloc(70000)") == SUCCESS
    assert old("run(1000)") == RPC_FAILURE


def test_a_dead_daemon_leaves_its_clients_running(node):
    client, server = node.client().ready(), node.server()
    os.kill(node.daemon_pid(), signal.SIGKILL)
    wait_until(lambda: "Cannot find" in node.command(OURS, input="ps\n").stderr, "the daemon is dead")
    assert client("run(1000)") == SUCCESS
    node.daemon()
    assert node.client().ready()("run(1000)") == SUCCESS
    client.stop()
    wait_until(lambda: not os.path.exists("/proc/%d" % server), "the old server ends with its last client")


def test_quit_waits_for_clients_or_ends_them(node):
    client = node.client().ready()
    waiting = subprocess.Popen([OURS], stdin=subprocess.PIPE, env=node.env, text=True)
    waiting.stdin.write("quit\n")
    waiting.stdin.flush()
    late = node.client()
    wait_until(lambda: late.process.poll() is None and late("init()") == CONNECTION_FAILED, "new clients are refused")
    assert client("run(1000)") == SUCCESS and waiting.poll() is None
    client.stop()
    assert waiting.wait(60) == 0
    waiting.stdin.close()
    node.daemon()
    held = node.client().ready()
    assert node.command(OURS, input="quit -t 0\n").returncode == 0
    wait_until(lambda: held("run(1000)") == RPC_FAILURE, "the client hears of it")


def test_only_so_many_clients(node):
    clients = [node.client() for _ in range(49)]
    for client in clients:
        client.start("init()")
        client.start("create()")
    results = []
    for client in clients:
        assert client.answer() == SUCCESS
        results.append(client.answer())
    assert sorted(results) == [SUCCESS] * 48 + [MAX_CLIENTS]
    clients[results.index(SUCCESS)].stop()
    refused = clients[results.index(MAX_CLIENTS)]
    wait_until(lambda: refused("create()") == SUCCESS, "there is room again")


def test_clients_that_come_at_once_wait_for_a_slow_server(node):
    """More of them than fit into the socket between the daemon and its server."""
    server = node.client().ready() and node.server()
    os.kill(server, signal.SIGSTOP)
    clients = [node.client() for _ in range(47)]
    for client in clients:
        client.start("init()")
    log = pathlib.Path(node.env["CUDA_MPS_LOG_DIRECTORY"], "control.log")
    wait_until(lambda: log.read_text().count("NEW CLIENT") == 48, "all have knocked")
    os.kill(server, signal.SIGCONT)
    assert [client.answer() for client in clients] == [SUCCESS] * 47
    assert len(node.say("get_client_list %d" % server).split()) == 48


def test_a_daemon_of_one_gpu_shows_its_clients_only_that(start):
    node = start()
    uuids = [line.split("UUID: ")[1].rstrip(")\n") for line in
             (node.command(GPUSHARE, "sim", "load", "--gpu", str(i), "--for", "1ms").stdout.replace("holding 1Gi on ", "UUID: ").split(",")[0]
              for i in (0, 1))]
    node.daemon(CUDA_VISIBLE_DEVICES=uuids[1])
    client = node.client().ready()
    assert client("count()") == 1
    assert node.say("get_device_client_list").split() == [uuids[1], str(client.pid)]
    hidden = node.client(CUDA_VISIBLE_DEVICES=uuids[0])
    assert hidden("init()") == NO_DEVICE


def test_newer_programs_let_all_users_share_a_server(start):
    old, new = start("old"), start("new", driver="580.65.06")
    assert subprocess.run([OURS, "-d", "-M"], env=old.env, timeout=60, capture_output=True).returncode == 1
    old.daemon()
    assert subprocess.run([OURS, "-d", "-M"], env=new.env, timeout=60).returncode == 0
    assert new.client().ready()("run(1000)") == SUCCESS


NOBODY = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")


@pytest.fixture
def shared_node():
    """A node with a daemon that processes of other users can reach."""
    # By a shell: setpriv itself still has root's rights when it runs what it is told to.
    works = ["sh", "-c", '"$0" sim models', os.path.abspath(GPUSHARE)]
    if os.geteuid() != 0 or subprocess.run([*NOBODY, *works], capture_output=True).returncode != 0:
        pytest.skip("another user cannot run the program from here")
    with tempfile.TemporaryDirectory() as directory:
        os.chmod(directory, 0o755)
        node = MpsNode(pathlib.Path(directory, "mps"))
        for name, mode in ("node", 0o755), ("node/state", 0o666), ("node/clients", 0o666):
            os.chmod(node.path / name, mode)
        node.daemon()
        yield node
        node.stop()


def test_users_that_wait_are_served_in_the_order_in_which_they_came(shared_node):
    node = shared_node
    log = lambda: (node.path / "log" / "control.log").read_text()
    first = node.client().ready()
    other = node.client(*NOBODY)
    other.start("init()")
    wait_until(lambda: "for a client of user 65534" in log(), "the other user's client to wait")
    later = node.client()
    later.start("init()")
    wait_until(lambda: "NEW CLIENT %d from user 0" % later.pid in log(), "the first user's next client to wait")
    first.stop()
    starts = lambda: re.findall(r"Starting new server \d+ for user (\d+)", log())
    wait_until(lambda: len(starts()) > 1, "the next server")
    assert starts() == ["0", "65534"]
    assert other.answer() == SUCCESS
    other.stop()
    assert later.answer() == SUCCESS and starts() == ["0", "65534", "0"]
