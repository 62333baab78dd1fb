"""The cluster itself: what the other cases stand on."""
from pods import allocatable


def test_the_node_is_ready_and_runs_a_pod(cluster, pods):
    assert cluster.node()["status"]["nodeInfo"]["kubeletVersion"].startswith("v1.36.")
    assert allocatable(cluster) == 0
    # There is no driver yet, on which the usual program is linked.
    (name,) = pods.create(gpus=0, plain=True, image="localhost/e2e-pause:1")
    pods.wait_running([name])
