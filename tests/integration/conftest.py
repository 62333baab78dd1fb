"""What all integration tests share: an environment that does not depend on the shell they were started from."""
import os
import pathlib
import shutil
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent / "lib"))
from apiserver import ApiServer, Authority  # noqa: E402
from kubelet import Kubelet  # noqa: E402
from node import Node  # noqa: E402
from pod_resources import PodResources  # noqa: E402

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


@pytest.fixture
def kubelet_pods(node):
    """That kubelet's list of pods and their devices, not served yet."""
    server = PodResources(node.kubelet_dir)
    yield server
    server.stop()


@pytest.fixture(scope="session")
def authority(tmp_path_factory):
    """Whom the clients of API servers trust."""
    if not shutil.which("openssl"):
        pytest.skip("openssl, which makes the server's certificate, is missing")
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture
def api(tmp_path, authority):
    """An API server of the test's own."""
    server = ApiServer(tmp_path, authority)
    yield server
    server.stop()
