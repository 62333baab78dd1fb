"""The reason for all of it: eight GPUs, 32 pods."""
import collections

from cluster import wait_for
from deployment import DRIVER_GPUS, TIME_SLICING, gpu_of, now


def test_helm_install_to_the_first_pod(cluster, gpushare, pods, figure):
    """From nothing: the ConfigMap as documented, one helm install with the operator's values, and a pod that waits already."""
    gpushare.set_config({"config.yaml": TIME_SLICING % 4})
    (name,) = pods.create()
    pods.wait_pending_unschedulable(name)
    began = now()
    gpushare.install()
    pods.wait_running([name])
    figure("helm install to the first GPU pod Running", f"{now() - began:.1f} s", "<= 10 s")
    assert len(pods.devices(name)) == 1


def test_32_are_schedulable_and_the_33rd_waits(cluster, gpushare, pods):
    gpushare.ensure()
    assert cluster.node()["status"]["capacity"]["nvidia.com/gpu"] == "32"
    names = pods.create(32)
    pods.wait_running(names, patience=400)
    (late,) = pods.create()
    pods.wait_pending_unschedulable(late)

    granted = gpushare.granted_to(pods, names)
    assert all(len(shares) == 1 for shares in granted.values()), granted
    on_gpu = collections.Counter(gpu_of(shares[0]) for shares in granted.values())
    assert len(on_gpu) == DRIVER_GPUS and set(on_gpu.values()) == {4}, on_gpu
    # What the kubelet wrote down is what the programs see.
    for name in names:
        assert pods.devices(name) == [gpu_of(granted[name][0])]

    pods.delete(names[0])
    pods.wait_running([late])
    freed = granted[names[0]]
    assert gpushare.granted_to(pods, [late])[late] == freed
    assert pods.devices(late) == [gpu_of(freed[0])]


def test_four_pods_use_the_memory_of_one_gpu(cluster, gpushare, pods):
    """That they share is seen on the GPU: what four programs took is taken from one GPU's memory."""
    gpushare.ensure()
    names = pods.create(32, arguments=["--memory", "1024"])
    pods.wait_running(names, patience=400)

    def all_taken():
        gpus = gpushare.status()["gpus"]
        return all(gpu["memory"]["usedBytes"] >= 4 << 30 for gpu in gpus) and len(gpus) == DRIVER_GPUS
    wait_for("4 GiB in use on each GPU", all_taken)
    granted = gpushare.granted_to(pods, names)
    owners = {shares[0]: name for name, shares in granted.items()}
    for gpu in gpushare.status()["gpus"]:
        assert len(gpu["shares"]) == 4 and not gpu["processes"]
        for share in gpu["shares"]:
            assert [pod["name"] for pod in share["pods"]] == [owners[share["id"]]]
            assert [holder["name"] for holder in share["holders"]] == ["gpus"]
