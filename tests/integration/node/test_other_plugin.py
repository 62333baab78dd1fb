"""Beside, after and before another device plugin: while it is alive nothing of the node is changed, then everything is."""
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import tempfile
import time

import pytest

from apiserver import ApiServer
from foreign import SPEC, Foreign
from kubelet import Kubelet
from mps_world import COMPUTE_MODE, DEFAULT, EXCLUSIVE
from node import CONFIG_4, GPUSHARE, Node, Sim, healthy, wait_until
from pod_resources import PodResources

pytestmark = [
    pytest.mark.skipif(not os.path.exists(GPUSHARE), reason="gpushare is not built"),
    pytest.mark.skipif(os.geteuid() != 0, reason="NVML lets only root change compute modes and MIG layouts"),
]

CONFIG = """version: v1
flags: {migStrategy: mixed, plugin: {deviceListStrategy: [envvar, cdi-cri]}}
sharing:
  mps:
    renameByDefault: true
    resources: [{name: nvidia.com/gpu, replicas: 10}]
"""
OURS = "nvidia.com/gpu.shared"
MIG_CONFIG, MIG_STATE = "nvidia.com/mig.config", "nvidia.com/mig.config.state"
PAUSED = "nvidia.com/gpu.deploy.device-plugin"
SPEC_NAME = "k8s.device-plugin.nvidia.com-gpu.json"


class World:
    """A simulated node, an API server, a kubelet, and a daemon that shares by MPS and CDI under a name of its own."""

    def __init__(self, path, authority, config=CONFIG, sim_options=()):
        self.root = tempfile.mkdtemp(prefix="gpushare-other-")  # short: a socket's path has at most 107 bytes
        os.chmod(self.root, 0o755)  # for clients of every user
        self.api = ApiServer(path, authority)
        self.sim = Sim(path / "sim", "2xA100-80GB", *sim_options)
        self.node = Node(path, self.sim, config=config, env=self.api.environment(),
                         arguments=["--mps-root", self.root])
        self.kubelet = Kubelet(self.node.kubelet_dir).start()
        self.pods = PodResources(self.node.kubelet_dir)
        self.spec = pathlib.Path(self.node.cdi, SPEC_NAME)
        self.foreign = []

    def uuids(self):
        listed = self.sim.run("nvidia-smi", "--query-gpu=uuid", "--format=csv,noheader")
        return [line.strip() for line in listed.stdout.splitlines()] if listed.returncode == 0 else []

    def other(self, ids=(), **options):
        self.foreign.append(Foreign(self.node.plugin_dir, ids, **options))
        return self.foreign[-1]

    def write_their_spec(self):
        self.spec.parent.mkdir(parents=True, exist_ok=True)
        self.spec.write_text(SPEC, encoding="utf-8")

    def mode(self, gpu=0):
        done = self.sim.run("python3", "-c", COMPUTE_MODE, str(gpu))
        assert done.returncode == 0, done.stderr
        return int(done.stdout)

    def wait_waiting(self):
        self.api.wait_condition("GPUShareServing", "False", "PluginConflict")

    def served(self, name=OURS, count=20):
        found = lambda: (p := self.kubelet.plugins.get(name)) and not p.ended.is_set() and p
        plugin = wait_until(found, "%s to be registered; log:\n%s" % (name, self.node.read_log()))
        plugin.wait(lambda devices: len(healthy(devices)) == count, "%d healthy shares" % count)
        return plugin

    def uninstall(self):
        return subprocess.run(self.sim.command(GPUSHARE, "node", "--uninstall", "--kubelet-dir", self.node.kubelet_dir, "--state-dir",
                                               self.node.state, "--socket", self.node.socket, "--cdi-dir", self.node.cdi,
                                               "--mps-root", self.root), capture_output=True, text=True, timeout=300)

    def stop(self):
        for plugin in self.foreign:
            plugin.stop()
        self.kubelet.stop()
        self.pods.stop()
        code = self.node.stop() if self.node.process else 0
        self.sim.run("gpushare", "mps", "stop", "--grace", "0s", "--mps-root", self.root, "--state-dir", self.node.state)
        self.sim.stop()
        self.api.stop()
        shutil.rmtree(self.root, ignore_errors=True)  # an uninstall takes it away
        assert code == 0, self.node.read_log()


@pytest.fixture
def make(authority):
    worlds = []
    with tempfile.TemporaryDirectory(prefix="other-") as directory:

        def begin(**options):
            worlds.append(World(pathlib.Path(directory), authority, **options))
            return worlds[-1]

        yield begin
        for world in worlds:
            world.stop()


def test_nothing_is_changed_beside_it_and_everything_after_it(make):
    world = make()
    other = world.other(["GPU-0"]).start().register(world.kubelet)
    world.write_their_spec()
    world.node.start()
    world.wait_waiting()
    world.api.label(**{MIG_CONFIG: "all-1g.10gb"})  # as NVIDIA's mig-manager follows it too
    world.node.wait_listening()
    wait_until(lambda: world.node.status()["gpus"], "the GPUs to be known")
    assert any("another device plugin serves nvidia.com/gpu" in problem for problem in world.node.status()["problems"])
    assert world.spec.read_text(encoding="utf-8") == SPEC
    assert world.mode(0) == DEFAULT and not os.listdir(world.root)
    assert world.node.status()["mps"] == [] and not [gpu for gpu in world.node.status()["gpus"] if gpu["migEnabled"]]
    assert not [label for label in world.api.labels() if label.startswith("nvidia.com/") and label != MIG_CONFIG]
    assert set(world.kubelet.plugins) == {"nvidia.com/gpu"}
    world.api.label(**{MIG_CONFIG: None})

    other.stop()
    plugin = world.served()
    assert world.mode(0) == EXCLUSIVE
    spec = json.loads(world.spec.read_text(encoding="utf-8"))
    names = {device["name"] for device in spec["devices"]}
    answer = plugin.allocate([healthy(plugin.latest)[0]])[0]
    assert {device.name.split("=")[1] for device in answer.cdi_devices} <= names
    wait_until(lambda: "nvidia.com/gpu.count" in world.api.labels(), "the labels")
    wait_until(lambda: world.node.status()["problems"] == [], "no problem")


@pytest.mark.parametrize("name", ["nvidiaGPU-1764421022.sock", "nvidia-mig-1g.10gb.sock"])
def test_a_socket_of_another_name(make, name):
    world = make(config=CONFIG_4)
    other = world.other(["nvidia0"], socket=name).start()
    world.node.start()
    world.wait_waiting()
    other.stop()
    world.served("nvidia.com/gpu", 8)


def test_a_socket_whose_name_is_no_text(make):
    """Somebody serves there, and the status says so."""
    world = make(config=CONFIG_4)
    path = os.path.join(os.fsencode(world.node.plugin_dir), b"nvidia-\xff\n.sock")
    os.makedirs(world.node.plugin_dir, exist_ok=True)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()
        world.node.start().wait_listening()
        wait_until(lambda: any("another device plugin serves" in problem for problem in world.node.status()["problems"]), "the problem")
    os.unlink(path)
    world.served("nvidia.com/gpu", 8)


def test_a_name_that_tells_nothing_is_asked_about(make):
    """The list itself decides where there is no kubelet to ask; a plugin for other hardware is none of ours."""
    world = make(config=CONFIG_4)
    cards = world.other(["fpga-0"], resource="example.com/fpga", socket="fpga.sock").start()
    world.node.start()
    plugin = world.served("nvidia.com/gpu", 8)
    uuid = healthy(plugin.latest)[0].split("::")[0]
    other = world.other([uuid + "-0"], resource="example.com/vgpu", socket="volcano.sock").start()
    world.wait_waiting()
    plugin.ended.wait(60)
    other.stop()
    world.served("nvidia.com/gpu", 8)
    assert cards.watchers <= 1  # asked once: some plugins tell each change to one listener only


def test_what_is_known_of_a_socket_is_known_of_its_file(make):
    """File systems give the inode of one that was removed to the next one, and only its time is another."""
    world = make(config=CONFIG_4)
    cards = world.other(["fpga-0"], resource="example.com/fpga", socket="fpga.sock").start()
    world.node.start()
    uuid = healthy(world.served("nvidia.com/gpu", 8).latest)[0].split("::")[0]
    wait_until(lambda: cards.watchers == 1, "the question")
    cards.ids = [uuid + "-0"]
    os.chmod(cards.path, 0o700)
    world.node.process.send_signal(signal.SIGHUP)
    world.wait_waiting()


def test_the_kubelet_is_believed(make):
    world = make(config=CONFIG_4)
    world.pods.start()
    other = world.other(["x"], resource="example.com/vgpu", socket="vgpu.sock").start()
    world.node.start()
    plugin = world.served("nvidia.com/gpu", 8)
    world.pods.allocatable = [("example.com/vgpu", [healthy(plugin.latest)[0].split("::")[0] + "-_-1"])]
    open(os.path.join(world.node.plugin_dir, "touched"), "w", encoding="ascii").close()
    world.wait_waiting()
    assert any("example.com/vgpu" in problem for problem in world.node.status()["problems"])
    assert other.watchers == 0
    world.pods.allocatable = []
    world.served("nvidia.com/gpu", 8)


def test_it_comes_back_and_keeps_what_is_its_own(make):
    """The way back: it is enabled again, then this one goes."""
    world = make()
    world.node.start()
    ours = world.served()
    other = world.other(["GPU-0"]).start().register(world.kubelet)
    world.write_their_spec()
    world.wait_waiting()
    ours.ended.wait(60)
    assert world.spec.read_text(encoding="utf-8") == SPEC
    assert world.node.stop() == 0
    done = world.uninstall()
    assert done.returncode == 0, done.stderr
    assert world.mode(0) == DEFAULT
    assert world.spec.read_text(encoding="utf-8") == SPEC
    assert os.path.exists(other.path)


def test_who_deletes_our_socket_gets_its_place(make):
    """A plugin of the same resource deletes the socket that is there and makes its own a moment later."""
    world = make(config=CONFIG_4)
    world.node.start()
    ours = world.served("nvidia.com/gpu", 8)
    other = world.other(["GPU-0"])
    os.unlink(other.path)
    time.sleep(0.02)  # well within the moment that it is given
    assert not os.path.exists(other.path)
    other.start().register(world.kubelet)
    world.wait_waiting()
    ours.ended.wait(60)
    assert os.path.exists(other.path)
    other.stop()
    world.served("nvidia.com/gpu", 8)


def test_a_plugin_that_is_about_to_listen_keeps_its_place(make):
    """Between bind and listen its socket refuses connections, as that of a dead plugin does."""
    world = make(config=CONFIG_4)
    world.node.start()
    world.served("nvidia.com/gpu", 8)
    path = world.other().path
    os.unlink(path)
    with socket.socket(socket.AF_UNIX) as theirs:
        theirs.bind(path)
        inode = os.stat(path).st_ino
        time.sleep(0.1)  # well within the moment that it is given
        theirs.listen()
        time.sleep(1.5)  # a look later
        assert os.stat(path).st_ino == inode
    os.unlink(path)
    world.served("nvidia.com/gpu", 8)


def test_labels_of_others_stay_while_it_is_alive(make):
    world = make(config=CONFIG_4)
    world.node.start()
    world.served("nvidia.com/gpu", 8)
    wait_until(lambda: world.api.labels().get("nvidia.com/gpu.count") == "2", "our labels")
    other = world.other(["GPU-0"], socket="nvidia-else.sock").start()
    world.wait_waiting()
    world.api.label(**{"nvidia.com/gpu.count": "99"})  # as its GPU Feature Discovery says
    world.api.label(**{"nvidia.com/device-plugin.config": "any"})  # a later change is seen after that one
    world.api.wait_quiet()
    assert world.api.labels()["nvidia.com/gpu.count"] == "99"
    other.stop()
    wait_until(lambda: world.api.labels()["nvidia.com/gpu.count"] == "2", "our label after it")


def test_a_plugin_that_is_paused_comes_back(make):
    """The GPU operator takes its plugin away while it changes a MIG layout or the driver."""
    world = make(config=CONFIG_4)
    other = world.other(["GPU-0"]).start()
    world.node.start()
    world.wait_waiting()
    world.api.label(**{PAUSED: "paused-for-mig-change"})
    world.api.wait_condition("GPUShareServing", "False", "DriverPaused")
    other.stop()
    assert not world.kubelet.plugins
    world.api.label(**{PAUSED: None})
    world.served("nvidia.com/gpu", 8)


def test_the_way_there_and_back(make):
    """As docs/migrate.md has it, with a pod of each side that runs all the while."""
    world = make(config=CONFIG_4.replace("version: v1\n", "version: v1\nflags: {plugin: {deviceListStrategy: [envvar, cdi-cri]}}\n"))
    world.pods.start()
    probe = Node(os.path.join(world.node.directory, "probe"), world.sim)  # only to learn the GPUs' names
    probe.start()
    probe.wait_listening()
    ids = wait_until(lambda: [share["id"] for gpu in probe.status()["gpus"] for share in gpu["shares"]], "the shares")
    assert probe.stop() == 0

    other = world.other(ids).start().register(world.kubelet)
    world.write_their_spec()
    world.pods.pods = [("default", "theirs", "main", "nvidia.com/gpu", [ids[0]])]
    world.node.start()
    world.wait_waiting()
    theirs = world.kubelet.plugins["nvidia.com/gpu"]
    assert theirs.allocate([ids[1]])[0].envs == {"THEIRS": ids[1]}

    other.stop()
    plugin = wait_until(lambda: (p := world.kubelet.plugins["nvidia.com/gpu"]) is not theirs and p, "the take-over")
    assert healthy(plugin.wait(lambda devices: len(healthy(devices)) == 8)) == sorted(ids)
    assert plugin.allocate([ids[2]])[0].envs["GPUSHARE_SHARES"] == ids[2]
    assert "GPUSHARE_CDI_SPEC" in world.spec.read_text(encoding="utf-8")
    shares = {share["id"]: share["pods"] for gpu in world.node.status()["gpus"] for share in gpu["shares"]}
    assert [pod["name"] for pod in shares[ids[0]]] == ["theirs"]  # what it gave is known to be given

    assert world.node.stop() == 0
    done = world.uninstall()
    assert done.returncode == 0, done.stderr
    assert [path.name for path in world.spec.parent.iterdir()] == [SPEC_NAME]
    assert world.spec.read_text(encoding="utf-8") == SPEC
    other.start().register(world.kubelet)
    assert world.kubelet.plugins["nvidia.com/gpu"].allocate([ids[3]])[0].envs == {"THEIRS": ids[3]}


def test_a_kubelet_that_restarts_ends_no_plugin(make):
    """It wipes the sockets; who is alive makes its own again, and nothing was changed meanwhile."""
    world = make()
    other = world.other(["GPU-0"]).start().register(world.kubelet)
    world.write_their_spec()
    world.node.start()
    world.wait_waiting()
    world.node.wait_listening()
    wait_until(lambda: world.node.status()["gpus"], "the GPUs to be known")
    for _ in range(3):
        other.stop()
        world.kubelet.restart()
        time.sleep(1.5)  # long enough for a look
        other.start().register(world.kubelet)
    assert set(world.kubelet.plugins) == {"nvidia.com/gpu"} and "taking over" not in world.node.read_log()
    assert world.spec.read_text(encoding="utf-8") == SPEC and world.mode(0) == DEFAULT
