"""Each pod sees its own GPUs and no others, whichever way the daemon tells the kubelet about them."""
import json
import pathlib

import pytest

from deployment import gpu_of

# NVIDIA's runtime is not here to read the first two, so the device nodes come by the kubelet, as the operator has it.
STRATEGIES = {"envvar": ["deviceListStrategy={envvar}", "compatWithCPUManager=true"],
              "volume-mounts": ["deviceListStrategy={volume-mounts}", "compatWithCPUManager=true"],
              "cdi-annotations": ["deviceListStrategy={cdi-annotations}"],
              "cdi-cri": ["deviceListStrategy={cdi-cri}"]}


@pytest.fixture(scope="module", autouse=True)
def as_before(gpushare):
    yield
    gpushare.upgrade()


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_each_pod_sees_its_own_gpus_only(cluster, gpushare, pods, strategy):
    gpushare.ensure()
    gpushare.upgrade(*STRATEGIES[strategy])
    gpushare.ensure()
    # By CDI anybody's pod finds the driver; else NVIDIA's runtime brings it, and the device nodes with it.
    how = {"plain": True} if strategy.startswith("cdi") else {"env": {"GPUSHARE_SIM_DEVICES": "/dev"}}
    single = pods.create(3, **how)
    (double,) = pods.create(gpus=2, **how)
    pods.wait_running([*single, double])
    granted = gpushare.granted_to(pods, [*single, double])
    for name, shares in granted.items():
        wanted = {gpu_of(share) for share in shares}
        assert set(pods.devices(name)) == wanted, name
        assert set(pods.see(name)) == wanted, name
        check_announcement(cluster, name, strategy, wanted)
    assert len({gpu_of(share) for share in granted[double]}) == 2


def check_announcement(cluster, name, strategy, wanted):
    """That it is this strategy which was at work."""
    environment = container(name)["process"]["env"]
    visible = [line.partition("=")[2] for line in environment if line.startswith("NVIDIA_VISIBLE_DEVICES=")]
    mounts = [mount["destination"] for mount in container(name)["mounts"]]
    told = {mount.removeprefix("/var/run/nvidia-container-devices/") for mount in mounts if mount.startswith("/var/run/nvidia-container-devices/")}
    if strategy == "envvar":
        assert set(visible[-1].split(",")) == wanted
    elif strategy == "volume-mounts":
        assert told == wanted
    else:
        assert visible and visible[-1] == "void" and not told


def container(name):
    """The container's OCI configuration, as runc got it."""
    for path in pathlib.Path("/run/containerd/io.containerd.runtime.v2.task/k8s.io").glob("*/config.json"):
        config = json.loads(path.read_text())
        annotations = config.get("annotations", {})
        if annotations.get("io.kubernetes.cri.sandbox-name") == name and annotations.get("io.kubernetes.cri.container-name") == "main":
            return config
    raise AssertionError(f"runc has no container of {name}")
