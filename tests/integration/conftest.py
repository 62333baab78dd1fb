"""What all integration tests share: an environment that does not depend on the shell they were started from."""
import os

import pytest

from kubelet import Kubelet
from node import Node

KEPT = {"GPUSHARE_BUILD", "GPUSHARE_TALLY", "GPUSHARE_TEST_GO"}
CONFIGURING = ("GPUSHARE_", "GFD_", "NVIDIA_", "CUDA_", "MIG_", "DEVICE_", "CDI_", "MPS_", "IMEX_", "KUBERNETES_")
CONFIGURING_WHOLE = ("CONFIG_FILE", "KUBELET_SOCKET", "FAIL_ON_INIT_ERROR", "PASS_DEVICE_SPECS", "NODE_NAME", "CONFIG_FILE_SRCDIR", "DEFAULT_CONFIG",
                     "FALLBACK_STRATEGIES", "NAMESPACE", "USE_NODE_FEATURE_API")


@pytest.fixture(scope="session", autouse=True)
def plain_environment():
    """Variables that would configure the programs under test are not inherited."""
    for name in list(os.environ):
        if name not in KEPT and (name.startswith(CONFIGURING) or name in CONFIGURING_WHOLE):
            del os.environ[name]


@pytest.fixture
def node(tmp_path, sim):
    """A daemon that is not started yet, on the node that the test's file calls `sim`."""
    daemon = Node(tmp_path, sim)
    yield daemon
    if daemon.process:
        daemon.stop()


@pytest.fixture
def kubelet(node):
    """The daemon's kubelet, not started yet."""
    stand_in = Kubelet(node.kubelet_dir)
    yield stand_in
    stand_in.stop()
