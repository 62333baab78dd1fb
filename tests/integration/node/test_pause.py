"""The GPU operator's label for the time in which it upgrades the driver: nothing of ours holds the driver open meanwhile."""
import os
import pathlib

import pytest

from kubelet import Kubelet
from node import GPUSHARE, Node, Sim, healthy, wait_until

pytestmark = pytest.mark.skipif(not os.path.exists(GPUSHARE), reason="gpushare is not built")
LABEL = "nvidia.com/gpu.deploy.device-plugin"
RESOURCE = "nvidia.com/gpu"


@pytest.fixture
def world(tmp_path, api):
    """A daemon in a cluster, with a kubelet, on a simulated node."""
    sim = Sim(tmp_path / "sim", "2xA100-80GB")
    node = Node(tmp_path, sim, env=api.environment())
    kubelet = Kubelet(node.kubelet_dir).start()
    node.start()
    yield node, kubelet, api
    node.stop()
    kubelet.stop()
    sim.stop()


def holds_nvml(node):
    return "libnvidia-ml" in pathlib.Path(f"/proc/{node.process.pid}/maps").read_text()


def serves(kubelet):
    plugin = kubelet.plugins.get(RESOURCE)
    return plugin and not plugin.ended.is_set() and plugin.latest and len(healthy(plugin.latest)) == 8


@pytest.mark.parametrize("value", ["paused-for-driver-upgrade", "paused-for-mig-change"])
def test_the_driver_is_let_go_and_taken_again(world, value):
    node, kubelet, api = world
    wait_until(lambda: serves(kubelet), "shares")
    assert holds_nvml(node)
    api.label(**{LABEL: value})
    for condition in ("GPUShareHealthy", "GPUShareServing"):
        assert value in api.wait_condition(condition, "False", "DriverPaused")["message"]
    wait_until(lambda: not holds_nvml(node), "NVML to be let go")
    assert not serves(kubelet) and not [name for name in os.listdir(node.plugin_dir) if name.startswith("nvidia-")]
    assert any(value in problem for problem in node.status()["problems"])

    api.label(**{LABEL: "true"})
    wait_until(lambda: serves(kubelet), "shares again")
    api.wait_condition("GPUShareServing", "True", "Serving")
    assert holds_nvml(node) and not node.status()["problems"]


@pytest.mark.parametrize("value", ["true", "false", ""])
def test_other_values_pause_nothing(world, value):
    node, kubelet, api = world
    api.label(**{LABEL: value})
    wait_until(lambda: serves(kubelet), "shares")
    api.wait_condition("GPUShareServing", "True", "Serving")
    assert holds_nvml(node) and "wants the driver" not in node.read_log()


def test_a_daemon_is_told_to_stop_while_it_is_paused(world):
    node, kubelet, api = world
    api.label(**{LABEL: "paused-for-driver-upgrade"})
    api.wait_condition("GPUShareHealthy", "False", "DriverPaused")
    assert node.stop() == 0, node.read_log()
    api.wait_condition("GPUShareHealthy", "Unknown", "DaemonStopped")
