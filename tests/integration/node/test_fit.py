"""What a node can't do takes only itself: entries that do not fit, GPUs that can't be read or given out, names of nothing."""
import os
import re
import signal
import subprocess
import urllib.request

import pytest

from cuda_client import SUCCESS
from kubelet import WAIT, Kubelet
from mps_world import DEFAULT, EXCLUSIVE, PROHIBITED, make  # noqa: F401 (fixture)
from node import GPUSHARE, Node, Sim, gpus_of, healthy, sick, wait_until

pytestmark = pytest.mark.skipif(not os.path.exists(GPUSHARE), reason="gpushare is not built")

SLICED = """version: v1
%ssharing:
  timeSlicing:
    renameByDefault: false
    resources: [{name: nvidia.com/gpu, replicas: 4}]
"""


class World:
    """A node of its own with a kubelet."""

    def __init__(self, path, spec="2xA100-80GB", config=SLICED % "", sim_options=(), inject=(), arguments=()):
        self.sim = Sim(path / "sim", spec, *sim_options)
        for what in inject:
            self.sim.inject(*what)
        self.node = Node(path, self.sim, config=config, arguments=arguments)
        self.kubelet = Kubelet(self.node.kubelet_dir).start()
        self.node.start().wait_listening()

    def plugin(self, name="nvidia.com/gpu"):
        wait_until(lambda: name in self.kubelet.plugins, "%s to be registered; log:\n%s" % (name, self.node.read_log()))
        return self.kubelet.plugins[name]

    def problem(self, *words):
        def find():
            return [problem for problem in self.node.status()["problems"] if all(word in problem for word in words)]
        return wait_until(find, "a problem with %s; there are: %s" % (words, self.node.status()["problems"]))[0]

    def stop(self):
        self.kubelet.stop()
        if self.node.process.poll() is None:
            assert self.node.stop() == 0, self.node.read_log()
        self.sim.stop()


@pytest.fixture
def begin(tmp_path):
    worlds = []

    def begin_one(**options):
        worlds.append(World(tmp_path, **options))
        return worlds[-1]

    yield begin_one
    for world in worlds:
        world.stop()


# --- entries ---

@pytest.mark.parametrize("spec, options, entry, words", [
    ("A100-80GB,T4", (), "replicas: 4, memoryLimit: 20Gi", "memoryLimit 20Gi is more than device 1 has (15Gi)"),
    ("A100-80GB,T4", (), "replicas: 4, memoryLimit: 8Gi", "add up to 32Gi, and it has 15Gi"),
])
@pytest.mark.usefixtures("make")
@pytest.mark.skipif(os.geteuid() != 0, reason="NVML lets only root change the compute mode")
def test_an_entry_that_is_too_large_for_one_gpu_shares_the_others(make, spec, options, entry, words):
    world = make(spec=spec, sim_options=options, config="""version: v1
flags: {mpsRoot: %%s}
sharing: {mps: {renameByDefault: false, resources: [{name: nvidia.com/gpu, %s}]}}
""" % entry).start()
    world.node.wait_log("serving")
    first, second = (gpu["uuid"] for gpu in world.node.status()["gpus"])
    devices = world.ready(4)
    assert gpus_of(devices) == [first]
    status = world.node.status()
    assert [problem for problem in status["problems"] if words in problem and problem.startswith("device 1 is not published: sharing.mps (line 3)")]
    assert [gpu["uuid"] for gpu in status["gpus"]] == [first, second] and not status["gpus"][1]["shares"]
    assert words in world.node.read_log()
    checked = world.sim.run("gpushare", "config", "check", "--gpus", world.node.config)
    assert checked.returncode == 1 and words in checked.stderr
    # Once it is given out, an edit that does not fit it takes nothing back.
    world.configure("version: v1\nflags: {mpsRoot: %s}\nsharing: {mps: {renameByDefault: false, resources: "
                    "[{name: nvidia.com/gpu, replicas: 2, memoryLimit: 4Gi}]}}\n")
    before = healthy(world.plugin().wait(lambda devices: gpus_of(healthy(devices)) == sorted([first, second]), "both GPUs"))
    world.configure("version: v1\nflags: {mpsRoot: %%s}\nsharing: {mps: {renameByDefault: false, resources: [{name: nvidia.com/gpu, %s}]}}\n" % entry)
    wait_until(lambda: [problem for problem in world.node.status()["problems"] if words in problem], "the problem")
    assert healthy(world.plugin().latest) == before


# --- names of nothing ---

@pytest.mark.parametrize("config, words", [
    ("sharing: {timeSlicing: {resources: [{name: nvidia.com/foo, replicas: 4}]}}\n",
     ["resources[0] (line 2): names nothing that this node has now: there is no nvidia.com/foo, it has nvidia.com/gpu"]),
    ("resources: {gpus: [{pattern: A100, name: a100}]}\nsharing: {timeSlicing: {resources: [{name: a100, replicas: 4}]}}\n",
     ["resources.gpus[0] (line 2): names nothing that this node has now: \"A100\" matches no GPU's name", "write \"*A100*\"",
      "resources[0] (line 3): names nothing that this node has now: there is no nvidia.com/a100"]),
    ("sharing: {timeSlicing: {resources: [{name: nvidia.com/gpu, replicas: 4, devices: [7]}]}}\n", ["(line 2): this node has no device 7 now"]),
], ids=["resource", "pattern", "device"])
def test_what_names_nothing_is_accepted_and_said(begin, config, words):
    world = begin(config="version: v1\n" + config)
    world.plugin().wait(lambda devices: len(healthy(devices)) == 2, "whole GPUs")
    checked = world.sim.run("gpushare", "config", "check", "--gpus", world.node.config)
    explained = world.sim.run("gpushare", "config", "explain", world.node.config)
    assert checked.returncode == 0 and explained.returncode == 0
    for text in words:
        world.problem(text)
        assert text in world.node.read_log().replace('\\"', '"')
        assert text in checked.stderr and text in explained.stdout


def test_explain_is_not_hindered_by_a_machine_without_gpus(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text(SLICED % "")
    done = subprocess.run([GPUSHARE, "config", "explain", path], capture_output=True, text=True, check=False)
    assert done.returncode == 0 and "On this machine" not in done.stdout and not done.stderr


# --- what can't be given out ---

CDI = "flags: {plugin: {deviceListStrategy: cdi-cri}}\n"
SPECS = "flags: {plugin: {passDeviceSpecs: true}}\n"


@pytest.mark.parametrize("flags", [CDI, SPECS, ""], ids=["cdi", "device specs", "container runtime"])
def test_a_gpu_without_minor_number_is_given_out_only_where_it_can_be(begin, flags):
    world = begin(config=SLICED % flags, inject=[("--gpu", "1", "nvml:nvmlDeviceGetMinorNumber=3")])
    world.node.wait_log("serving")
    first, second = (gpu["uuid"] for gpu in world.node.status()["gpus"])
    devices = world.plugin().wait(lambda devices: len(devices) == 8 and len(healthy(devices)) >= 4, "all shares")
    assert gpus_of(sick(devices)) == ([second] if flags else [])
    for share in healthy(devices):
        assert world.plugin().allocate([share])
    if flags:
        world.problem("device 1 is not given out: the driver tells no minor number of device 1")
        gpu = world.node.status()["gpus"][1]
        assert "no minor number" in gpu["reason"] and {share["state"] for share in gpu["shares"]} == {"Unhealthy"}
    else:
        assert not world.node.status()["problems"]
    assert first != second


# --- GPUs that can't be read ---

CALLS = ["HandleByIndex_v2", "UUID", "Name", "MinorNumber", "MemoryInfo", "MigMode"]


@pytest.mark.parametrize("code", [3, 4, 999])
@pytest.mark.parametrize("call", CALLS)
def test_a_gpu_that_can_not_be_read_is_told_and_stops_no_other(begin, call, code):
    world = begin(inject=[("--gpu", "1", "nvml:nvmlDeviceGet%s=%d" % (call, code))], arguments=["--metrics-address", "127.0.0.1:0"])
    devices = world.plugin().wait(lambda devices: len(healthy(devices)) >= 4, "the shares of the other GPU")
    if code == 3 and call in ("MinorNumber", "MemoryInfo", "MigMode"):  # the driver does not tell it, and that is no fault
        world.plugin().wait(lambda devices: len(healthy(devices)) == 8, "both GPUs")
        return
    text = world.problem("GPU 1 can't be read", "nvmlDeviceGet%s" % call)
    gpus = world.node.status()["gpus"]
    assert [gpu["index"] for gpu in gpus] == [0, 1] and gpus[0]["health"] == "Healthy" and gpus[0]["shares"]
    assert "nvmlDeviceGet%s" % call in gpus[1]["reason"]
    if call != "MigMode":
        assert gpus[1]["health"] == "Unhealthy" and gpus_of(devices) == [gpus[0]["uuid"]]
    shown = world.sim.run("gpushare", "status", "--socket", world.node.socket)
    assert shown.returncode == 0 and "nvmlDeviceGet%s" % call in shown.stdout and "GPU 1" in shown.stdout and "! " + text in shown.stdout
    address = re.search(r"serving metrics.*address=(\S+)", world.node.read_log()).group(1)
    with urllib.request.urlopen("http://%s/healthz" % address, timeout=WAIT) as answer:
        page = answer.read().decode()
        assert page.startswith("ok\n") and "\nproblem: %s\n" % text in page
    said = "a GPU could not be read"
    assert world.node.read_log().count(said) == 1
    world.sim.inject("--gpu", "1", "nvml:nvmlDeviceGet%s=0" % call)
    world.plugin().wait(lambda devices: len(healthy(devices)) == 8, "the shares of both GPUs")
    wait_until(lambda: not world.node.status()["problems"], "no problem left")
    assert world.node.read_log().count(said) == 1


@pytest.mark.parametrize("call", ["PciInfo_v3", "CudaComputeCapability"])
def test_a_gpu_that_can_not_be_read_in_full_is_served_and_told(begin, call):
    world = begin(inject=[("--gpu", "1", "nvml:nvmlDeviceGet%s=4" % call)])
    world.plugin().wait(lambda devices: len(healthy(devices)) == 8, "the shares of both GPUs")
    world.problem("GPU 1 can't be read in full", "nvmlDeviceGet%s" % call)


@pytest.mark.parametrize("call", CALLS)
def test_no_gpu_that_can_be_read_is_not_no_gpu(begin, call):
    world = begin(inject=[("nvml:nvmlDeviceGet%s=4" % call,)])
    world.problem("GPU 0 can't be read", "nvmlDeviceGet%s" % call)
    world.problem("GPU 1 can't be read", "nvmlDeviceGet%s" % call)
    shown = world.sim.run("gpushare", "status", "--socket", world.node.socket)
    assert "no GPU\n" not in shown.stdout and "no GPU found" not in world.node.read_log()
    assert not [plugin for plugin in world.kubelet.plugins.values() if healthy(plugin.latest or {})]


def test_memory_that_is_not_told_is_shared_by_turns(begin):
    world = begin(inject=[("--gpu", "1", "nvml:nvmlDeviceGetMemoryInfo=3")])
    world.plugin().wait(lambda devices: len(healthy(devices)) == 8, "the shares of both GPUs")
    assert not world.node.status()["problems"]


@pytest.mark.skipif(os.geteuid() != 0, reason="NVML lets only root change the compute mode")
def test_memory_that_is_not_told_is_no_limit_of_mps(make):
    world = make(config="version: v1\nflags: {mpsRoot: %s}\nsharing: {mps: {renameByDefault: false, resources: "
                        "[{name: nvidia.com/gpu, replicas: 4}]}}\n")
    world.sim.inject("--gpu", "1", "nvml:nvmlDeviceGetMemoryInfo=3")
    world.start()
    devices = world.ready(8)
    second = world.node.status()["gpus"][1]["uuid"]
    for share in healthy(devices):
        limits = [answer.envs.get("CUDA_MPS_PINNED_DEVICE_MEM_LIMIT") for answer in world.plugin().allocate([share])]
        assert limits == [None if share.startswith(second) else "0=20480M"]
    assert [problem for problem in world.node.status()["problems"] if "does not tell how much memory device 1 has" in problem]
    assert world.container(second + "::0").ready()("run(1000)") == SUCCESS


# --- compute modes ---

@pytest.mark.skipif(os.geteuid() != 0, reason="NVML lets only root change the compute mode")
@pytest.mark.parametrize("mode, words", [(EXCLUSIVE, "EXCLUSIVE_PROCESS: one process at a time can use it, and 4 shares"),
                                         (PROHIBITED, "PROHIBITED: no program can use it")])
def test_a_mode_that_keeps_shares_from_being_used_is_said(make, mode, words):
    world = make(config=SLICED.replace("%s", "flags: {mpsRoot: %s}\n"))
    world.mode(1, mode)
    world.start()
    world.ready(8)
    wait_until(lambda: [problem for problem in world.node.status()["problems"] if "GPU 1 is in compute mode " + words in problem], "the problem")
    assert words in world.sim.run("gpushare", "config", "check", "--gpus", world.node.config).stderr
    world.node.wait_log("GPU 1 is in compute mode " + words)
    world.mode(1, DEFAULT)
    wait_until(lambda: not world.node.status()["problems"], "no problem left")


@pytest.mark.skipif(os.geteuid() != 0, reason="NVML lets only root change the compute mode")
def test_mps_then_mig(make):
    """With MIG on, drivers refuse compute modes: there is nothing to restore then, and nobody waits for it."""
    world = make(spec="2xA100-80GB").start()
    world.ready(20)
    assert (world.mode(0), world.mode(1)) == (EXCLUSIVE, EXCLUSIVE)
    daemons = list(world.mps().values())
    world.node.kill()  # so that the record is all there is of it
    for daemon in daemons:
        os.kill(daemon["pid"], signal.SIGKILL)
    enabled = world.sim.run("gpushare", "mig", "enable", "-i", "0", "--socket", world.node.socket)
    assert enabled.returncode == 0, enabled.stderr
    world.configure("version: v1\nflags: {mpsRoot: %s, migStrategy: mixed}\n")
    world.start()
    world.plugin().wait(lambda devices: len(healthy(devices)) == 1, "the other GPU")
    created = world.sim.run("gpushare", "mig", "create", "-i", "0", "1g.10gb", "--socket", world.node.socket)
    assert created.returncode == 0, created.stderr
    world.plugin("nvidia.com/mig-1g.10gb").wait(lambda devices: len(healthy(devices)) == 1, "its instance")
    assert (world.mode(0), world.mode(1)) == (EXCLUSIVE, DEFAULT)
    assert not [problem for problem in world.node.status()["problems"] if "compute mode" in problem]
    assert world.node.stop() == 0
    stopped = world.sim.run("gpushare", "mps", "stop", "--grace", "0s", "--mps-root", world.root, "--state-dir", world.node.state)
    assert stopped.returncode == 0, stopped.stderr
    world.start()
    world.plugin("nvidia.com/mig-1g.10gb").wait(lambda devices: len(healthy(devices)) == 1, "its instance")
    # When MIG goes off, the mode is what it was.
    for share in healthy(world.plugin("nvidia.com/mig-1g.10gb").latest):
        assert world.sim.run("gpushare", "mig", "destroy", share, "--socket", world.node.socket).returncode == 0
    assert world.sim.run("gpushare", "mig", "disable", "-i", "0", "--socket", world.node.socket).returncode == 0
    wait_until(lambda: world.mode(0) == DEFAULT, "the mode to be as it was")
