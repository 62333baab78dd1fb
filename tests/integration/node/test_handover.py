"""One daemon takes over from another while the kubelet goes on asking: no Allocate fails, no list is empty, no stream ends."""
import contextlib
import fcntl
import os
import socket
import struct
import subprocess
import tempfile
import termios
import threading
import time

import grpc
import pytest

from kubelet import Kubelet, Plugin, pb
from node import GPUSHARE, Node, Sim, healthy, wait_until

pytestmark = pytest.mark.skipif(not os.path.exists(GPUSHARE), reason="gpushare is not built")
RESOURCE = "nvidia.com/gpu"


class FaithfulKubelet(Kubelet):
    """As the real one (devicemanager/plugin/v1beta1/handler.go): a new registration leaves the connection of the one before open, and
    when the stream of any of them ends, the one that is in force is taken for dead."""

    def __init__(self, directory):
        super().__init__(directory)
        self.deaths = 0
        self.every = []

    def _register(self, request, context):
        plugin = Plugin(os.path.join(self.plugin_dir, request.endpoint), request.resource_name)
        plugin.registration = request
        grpc.channel_ready_future(plugin.channel).result(timeout=10)
        plugin.options()
        with self._lock:
            self.plugins[request.resource_name] = plugin
            self.every.append(plugin)
        plugin.watch()
        threading.Thread(target=self._run, args=(plugin,), daemon=True).start()
        self.requests.put(request)
        return pb.Empty()

    def _run(self, plugin):
        plugin.ended.wait()
        with self._lock:
            current = self.plugins.pop(plugin.name, None)
            self.deaths += current is not None
        if current:
            current.close()

    def stop(self):
        for plugin in self.every:
            plugin.close()
        super().stop()


class Pods(threading.Thread):
    """Asks for a share again and again, as the kubelet does for each pod that comes."""

    def __init__(self, kubelet):
        super().__init__(daemon=True)
        self.kubelet, self.failures, self.granted, self.over = kubelet, [], 0, threading.Event()

    def run(self):
        devices = []  # the kubelet's, which stay until another list comes
        while not self.over.is_set():
            plugin = self.kubelet.plugins.get(RESOURCE)
            try:
                devices = healthy(plugin.latest) if plugin.latest is not None else devices
                (answer,) = plugin.allocate([devices[0]])
                assert answer.envs["NVIDIA_VISIBLE_DEVICES"]
                self.granted += 1
            except Exception as failure:  # whatever it is, a pod has failed for good
                self.failures.append(repr(failure))
            time.sleep(0.002)

    def stop(self):
        self.over.set()
        self.join()


@pytest.fixture
def sim(tmp_path):
    node = Sim(tmp_path / "sim", "2xA100-80GB")
    yield node
    node.stop()


@pytest.fixture
def daemons(tmp_path, sim):
    """daemons() makes one more on the same directories."""
    made = []

    def make(*arguments, **how):
        node = Node(tmp_path, sim, arguments=["--take-over=true", *arguments], **how)
        node.log = str(tmp_path / f"node-{len(made)}.log")
        made.append(node)
        return node.start()
    yield make
    for node in reversed(made):
        if node.process.poll() is None:
            node.stop()


@pytest.fixture
def kubelet(tmp_path):
    stand_in = FaithfulKubelet(tmp_path / "kubelet").start()
    yield stand_in
    stand_in.stop()


def check(kubelet, pods):
    pods.stop()
    assert not pods.failures and pods.granted > 10, pods.failures[:3]
    assert kubelet.deaths == 0
    for plugin in kubelet.every:
        lists = plugin.lists[max(plugin.seen, 0):]
        assert all(len(healthy(devices)) == 8 for devices in lists)


def test_no_pod_fails_while_daemons_follow_each_other(kubelet, daemons):
    """Three times, each time with the one before told to stop once the next one serves, as a rolling update with a surge does."""
    current = daemons()
    kubelet.wait_registered().wait(lambda devices: len(healthy(devices)) == 8)
    pods = Pods(kubelet)
    pods.start()
    for _ in range(3):
        following = daemons()
        kubelet.wait_registered()
        following.wait_log("registered with the kubelet")
        before = pods.granted
        wait_until(lambda: pods.granted > before + 5, "pods on the next one")
        assert current.process.poll() is None
        assert current.stop() == 0, current.read_log()
        before = pods.granted
        wait_until(lambda: pods.granted > before + 5, "pods when the one before is gone")
        current = following
    check(kubelet, pods)
    assert current.status()["resources"][0]["registered"] is True
    assert current.stop() == 0
    assert not [name for name in os.listdir(current.plugin_dir) if name.startswith("nvidia-")]
    assert not os.path.exists(os.path.join(current.state, "handover.sock"))


@pytest.mark.skipif(os.geteuid() != 0, reason="NVML lets only root change the compute mode")
def test_shares_by_mps_stay_healthy(kubelet, daemons, sim):
    """The next daemon has to find the control daemons, and registers only once it has."""
    with tempfile.TemporaryDirectory(prefix="gpushare-mps-") as root:  # short: a socket's path has at most 107 bytes
        os.chmod(root, 0o755)
        config = f"version: v1\nflags: {{mpsRoot: {root}}}\nsharing: {{mps: {{renameByDefault: false, resources: [{{name: {RESOURCE}, replicas: 4}}]}}}}\n"
        current = daemons(config=config)
        kubelet.wait_registered().wait(lambda devices: len(healthy(devices)) == 8)
        pods = Pods(kubelet)
        pods.start()
        following = daemons(config=config)
        following.wait_log("registered with the kubelet")
        before = pods.granted
        wait_until(lambda: pods.granted > before + 5, "pods on the next one")
        assert current.stop() == 0, current.read_log()
        pods.stop()
        assert not pods.failures and kubelet.deaths == 0
        assert healthy(kubelet.every[-1].wait(lambda devices: len(healthy(devices)) == 8))
        first = kubelet.every[-1].lists[0]
        assert healthy(first), "the list that came with the registration"
        assert following.stop() == 0
        subprocess.run(sim.command(GPUSHARE, "mps", "stop", "--mps-root", root, "--state-dir", following.state), timeout=60, check=True)


def test_one_that_is_told_to_stop_early_waits_for_the_next(kubelet, daemons):
    current = daemons()
    kubelet.wait_registered().wait(lambda devices: len(healthy(devices)) == 8)
    pods = Pods(kubelet)
    pods.start()
    following = daemons()
    following.wait_log("waiting to take over")
    assert current.stop() == 0
    following.wait_log("registered with the kubelet")
    before = pods.granted
    wait_until(lambda: pods.granted > before + 5, "pods on the next one")
    check(kubelet, pods)


def test_when_the_next_one_dies_the_one_before_serves_again(kubelet, daemons):
    """A new version that is taken back."""
    current = daemons()
    kubelet.wait_registered().wait(lambda devices: len(healthy(devices)) == 8)
    following = daemons()
    following.wait_log("registered with the kubelet")
    following.kill()
    current.wait_log("beginning anew")
    wait_until(lambda: (plugin := kubelet.plugins.get(RESOURCE)) and plugin.latest and len(healthy(plugin.latest)) == 8, "the one before")
    assert len(kubelet.plugins[RESOURCE].allocate([healthy(kubelet.plugins[RESOURCE].latest)[0]])) == 1
    assert current.status()["resources"][0]["registered"] is True


def test_one_that_dies_is_followed(kubelet, daemons):
    """There is nobody to hand over; the locks tell."""
    current = daemons()
    kubelet.wait_registered()
    following = daemons()
    following.wait_log("waiting to take over")
    current.kill()
    following.wait_log("registered with the kubelet")
    assert following.status()["resources"][0]["registered"] is True


def files_of(pid):
    """What the descriptors of a process lead to; those that come and go meanwhile are left out."""
    found = []
    for number in os.listdir("/proc/%d/fd" % pid):
        with contextlib.suppress(OSError):
            found.append(os.readlink("/proc/%d/fd/%s" % (pid, number)))
    return found


def test_what_is_no_connection_is_not_kept(kubelet, daemons):
    """A peer that says it is the next one may hand over anything."""
    current = daemons()
    kubelet.wait_registered()
    wait_until(lambda: os.path.exists(os.path.join(current.state, "handover.sock")), "the socket")
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as peer, open(__file__, encoding="utf-8") as file:
        peer.connect(os.path.join(current.state, "handover.sock"))
        for _ in range(10):
            socket.send_fds(peer, [b"here"], [file.fileno()] * 100)
        unread = lambda: struct.unpack("i", fcntl.ioctl(peer, termios.TIOCOUTQ, b"\0" * 4))[0]
        wait_until(lambda: unread() == 0, "all to be read")
        wait_until(lambda: __file__ not in files_of(current.process.pid), "its files to be closed")
    assert current.status()["resources"][0]["registered"] is True


def test_nobody_takes_over_unasked(kubelet, daemons, tmp_path, sim):
    daemons()
    kubelet.wait_registered()
    other = Node(tmp_path, sim)
    other.log = str(tmp_path / "other.log")
    assert other.start().process.wait(60) == 1
    assert "another gpushare node uses" in other.read_log()
