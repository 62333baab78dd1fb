"""The cluster itself: what the other cases stand on."""
from pods import allocatable


def test_the_node_is_ready_and_runs_a_pod(cluster, pods):
    assert cluster.node()["status"]["nodeInfo"]["kubeletVersion"].startswith("v1.36.")
    assert allocatable(cluster) == 0
    (name,) = pods.create(gpus=0, arguments=["--wait"])
    pods.wait_running([name])
