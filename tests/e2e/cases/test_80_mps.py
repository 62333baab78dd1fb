"""Sharing by MPS: limits that hold in pods, a fault that stays on its GPU, and an upgrade that ends no client."""
import pytest

from cluster import wait_for
from deployment import CONFIG_MAP, gpu_of
from pods import wait_allocatable

MPS = """version: v1
flags:
  plugin: {sharedDevicesAllocationPolicy: packed}
sharing:
  mps:
    resources:
    - {name: nvidia.com/gpu, replicas: 10, memoryLimit: 8Gi}
"""


@pytest.fixture(scope="module", autouse=True)
def shared_by_mps(cluster, gpushare):
    gpushare.ensure()
    gpushare.set_config({"config.yaml": MPS})
    wait_allocatable(cluster, 80)
    yield
    gpushare.ensure()


def ready(gpushare):
    return {daemon["device"]: daemon["pid"] for daemon in gpushare.status()["mps"] if daemon["state"] == "Ready"}


def share_of(gpushare, pods, name):
    return gpushare.granted_to(pods, [name])[name][0]


def test_ten_pods_share_a_gpu_each_within_its_limit(cluster, gpushare, pods):
    within = pods.create(9, arguments=["--memory", "7000"])
    pods.wait_running(within)
    (greedy,) = pods.create(arguments=["--memory", "9000"])
    wait_for("the pod over its limit to fail", lambda: pods.phase(greedy) == "Failed")
    assert "CUDA_ERROR_OUT_OF_MEMORY" in cluster.kubectl("logs", greedy).stdout + cluster.kubectl("logs", greedy).stderr
    (tenth,) = pods.create(arguments=["--memory", "7000"])
    pods.wait_running([*within, tenth])
    assert len({gpu_of(share) for shares in gpushare.granted_to(pods, [*within, tenth]).values() for share in shares}) == 1


def test_a_restart_of_the_daemon_ends_no_client(gpushare, pods):
    running = pods.create(3, arguments=["--memory", "1000"])
    pods.wait_running(running)
    before, seen = ready(gpushare), {name: pods.devices(name) for name in running}
    gpushare.restart()
    gpushare.wait_status("the daemon to find its control daemons again", lambda status: len(status["mps"]) == 8)
    gpushare.wait_status("them to be ready", lambda status: all(daemon["state"] == "Ready" for daemon in status["mps"]))
    assert ready(gpushare) == before
    pods.wait_running(running)
    assert {name: pods.devices(name) for name in running} == seen


def test_a_fault_stays_on_its_gpu(gpushare, pods):
    (guilty,) = pods.create(host_pid=True, arguments=["--memory", "1000"])
    pods.wait_running([guilty])
    share = share_of(gpushare, pods, guilty)

    def holder():
        status = gpushare.status()
        pids = [process["pid"] for gpu in status["gpus"] for each in gpu["shares"] if each["id"] == share for process in each["holders"]]
        return pids and pids[0]
    gpushare.inject(f"fault={wait_for('the daemon to see the client', holder)}")
    others = [daemon for daemon in gpushare.status()["mps"] if daemon["device"] != gpu_of(share)]
    assert len(others) == 7 and all(daemon["state"] == "Ready" and daemon["faults"] == 0 for daemon in others)
