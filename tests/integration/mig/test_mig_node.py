"""The daemon on a node with MIG, seen by an independent kubelet, while others change the layout."""
import json
import os
import subprocess
import pathlib
import sys
import tempfile

import grpc
import pytest

from kubelet import Kubelet
from node import GPUSHARE, Node, Sim, healthy, sick, wait_until

TOOL = str(pathlib.Path(__file__).resolve().parents[1] / "lib" / "nvml_mig.py")
SMALL, MIDDLE, LARGE = "nvidia.com/mig-1g.10gb", "nvidia.com/mig-2g.20gb", "nvidia.com/mig-3g.40gb"

pytestmark = [
    pytest.mark.skipif(not os.path.exists(GPUSHARE), reason="gpushare is not built"),
    pytest.mark.skipif(os.geteuid() != 0, reason="NVML lets only root change MIG layouts"),
]


def config(strategy="mixed", plugin="", sharing=""):
    flags = f"flags:\n  migStrategy: {strategy}\n" + (f"  plugin: {{{plugin}}}\n" if plugin else "")
    return "version: v1\n" + flags + (f"sharing:\n  timeSlicing:\n    resources:\n{sharing}" if sharing else "")


class World:
    """A simulated node of its own, since tests change its layout, with a daemon and a kubelet."""

    def __init__(self, path, spec="2xA100-80GB", mig=None, text=None, kubelet=True):
        self.sim = Sim(path / "sim", spec, *(["--mig", mig] if mig else []))
        for gpu in range(int(spec[0]) if spec[1] == "x" else 1) if mig and mig != "none" else ():
            # The node can be joined a moment before its layout is complete.
            wait_until(lambda: len(self.tool("list", gpu).split()) == len(mig.split(",")), "the simulated layout")
        root = str(path / "sim" / "root")
        self.root = root
        self.node = Node(path, self.sim, config=text or config(), arguments=["--driver-root", root, "--dev-root", root])
        self.kubelet = Kubelet(self.node.kubelet_dir)
        if kubelet:
            self.kubelet.start()
        self.node.start()
        self.node.wait_listening()

    def plugin(self, name="nvidia.com/gpu"):
        """The resource as the kubelet knows it now, whatever was registered before or after it."""
        found = lambda: (p := self.kubelet.plugins.get(name)) and not p.ended.is_set() and p
        return wait_until(found, f"{name} to be registered; there are {sorted(self.kubelet.plugins)}")

    def tool(self, *arguments):
        result = self.sim.run(sys.executable, TOOL, *map(str, arguments))
        assert result.returncode == 0, result.stderr
        return result.stdout.strip()

    def uuids(self):
        """[(GPU's number, profile, UUID)] of the MIG devices, as the daemon sees them."""
        return [(gpu["index"], device["profile"], device["uuid"]) for gpu in self.node.status()["gpus"] for device in gpu["migDevices"]]

    def problems(self):
        return self.node.status()["problems"]

    def stop(self):
        self.kubelet.stop()
        code = self.node.stop()
        self.sim.stop()
        assert code == 0, self.node.read_log()


@pytest.fixture
def make():
    worlds = []
    # pytest's own folders have long names, and a socket's path must not have more than 107 bytes.
    with tempfile.TemporaryDirectory(prefix="mig-") as directory:

        def start(**options):
            worlds.append(World(pathlib.Path(directory), **options))
            return worlds[-1]

        yield start
        for world in worlds:
            world.stop()


def test_mixed_publishes_each_profile(make):
    world = make(mig="3g.40gb,2g.20gb,1g.10gb,1g.10gb")
    small, middle, large = world.plugin(SMALL), world.plugin(MIDDLE), world.plugin(LARGE)
    assert len(healthy(small.wait(len))) == 4
    assert len(healthy(middle.wait(len))) == 2
    assert len(healthy(large.wait(len))) == 2
    assert all(i.startswith("MIG-") for i in large.latest)
    assert "nvidia.com/gpu" not in world.kubelet.plugins
    assert small.registration.endpoint == "nvidia-mig-1g.10gb.sock"
    assert not world.problems()


def test_mixed_beside_a_gpu_without_mig(make):
    world = make()
    plugin = world.plugin()
    assert len(plugin.wait(len)) == 2
    world.tool("mode", 1, 1)
    plugin.wait(lambda list: len(list) == 1, "one GPU, since the other has MIG now")
    wait_until(lambda: any("GPU 1 has MIG enabled but no MIG devices" in p for p in world.problems()), "a word about it")
    uuid = world.tool("create", 1, 3)
    assert healthy(world.plugin(LARGE).wait(len)) == [uuid]
    assert len(plugin.latest) == 1
    wait_until(lambda: not world.problems(), "no problems")


def test_single_publishes_instances_as_gpus(make):
    world = make(mig="1g.10gb,1g.10gb,1g.10gb", text=config("single"))
    plugin = world.plugin()
    assert len(healthy(plugin.wait(len))) == 6
    assert not world.problems()


def test_single_with_two_profiles_goes_on(make):
    """NVIDIA's plugin exits, and the node offers nothing."""
    world = make(mig="3g.40gb,1g.10gb", text=config("single"))
    assert len(healthy(world.plugin().wait(len))) == 2
    (problem,) = world.problems()
    assert "must be alike" in problem and "3g.40gb (device 0:" in problem and "NVIDIA's device plugin would exit" in problem
    assert "must be alike" in world.node.read_log()


def test_single_on_a_node_without_instances(make):
    world = make(mig="none", text=config("single"))
    empty = lambda: [p for p in world.problems() if "MIG enabled but no MIG devices" in p]
    wait_until(lambda: len(empty()) == 2, "a problem for each GPU")
    assert not world.kubelet.plugins
    uuid = world.tool("create", 0, 2)
    assert healthy(world.plugin().wait(len)) == [uuid]
    assert len(empty()) == 1


def test_none_publishes_whole_gpus_and_says_so(make):
    world = make(mig="3g.40gb", text=config("none"))
    assert all(i.startswith("GPU-") for i in world.plugin().wait(len))
    assert any("migStrategy none publishes it whole" in p for p in world.problems())


def test_layout_changed_by_another_tool(make):
    world = make(mig="3g.40gb,1g.10gb")
    small, large = world.plugin(SMALL), world.plugin(LARGE)
    before = set(small.wait(lambda list: len(list) == 2))
    new = world.tool("create", 0, 1)
    small.wait(lambda list: set(list) == before | {new}, "the new instance")
    new = world.tool("create", 1, 2)
    assert healthy(world.plugin(MIDDLE).wait(len)) == [new]
    gone = next(uuid for gpu, profile, uuid in world.uuids() if gpu == 1 and profile == "3g.40gb")
    world.tool("destroy", gone)
    large.wait(lambda list: gone not in list and len(list) == 1, "one large instance less")
    world.tool("destroy", next(iter(large.latest)))
    wait_until(large.ended.is_set, "the end of a resource that has no instance any more")
    assert LARGE not in [r["name"] for r in world.node.status()["resources"]]


def test_replicas_of_instances(make):
    world = make(mig="3g.40gb,1g.10gb", text=config(sharing=f"    - {{name: {SMALL}, replicas: 3, devices: [\"0:1\"]}}\n"
                                                    f"    - {{name: {LARGE}, replicas: 2}}\n"))
    small, large = world.plugin(SMALL), world.plugin(LARGE)
    ids = healthy(large.wait(len))
    assert len(ids) == 4 and {i.split("::")[1] for i in ids} == {"0", "1"}
    ids = healthy(small.wait(len))
    assert sum("::" in i for i in ids) == 3 and len(ids) == 4
    shared = next(i for i in ids if "::" in i).split("::")[0]
    (container,) = small.allocate([shared + "::2", shared + "::0"])
    assert container.envs["NVIDIA_VISIBLE_DEVICES"] == shared
    assert container.envs["GPUSHARE_SHARES"] == f"{shared}::2,{shared}::0"
    assert 0 < world.node.status()["gpus"][0]["shares"][0]["memoryBytes"] < 40 << 30


def minors_of(world):
    text = pathlib.Path(world.root, "proc/driver/nvidia-caps/mig-minors").read_text()
    return {line.split()[0]: int(line.split()[1]) for line in text.splitlines()}


def nodes_of(world, uuid):
    """The device nodes of a MIG device, from the driver's files and NVML's ids as other clients see them."""
    gpu, device = next((g, d) for g in world.node.status()["gpus"] for d in g["migDevices"] if d["uuid"] == uuid)
    minors = minors_of(world)
    place = f"gpu{gpu['index']}/gi{device['gpuInstance']}"
    return {f"/dev/nvidia{gpu['index']}", f"/dev/nvidia-caps/nvidia-cap{minors[place + '/access']}",
            f"/dev/nvidia-caps/nvidia-cap{minors[place + '/ci0/access']}"}


CONTROL = {"/dev/nvidiactl", "/dev/nvidia-uvm", "/dev/nvidia-uvm-tools"}


@pytest.mark.parametrize("strategy", ["envvar", "volume-mounts"])
def test_device_specs_of_an_instance(make, strategy):
    world = make(mig="2g.20gb,1g.10gb", text=config(plugin=f"deviceListStrategy: {strategy}, passDeviceSpecs: true"))
    plugin = world.plugin(MIDDLE)
    ids = healthy(plugin.wait(len))
    for uuid in ids:
        (container,) = plugin.allocate([uuid])
        assert {d.container_path for d in container.devices} == nodes_of(world, uuid) | CONTROL
        assert all(d.host_path == world.root + d.container_path and d.permissions == "rw" for d in container.devices)
        assert all(os.path.exists(d.host_path) for d in container.devices)
        if strategy == "envvar":
            assert container.envs["NVIDIA_VISIBLE_DEVICES"] == uuid
        else:
            assert [m.container_path for m in container.mounts] == [f"/var/run/nvidia-container-devices/{uuid}"]
    both = plugin.allocate(ids)[0]  # one of each GPU: no node twice
    paths = [d.container_path for d in both.devices]
    assert len(paths) == len(set(paths)) == 6 + len(CONTROL)


@pytest.mark.parametrize("strategy", ["cdi-cri", "cdi-annotations"])
@pytest.mark.parametrize("names", ["uuid", "index"])
def test_cdi_entries_follow_the_layout(make, strategy, names):
    world = make(mig="2g.20gb,1g.10gb", text=config(plugin=f"deviceListStrategy: {strategy}, deviceIDStrategy: {names}"))
    plugin = world.plugin(MIDDLE)
    first = healthy(plugin.wait(len))[0]
    path = pathlib.Path(world.node.cdi, "k8s.device-plugin.nvidia.com-gpu.json")

    def entries():
        spec = json.loads(path.read_text())
        return {d["name"]: {n["path"] for n in d["containerEdits"]["deviceNodes"]} for d in spec["devices"] if d["name"] != "all"}

    def name(uuid):
        if names == "uuid":
            return uuid
        return next(d["index"] for g in world.node.status()["gpus"] for d in g["migDevices"] if d["uuid"] == uuid)

    assert len(entries()) == 4  # a GPU that has MIG on is no device
    assert entries()[name(first)] == nodes_of(world, first)
    (container,) = plugin.allocate([first])
    wanted = f"k8s.device-plugin.nvidia.com/gpu={name(first)}"
    if strategy == "cdi-cri":
        assert [d.name for d in container.cdi_devices] == [wanted]
    else:
        assert list(container.annotations.values()) == [wanted]
    new = world.tool("create", 0, 3)
    assert healthy(world.plugin(LARGE).wait(len)) == [new]
    assert entries()[name(new)] == nodes_of(world, new)
    world.tool("destroy", new)
    wait_until(lambda: len(entries()) == 4, "a spec without the instance that is gone")


def test_preferred_allocation_groups_by_gpu(make):
    world = make(spec="3xA100-80GB", mig=",".join(["1g.10gb"] * 7), text=config(plugin="sharedDevicesAllocationPolicy: packed"))
    plugin = world.plugin(SMALL)
    ids = healthy(plugin.wait(lambda list: len(list) == 21))
    gpu_of = {uuid: gpu for gpu, _, uuid in world.uuids()}
    used = [i for i in ids if gpu_of[i] == 1][:3]
    free = [i for i in ids if i not in used]
    assert {gpu_of[i] for i in plugin.preferred(free, 4)} == {1}
    assert sorted(gpu_of[i] for i in plugin.preferred(free, 6)) in ([0, 0, 1, 1, 1, 1], [1, 1, 1, 1, 2, 2])
    world.node.write_config(config(plugin="sharedDevicesAllocationPolicy: distributed"))
    wait_until(lambda: world.node.read_log().count("config loaded"), "the new config")
    wait_until(lambda: sorted(gpu_of[i] for i in plugin.preferred(free, 4)) == [0, 0, 2, 2], "the least used GPUs in turns")
    world.node.write_config(config(plugin="sharedDevicesAllocationPolicy: spread"))
    wait_until(lambda: sorted(gpu_of[i] for i in plugin.preferred(free, 3)) == [0, 1, 2], "a GPU each")


def test_xid_of_an_instance_is_its_own(make):
    world = make(mig="2g.20gb,1g.10gb,1g.10gb")
    small, middle = world.plugin(SMALL), world.plugin(MIDDLE)
    ids = healthy(small.wait(lambda list: len(list) == 4))
    world.sim.inject("--gpu", ids[0], "xid=48")
    small.wait(lambda list: sick(list) == [ids[0]], "one sick instance")
    assert not sick(middle.latest)
    reasons = {d["uuid"]: d["reason"] for g in world.node.status()["gpus"] for d in g["migDevices"]}
    assert "XID 48" in reasons.pop(ids[0]) and set(reasons.values()) == {""}
    gpu = next(gpu for gpu, _, uuid in world.uuids() if uuid == ids[1])
    theirs = sorted(uuid for g, profile, uuid in world.uuids() if g == gpu and profile == "1g.10gb")
    world.sim.inject("--gpu", str(gpu), "xid=79")
    small.wait(lambda list: set(sick(list)) == {ids[0], *theirs}, "all instances of the lost GPU")
    middle.wait(lambda list: len(sick(list)) == 1, "all instances of the lost GPU")
    assert all(g["health"] == "Healthy" for g in world.node.status()["gpus"] if g["index"] != gpu)


def test_an_instance_that_vanishes_while_allocated(make):
    world = make(mig="2g.20gb,1g.10gb,1g.10gb")
    small = world.plugin(SMALL)
    ids = healthy(small.wait(lambda list: len(list) == 4))
    small.allocate([ids[0]])
    world.tool("destroy", ids[0])
    small.wait(lambda list: sorted(list) == ids[1:], "a list without it")
    with pytest.raises(grpc.RpcError) as refused:
        small.allocate([ids[0]])
    assert refused.value.code() in (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND)
    wait_until(lambda: any(ids[0] in p and "vanished" in p for p in world.problems()), "a problem that names it")
    world.node.wait_log("an allocated device vanished")
    small.allocate([ids[1]])


def test_mode_change_while_clients_run(make):
    """NVML refuses it, nothing is withdrawn; with MIG on and instances there, it can't be turned off either."""
    world = make()
    plugin = world.plugin()
    before = healthy(plugin.wait(len))
    load = world.sim.popen(GPUSHARE, "sim", "load", "--gpu", "0")
    try:
        wait_until(lambda: any(g["processes"] for g in world.node.status()["gpus"]), "a process")
        result = world.sim.run(sys.executable, TOOL, "mode", "0", "1")
        assert result.returncode != 0
        assert healthy(plugin.latest) == before and not world.problems()
    finally:
        load.kill()
        load.wait()
    wait_until(lambda: world.sim.run(sys.executable, TOOL, "mode", "0", "1").returncode == 0, "the mode change")
    plugin.wait(lambda list: len(list) == 1, "the GPU with MIG withdrawn")
    uuid = world.tool("create", 0, 7)
    assert healthy(world.plugin("nvidia.com/mig-7g.80gb").wait(len)) == [uuid]
    assert world.sim.run(sys.executable, TOOL, "mode", "0", "0").returncode != 0
    assert len(plugin.latest) == 1


def withdraw(node, devices, reason="a test"):
    """An open Withdraw call and its first answer."""
    channel = grpc.insecure_channel("unix:" + node.socket)
    stream = channel.unary_stream("/gpushare.v1.Node/Withdraw")(json.dumps({"devices": devices, "reason": reason}).encode())
    return channel, stream, json.loads(next(stream))


def test_withdrawn_while_somebody_changes_the_layout(make):
    world = make(mig="2g.20gb,1g.10gb,1g.10gb")
    small, middle = world.plugin(SMALL), world.plugin(MIDDLE)
    ids = healthy(small.wait(lambda list: len(list) == 4))
    small.allocate([ids[1]])
    channel, stream, answer = withdraw(world.node, ids[:2], "mig apply test")
    (promise,) = answer["promised"]
    assert promise["device"] == promise["share"] == ids[1] and SMALL in promise["who"]
    small.wait(lambda list: sick(list) == ids[:2], "both withdrawn")
    with pytest.raises(grpc.RpcError) as refused:
        small.allocate([ids[0]])
    assert "mig apply test" in refused.value.details()
    small.allocate([ids[2]])
    world.tool("destroy", ids[0])
    small.wait(lambda list: sorted(list) == ids[1:] and sick(list) == [ids[1]], "one gone, the other still withdrawn")
    channel.close()  # as when the client dies
    small.wait(lambda list: healthy(list) == ids[1:], "what is left, given out again")
    assert not sick(middle.latest)


def test_withdrawing_a_gpu_withdraws_all_of_it(make):
    world = make(mig="2g.20gb,1g.10gb")
    small = world.plugin(SMALL)
    ids = small.wait(lambda list: len(list) == 2)
    gpu = world.node.status()["gpus"][0]
    channel, stream, answer = withdraw(world.node, [gpu["uuid"], "MIG-of-another-node"])
    assert answer == {"promised": []}
    mine = [d["uuid"] for d in gpu["migDevices"] if d["profile"] == "1g.10gb"]
    small.wait(lambda list: sick(list) == mine, "this GPU's instance withdrawn")
    assert [d["health"] for d in world.node.status()["gpus"][0]["migDevices"]] == ["Unhealthy"] * 2
    channel.close()
    small.wait(lambda list: not sick(list) and set(list) == set(ids), "all back")


@pytest.mark.parametrize("request_text", ["", "{}", "[1]", '{"devices": [], "reason": "x"}', '{"devices": [1], "reason": "x"}',
                                          '{"devices": ["GPU-x"]}', '{"devices": ["%s"], "reason": "x"}' % ("G" * 200)])
def test_withdraw_refuses_nonsense(make, request_text):
    world = make(kubelet=False)
    wait_until(lambda: world.node.status()["gpus"], "the GPUs")
    with grpc.insecure_channel("unix:" + world.node.socket) as channel:
        with pytest.raises(grpc.RpcError) as refused:
            next(channel.unary_stream("/gpushare.v1.Node/Withdraw")(request_text.encode()))
    assert refused.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert world.node.process.poll() is None


def mig(world, *arguments):
    return world.sim.run(GPUSHARE, "mig", *arguments, "--socket", world.node.socket, "--state-dir", world.node.state)


def test_our_own_tool_asks_first(make):
    """What a container was just given is not destroyed, though no process runs on it yet."""
    world = make(spec="A100-80GB", mig="2g.20gb,1g.10gb,1g.10gb")
    small, middle = world.plugin(SMALL), world.plugin(MIDDLE)
    ids = healthy(small.wait(lambda list: len(list) == 2))
    small.allocate([ids[0]])
    refused = mig(world, "destroy", ids[0])
    assert refused.returncode != 0 and "in use by a container that was given " + SMALL in refused.stderr
    tell = lambda *arguments: world.sim.run(GPUSHARE, "mig", *arguments, "--socket", world.node.socket)
    for question in (["plan", "7g.80gb"], ["destroy", ids[0], "--dry-run"], ["disable", "--dry-run"], ["assert", "7g.80gb"]):
        said = tell(*question)
        assert said.returncode == 1 and "in use by a container that was given " + SMALL in said.stderr.replace("used by", "in use by")
    assert tell("plan", "1g.10gb,3g.40gb").returncode == 0
    (gpu,) = json.loads(tell("list", "-o", "json").stdout)
    assert ["a container that was given " + SMALL in (i["usedBy"] or "") for i in gpu["instances"]
            if i["profile"] == "1g.10gb"].count(True) == 1
    waiting = world.sim.popen(GPUSHARE, "mig", "destroy", ids[0], "--wait", "10m", "--socket", world.node.socket, "--state-dir",
                              world.node.state, stderr=subprocess.DEVNULL)
    try:
        small.wait(lambda list: sick(list) == [ids[0]], "what is waited for given to nobody new")
    finally:
        waiting.kill()
        waiting.wait()
    small.wait(lambda list: healthy(list) == ids, "all of them given out again")
    waited = mig(world, "destroy", ids[0], "--wait", "3s")
    assert waited.returncode == 1 and waited.stderr.count("waiting: ") == 1, waited.stderr
    small.wait(lambda list: healthy(list) == ids, "all of them given out again")
    assert "gpushare mig destroy is changing the MIG layout" in world.node.read_log()
    done = mig(world, "destroy", ids[1])
    assert done.returncode == 0, done.stderr
    small.wait(lambda list: list.keys() == {ids[0]}, "one less")
    # The other instances go, the promised one stays: 1g.10gb is part of what is wanted.
    done = mig(world, "apply", "-i", "0", "1g.10gb,3g.40gb")
    assert done.returncode == 0, done.stderr
    assert len(healthy(world.plugin(LARGE).wait(len))) == 1
    assert healthy(small.latest) == [ids[0]]
    wait_until(middle.ended.is_set, "the end of a resource without instances")
    refused = mig(world, "apply", "-i", "0", "7g.80gb")
    assert refused.returncode != 0 and f"a container that was given {SMALL}" in refused.stderr
    assert not [p for p in world.problems() if "vanished" in p]


def test_a_dry_run_knows_that_a_whole_gpu_was_given_out(make):
    world = make()
    gpus = world.plugin()
    given = healthy(gpus.wait(lambda list: len(list) == 2))[0]
    gpus.allocate([given])
    for arguments in (["enable", "-i", given], ["apply", "-c", "all-balanced"]):
        refused = mig(world, *arguments, "--dry-run")
        assert refused.returncode == 1 and f"{given} is in use by a container that was given nvidia.com/gpu" in refused.stderr
        assert mig(world, *arguments).returncode == 1
    other = next(gpu["uuid"] for gpu in world.node.status()["gpus"] if gpu["uuid"] != given)
    assert mig(world, "enable", "-i", other, "--dry-run").returncode == 0


def test_our_own_tool_without_a_daemon(make):
    world = make(spec="A100-80GB", mig="1g.10gb")
    (uuid,) = healthy(world.plugin(SMALL).wait(len))
    world.node.kill()
    assert os.path.exists(world.node.socket)  # nobody listens there any more
    listed = world.sim.run(GPUSHARE, "mig", "list", "--socket", world.node.socket)
    assert (listed.returncode, listed.stderr) == (0, "")
    done = mig(world, "destroy", uuid)
    assert done.returncode == 0, done.stderr
    world.node.start()
    wait_until(lambda: "MIG enabled but no MIG devices" in world.node.read_log(), "the daemon to see it")


def test_a_layout_that_the_config_does_not_fit(make):
    """Instances are numbered anew when one before them goes: then two entries claim one device. What is gone is not handed
    out, the rest stays as it was, and the next config is planned for what is there by then."""
    world = make(spec="A100-80GB", mig="1g.10gb,1g.10gb,1g.10gb")
    first, second, third = (uuid for _, _, uuid in world.uuids()) if len(world.plugin(SMALL).wait(len)) == 3 else ()
    world.node.write_config(config(sharing=f"    - {{name: {SMALL}, replicas: 2, devices: ['0:0']}}\n"
                                           f"    - {{name: {SMALL}, replicas: 3, devices: ['{second}']}}\n"))
    small = world.plugin(SMALL)
    small.wait(lambda list: len(list) == 6, "two, three and one")
    world.tool("destroy", first)
    small.wait(lambda list: sick(list) == [first + "::0", first + "::1"] and len(list) == 6, "the shares of what is gone sick")
    assert any("both claim device 0:0" in p for p in world.problems())
    world.node.write_config(config())
    small.wait(lambda list: healthy(list) == sorted([second, third]) and len(list) == 2, "what is left")
    assert not any("both claim" in p for p in world.problems())
