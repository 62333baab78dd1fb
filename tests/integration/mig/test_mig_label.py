"""MIG by the node's label nvidia.com/mig.config: the daemon, a kubelet and an API server that are not ours."""
import os
import pathlib
import re
import tempfile
import urllib.request

import pytest

from apiserver import ApiServer
from kubelet import Kubelet
from node import GPUSHARE, Node, Sim, healthy, sick, wait_until
from pod_resources import PodResources

pytestmark = [
    pytest.mark.skipif(not os.path.exists(GPUSHARE), reason="gpushare is not built"),
    pytest.mark.skipif(os.geteuid() != 0, reason="NVML lets only root change MIG layouts"),
]

CONFIG, STATE = "nvidia.com/mig.config", "nvidia.com/mig.config.state"
SMALL, LARGE = "nvidia.com/mig-1g.10gb", "nvidia.com/mig-3g.40gb"
OWN = """version: v1
mig-configs:
  mine:
  - devices: [0]
    mig-enabled: true
    mig-devices: {"2g.20gb": 3}
  - devices: [1]
    mig-enabled: false
"""


class World:
    def __init__(self, path, authority, mig=None, arguments=(), condition=None, born=None, api=True, env=None):
        """`born`: the label that the node has before the daemon starts; `api`: whether the API server is there then."""
        self.api = ApiServer(path, authority)
        if condition:
            self.api.change(lambda node: node["status"]["conditions"].append(condition))
        self.api.label(**({CONFIG: born} if born else {}))
        if not api:
            self.api.stop()
        self.sim = Sim(path / "sim", "2xA100-80GB", *(["--mig", mig] if mig else []))
        self.file = path / "mig.yaml"
        self.node = Node(path, self.sim, config="version: v1\nflags: {migStrategy: mixed}\n", env={**self.api.environment(), **(env or {})},
                         arguments=["--mig-config", str(self.file), *arguments])
        self.kubelet = Kubelet(self.node.kubelet_dir).start()
        self.node.start()

    def plugin(self, name):
        found = lambda: (p := self.kubelet.plugins.get(name)) and not p.ended.is_set() and p
        return wait_until(found, f"{name} to be registered; there are {sorted(self.kubelet.plugins)}")

    def want(self, name):
        self.api.label(**{CONFIG: name})

    def wait_state(self, state):
        wait_until(lambda: self.api.labels().get(STATE) == state, f"the state {state}; labels: {self.api.labels()}; {self.node.read_log()}")

    def stop(self):
        self.kubelet.stop()
        code = self.node.stop()
        self.sim.stop()
        self.api.stop()
        assert code == 0, self.node.read_log()


@pytest.fixture
def make(authority):
    worlds = []
    with tempfile.TemporaryDirectory(prefix="mig-") as directory:

        def start(**options):
            worlds.append(World(pathlib.Path(directory), authority, **options))
            return worlds[-1]

        yield start
        for world in worlds:
            world.stop()


def test_metrics_tell_what_the_label_came_to(make):
    world = make(arguments=["--metrics-address", "127.0.0.1:0"])
    text = lambda: urllib.request.urlopen(address, timeout=60).read().decode()
    address = "http://%s/metrics" % wait_until(lambda: re.search(r"serving metrics address=(\S+)\n", world.node.read_log()), "the address").group(1)
    world.want("all-1g.10gb")
    world.wait_state("success")
    wait_until(lambda: 'gpushare_mig_config_state{config="all-1g.10gb",state="success"} 1\n' in text(), "the state")
    assert 'gpushare_mig_changes_total{result="success"} 1\n' in text() and 'gpushare_mig_changes_total{result="failed"} 0\n' in text()
    world.want("no-such-layout")
    world.wait_state("failed")
    wait_until(lambda: 'gpushare_mig_changes_total{result="failed"} 1\n' in text(), "the failure to count")
    assert 'gpushare_mig_config_state{config="no-such-layout",state="failed"} 1\n' in text()


def test_the_label_divides_the_gpus(make):
    world = make()
    assert len(healthy(world.plugin("nvidia.com/gpu").wait(lambda list: len(list) == 2))) == 2
    world.want("all-1g.10gb")
    world.wait_state("success")
    world.plugin(SMALL).wait(lambda list: len(list) == 14 and not sick(list), "fourteen")
    world.api.wait_condition("GPUShareMIG", "True", "MIGConfigApplied")
    assert world.node.status()["mig"]["state"] == "success"
    world.want("all-balanced")
    wait_until(lambda: world.node.status()["mig"] == {"config": "all-balanced", "state": "success",
                                                      "reason": world.node.status()["mig"]["reason"]}, "the next one")
    world.plugin(LARGE).wait(lambda list: len(list) == 2 and not sick(list), "two halves")
    world.plugin(SMALL).wait(lambda list: len(list) == 4 and not sick(list), "two small ones of each GPU")
    world.want("all-disabled")
    world.plugin("nvidia.com/gpu").wait(lambda list: len(list) == 2, "whole GPUs again")
    world.wait_state("success")
    world.api.wait_condition("GPUShareMIG", "True", "MIGConfigApplied")
    world.want(None)
    wait_until(lambda: STATE not in world.api.labels(), "no state without a label")
    wait_until(lambda: world.api.condition("GPUShareMIG") is None, "no condition without a label")


def test_the_label_is_not_followed_when_it_should_not_be(make):
    """Nor does what an earlier daemon said of it stay."""
    old = {"type": "GPUShareMIG", "status": "True", "reason": "MIGConfigApplied", "message": "applied"}
    world = make(arguments=["--mig-manager=false"], condition=old)
    world.want("all-1g.10gb")
    wait_until(lambda: world.api.condition("GPUShareMIG") is None, "no condition")
    assert len(healthy(world.plugin("nvidia.com/gpu").wait(lambda list: len(list) == 2))) == 2
    assert world.node.status()["mig"] is None and STATE not in world.api.labels()


def test_a_node_born_with_the_label_offers_no_whole_gpu(make):
    """A pod there would be in MIG's way for as long as it runs."""
    world = make(born="all-3g.40gb")
    world.plugin(LARGE).wait(lambda list: len(list) == 4 and not sick(list), "four halves")
    world.wait_state("success")
    assert "nvidia.com/gpu" not in world.kubelet.plugins and "resource=nvidia.com/gpu" not in world.node.read_log()
    world.node.stop()
    world.node.start()  # nothing is to do then
    wait_until(lambda: world.node.read_log().count("state=success") == 2, "the same state again")
    world.plugin(LARGE).wait(lambda list: len(list) == 4 and not sick(list), "the same again")


def test_an_api_server_that_is_away_is_waited_for_and_said(make):
    world = make(born="all-3g.40gb", api=False)
    world.node.wait_listening()
    wait_until(lambda: any("nvidia.com/mig.config" in p for p in world.node.status()["problems"]), "the status to say so")
    assert not world.kubelet.plugins
    world.plugin("nvidia.com/gpu").wait(lambda list: len(list) == 2)
    world.node.wait_log("the API server does not say whether this node has a MIG configuration")
    world.api.start()
    world.plugin(LARGE).wait(lambda list: len(list) == 4, "four halves")
    world.wait_state("success")


def test_a_node_born_with_a_label_that_is_refused_offers_what_it_has(make):
    world = make(born="no-such")
    world.plugin("nvidia.com/gpu").wait(lambda list: len(list) == 2 and not sick(list))
    world.wait_state("failed")


def test_a_file_of_configurations(make):
    world = make()
    world.file.write_text(OWN, encoding="utf-8")
    world.want("mine")
    world.wait_state("success")
    assert len(healthy(world.plugin("nvidia.com/mig-2g.20gb").wait(lambda list: len(list) == 3))) == 3
    world.plugin("nvidia.com/gpu").wait(lambda list: len(list) == 1, "the GPU without MIG")
    world.want("all-1g.10gb")  # what the hardware gives is there too
    world.plugin(SMALL).wait(lambda list: len(list) == 14, "fourteen")


INVALID = """version: v1
mig-configs:
  %s:
  - devices: all
    mig-enabled: maybe
"""


def test_a_file_that_is_not_valid_is_refused_whatever_is_wanted(make):
    """Nobody can say what it has of its own; a comment decides nothing."""
    world = make()
    notes = []
    for text in [INVALID % "all-balanced", "# all-balanced comes from the hardware\n" + INVALID % "other", INVALID % "other"]:
        world.want(None)
        wait_until(lambda: STATE not in world.api.labels(), "no state without a label")
        world.file.write_text(text, encoding="utf-8")
        world.want("all-balanced")
        world.wait_state("failed")
        notes.append(world.node.status()["mig"]["reason"])
    assert all("mig-enabled must be true or false" in note for note in notes), notes
    world.file.write_text(OWN, encoding="utf-8")
    world.want("all-1g.10gb")
    world.wait_state("success")
    world.plugin(SMALL).wait(lambda list: len(list) == 14, "fourteen")


def test_gpus_that_the_node_lacks_are_noted(make):
    world = make()
    world.file.write_text("""apiVersion: v1
kind: ConfigMap
metadata: {name: mig-parted-config}
data:
  config.yaml: |
    version: v1
    mig-configs:
      seven: [{devices: [0,1,2,3,4,5,6,7], mig-enabled: true, mig-devices: {"1g.10gb": 7}}]
""", encoding="utf-8")
    world.want("seven")
    world.wait_state("success")
    world.plugin(SMALL).wait(lambda list: len(list) == 14, "fourteen")
    assert "this node has no GPU 2, 3, 4, 5, 6, 7" in world.node.status()["mig"]["reason"]


def test_a_name_that_does_not_exist_fails_and_changes_nothing(make):
    world = make(mig="3g.40gb")
    large = world.plugin(LARGE)
    before = healthy(large.wait(lambda list: len(list) == 2))
    world.want("all-1g.11gb")
    world.wait_state("failed")
    assert "all-1g.10gb" in world.api.wait_event("MIGConfigFailed")["note"]
    world.api.wait_condition("GPUShareMIG", "False", "MIGConfigFailed")
    assert healthy(large.latest) == before
    assert any("all-1g.11gb" in p or "all-1g.10gb" in p for p in world.node.status()["problems"])
    world.want("all-3g.40gb")
    world.wait_state("success")
    assert set(before) <= set(world.plugin(LARGE).wait(lambda list: len(list) == 4))


def test_what_is_in_use_is_waited_for_and_named(make):
    """The GPU's other instances change at once only when the whole can be: until then nothing is touched, nobody new is let
    in where somebody has to leave, and the rest goes on."""
    world = make(mig="3g.40gb,1g.10gb")
    small, large = world.plugin(SMALL), world.plugin(LARGE)
    ids = healthy(large.wait(lambda list: len(list) == 2))
    load = world.sim.popen(GPUSHARE, "sim", "load", "--gpu", ids[0], "--name", "held")
    try:
        wait_until(lambda: any(g["processes"] for g in world.node.status()["gpus"]), "a process")
        world.want("all-1g.10gb")
        note = world.api.wait_event("MIGConfigPending")["note"]
        assert f"process {load.pid}" in note, note
        world.wait_state("pending")
        large.wait(lambda list: sick(list) == [ids[0]], "only the one in use withdrawn")
        small.wait(lambda list: len(healthy(list)) == 2)
        assert load.poll() is None
    finally:
        load.terminate()
        load.wait()
    world.wait_state("success")
    world.plugin(SMALL).wait(lambda list: len(list) == 14, "fourteen small ones")


def test_what_was_just_handed_out_is_in_use(make):
    world = make(mig="3g.40gb,1g.10gb")
    large = world.plugin(LARGE)
    ids = healthy(large.wait(lambda list: len(list) == 2))
    large.allocate([ids[1]])
    world.want("all-1g.10gb")
    assert f"a container that was given {LARGE}" in world.api.wait_event("MIGConfigPending")["note"]
    assert sorted(large.wait(lambda list: sick(list) == [ids[1]])) == ids
    world.want("all-3g.40gb")  # which it is part of
    world.wait_state("success")
    large.wait(lambda list: len(list) == 4 and not sick(list), "all four, the one in use among them")


def test_nvml_failing_is_tried_again(make):
    world = make(mig="3g.40gb")
    world.plugin(LARGE).wait(len)
    world.sim.inject("nvml:nvmlDeviceCreateGpuInstanceWithPlacement=999:2")
    world.want("all-1g.10gb")
    world.wait_state("success")
    assert "CreateGpuInstance" in world.api.wait_event("MIGConfigPending")["note"]
    world.plugin(SMALL).wait(lambda list: len(list) == 14, "fourteen")


def test_profiles_that_the_driver_does_not_tell_are_no_success(make):
    """Some drivers tell them only while MIG is on: nothing would be to do on a GPU that seems to have none."""
    world = make()
    world.plugin("nvidia.com/gpu").wait(len)
    for call in "nvmlDeviceGetGpuInstanceProfileInfo", "nvmlDeviceGetGpuInstanceProfileInfoV":
        world.sim.inject(f"nvml:{call}=3")
    world.want("all-1g.10gb")
    assert "turn it on with gpushare mig enable -i 0" in world.api.wait_event("MIGConfigPending")["note"]
    for call in "nvmlDeviceGetGpuInstanceProfileInfo", "nvmlDeviceGetGpuInstanceProfileInfoV":
        world.sim.inject(f"nvml:{call}=0")
    world.wait_state("success")
    world.plugin(SMALL).wait(lambda list: len(list) == 14, "fourteen")


def test_a_restart_finds_it_done(make):
    world = make()
    world.want("all-balanced")
    world.wait_state("success")
    world.node.kill()
    world.node.start()
    wait_until(lambda: world.node.read_log().count("state=success") == 2, "the same state again")
    assert "nothing was to do" in world.node.read_log()


def test_pods_are_named_and_waited_for(make):
    """A pod that holds an instance without a process on it, by the kubelet's word."""
    world = make(mig="3g.40gb,1g.10gb")
    large = world.plugin(LARGE)
    ids = healthy(large.wait(lambda list: len(list) == 2))
    pods = PodResources(world.node.kubelet_dir)
    pods.pods = [("team-a", "train-0", "main", LARGE, [ids[0]])]
    pods.start()
    try:
        world.want("all-1g.10gb")
        assert "pod team-a/train-0" in world.api.wait_event("MIGConfigPending")["note"]
        large.wait(lambda list: sick(list) == [ids[0]], "only what the pod holds withdrawn")
        status = world.node.status()
        assert status["mig"]["state"] == "pending" and "train-0" in status["mig"]["reason"]
        pods.pods = []
        world.wait_state("success")
    finally:
        pods.stop()
    world.plugin(SMALL).wait(lambda list: len(list) == 14 and not sick(list), "fourteen small ones")


@pytest.mark.parametrize("kubelet", ["tells", "is silent"])
def test_an_idle_pod_on_a_slice_is_planned_around(make, kubelet):
    """The first plan would destroy the pod's slice. What is allocated is known before anything is planned, so no plan is
    made that another round has to take back."""
    world = make(mig="1g.10gb,1g.10gb,1g.10gb,1g.10gb,1g.10gb,1g.10gb,1g.10gb")
    small = world.plugin(SMALL)
    ids = healthy(small.wait(lambda list: len(list) == 14))
    first = world.node.status()["gpus"][0]["uuid"]
    shares = [s for g in world.node.status()["gpus"] if g["uuid"] == first for s in g["shares"]]
    held = [s["id"] for s in shares][0]
    pods = PodResources(world.node.kubelet_dir)
    if kubelet == "tells":
        pods.pods = [("team-a", "idle-0", "main", SMALL, [held])]
        pods.start()
    else:
        small.allocate([held])
    try:
        world.want("all-balanced")
        world.wait_state("success")
        left = world.plugin(SMALL).wait(lambda list: len(list) == 4 and not sick(list), "two small ones of each GPU")
        assert held in left and held in ids
        world.plugin(LARGE).wait(lambda list: len(list) == 2 and not sick(list), "two halves")
    finally:
        pods.stop()


def test_pods_that_leave_no_room_are_all_named(make):
    """Each slice of a GPU is held by an idle pod: nothing is changed, and those in the way are named and withheld."""
    world = make(mig="1g.10gb,1g.10gb,1g.10gb,1g.10gb,1g.10gb,1g.10gb,1g.10gb")
    small = world.plugin(SMALL)
    small.wait(lambda list: len(list) == 14)
    first = world.node.status()["gpus"][0]
    pods = PodResources(world.node.kubelet_dir)
    pods.pods = [("team-a", f"idle-{i}", "main", SMALL, [s["id"]]) for i, s in enumerate(first["shares"])]
    pods.start()
    try:
        world.want("all-3g.40gb")
        note = world.api.wait_event("MIGConfigPending")["note"]
        assert all(f"pod team-a/idle-{i}" in note for i in range(7)), note
        small.wait(lambda list: sorted(sick(list)) == sorted(s["id"] for s in first["shares"]), "the other GPU given out")
        pods.pods = []
        world.wait_state("success")
    finally:
        pods.stop()
    world.plugin(LARGE).wait(lambda list: len(list) == 4 and not sick(list), "four halves")


def test_the_mode_changes_once_nothing_runs(make):
    world = make()
    gpus = world.plugin("nvidia.com/gpu")
    both = healthy(gpus.wait(lambda list: len(list) == 2))
    load = world.sim.popen(GPUSHARE, "sim", "load", "--gpu", "1")
    try:
        wait_until(lambda: any(g["processes"] for g in world.node.status()["gpus"]), "a process")
        world.want("all-3g.40gb")
        note = world.api.wait_event("MIGConfigPending")["note"]
        assert "GPU 1: the MIG mode changes only while nothing uses the GPU" in note and f"process {load.pid}" in note
        busy = world.node.status()["gpus"][1]["uuid"]
        gpus.wait(lambda list: sick(list) == [busy] and sorted(list) == both, "the busy GPU withdrawn")
        assert load.poll() is None
    finally:
        load.terminate()
        load.wait()
    world.wait_state("success")
    world.plugin(LARGE).wait(lambda list: len(list) == 4, "four halves")


def test_a_reset_that_is_refused_waits_for_a_restart(make, tmp_path):
    """As in a virtual machine: the mode is noted, said, and goes on once the GPU was reset; other GPUs don't wait."""
    smi = tmp_path / "nvidia-smi"
    smi.write_text(f"#!/bin/sh\necho reset >> {tmp_path}/resets\nexit 3\n")
    smi.chmod(0o755)
    world = make(env={"PATH": f"{tmp_path}:{os.environ['PATH']}"})
    world.plugin("nvidia.com/gpu").wait(lambda list: len(list) == 2)
    waiting = next(gpu["uuid"] for gpu in world.node.status()["gpus"] if gpu["index"] == 0)
    world.sim.inject("--gpu", "0", "mig-needs-reset=on")
    world.want("all-3g.40gb")
    condition = world.api.wait_condition("GPUShareMIG", "False", "MIGConfigNeedsRestart")
    assert "GPU 0: MIG is noted as on, and will be so after a restart of the machine" in condition["message"]
    assert "nvidia-smi" in world.api.wait_event("MIGConfigNeedsRestart")["note"]
    assert world.api.labels()[STATE] == "pending"
    assert any("after a restart" in p for p in world.node.status()["problems"])
    world.plugin(LARGE).wait(lambda list: len(list) == 2 and not sick(list), "the other GPU in halves")
    world.plugin("nvidia.com/gpu").wait(lambda list: sick(list) == sorted(list) == [waiting], "nobody new on the one that waits")
    world.sim.inject("--gpu", "0", "reset")
    world.wait_state("success")
    world.plugin(LARGE).wait(lambda list: len(list) == 4 and not sick(list), "four halves")
    assert (tmp_path / "resets").read_text().split() == ["reset"]  # not at each look


def test_another_wish_while_waiting(make):
    world = make(mig="3g.40gb,1g.10gb")
    large = world.plugin(LARGE)
    ids = healthy(large.wait(lambda list: len(list) == 2))
    large.allocate([ids[0]])
    world.want("all-1g.10gb")
    world.wait_state("pending")
    large.wait(lambda list: sick(list) == [ids[0]], "the one in the way withdrawn")
    world.want(None)
    large.wait(lambda list: healthy(list) == ids, "all given out again")
    wait_until(lambda: STATE not in world.api.labels(), "no state without a label")
    assert world.node.status()["mig"] is None


def test_one_change_after_the_other(make):
    """What the API server tells of the daemon's own writes is no sign that somebody else changes the node's labels."""
    world = make()
    world.plugin("nvidia.com/gpu")
    for name in ["all-1g.10gb", "all-balanced", "all-3g.40gb", "no-such", "all-2g.20gb", "all-1g.10gb", "all-disabled"]:
        world.want(name)
        wait_until(lambda: (world.node.status()["mig"] or {}).get("config") == name, f"{name} to be taken up")
        world.wait_state("failed" if name == "no-such" else "success")
    assert "a label of ours was changed" not in world.node.read_log()
