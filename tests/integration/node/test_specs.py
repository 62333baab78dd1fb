"""CDI specs are desired state: what is not as it should be is put right, and until then its shares are not healthy."""
import json
import os
import pathlib
import signal

import pytest

from kubelet import Kubelet
from node import GPUSHARE, Node, Sim, healthy, sick, wait_until

pytestmark = pytest.mark.skipif(not os.path.exists(GPUSHARE), reason="gpushare is not built")

CONFIG = """version: v1
flags: {plugin: {deviceListStrategy: [%s]}}
sharing:
  timeSlicing:
    resources: [{name: nvidia.com/gpu, replicas: 4}]
"""
VERSION = ".550.163.01"  # of a simulated node's driver
NAME = "k8s.device-plugin.nvidia.com-gpu.json"


class World:
    def __init__(self, path, arguments=(), driver=True):
        self.sim = Sim(path / "sim", "2xA100-80GB")
        self.root = path / "root"  # the driver's, to be changed by the test
        if driver:
            self.libraries = self.root / "usr" / "lib64"
            self.libraries.mkdir(parents=True)
            for name in ("libcuda.so", "libnvidia-ptxjitcompiler.so"):
                (self.libraries / (name + VERSION)).write_bytes(b"")
        self.node = Node(path, self.sim, config=CONFIG % "cdi-cri",
                         arguments=[*(["--driver-root", str(self.root)] if driver else []), *arguments])
        self.spec = pathlib.Path(self.node.cdi, NAME)
        self.kubelet = Kubelet(self.node.kubelet_dir).start()

    def start(self):
        self.node.start()
        self.plugin = self.kubelet.wait_registered()
        return self

    def look(self):
        self.node.process.send_signal(signal.SIGHUP)

    def read(self):
        with open(self.spec, encoding="utf-8") as file:
            return json.load(file)

    def wait(self, count):
        return self.plugin.wait(lambda devices: len(healthy(devices)) == count, "%d healthy shares" % count)

    def problem(self, text):
        return any(text in problem for problem in self.node.status()["problems"])

    def mounts(self):
        return [mount["hostPath"] for mount in self.read()["containerEdits"]["mounts"]]

    def stop(self):
        self.kubelet.stop()
        code = self.node.stop() if self.node.process else 0
        self.sim.stop()
        assert code == 0, self.node.read_log()


@pytest.fixture
def make(tmp_path):
    worlds = []

    def begin(**options):
        worlds.append(World(tmp_path, **options))
        return worlds[-1]

    yield begin
    for world in worlds:
        world.stop()


@pytest.mark.parametrize("how", ["deleted", "cut", "of another", "a link", "a folder"])
def test_a_spec_is_put_right(make, how, tmp_path):
    world = make().start()
    world.wait(8)
    text = world.spec.read_text(encoding="utf-8")
    world.spec.unlink()
    if how == "cut":
        world.spec.write_text(text[:100], encoding="utf-8")
    elif how == "of another":
        world.spec.write_text("{}", encoding="utf-8")
    elif how == "a link":
        (tmp_path / "elsewhere").write_text(text, encoding="utf-8")
        world.spec.symlink_to(tmp_path / "elsewhere")
    elif how == "a folder":
        world.spec.mkdir()
    world.look()
    wait_until(lambda: world.spec.is_file() and not world.spec.is_symlink() and world.spec.read_text(encoding="utf-8") == text, "the spec")
    assert len(healthy(world.plugin.latest)) == 8
    if how == "a link":
        assert (tmp_path / "elsewhere").read_text(encoding="utf-8") == text


def test_every_share_is_healthy_from_the_start(make):
    world = make().start()
    world.plugin.wait(lambda devices: True)
    first = world.plugin.lists[0]
    assert len(healthy(first)) == 8 and world.spec.is_file()


def test_a_spec_that_cannot_be_written(make):
    """A disk that is full, a folder that is none: told, and written once it can be."""
    world = make()
    pathlib.Path(world.node.cdi).write_text("", encoding="utf-8")
    world.start()
    world.plugin.wait(lambda devices: len(sick(devices)) == 8)
    assert world.problem("the CDI spec is not as it should be")
    os.unlink(world.node.cdi)
    world.look()
    world.wait(8)
    assert world.spec.is_file() and not world.problem("CDI")


def test_the_drivers_files_are_those_that_are_there(make):
    world = make().start()
    world.wait(8)
    gone = world.libraries / ("libnvidia-ptxjitcompiler.so" + VERSION)
    assert str(gone) in world.mounts()
    gone.unlink()
    world.look()
    wait_until(lambda: str(gone) not in world.mounts(), "a spec without it")
    assert str(world.libraries / ("libcuda.so" + VERSION)) in world.mounts()
    gone.write_bytes(b"")
    world.look()
    wait_until(lambda: str(gone) in world.mounts(), "a spec with it")
    assert len(healthy(world.plugin.latest)) == 8


def test_a_driver_that_is_upgraded_under_it(make):
    """The libraries of the driver that runs are gone: a container would start without."""
    world = make().start()
    world.wait(8)
    text = world.spec.read_text(encoding="utf-8")
    library = world.libraries / ("libcuda.so" + VERSION)
    library.rename(library.with_name("libcuda.so.999.99.99"))
    world.look()
    world.plugin.wait(lambda devices: len(sick(devices)) == 8)
    assert world.problem("the driver's files that containers got are gone")
    assert world.spec.read_text(encoding="utf-8") == text
    library.with_name("libcuda.so.999.99.99").rename(library)
    world.look()
    world.wait(8)
    wait_until(lambda: not world.problem("CDI"), "no problem")


def test_a_device_node_that_is_not_there(make, tmp_path):
    dev = tmp_path / "devices" / "dev"
    dev.mkdir(parents=True)
    for name in ("nvidiactl", "nvidia0"):
        (dev / name).touch()
    world = make(arguments=["--dev-root", str(tmp_path / "devices")]).start()
    world.plugin.wait(lambda devices: len(healthy(devices)) == 4 and len(sick(devices)) == 4, "one GPU's shares")
    (dev / "nvidia1").touch()
    world.look()
    world.wait(8)


def test_another_strategy_takes_its_spec_along(make):
    world = make().start()
    world.wait(8)
    theirs = world.spec.with_name("k8s.device-plugin.nvidia.com-gds.json")
    theirs.write_text("{}", encoding="utf-8")
    world.node.write_config(CONFIG % "envvar")
    wait_until(lambda: not world.spec.exists(), "the spec to go")
    assert theirs.read_text(encoding="utf-8") == "{}" and len(healthy(world.plugin.latest)) == 8
    world.node.write_config(CONFIG % "cdi-cri")
    wait_until(world.spec.exists, "the spec")
    world.wait(8)
