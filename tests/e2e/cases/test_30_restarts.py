"""Whatever is restarted: running pods keep their shares, none is lost or given out twice."""
import os
import signal
import threading
import time

import pytest

from cluster import wait_for
from deployment import gpu_of
from pods import allocatable, wait_allocatable


@pytest.fixture
def running(gpushare, pods):
    """Pods on half of the shares, what they were given, and which containers they are."""
    gpushare.ensure()
    names = pods.create(16)
    pods.wait_running(names, patience=300)
    return names, gpushare.granted_to(pods, names), containers(pods, names)


def containers(pods, names):
    listed = pods.list()
    return {name: (listed[name]["status"]["containerStatuses"][0]["containerID"], listed[name]["status"]["phase"]) for name in names}


def check_kept(cluster, gpushare, pods, running):
    """The same containers, with the same shares, which see the same GPUs; and the rest of the node can be used in full."""
    names, granted, before = running
    assert gpushare.granted_to(pods, names) == granted
    assert containers(pods, names) == before
    for name in names[:4]:
        assert pods.see(name) == [gpu_of(granted[name][0])]
    more = pods.create(16)
    pods.wait_running(more, patience=300)
    everything = gpushare.granted_to(pods, [*names, *more])
    assert all(len(shares) == 1 for shares in everything.values())
    assert {name: everything[name] for name in names} == granted
    (late,) = pods.create()
    pods.wait_pending_unschedulable(late)


def test_kubelet_restart(cluster, gpushare, pods, running):
    cluster.restart_kubelet()
    cluster.wait_ready()
    wait_for("the daemon to be registered again", lambda: (gpushare.status() or {"resources": []})["resources"][0]["registered"])
    wait_allocatable(cluster, 32)
    check_kept(cluster, gpushare, pods, running)


def test_daemon_restart(cluster, gpushare, pods, running):
    gpushare.restart()
    wait_allocatable(cluster, 32)
    check_kept(cluster, gpushare, pods, running)


def test_daemon_killed(cluster, gpushare, pods, running):
    """Its container is started again by the kubelet; meanwhile the kubelet has the shares as they were."""
    before = gpushare.pid()
    os.kill(before, signal.SIGKILL)
    wait_for("another daemon", lambda: gpushare.pid() not in (None, before) and gpushare.status())
    wait_allocatable(cluster, 32)
    check_kept(cluster, gpushare, pods, running)


def test_daemon_upgrade(cluster, gpushare, pods, running):
    """helm upgrade to an image of another name."""
    before = gpushare.pod()
    image = before["spec"]["containers"][0]["image"]
    cluster.tag_image(image, image + "-next")
    gpushare.upgrade("image.tag=" + image.rpartition(":")[2] + "-next")
    after = gpushare.pod()
    assert after["spec"]["containers"][0]["image"] == image + "-next"
    wait_allocatable(cluster, 32)
    check_kept(cluster, gpushare, pods, running)
    gpushare.helm("rollback", "gpushare", "--wait")
    wait_for("the image from before", lambda: (gpushare.pod() or before)["spec"]["containers"][0]["image"] == image)
    wait_allocatable(cluster, 32)


def test_no_bare_pod_fails_while_the_daemon_is_replaced(cluster, gpushare, pods):
    """Pods that nobody makes again are admitted all the time; with a moment without a daemon, some would fail for good."""
    gpushare.ensure()
    before = gpushare.pod()["metadata"]["name"]
    over = threading.Event()
    names = []

    def create():
        while not over.is_set() and len(names) < 30:
            names.extend(pods.create())
            time.sleep(0.2)
    creator = threading.Thread(target=create)
    creator.start()
    try:
        gpushare.upgrade("podAnnotations.again=yes")
    finally:
        over.set()
        creator.join()
    assert gpushare.pod()["metadata"]["name"] != before
    pods.wait_running(names, patience=300)  # fails at once with one that failed
    assert all(len(shares) == 1 for shares in gpushare.granted_to(pods, names).values())
    assert allocatable(cluster) == 32
    gpushare.upgrade()


def test_node_reboot(cluster, gpushare, pods):
    """Everything on the node is killed. What a Deployment wants runs again afterwards, and no share is held twice."""
    gpushare.ensure()
    pods.create_deployment("survivor", 8)
    names = pods.of_deployment("survivor", 8)
    before = gpushare.granted_to(pods, names)
    cluster.reboot()
    cluster.wait_ready()
    wait_for("a daemon on the rebooted node", gpushare.status)
    wait_allocatable(cluster, 32)

    def have_shares():
        """The API server takes the pods of before the reboot for running until the kubelet says otherwise."""
        names = pods.of_deployment("survivor", 8)
        return names if all(gpushare.granted_to(pods, names).values()) else None
    after = wait_for("the Deployment's pods to have shares", have_shares)
    granted = gpushare.granted_to(pods, after)
    assert all(len(shares) == 1 for shares in granted.values()), granted
    for name in after:
        assert pods.see(name) == [gpu_of(granted[name][0])]
    # A pod that the kubelet itself brought back has the share that it had.
    assert {name: granted[name] for name in after if name in before} == {name: before[name] for name in after if name in before}
    more = pods.create(24)
    pods.wait_running(more, patience=300)
    assert len(gpushare.granted_to(pods, [*after, *more])) == 32
    assert allocatable(cluster) == 32
