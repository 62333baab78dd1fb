"""`gpushare status` names pods as holders, from the kubelet's pod-resources API; a kubelet that misbehaves costs the pods only."""
import os
import subprocess
import threading

import grpc
import pytest

from node import GPUSHARE, Sim, wait_until
from pod_resources import Hostile

pytestmark = pytest.mark.skipif(not os.path.exists(GPUSHARE), reason="gpushare is not built")


@pytest.fixture(scope="module")
def sim(tmp_path_factory):
    node = Sim(tmp_path_factory.mktemp("sim"), "2xA100-80GB")
    yield node
    node.stop()


def serving(node):
    """Starts the daemon without a kubelet to register with, and waits for its shares; their ids."""
    node.arguments += ["--kubelet-socket="]
    node.start()
    node.wait_listening()
    status = wait_until(lambda: (lambda s: s["gpus"] and s)(node.status()), "the GPUs")
    return [share["id"] for gpu in status["gpus"] for share in gpu["shares"]]


def pods_of(status):
    return {share["id"]: share["pods"] for gpu in status["gpus"] for share in gpu["shares"]}


def table(node):
    return subprocess.run([GPUSHARE, "status", "--socket", node.socket], capture_output=True, text=True, check=True, timeout=60).stdout


def test_pods_are_named(node, kubelet_pods):
    kubelet_pods.start()
    ids = serving(node)
    kubelet_pods.pods = [("team-a", "train-0", "main", "nvidia.com/gpu", ids[:2]),
                         ("team-b", "notebook-7f9", "jupyter", "nvidia.com/gpu", [ids[5]]),
                         ("team-b", "other", "c", "example.com/fpga", ["fpga-0"])]
    status = wait_until(lambda: (lambda s: pods_of(s)[ids[0]] and s)(node.status()), "the pods")
    pods = pods_of(status)
    assert pods[ids[0]] == pods[ids[1]] == [{"namespace": "team-a", "name": "train-0", "container": "main"}]
    assert pods[ids[5]] == [{"namespace": "team-b", "name": "notebook-7f9", "container": "jupyter"}]
    assert pods[ids[2]] == []
    assert not status["problems"]
    lines = table(node).splitlines()
    assert any(line.endswith("  POD") for line in lines)
    assert sum(line.endswith("  team-a/train-0/main") for line in lines) == 2
    assert any("no process" in line and line.endswith("team-b/notebook-7f9/jupyter") for line in lines)
    kubelet_pods.pods = []
    wait_until(lambda: pods_of(node.status())[ids[0]] == [], "the pod's end")
    assert "POD" not in table(node)


def test_without_a_socket_pods_are_unknown_and_nothing_is_wrong(node):
    ids = serving(node)
    status = node.status()
    assert pods_of(status)[ids[0]] is None
    assert not status["problems"]
    assert "POD" not in table(node)


def test_the_socket_may_come_later_and_the_kubelet_may_restart(node, kubelet_pods):
    ids = serving(node)
    assert pods_of(node.status())[ids[0]] is None
    kubelet_pods.pods = [("n", "p", "c", "nvidia.com/gpu", [ids[0]])]
    kubelet_pods.start()
    wait_until(lambda: pods_of(node.status())[ids[0]], "the pod")
    kubelet_pods.stop()
    kubelet_pods.pods = [("n", "later", "c", "nvidia.com/gpu", [ids[0]])]
    kubelet_pods.start()
    wait_until(lambda: (pods_of(node.status())[ids[0]] or [{}])[0].get("name") == "later", "the new kubelet's pod")


def test_no_question_is_asked_with_an_empty_socket(node, kubelet_pods):
    kubelet_pods.start()
    node.arguments += ["--pod-resources-socket="]
    ids = serving(node)
    assert pods_of(node.status())[ids[0]] is None
    assert kubelet_pods.calls == 0


def test_many_questions_are_one_to_the_kubelet(node, kubelet_pods):
    """The first answer is held back, so all that ask meanwhile are known to have asked at the same time."""
    kubelet_pods.start()
    node.arguments += ["--kubelet-socket="]
    kubelet_pods.hold = threading.Event()
    node.start()
    node.wait_listening()
    asking = [subprocess.Popen([GPUSHARE, "status", "-o", "json", "--socket", node.socket], stdout=subprocess.DEVNULL) for _ in range(6)]
    wait_until(lambda: kubelet_pods.calls > 0, "the question")
    kubelet_pods.hold.set()
    assert [p.wait(60) for p in asking] == [0] * 6
    assert kubelet_pods.calls <= 3  # not one each; a slow machine may let one's answer grow old


def test_a_kubelet_that_refuses(node, kubelet_pods):
    kubelet_pods.start()
    kubelet_pods.refuse = grpc.StatusCode.RESOURCE_EXHAUSTED
    ids = serving(node)
    status = wait_until(lambda: (lambda s: s["problems"] and s)(node.status()), "the problem")
    assert "RESOURCE_EXHAUSTED: rejected by rate limit" in status["problems"][0]
    assert pods_of(status)[ids[0]] is None
    kubelet_pods.refuse = None
    wait_until(lambda: pods_of(node.status())[ids[0]] == [], "an answer")
    assert not node.status()["problems"]


def test_a_kubelet_that_hangs_costs_the_pods_only(node, kubelet_pods):
    kubelet_pods.start()
    kubelet_pods.hold = threading.Event()
    ids = serving(node)
    status = wait_until(lambda: (lambda s: s["problems"] and s)(node.status()), "the problem")
    assert "pods are not known" in status["problems"][0]
    assert pods_of(status)[ids[0]] is None


def test_the_daemon_stops_while_the_kubelet_hangs(node, kubelet_pods):
    kubelet_pods.start()
    node.arguments += ["--kubelet-socket="]
    kubelet_pods.hold = threading.Event()
    node.start()
    node.wait_listening()
    asking = subprocess.Popen([GPUSHARE, "status", "--socket", node.socket], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_until(lambda: kubelet_pods.calls > 0, "the question")
    assert node.stop() == 0
    asking.wait(60)


def hang(connection):
    while connection.recv(4096):
        pass


HOSTILE = {
    "html": lambda connection: (connection.recv(4096), connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n<html>"), hang(connection)),
    "noise": lambda connection: (connection.recv(4096), connection.sendall(bytes(range(256)) * 64), hang(connection)),
    "silence": hang,
    "slams the door": lambda connection: connection.close(),
}


@pytest.mark.parametrize("how", HOSTILE)
def test_a_peer_that_is_no_kubelet(node, how):
    hostile = Hostile(node.kubelet_dir, HOSTILE[how])
    try:
        ids = serving(node)
        status = wait_until(lambda: (lambda s: s["problems"] and s)(node.status()), "the problem")
        assert "pods are not known" in status["problems"][0]
        assert len(pods_of(status)) == len(ids) == 8
    finally:
        hostile.stop()


@pytest.mark.parametrize("reply", [b"\xff" * 100, b"\x0a\xff\xff\xff\x7f", os.urandom(70000) + b"\xff", bytes(100 << 20)],
                         ids=["groups", "a length beyond the end", "random", "100 MB"])
def test_a_reply_that_is_no_list(node, kubelet_pods, reply):
    kubelet_pods.reply = lambda: reply
    kubelet_pods.start()
    serving(node)
    status = wait_until(lambda: (lambda s: s["problems"] and s)(node.status()), "the problem")
    assert "pods are not known" in status["problems"][0]


def test_names_that_would_steer_a_terminal_are_left_out(node, kubelet_pods):
    kubelet_pods.start()
    ids = serving(node)
    kubelet_pods.pods = [("n", "\x1b[2Jp", "c", "nvidia.com/gpu", [ids[0]]), ("n", "good", "c", "nvidia.com/gpu", [ids[1]])]
    wait_until(lambda: pods_of(node.status())[ids[1]], "the pod")
    assert pods_of(node.status())[ids[0]] == []
    assert "\x1b" not in table(node)


def test_a_list_as_long_as_a_node_may_have(node, kubelet_pods):
    """10 MB: 256 pods of which each has thousands of devices that are not ours."""
    kubelet_pods.start()
    ids = serving(node)
    foreign = ["fpga-%06d" % i for i in range(3500)]
    kubelet_pods.pods = [("n", "p-%d" % i, "c", "example.com/fpga", foreign) for i in range(256)]
    kubelet_pods.pods.append(("n", "last", "c", "nvidia.com/gpu", [ids[7]]))
    assert 4 << 20 < len(kubelet_pods.reply()) < 16 << 20
    wait_until(lambda: pods_of(node.status())[ids[7]], "the pod")
