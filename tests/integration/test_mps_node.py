"""Sharing by MPS in the daemon, seen by an independent kubelet and by CUDA clients with the environment that Allocate gives."""
import os
import re
import shutil
import signal
import sys
import tempfile

import pytest

from kubelet import Kubelet
from node import GPUSHARE, Node, Sim, gpus_of, healthy, sick, wait_until
from cuda_client import OUT_OF_MEMORY, RPC_FAILURE, SUCCESS, Client
pytestmark = [
    pytest.mark.skipif(not os.path.exists(GPUSHARE), reason="gpushare is not built"),
    pytest.mark.skipif(os.geteuid() != 0, reason="NVML lets only root change the compute mode"),
]
MODE = """
import ctypes
nvml, device, mode = ctypes.CDLL("libnvidia-ml.so.1"), ctypes.c_void_p(), ctypes.c_int()
assert nvml.nvmlInit_v2() == 0 and nvml.nvmlDeviceGetHandleByIndex_v2(%d, ctypes.byref(device)) == 0
assert nvml.nvmlDeviceGetComputeMode(device, ctypes.byref(mode)) == 0
print(mode.value)
"""
DEFAULT, EXCLUSIVE_PROCESS = 0, 3
PLAIN = "version: v1\n"


def config(*entries, root):
    lines = "".join("    - {%s}\n" % entry for entry in entries)
    return f"version: v1\nflags:\n  mpsRoot: {root}\nsharing:\n  mps:\n    resources:\n{lines}"


class World:
    def __init__(self, path, *entries, spec="2xA100-80GB", mig=None):
        self.root = tempfile.mkdtemp(prefix="mps", dir="/tmp")  # a socket's path has 107 characters
        self.clients = []
        self.sim = Sim(path / "sim", spec, *(["--mig", mig] if mig else []))
        self.environment = dict(line.split("=", 1) for line in self.sim.run("env").stdout.splitlines() if "=" in line)
        self.node = Node(path, self.sim, config=config(*entries, root=self.root).replace('flags:', 'flags:\n  migStrategy: mixed'))
        self.kubelet = Kubelet(self.node.kubelet_dir).start()
        self.node.start()
        self.node.wait_listening()

    def plugin(self, name="nvidia.com/gpu"):
        found = lambda: (p := self.kubelet.plugins.get(name)) and not p.ended.is_set() and p
        return wait_until(found, name + " to be registered")

    def allocate(self, plugin, share):
        """What a container with the share gets: its environment, with paths as they are on this side of its mounts."""
        (container,) = plugin.allocate([share])
        env = dict(container.envs)
        for mount in container.mounts:
            if mount.container_path == env["CUDA_MPS_PIPE_DIRECTORY"]:
                env["CUDA_MPS_PIPE_DIRECTORY"] = mount.host_path
        return env

    def client(self, env):
        wanted = {k: v for k, v in env.items() if k.startswith("CUDA_")}
        self.clients.append(Client({**self.environment, **wanted}))
        return self.clients[-1]

    def mps(self):
        return {m["device"]: m for m in self.node.status()["mps"]}

    def pids(self):
        return sorted(m["pid"] for m in self.node.status()["mps"])

    def server(self, env):
        """The one server that runs for the clients of a share."""
        program = self.sim.run("nvidia-cuda-mps-control", input="get_server_list\n", env={**os.environ, **env})
        return int(program.stdout)

    def mode(self, gpu):
        return int(self.sim.run(sys.executable, "-c", MODE % gpu).stdout)

    def stop(self):
        for client in self.clients:
            client.stop()
        if self.node.process.poll() is None:
            self.node.stop()
        for key in os.listdir(self.root):
            try:
                with open(os.path.join(self.root, key, "pipe", "nvidia-cuda-mps-control.pid"), encoding="ascii") as file:
                    os.kill(int(file.read()), signal.SIGKILL)
            except (OSError, ValueError):
                pass
        self.kubelet.stop()
        self.sim.stop()
        shutil.rmtree(self.root, ignore_errors=True)


@pytest.fixture
def make(tmp_path):
    worlds = []

    def begin(*entries, **options):
        worlds.append(World(tmp_path, *entries, **options))
        return worlds[-1]

    yield begin
    for world in worlds:
        world.stop()


FOUR = "name: nvidia.com/gpu, replicas: 4, memoryLimit: 8Gi"


def test_shares_are_healthy_and_limited(make):
    world = make(FOUR)
    plugin = world.plugin()
    ids = healthy(plugin.wait(lambda d: len(healthy(d)) == 8))
    env = world.allocate(plugin, ids[0])
    assert env["CUDA_MPS_PINNED_DEVICE_MEM_LIMIT"] == "0=8192M" and env["CUDA_MPS_ACTIVE_THREAD_PERCENTAGE"] == "25"
    assert env["CUDA_MPS_PIPE_DIRECTORY"].startswith(world.root)
    first, second = world.client(env).ready(), world.client(env).ready()
    assert first("attribute(16)") == 27
    assert first("alloc(7000)") == SUCCESS and first("alloc(2000)") == OUT_OF_MEMORY
    assert second("alloc(7000)") == SUCCESS and second("run(1000)") == SUCCESS
    assert [world.mode(0), world.mode(1)] == [EXCLUSIVE_PROCESS] * 2


def test_two_classes_divide_a_gpu(make):
    world = make("name: nvidia.com/gpu, rename: nvidia.com/gpu.large, replicas: 1, memoryLimit: 40Gi, activeThreadPercentage: 60",
                 "name: nvidia.com/gpu, rename: nvidia.com/gpu.small, replicas: 4, memoryLimit: 8Gi, activeThreadPercentage: 10")
    large, small = world.plugin("nvidia.com/gpu.large"), world.plugin("nvidia.com/gpu.small")
    one = healthy(large.wait(lambda d: len(healthy(d)) == 2))[0]
    other = healthy(small.wait(lambda d: len(healthy(d)) == 8))[0]
    big, little = world.client(world.allocate(large, one)).ready(), world.client(world.allocate(small, other)).ready()
    assert big("alloc(30000)") == SUCCESS and little("alloc(9000)") == OUT_OF_MEMORY and little("alloc(7000)") == SUCCESS


def test_a_restart_of_the_node_daemon_ends_no_client(make):
    world = make(FOUR)
    plugin = world.plugin()
    ids = healthy(plugin.wait(lambda d: len(healthy(d)) == 8))
    client, before = world.client(world.allocate(plugin, ids[0])).ready(), world.pids()
    for end in (world.node.stop, world.node.kill):
        end()
        assert client("run(1000)") == SUCCESS
        world.node.start()
        world.node.wait_listening()
        world.plugin().wait(lambda d: len(healthy(d)) == 8)
        assert world.pids() == before and client("run(1000)") == SUCCESS


def test_edited_limits_keep_daemons_and_clients(make):
    world = make(FOUR)
    plugin = world.plugin()
    ids = healthy(plugin.wait(lambda d: len(healthy(d)) == 8))
    client, before = world.client(world.allocate(plugin, ids[0])).ready(), world.pids()
    world.node.write_config(config("name: nvidia.com/gpu, replicas: 4, memoryLimit: 4Gi", root=world.root))
    wait_until(lambda: all(m["memoryLimitBytes"] == 4 << 30 and m["state"] == "Ready" for m in world.mps().values()), "the new limit")
    assert world.pids() == before and client("alloc(7000)") == SUCCESS
    plugin = world.plugin()
    plugin.wait(lambda d: len(healthy(d)) == 8)
    later = world.client(world.allocate(plugin, ids[1])).ready()
    assert later("alloc(5000)") == OUT_OF_MEMORY


@pytest.mark.parametrize("crash", [False, True])
def test_the_compute_mode_comes_back(make, crash):
    world = make(FOUR)
    world.plugin().wait(lambda d: len(healthy(d)) == 8)
    assert [world.mode(0), world.mode(1)] == [EXCLUSIVE_PROCESS] * 2
    if crash:
        world.node.kill()
    world.node.write_config(PLAIN + f"flags:\n  mpsRoot: {world.root}\n")
    if crash:
        world.node.start()
        world.node.wait_listening()
    wait_until(lambda: [world.mode(0), world.mode(1)] == [DEFAULT] * 2, "the modes as they were")
    wait_until(lambda: not world.node.status()["mps"], "the end of the control daemons")
    world.plugin().wait(lambda d: len(healthy(d)) == 2)


def test_a_killed_control_daemon_is_started_again(make):
    world = make(FOUR)
    plugin = world.plugin()
    ids = healthy(plugin.wait(lambda d: len(healthy(d)) == 8))
    victim = world.mps()[gpus_of(ids)[0]]
    os.kill(victim["pid"], signal.SIGKILL)
    plugin.wait(lambda d: gpus_of(sick(d)) == [victim["device"]], "the shares of its GPU, and no others, sick")
    plugin.wait(lambda d: len(healthy(d)) == 8, "all healthy again")
    assert world.mps()[victim["device"]]["pid"] != victim["pid"]


def test_a_fault_is_its_gpus_alone(make):
    world = make(FOUR)
    plugin = world.plugin()
    ids = healthy(plugin.wait(lambda d: len(healthy(d)) == 8))
    there, elsewhere = gpus_of(ids)
    guilty = world.client(world.allocate(plugin, there + "::0")).ready()
    other = world.client(world.allocate(plugin, elsewhere + "::0")).ready()
    world.sim.inject("fault=%d" % guilty.pid)
    guilty("run(1000)")
    plugin.wait(lambda d: gpus_of(sick(d)) == [there], "the shares of the faulting GPU sick")
    assert other("run(1000)") == SUCCESS
    guilty.stop()
    plugin.wait(lambda d: len(healthy(d)) == 8, "all healthy again")
    assert not [line for line in re.findall(r"MPS.*state=Fault.*", world.node.read_log()) if elsewhere in line]


def test_a_killed_server_leaves_its_shares_usable(make):
    world = make(FOUR)
    plugin = world.plugin()
    ids = healthy(plugin.wait(lambda d: len(healthy(d)) == 8))
    env = world.allocate(plugin, ids[0])
    client = world.client(env).ready()
    os.kill(world.server(env), signal.SIGKILL)
    wait_until(lambda: client("run(1000)") == RPC_FAILURE, "the client hears of it")
    client.stop()
    plugin.wait(lambda d: len(healthy(d)) == 8, "all healthy")
    assert world.client(env).ready()("run(1000)") == SUCCESS


def test_mps_on_mig_devices(make):
    world = make("name: nvidia.com/mig-3g.40gb, replicas: 2", spec="A100-80GB", mig="3g.40gb,3g.40gb")
    plugin = world.plugin("nvidia.com/mig-3g.40gb")
    ids = healthy(plugin.wait(lambda d: len(healthy(d)) == 4))
    client = world.client(world.allocate(plugin, ids[0])).ready()
    assert client("alloc(15000)") == SUCCESS and client("alloc(8000)") == OUT_OF_MEMORY
    assert world.mode(0) == DEFAULT


def test_the_fault_of_a_share_with_its_own_server(make):
    world = make(FOUR + ", isolation: per-share", spec="A100-80GB")
    plugin = world.plugin()
    ids = healthy(plugin.wait(lambda d: len(healthy(d)) == 4))
    guilty, other = (world.client(world.allocate(plugin, i)).ready() for i in ids[:2])
    world.sim.inject("fault=%d" % guilty.pid)
    guilty("run(1000)")
    assert other("run(1000)") == SUCCESS


@pytest.mark.parametrize("entries, said", [
    (["name: nvidia.com/gpu, replicas: 4, memoryLimit: 81Gi"], "is more than device 0 has"),
    (["name: nvidia.com/gpu, replicas: 11, memoryLimit: 8Gi"], "add up to 88Gi"),
    (["name: nvidia.com/gpu, rename: nvidia.com/gpu.a, replicas: 2, memoryLimit: 30Gi",
      "name: nvidia.com/gpu, rename: nvidia.com/gpu.b, replicas: 1, memoryLimit: 30Gi"], "add up to 90Gi"),
    (["name: nvidia.com/gpu, replicas: 49"], "takes 48 clients"),
])
def test_what_does_not_fit_is_refused(make, entries, said):
    world = make(*entries, spec="A100-80GB")
    wait_until(lambda: said in world.node.read_log(), "the refusal; log:\n" + world.node.read_log())
    assert not world.kubelet.plugins
