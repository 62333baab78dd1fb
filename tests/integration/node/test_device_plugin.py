"""The daemon on a simulated node, seen by an independent kubelet."""
import json
import os
import signal
import socket
import stat
import subprocess
import uuid

import grpc
import pytest

from kubelet import Kubelet
from node import CONFIG_4, GPUSHARE, Node, Sim, gpus_of, healthy, sick, wait_until

pytestmark = pytest.mark.skipif(not os.path.exists(GPUSHARE), reason="gpushare is not built")


@pytest.fixture(scope="module")
def sim(tmp_path_factory):
    node = Sim(tmp_path_factory.mktemp("sim"))
    yield node
    node.stop()


class World:
    def __init__(self, path, sim, **options):
        self.node = Node(path, sim, **options)
        self.kubelet = Kubelet(self.node.kubelet_dir).start()
        self.node.start()

    def plugin(self, name="nvidia.com/gpu"):
        return self.kubelet.wait_registered(name)

    def stop(self):
        self.kubelet.stop()
        assert self.node.stop() == 0, self.node.read_log()


@pytest.fixture
def make(tmp_path, sim):
    worlds = []

    def start(**options):
        world = World(tmp_path, sim, **options)
        worlds.append(world)
        return world

    yield start
    for world in worlds:
        world.stop()


def config(sharing="", flags=""):
    return "version: v1\n" + (("flags:\n" + flags) if flags else "") + (("sharing:\n" + sharing) if sharing else "")


def test_registers_thirty_two_shares_of_eight_gpus(make):
    plugin = make().plugin()
    assert plugin.registration.version == "v1beta1"
    assert plugin.registration.endpoint == "nvidia-gpu.sock"
    assert plugin.registration.options.get_preferred_allocation_available
    assert not plugin.registration.options.pre_start_required
    devices = plugin.wait(lambda d: len(d) == 32)
    assert healthy(devices) == sorted(devices)
    assert len(gpus_of(devices)) == 8
    for gpu in gpus_of(devices):
        assert uuid.UUID(gpu[len("GPU-"):])
        assert sorted(i for i in devices if i.startswith(gpu)) == ["%s::%d" % (gpu, n) for n in range(4)]
    # The first half of the GPUs is on NUMA node 0, the rest on node 1.
    assert sorted(d.topology.nodes[0].ID for d in devices.values()) == [0] * 16 + [1] * 16
    assert plugin.options().get_preferred_allocation_available


def test_socket_is_private(make):
    world = make()
    world.plugin()
    for path in (os.path.join(world.node.plugin_dir, "nvidia-gpu.sock"), world.node.socket):
        assert stat.S_IMODE(os.stat(path).st_mode) == 0o600


def test_allocate_envvar(make):
    plugin = make().plugin()
    ids = sorted(plugin.wait(lambda d: len(d) == 32))
    answer, = plugin.allocate([ids[0]])
    assert answer.envs["NVIDIA_VISIBLE_DEVICES"] == ids[0].split("::")[0]
    assert answer.envs["GPUSHARE_SHARES"] == ids[0]
    assert not answer.mounts and not answer.devices and not answer.annotations and not answer.cdi_devices


def test_two_replicas_of_one_gpu_are_one_gpu(make):
    plugin = make().plugin()
    ids = sorted(plugin.wait(lambda d: len(d) == 32))
    answer, = plugin.allocate(ids[:2])
    assert answer.envs["NVIDIA_VISIBLE_DEVICES"] == ids[0].split("::")[0]


def test_several_containers_in_one_request(make):
    plugin = make().plugin()
    ids = sorted(plugin.wait(lambda d: len(d) == 32))
    answers = plugin.allocate([ids[0]], [ids[31]])
    assert [a.envs["GPUSHARE_SHARES"] for a in answers] == [ids[0], ids[31]]


def test_unknown_device_is_refused(make):
    plugin = make().plugin()
    plugin.wait(lambda d: len(d) == 32)
    with pytest.raises(grpc.RpcError) as refused:
        plugin.allocate(["GPU-00000000-0000-0000-0000-000000000000::0"])
    assert "GPU-00000000" in refused.value.details()


def socket_of(world, plugin):
    return os.path.join(world.kubelet.plugin_dir, plugin.registration.endpoint)


def peak_bytes(node):
    """What the daemon has ever held."""
    with open("/proc/%d/status" % node.process.pid, encoding="ascii") as file:
        return int(file.read().split("VmHWM:")[1].split()[0]) * 1024


@pytest.mark.parametrize("method", ["Allocate", "PreStartContainer", "GetPreferredAllocation"])
@pytest.mark.parametrize("part", [b"\x0a\x00", b"\x78\x00", b"\x0a\x06" + b"\x0a\x00" * 3], ids=["containers", "unknown", "devices"])
def test_a_request_that_unpacks_to_much_more_is_refused(make, method, part):
    """Two bytes of a message can be a hundred of memory."""
    world = make()
    plugin = world.plugin()
    before = peak_bytes(world.node)
    with grpc.insecure_channel("unix:" + socket_of(world, plugin), options=[("grpc.default_authority", "localhost")]) as channel:
        call = channel.unary_unary("/v1beta1.DevicePlugin/" + method)
        for _ in range(3):
            try:
                call(part * (4_000_000 // len(part)), timeout=60)
            except grpc.RpcError as error:
                assert error.code() in (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.RESOURCE_EXHAUSTED), error
            else:
                assert part == b"\x78\x00"  # unknown fields are skipped where they are, and cost nothing
    assert peak_bytes(world.node) < before + (32 << 20)
    plugin.wait(lambda d: len(d) == 32)


class UnfinishedRequests:
    """A peer that begins two requests of 4 MiB and keeps the last byte of each."""
    HEADERS = ((":method", "POST"), (":scheme", "http"), (":path", "/v1beta1.DevicePlugin/Allocate"), ("content-type", "application/grpc"))
    SIZE = 4 << 20

    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(30)
        self.windows = {0: 65535, 1: 65535, 3: 65535}
        self.received = b""
        try:
            self.socket.connect(path)
            self.send()
        except OSError:  # cut off
            pass

    def frame(self, kind, flags, stream, payload):
        self.socket.sendall(len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload)

    def read_frame(self):
        while len(self.received) < 9 or len(self.received) < 9 + int.from_bytes(self.received[:3], "big"):
            more = self.socket.recv(65536)
            if not more:
                raise ConnectionResetError
            self.received += more
        length, kind = int.from_bytes(self.received[:3], "big"), self.received[3]
        stream, payload = int.from_bytes(self.received[5:9], "big"), self.received[9:9 + length]
        self.received = self.received[9 + length:]
        if kind == 8:  # WINDOW_UPDATE
            self.windows[stream] = self.windows.get(stream, 0) + int.from_bytes(payload, "big")

    def send(self):
        block = b"".join(b"\0" + bytes([len(name)]) + name.encode() + bytes([len(value)]) + value.encode() for name, value in self.HEADERS)
        self.socket.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
        self.frame(4, 0, 0, b"")
        for stream in (1, 3):
            self.frame(1, 4, stream, block)
            left = memoryview((self.SIZE - 16).to_bytes(5, "big") + bytes(self.SIZE - 16 - 1))
            while len(left):
                part = left[:min(16384, self.windows[0], self.windows[stream])]
                if not part:
                    self.read_frame()
                    continue
                self.frame(0, 0, stream, part)
                self.windows[0] -= len(part)
                self.windows[stream] -= len(part)
                left = left[len(part):]


def test_unfinished_requests_of_all_connections_are_bounded_together(make):
    """Sixty peers with two large requests each that never end: what they hold together stays small, and others are served."""
    world = make()
    plugin = world.plugin()
    devices = plugin.wait(lambda d: len(d) == 32)
    before = peak_bytes(world.node)
    peers = [UnfinishedRequests(socket_of(world, plugin)) for _ in range(60)]
    assert plugin.allocate([sorted(devices)[0]])
    assert peak_bytes(world.node) < before + (80 << 20)
    for peer in peers:
        peer.socket.close()


def test_an_imex_channel_that_is_missing_is_told_before_a_pod_comes(make, tmp_path):
    channels = tmp_path / "root" / "dev" / "nvidia-caps-imex-channels"
    world = make(config=CONFIG_4.replace("version: v1\n", "version: v1\nimex: {channelIDs: [0], required: true}\n"),
                 arguments=["--dev-root", str(tmp_path / "root")])
    plugin = world.plugin()
    plugin.wait(lambda d: len(sick(d)) == 32)
    assert any("imex.required" in problem for problem in world.node.status()["problems"])
    assert "an IMEX channel is required" in world.node.read_log()
    channels.mkdir(parents=True)
    (channels / "channel0").touch()
    world.node.process.send_signal(signal.SIGHUP)
    plugin.wait(lambda d: len(healthy(d)) == 32)
    assert plugin.allocate([healthy(plugin.latest)[0]])[0].envs["NVIDIA_IMEX_CHANNELS"] == "0"


def test_more_than_one_replica_can_be_refused(make):
    sharing = "  timeSlicing:\n    failRequestsGreaterThanOne: true\n    resources: [{name: nvidia.com/gpu, replicas: 4}]\n"
    plugin = make(config=config(sharing)).plugin()
    ids = sorted(plugin.wait(lambda d: len(d) == 32))
    assert plugin.allocate([ids[0]])
    with pytest.raises(grpc.RpcError) as refused:
        plugin.allocate(ids[:2])
    assert "failRequestsGreaterThanOne" in refused.value.details()


def test_volume_mounts(make):
    flags = "  plugin:\n    deviceListStrategy: volume-mounts\n"
    plugin = make(config=config(flags=flags)).plugin()
    gpu = sorted(plugin.wait(lambda d: len(d) == 8))[0]
    answer, = plugin.allocate([gpu])
    assert answer.envs["NVIDIA_VISIBLE_DEVICES"] == "/var/run/nvidia-container-devices"
    assert [(m.host_path, m.container_path) for m in answer.mounts] == [("/dev/null", "/var/run/nvidia-container-devices/" + gpu)]


def test_cdi_names_and_spec_agree(make):
    flags = "  plugin:\n    deviceListStrategy: [cdi-annotations, cdi-cri]\n"
    world = make(config=config(flags=flags))
    plugin = world.plugin()
    gpu = sorted(plugin.wait(lambda d: len(d) == 8))[0]
    answer, = plugin.allocate([gpu])
    name = "k8s.device-plugin.nvidia.com/gpu=" + gpu
    assert [d.name for d in answer.cdi_devices] == [name]
    key, = answer.annotations
    assert key.startswith("cdi.k8s.io/nvidia-device-plugin_")
    assert uuid.UUID(key.split("_", 1)[1]).version == 4
    assert answer.annotations[key] == name
    with open(os.path.join(world.node.cdi, "k8s.device-plugin.nvidia.com-gpu.json"), encoding="utf-8") as file:
        spec = json.load(file)
    assert spec["kind"] == "k8s.device-plugin.nvidia.com/gpu"
    device = next(d for d in spec["devices"] if d["name"] == gpu)
    assert [n["path"] for n in device["containerEdits"]["deviceNodes"]][0].startswith("/dev/nvidia")


def test_device_specs_and_index_ids(make, sim):
    flags = ("  nvidiaDevRoot: %s/root\n  plugin:\n    passDeviceSpecs: true\n    deviceIDStrategy: index\n" % sim.directory)
    plugin = make(config=config(flags=flags)).plugin()
    gpus = sorted(plugin.wait(lambda d: len(d) == 8))
    indices = set()
    for gpu in gpus:
        answer, = plugin.allocate([gpu])
        index = answer.envs["NVIDIA_VISIBLE_DEVICES"]
        indices.add(index)
        nodes = {d.container_path: (d.host_path, d.permissions) for d in answer.devices}
        assert nodes["/dev/nvidia" + index] == (sim.directory + "/root/dev/nvidia" + index, "rw")
        assert "/dev/nvidiactl" in nodes
    assert indices == {str(i) for i in range(8)}


def test_preferred_allocation_distributes_or_packs(make, tmp_path, sim):
    plugin = make().plugin()
    ids = sorted(plugin.wait(lambda d: len(d) == 32))
    assert len(gpus_of(plugin.preferred(ids, 8))) == 8
    # One replica of the first GPU is in use: the next goes elsewhere.
    assert gpus_of(plugin.preferred(ids[1:], 1)) != gpus_of(ids[:1])
    chosen = plugin.preferred(ids, 4, must=[ids[5]])
    assert ids[5] in chosen and len(set(chosen)) == 4


def test_packed_policy_fills_a_gpu_first(make):
    plugin = make(env={"SHARED_DEVICES_ALLOCATION_POLICY": "packed"}).plugin()
    ids = sorted(plugin.wait(lambda d: len(d) == 32))
    assert gpus_of(plugin.preferred(ids[1:], 3)) == gpus_of(ids[:1])


def test_preferred_allocation_rejects_nonsense(make):
    plugin = make().plugin()
    ids = sorted(plugin.wait(lambda d: len(d) == 32))
    for available, size, must in ((ids, 33, ()), (ids, -1, ()), (["x"], 1, ()), (ids, 1, ["x"]), (ids[:4], 1, ids[:2]), (ids[:2], 1, [ids[9]])):
        with pytest.raises(grpc.RpcError):
            plugin.preferred(available, size, must)
    assert len(plugin.preferred(ids, 1)) == 1
    # One that is gone since the kubelet last heard is passed over.
    assert set(plugin.preferred([ids[0] + "0", *ids[:4], ids[0] + "\0"], 4)) == set(ids[:4])


def test_pre_start_container(make):
    plugin = make().plugin()
    ids = sorted(plugin.wait(lambda d: len(d) == 32))
    plugin.pre_start([ids[0]])


def test_rename_and_leftovers(make):
    sharing = ("  timeSlicing:\n    renameByDefault: true\n    resources:\n    - {name: gpu, replicas: 3, devices: [0, 1]}\n")
    world = make(config=config(sharing))
    seen = {world.kubelet.requests.get(timeout=30).resource_name for _ in range(2)}
    assert seen == {"nvidia.com/gpu", "nvidia.com/gpu.shared"}
    shared, whole = world.kubelet.plugins["nvidia.com/gpu.shared"], world.kubelet.plugins["nvidia.com/gpu"]
    assert len(shared.wait(lambda d: len(d) == 6)) == 6
    assert all("::" not in i for i in whole.wait(lambda d: len(d) == 6))
    assert shared.registration.endpoint == "nvidia-gpu.shared.sock"


def test_config_edit_touches_only_what_changed(make):
    world = make()
    plugin = world.plugin()
    before = plugin.wait(lambda d: len(d) == 32)
    world.node.write_config(CONFIG_4.replace("replicas: 4", "replicas: 6"))
    after = plugin.wait(lambda d: len(d) == 48)
    assert set(before) < set(after)
    assert world.kubelet.requests.empty(), "the same resource must not register again"
    assert not plugin.ended.is_set()


def test_bad_config_keeps_the_last_good_one(make):
    world = make()
    plugin = world.plugin()
    plugin.wait(lambda d: len(d) == 32)
    world.node.write_config("version: v1\nsharing:\n  timeSlicing:\n    resorces: []\n")
    world.node.wait_log("the last good one stays in force")
    assert "resorces" in world.node.read_log()
    assert any("resorces" in p for p in world.node.status()["problems"])
    assert len(plugin.latest) == 32
    world.node.write_config(CONFIG_4.replace("replicas: 4", "replicas: 2"))
    plugin.wait(lambda d: len(d) == 16)
    assert world.node.status()["problems"] == []


def test_a_pipe_in_place_of_the_config_keeps_the_last_good_one(make):
    """Nobody writes to it: whoever reads waits for ever. One that is used up reads as an empty config."""
    world = make()
    plugin = world.plugin()
    plugin.wait(lambda d: len(d) == 32)
    os.mkfifo(world.node.config + ".pipe")
    os.replace(world.node.config + ".pipe", world.node.config)
    world.node.wait_log("is a pipe, which can be read only once")
    world.node.process.send_signal(signal.SIGHUP)
    assert [each["shares"] for each in world.node.status()["resources"]] == [32] and len(plugin.latest) == 32
    world.node.write_config(CONFIG_4.replace("replicas: 4", "replicas: 2"))
    plugin.wait(lambda d: len(d) == 16)


def test_xid_turns_every_share_of_the_gpu_unhealthy_and_recovery_is_proven(make, sim):
    plugin = make().plugin()
    devices = plugin.wait(lambda d: len(d) == 32)
    status_gpu = gpus_of(devices)[2]
    sim.inject("--gpu", status_gpu, "xid=79")
    try:
        after = plugin.wait(lambda d: len(sick(d)) == 4)
        assert gpus_of(sick(after)) == [status_gpu]
    finally:
        sim.inject("--gpu", status_gpu, "recovered")
    plugin.wait(lambda d: not sick(d), "recovery")


def test_application_xids_do_not_count(make, sim):
    world = make()
    plugin = world.plugin()
    gpus = gpus_of(plugin.wait(lambda d: len(d) == 32))
    sim.inject("--gpu", gpus[0], "xid=13")
    sim.inject("--gpu", gpus[1], "xid=79")
    try:
        after = plugin.wait(lambda d: len(sick(d)) > 0)
        assert gpus_of(sick(after)) == [gpus[1]]
    finally:
        sim.inject("--gpu", gpus[1], "recovered")


def test_health_checks_can_be_disabled(make, sim):
    world = make(env={"DP_DISABLE_HEALTHCHECKS": "79"})
    plugin = world.plugin()
    gpus = gpus_of(plugin.wait(lambda d: len(d) == 32))
    sim.inject("--gpu", gpus[0], "xid=79")
    sim.inject("--gpu", gpus[0], "recovered")
    sim.inject("--gpu", gpus[1], "xid=48")
    try:
        plugin.wait(lambda d: gpus[1] in gpus_of(sick(d)))
    finally:
        sim.inject("--gpu", gpus[1], "recovered")


def test_kubelet_restart(make):
    world = make()
    before = sorted(world.plugin().wait(lambda d: len(d) == 32))
    for _ in range(3):
        world.kubelet.restart()
        again = world.plugin()
        assert sorted(again.wait(lambda d: len(d) == 32)) == before


def test_deleted_socket_is_made_again(make):
    world = make()
    before = sorted(world.plugin().wait(lambda d: len(d) == 32))
    os.unlink(os.path.join(world.node.plugin_dir, "nvidia-gpu.sock"))
    again = world.plugin()
    assert sorted(again.wait(lambda d: len(d) == 32)) == before


def test_sighup_reloads_and_keeps_streams(make):
    world = make()
    plugin = world.plugin()
    plugin.wait(lambda d: len(d) == 32)
    world.node.process.send_signal(1)
    world.node.wait_log("SIGHUP")
    assert plugin.allocate([sorted(plugin.latest)[0]])
    assert not plugin.ended.is_set()


# A container has a PID namespace of its own, where its first process is number 1.
CONTAINER = ["unshare", "--pid", "--fork", "--kill-child"]


@pytest.mark.parametrize("container", [[], CONTAINER], ids=["process", "container"])
def test_status_names_the_process_that_holds_a_share(make, sim, container):
    if container and subprocess.run([*container, "true"], capture_output=True).returncode:
        pytest.skip("a PID namespace can't be made here")
    world = make()
    plugin = world.plugin()
    share = sorted(plugin.wait(lambda d: len(d) == 32))[0]
    answer, = plugin.allocate([share])
    load = sim.popen(*container, GPUSHARE, "sim", "load", "--memory", "2Gi", "--busy", "50%", env={**os.environ, **dict(answer.envs)})
    try:
        def holder():
            for gpu in world.node.status()["gpus"]:
                for item in gpu["shares"]:
                    if item["id"] == share and item["holders"]:
                        return gpu, item["holders"][0]
            return None

        gpu, found = wait_until(holder, "a holder of the share")
        assert found["memoryBytes"] >= 2 << 30 and found["name"] == "gpushare"
        with open("/proc/%d/stat" % found["pid"], encoding="utf-8") as file:
            parent = int(file.read().rpartition(")")[2].split()[1])
        assert load.pid in (found["pid"], parent)
        assert gpu["uuid"] == share.split("::")[0]
        assert gpu["processes"] == []
    finally:
        load.kill()  # unshare ignores other signals
        load.wait(30)


def test_clean_stop_removes_sockets(make, tmp_path):
    world = make()
    world.plugin()
    assert world.node.stop() == 0
    assert not os.path.exists(os.path.join(world.node.plugin_dir, "nvidia-gpu.sock"))
    assert not os.path.exists(world.node.socket)
