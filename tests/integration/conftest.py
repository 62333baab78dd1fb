"""What all integration tests share: an environment that does not depend on the shell they were started from."""
import os

import pytest

KEPT = {"GPUSHARE_BUILD", "GPUSHARE_TALLY", "GPUSHARE_TEST_GO"}
CONFIGURING = ("GPUSHARE_", "NVIDIA_", "CUDA_", "MIG_", "DEVICE_", "CDI_", "MPS_", "IMEX_")
CONFIGURING_WHOLE = ("CONFIG_FILE", "KUBELET_SOCKET", "FAIL_ON_INIT_ERROR", "PASS_DEVICE_SPECS", "NODE_NAME")


@pytest.fixture(scope="session", autouse=True)
def plain_environment():
    """Variables that would configure the programs under test are not inherited."""
    for name in list(os.environ):
        if name not in KEPT and (name.startswith(CONFIGURING) or name in CONFIGURING_WHOLE):
            del os.environ[name]
