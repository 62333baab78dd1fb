"""A GPU that falls sick is not given to anybody until it is well again."""
from deployment import gpu_of
from pods import wait_allocatable


def test_an_xid_takes_a_gpu_out_and_recovery_brings_it_back(cluster, gpushare, pods):
    gpushare.ensure()
    before = pods.create(8)
    pods.wait_running(before)
    gpushare.inject("--gpu", "0", "xid=79")
    sick = gpushare.status()["gpus"][0]["uuid"]
    wait_allocatable(cluster, 28)
    assert cluster.node()["status"]["capacity"]["nvidia.com/gpu"] == "32"  # it is there, but not to be had
    gpushare.wait_status("the GPU to be named unhealthy", lambda status: status["gpus"][0]["health"] == "Unhealthy")

    free = 28 - len(before)  # the scheduler counts the pod on the sick GPU as well
    elsewhere = pods.create(free)
    pods.wait_running(elsewhere)
    assert not [name for name, shares in gpushare.granted_to(pods, elsewhere).items() if gpu_of(shares[0]) == sick]
    waiting = pods.create()[0]
    pods.wait_pending_unschedulable(waiting)

    gpushare.inject("--gpu", "0", "recovered")
    wait_allocatable(cluster, 32)
    last = pods.create(3)
    pods.wait_running([waiting, *last])
    everything = gpushare.granted_to(pods, [*before, *elsewhere, waiting, *last])
    assert sorted(gpu_of(shares[0]) for shares in everything.values()).count(sick) == 4
    assert pods.see(waiting) == [gpu_of(everything[waiting][0])]
