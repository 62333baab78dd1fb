"""State that stays true by itself: what could not be read is read again, sockets come back, what is broken is kept."""
import json
import os
import pathlib
import resource
import shutil
import signal
import subprocess

import pytest

from kubelet import Kubelet
from node import CONFIG_4, GPUSHARE, Node, Sim, healthy, wait_until

pytestmark = pytest.mark.skipif(not os.path.exists(GPUSHARE), reason="gpushare is not built")


@pytest.fixture(scope="module")
def sim(tmp_path_factory):
    node = Sim(tmp_path_factory.mktemp("sim"), "1xA100-80GB")
    yield node
    node.stop()


def look(node):
    node.process.send_signal(signal.SIGHUP)


def test_a_config_that_was_not_there_for_a_moment(node, kubelet):
    """Nobody tells when the file is back: it is where no watch looks, behind two links."""
    real = pathlib.Path(node.directory, "elsewhere", "deep")
    real.mkdir(parents=True)
    os.rename(node.config, real / "config.yaml")
    (real.parent / "link").symlink_to(real / "config.yaml")
    os.symlink(real.parent / "link", node.config)
    kubelet.start()
    node.start()
    plugin = kubelet.wait_registered()
    plugin.wait(lambda devices: len(devices) == 4)
    os.rename(real, real.with_name("away"))
    look(node)
    wait_until(lambda: any("not in force" in problem for problem in node.status()["problems"]), "the problem")
    assert len(healthy(plugin.latest)) == 4
    (real.with_name("away") / "config.yaml").write_text(CONFIG_4.replace("4", "2"), encoding="utf-8")
    os.rename(real.with_name("away"), real)
    plugin.wait(lambda devices: len(devices) == 2)
    wait_until(lambda: node.status()["problems"] == [], "no problem")


def test_a_config_for_which_no_descriptor_was_free(node, kubelet):
    kubelet.start()
    node.start()
    plugin = kubelet.wait_registered()
    plugin.wait(lambda devices: len(devices) == 4)
    limits = resource.prlimit(node.process.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(node.process.pid, resource.RLIMIT_NOFILE, (3, limits[1]))
    node.write_config(CONFIG_4.replace("4", "2"))
    node.wait_log("Too many open files")
    resource.prlimit(node.process.pid, resource.RLIMIT_NOFILE, limits)
    plugin.wait(lambda devices: len(devices) == 2)


@pytest.mark.parametrize("what", ["the socket", "its folder", "a file in its place"])
def test_the_status_socket_comes_back(node, kubelet, what):
    kubelet.start()
    node.start()
    kubelet.wait_registered()
    node.wait_listening()
    if what == "its folder":
        shutil.rmtree(os.path.dirname(node.socket))
    else:
        os.unlink(node.socket)
    if what == "a file in its place":
        open(node.socket, "w", encoding="ascii").close()
        look(node)
        node.wait_log("the status can't be asked for")
        os.unlink(node.socket)
    look(node)
    node.wait_listening()
    assert node.status()["problems"] == []


def test_a_plugin_socket_comes_back(node, kubelet):
    kubelet.start()
    node.start()
    kubelet.wait_registered()
    os.unlink(os.path.join(node.plugin_dir, "nvidia-gpu.sock"))
    assert len(healthy(kubelet.wait_registered().wait(len))) == 4


def test_what_writers_left_that_were_killed(node):
    gone = subprocess.Popen(["true"])
    gone.wait()
    places = [pathlib.Path(node.state, name) for name in ("allocations.json", "mps.json", "config.json", "gpushare-cdi-hook")]
    places.append(pathlib.Path(node.cdi, "k8s.device-plugin.nvidia.com-gpu.json"))
    left = [path.with_name("%s.tmp-%d" % (path.name, gone.pid)) for path in places]
    others = [path.with_name("%s.tmp-%d" % (path.name, os.getpid())) for path in places]
    for path in left + others:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    node.start()
    node.wait_log("half-written")
    assert not [path for path in left if path.exists()]
    assert all(path.exists() for path in others)  # whoever writes them is alive


@pytest.mark.parametrize("text", ["", "{", '{"version": 99}', '{"version": 1, "computeModes": 7}'])
@pytest.mark.parametrize("name", ["mps.json", "allocations.json", "gpus.json"])
def test_a_broken_record_is_put_aside(node, name, text):
    path = pathlib.Path(node.state, name)
    path.parent.mkdir(parents=True)
    path.write_text(text, encoding="utf-8")
    node.start()
    node.wait_log(name + ".corrupt")
    assert path.with_name(name + ".corrupt").read_text(encoding="utf-8") == text


def test_what_could_not_be_written_is_written_later(node, sim):
    """As on a disk that was full: nothing else changes until it has room again."""
    node.config = os.path.join(os.path.dirname(node.config), "default")
    node.write_config(CONFIG_4)
    node.arguments += ["--config-dir", os.path.dirname(node.config), "--fallback-strategies", "named", "--kubelet-socket="]
    node.start().wait_listening()
    records = [pathlib.Path(node.state, name) for name in ("gpus.json", "config.json")]
    wait_until(lambda: all(record.exists() for record in records), "both records")
    ways = [record.with_name("%s.tmp-%d" % (record.name, node.process.pid)) for record in records]
    for way in ways:
        (way / "in the way").mkdir(parents=True)
    sim.inject("plug", "T4")
    node.write_config(CONFIG_4.replace("4", "2"))
    look(node)
    node.wait_log("the configuration can't be kept")
    node.wait_log("what GPUs this node should have can't be kept")
    for way in ways:
        shutil.rmtree(way)
    wait_until(lambda: "T4" in records[0].read_text(encoding="utf-8"), "the GPU to be remembered")
    wait_until(lambda: "replicas: 2" in records[1].read_text(encoding="utf-8"), "the configuration to be remembered")
    wait_until(lambda: node.status()["problems"] == [], "no problem")


def test_mps_stop_keeps_a_broken_record(sim, tmp_path):
    """What compute modes the GPUs had is in it."""
    record = tmp_path / "mps.json"
    record.write_text('{"version": 1, "computeModes": {"GPU-', encoding="utf-8")
    sim.run(GPUSHARE, "mps", "stop", "--mps-root", str(tmp_path / "root"), "--state-dir", str(tmp_path))
    assert [path.read_text(encoding="utf-8") for path in tmp_path.glob("mps.json*")] == ['{"version": 1, "computeModes": {"GPU-']
