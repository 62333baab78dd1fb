"""Parts of the daemon that can be switched off, as the GPU operator's values do."""
import os
import subprocess

import pytest

from kubelet import Kubelet
from node import GPUSHARE, Node, Sim, wait_until

pytestmark = pytest.mark.skipif(not os.path.exists(GPUSHARE), reason="gpushare is not built")
COUNT = "nvidia.com/gpu.count"


@pytest.fixture
def start(tmp_path, api):
    """start(argument) runs a daemon in a cluster, with a kubelet."""
    running = []

    def run(*arguments):
        sim = Sim(tmp_path / "sim", "2xA100-80GB")
        node = Node(tmp_path, sim, env=api.environment(), arguments=[*arguments])
        kubelet = Kubelet(node.kubelet_dir).start()
        running.extend((kubelet, node, sim))
        node.start()
        node.wait_listening()
        return node, kubelet
    yield run
    for each in running:
        each.stop()


def test_without_the_device_plugin_nodes_are_labelled(api, start):
    node, kubelet = start("--device-plugin=false")
    wait_until(lambda: api.labels().get(COUNT) == "2", "the labels")
    api.wait_condition("GPUShareHealthy", "True", "GPUsHealthy")
    assert not kubelet.plugins and not [name for name in os.listdir(node.plugin_dir) if name.startswith("nvidia-")]
    assert api.condition("GPUShareServing") is None and not os.path.exists(node.cdi)


def test_without_labels_gpus_are_served(api, start):
    """And labels that an earlier daemon set go: the field is ours."""
    node, kubelet = start("--labels=false")
    kubelet.wait_registered()
    api.wait_condition("GPUShareServing", "True", "Serving")
    assert not [label for label in api.labels() if label.startswith("nvidia.com/")]


def test_a_switch_is_true_or_false():
    done = subprocess.run([GPUSHARE, "node", "--labels=maybe"], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2 and "--labels" in done.stderr and "true or false" in done.stderr
