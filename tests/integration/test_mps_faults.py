"""Sharing by MPS in the daemon: limits that reach containers, control daemons that come, die, fail and go, and compute modes."""
import os
import pathlib
import shutil
import signal
import tempfile

import pytest

from cuda_client import ILLEGAL_ADDRESS, OUT_OF_MEMORY, RPC_FAILURE, SERVER_NOT_READY, SUCCESS, Client
from kubelet import Kubelet
from node import Node, Sim, healthy, sick, wait_until

CONFIG = """version: v1
flags: {mpsRoot: %s}
sharing:
  mps:
    renameByDefault: false
    resources:
    - name: nvidia.com/gpu
      replicas: 10
      memoryLimit: 8Gi
"""
WITHOUT = "version: v1\nflags: {mpsRoot: %s}\n"
COMPUTE_MODE = """
import ctypes, sys
nvml, device, mode = ctypes.CDLL("libnvidia-ml.so.1"), ctypes.c_void_p(), ctypes.c_int()
assert nvml.nvmlInit_v2() == 0 and nvml.nvmlDeviceGetHandleByIndex_v2(int(sys.argv[1]), ctypes.byref(device)) == 0
if len(sys.argv) > 2:
    assert nvml.nvmlDeviceSetComputeMode(device, int(sys.argv[2])) == 0
assert nvml.nvmlDeviceGetComputeMode(device, ctypes.byref(mode)) == 0
print(mode.value)
"""
DEFAULT, PROHIBITED, EXCLUSIVE = 0, 2, 3


class World:
    """A simulated node, a daemon that shares it by MPS, a kubelet, and CUDA programs in what would be containers."""

    def __init__(self, path, spec="2xA100-80GB", config=CONFIG, **options):
        self.root = tempfile.mkdtemp(prefix="gpushare-mps-")  # short: a socket's path has at most 107 bytes
        self.sim = Sim(path / "sim", spec)
        self.node = Node(path, self.sim, config=config % self.root, **options)
        self.kubelet = Kubelet(self.node.kubelet_dir).start()
        self.clients = []

    def start(self):
        self.kubelet.plugins.clear()
        self.node.start()
        return self

    def plugin(self, name="nvidia.com/gpu"):
        wait_until(lambda: name in self.kubelet.plugins, "%s to be registered; log:\n%s" % (name, self.node.read_log()))
        return self.kubelet.plugins[name]

    def ready(self, count=20, name="nvidia.com/gpu"):
        return self.plugin(name).wait(lambda devices: len(healthy(devices)) == count, "%d healthy shares" % count)

    def configure(self, text):
        self.node.write_config(text % self.root)

    def container(self, share, name="nvidia.com/gpu", **env):
        """A CUDA program with the environment that the share's container gets, and its mounts."""
        answer = self.plugin(name).allocate([share])[0]
        variables = dict(answer.envs)
        for mount in answer.mounts:
            if mount.container_path == variables.get("CUDA_MPS_PIPE_DIRECTORY"):
                variables["CUDA_MPS_PIPE_DIRECTORY"] = mount.host_path
        variables["CUDA_VISIBLE_DEVICES"] = variables.pop("NVIDIA_VISIBLE_DEVICES")
        self.clients.append(Client({**os.environ, **variables, **env}, self.sim.command))
        return self.clients[-1]

    def mps(self):
        return {daemon["id"]: daemon for daemon in self.node.status()["mps"]}

    def wait_state(self, gpu, state):
        wait_until(lambda: self.mps().get(gpu, {}).get("state") == state, "%s to be %s; log:\n%s" % (gpu, state, self.node.read_log()))
        return self.mps()[gpu]

    def mode(self, gpu, *to):
        done = self.sim.run("python3", "-c", COMPUTE_MODE, str(gpu), *map(str, to))
        assert done.returncode == 0, done.stderr
        return int(done.stdout)

    def say(self, gpu, command):
        pipe = pathlib.Path(self.root, gpu, "pipe")
        return self.sim.run("nvidia-cuda-mps-control", input=command + "\n", env={**os.environ, "CUDA_MPS_PIPE_DIRECTORY": str(pipe)}).stdout

    def stop(self):
        for client in self.clients:
            client.stop()
        self.kubelet.stop()
        if self.node.process and self.node.process.poll() is None:
            assert self.node.stop() == 0, self.node.read_log()
        self.sim.run("gpushare", "mps", "stop", "--grace", "0s", "--mps-root", self.root, "--state-dir", self.node.state)
        self.sim.stop()
        shutil.rmtree(self.root)


@pytest.fixture
def make(tmp_path):
    worlds = []

    def begin(**options):
        worlds.append(World(tmp_path, **options))
        return worlds[-1]

    yield begin
    for world in worlds:
        world.stop()


@pytest.fixture
def world(make):
    return make().start()


def by_gpu(ids):
    gpus = {}
    for share in ids:
        gpus.setdefault(share.split("::")[0], []).append(share)
    return list(gpus.values())


def test_each_client_has_what_its_share_says(world):
    shares = by_gpu(healthy(world.ready()))[0]
    answer = world.plugin().allocate([shares[0]])[0]
    assert answer.envs["CUDA_MPS_PINNED_DEVICE_MEM_LIMIT"] == "0=8192M"
    assert answer.envs["CUDA_MPS_ACTIVE_THREAD_PERCENTAGE"] == "10"
    assert "/dev/shm" in [mount.container_path for mount in answer.mounts]
    clients = [world.container(share).ready() for share in shares]
    assert {client("attribute(16)") for client in clients} == {11}  # of 108 multiprocessors
    assert [client("alloc(7000)") for client in clients] == [SUCCESS] * 10
    assert clients[0]("alloc(1000)") == OUT_OF_MEMORY
    assert {client("run(1000)") for client in clients} == {SUCCESS}
    holders = {share["id"]: share["holders"] for gpu in world.node.status()["gpus"] for share in gpu["shares"]}
    assert [holder["pid"] for holder in holders[shares[3]]] == [clients[3].pid]


def test_more_than_one_share_is_refused_unless_allowed(world):
    shares = by_gpu(healthy(world.ready()))[0]
    with pytest.raises(Exception, match="failRequestsGreaterThanOne"):
        world.plugin().allocate(shares[:2])


def test_classes_divide_a_gpu(make):
    world = make(spec="1xA100-80GB", config="""version: v1
flags: {mpsRoot: %s}
sharing:
  mps:
    resources:
    - {name: nvidia.com/gpu, rename: nvidia.com/gpu-small, replicas: 4, memoryLimit: 5Gi, activeThreadPercentage: 10}
    - {name: nvidia.com/gpu, rename: nvidia.com/gpu-large, replicas: 1, memoryLimit: 40Gi, activeThreadPercentage: 60}
""").start()
    small = healthy(world.ready(4, "nvidia.com/gpu-small"))
    large = healthy(world.ready(1, "nvidia.com/gpu-large"))
    assert not set(small) & set(large)
    one, other = world.container(small[0], "nvidia.com/gpu-small").ready(), world.container(large[0], "nvidia.com/gpu-large").ready()
    assert (one("alloc(6000)"), other("alloc(30000)")) == (OUT_OF_MEMORY, SUCCESS)
    assert (one("attribute(16)"), other("attribute(16)")) == (11, 65)


def test_compute_modes_come_back_when_mps_is_configured_away(world):
    world.mode(1)
    world.ready()
    assert (world.mode(0), world.mode(1)) == (EXCLUSIVE, EXCLUSIVE)
    world.configure(WITHOUT)
    wait_until(lambda: (world.mode(0), world.mode(1)) == (DEFAULT, DEFAULT), "the modes to be as before")
    assert len(world.ready(2)) == 2 and world.mps() == {}


def test_compute_modes_come_back_after_a_crash(make):
    world = make()
    world.mode(0, PROHIBITED)
    world.start()
    world.ready()
    world.node.kill()
    assert (world.mode(0), world.mode(1)) == (EXCLUSIVE, EXCLUSIVE)
    world.configure(WITHOUT)
    world.start()
    wait_until(lambda: (world.mode(0), world.mode(1)) == (PROHIBITED, DEFAULT), "the modes to be as before MPS")
    wait_until(lambda: world.mps() == {}, "the daemons that were left are gone")


@pytest.mark.parametrize("end", ["stop", "kill"])
def test_a_restart_of_the_daemon_ends_no_client(world, end):
    share = healthy(world.ready())[0]
    client, before = world.container(share).ready(), world.mps()
    getattr(world.node, end)()
    assert client("run(1000)") == SUCCESS
    world.start()
    world.ready()
    after = world.mps()
    assert {gpu: daemon["pid"] for gpu, daemon in after.items()} == {gpu: daemon["pid"] for gpu, daemon in before.items()}
    assert all(daemon["starts"] == 0 for daemon in after.values())
    assert client("run(1000)") == SUCCESS


def test_a_config_edit_of_limits_keeps_clients_and_daemons(world):
    shares = by_gpu(healthy(world.ready()))[0]
    client, before = world.container(shares[0]).ready(), world.mps()
    world.configure(CONFIG.replace("8Gi", "4Gi"))
    wait_until(lambda: all(daemon["memoryLimitBytes"] == 4 << 30 for daemon in world.mps().values()), "the new limit")
    for gpu in world.mps():
        world.wait_state(gpu, "Ready")
    assert {gpu: daemon["pid"] for gpu, daemon in world.mps().items()} == {gpu: daemon["pid"] for gpu, daemon in before.items()}
    assert client("alloc(7000)") == SUCCESS  # it keeps what it came with
    assert world.container(shares[1]).ready()("alloc(5000)") == OUT_OF_MEMORY


def test_a_killed_control_daemon_comes_back(world):
    gpu = by_gpu(healthy(world.ready()))[0][0].split("::")[0]
    before = world.mps()
    os.kill(before[gpu]["pid"], signal.SIGKILL)
    wait_until(lambda: world.mps()[gpu]["pid"] not in (0, before[gpu]["pid"]), "another daemon")
    world.ready()
    after = world.mps()
    assert after[gpu]["starts"] == 2
    assert all(after[other]["pid"] == before[other]["pid"] for other in before if other != gpu)
    assert world.container(gpu + "::0").ready()("run(1000)") == SUCCESS


def test_a_killed_server_is_replaced(world):
    share = healthy(world.ready())[0]
    gpu = share.split("::")[0]
    client = world.container(share).ready()
    server = int(world.say(gpu, "get_server_list"))
    os.kill(server, signal.SIGKILL)
    wait_until(lambda: client("run(1000)") == RPC_FAILURE, "the client to hear of it")
    client.stop()
    wait_until(lambda: world.container(share)("init() or create()") == SUCCESS, "a new server takes clients")
    assert world.wait_state(gpu, "Ready")["pid"] == world.mps()[gpu]["pid"]


def test_a_fault_is_the_gpus_alone_and_passes(world):
    first, second = by_gpu(healthy(world.ready()))
    gpu = first[0].split("::")[0]
    guilty, neighbour, elsewhere = world.container(first[0]).ready(), world.container(first[1]).ready(), world.container(second[0]).ready()
    world.sim.inject("fault=%d" % guilty.pid)
    assert guilty("run(1000)") == ILLEGAL_ADDRESS
    world.plugin().wait(lambda devices: sick(devices) == sorted(first), "this GPU's shares, and no others, to be unhealthy")
    assert world.mps()[gpu]["state"] == "Fault" and world.mps()[gpu]["faults"] == 1
    late = world.container(first[2])
    assert late("init()") == SUCCESS and late("create()") == SERVER_NOT_READY
    assert elsewhere("run(1000)") == SUCCESS
    guilty.stop()
    neighbour.stop()
    late.stop()
    world.ready()
    assert world.container(first[0]).ready()("run(1000)") == SUCCESS
    assert elsewhere("run(1000)") == SUCCESS


def test_faults_in_a_loop_end_in_quarantine(world):
    shares = by_gpu(healthy(world.ready()))[0]
    gpu = shares[0].split("::")[0]
    for number in range(6):
        client = world.container(shares[0])
        wait_until(lambda: client("init() or create()") == SUCCESS, "the device takes clients")
        world.sim.inject("fault=%d" % client.pid)
        assert client("run(1000)") == ILLEGAL_ADDRESS
        wait_until(lambda: world.mps()[gpu]["faults"] == number + 1, "the daemon to hear of fault %d" % number)
        client.stop()
        if number < 5:
            world.wait_state(gpu, "Ready")
    assert "6 faults of clients within 10 minutes" in world.wait_state(gpu, "Quarantined")["reason"]
    world.plugin().wait(lambda devices: sick(devices) == sorted(shares), "this GPU's shares to be unhealthy")


def test_shares_with_servers_of_their_own_fail_alone(make):
    world = make(spec="1xA100-80GB", config=CONFIG.replace("memoryLimit: 8Gi", "isolation: per-share").replace("replicas: 10", "replicas: 3")).start()
    shares = healthy(world.ready(3))
    guilty, neighbour = world.container(shares[0]).ready(), world.container(shares[1]).ready()
    world.sim.inject("fault=%d" % guilty.pid)
    assert guilty("run(1000)") == ILLEGAL_ADDRESS
    assert neighbour("run(1000)") == SUCCESS
    wait_until(lambda: sorted(daemon["state"] for daemon in world.mps().values()) == ["Fault", "Ready", "Ready"], "one server in FAULT")
    assert neighbour("run(1000)") == SUCCESS
    assert len(healthy(world.ready(3))) == 3
    guilty.stop()
    wait_until(lambda: {daemon["state"] for daemon in world.mps().values()} == {"Ready"}, "all servers well")


def test_a_missing_program_is_a_clear_condition_and_other_strategies_go_on(make, tmp_path):
    empty = tmp_path / "bin"
    empty.mkdir()
    world = make(config="""version: v1
flags: {mpsRoot: %s}
sharing:
  mps: {resources: [{name: nvidia.com/gpu, replicas: 4, devices: [0], rename: nvidia.com/gpu-mps}]}
  timeSlicing: {resources: [{name: nvidia.com/gpu, replicas: 4, devices: [1]}]}
""")
    daemon = [argument for argument in world.node.command() if argument != "--"]
    world.node.command = lambda: ["env", *world.sim.command("env", "PATH=%s" % empty, *daemon[daemon.index("node") - 1:])]
    world.start()
    assert len(healthy(world.ready(4))) == 4
    devices = world.plugin("nvidia.com/gpu-mps").wait(lambda devices: len(sick(devices)) == 4, "shares that nobody can use")
    assert len(devices) == 4
    assert "cannot run nvidia-cuda-mps-control" in next(iter(world.mps().values()))["reason"]


@pytest.mark.parametrize("memory,words", [("90Gi", "is more than device 0 has"), ("9Gi", "add up to 90Gi")])
def test_limits_that_do_not_fit_are_refused_and_running_shares_stay(world, memory, words):
    before = healthy(world.ready())
    world.configure(CONFIG.replace("8Gi", memory))
    world.node.wait_log(words)
    assert any(words in problem for problem in world.node.status()["problems"])
    assert healthy(world.plugin().wait(lambda devices: len(healthy(devices)) == 20)) == before


def test_a_pipe_directory_deleted_under_a_running_daemon_is_made_again(world):
    share = healthy(world.ready())[0]
    gpu = share.split("::")[0]
    before = world.mps()[gpu]["pid"]
    shutil.rmtree(pathlib.Path(world.root, gpu, "pipe"))
    wait_until(lambda: world.mps()[gpu]["pid"] not in (0, before), "another daemon")
    world.ready()
    assert world.container(share).ready()("run(1000)") == SUCCESS


@pytest.mark.parametrize("harm", ["deleted", "a file"])
def test_a_pipe_directory_that_is_harmed_is_made_again(world, harm):
    share = healthy(world.ready())[0]
    gpu = share.split("::")[0]
    pipe = pathlib.Path(world.root, gpu, "pipe")
    os.kill(world.mps()[gpu]["pid"], signal.SIGKILL)
    shutil.rmtree(pipe)
    if harm == "a file":
        pipe.write_text("in the way")
        wait_until(lambda: str(pipe) in world.mps()[gpu]["reason"], "the reason names the path")
        pipe.unlink()
    wait_until(lambda: world.mps()[gpu]["state"] == "Ready", "the daemon is back")
    world.ready()
    assert world.container(share).ready()("run(1000)") == SUCCESS
