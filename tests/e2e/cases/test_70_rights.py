"""What the daemon's own token may do, and what a token that was stolen elsewhere may not."""
import json
import ssl
import urllib.error
import urllib.request

import pytest

from cluster import NODE
from deployment import NAMESPACE


def patch(cluster, token, path, change):
    """The API server's status code and message."""
    server = cluster.kubectl("config", "view", "-o", "jsonpath={.clusters[0].cluster.server}").stdout
    request = urllib.request.Request(server + path, json.dumps(change).encode(), method="PATCH",
                                     headers={"Authorization": "Bearer " + token, "Content-Type": "application/merge-patch+json"})
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=ssl._create_unverified_context()))
    try:
        with opener.open(request, timeout=60) as answer:
            return answer.status, ""
    except urllib.error.HTTPError as refusal:
        return refusal.code, json.loads(refusal.read())["message"]


@pytest.fixture
def tokens(cluster, gpushare):
    """The daemon's, which names its node, and one of the same account that names none."""
    gpushare.ensure()
    pod = gpushare.pod()["metadata"]
    bound = ["--bound-object-kind", "Pod", "--bound-object-name", pod["name"], "--bound-object-uid", pod["uid"]]
    create = ["create", "token", "gpushare", "-n", NAMESPACE]
    return cluster.kubectl(*create, *bound).stdout.strip(), cluster.kubectl(*create).stdout.strip()


def test_a_daemon_changes_its_own_node_and_nothing_else(cluster, tokens):
    own, unbound = tokens
    node, key = f"/api/v1/nodes/{NODE}", "nvidia.com/vgpu.host-driver-branch"
    label = {"metadata": {"labels": {key: "test"}}}
    assert patch(cluster, own, node, label) == (200, "")
    assert patch(cluster, own, node, {"metadata": {"labels": {key: None}}}) == (200, "")
    code, message = patch(cluster, own, node, {"spec": {"unschedulable": True}})
    assert code == 422 and "not a node's specification" in message, (code, message)
    code, message = patch(cluster, unbound, node, label)
    assert code == 422 and "the node that it runs on" in message, (code, message)
    for path in (f"/api/v1/namespaces/{NAMESPACE}/configmaps/x", f"/apis/apps/v1/namespaces/{NAMESPACE}/daemonsets/gpushare"):
        assert patch(cluster, own, path, label)[0] == 403
    assert not cluster.node()["spec"].get("unschedulable")


@pytest.mark.parametrize("where, change, words", [
    ("", {"metadata": {"labels": {"node-role.kubernetes.io/test": ""}}}, "no others"),
    ("", {"metadata": {"labels": {"nvidia.com/mig.config": "all-balanced"}}}, "no others"),
    ("", {"metadata": {"annotations": {"gpushare.test/x": "y"}}}, "metadata"),
    ("/status", {"metadata": {"labels": {"gpushare.test/x": "y"}}}, "no others"),
    ("/status", {"status": {"capacity": {"cpu": "999"}}}, "status"),
    ("/status", {"status": {"addresses": [{"type": "InternalIP", "address": "203.0.113.9"}]}}, "status"),
    ("/status", {"status": {"conditions": [{"type": "Ready", "status": "False", "reason": "x", "message": "x"}]}}, "own conditions")])
def test_a_stolen_token_writes_no_more_of_its_node_than_the_daemon_does(cluster, tokens, where, change, words):
    own, _ = tokens
    code, message = patch(cluster, own, f"/api/v1/nodes/{NODE}{where}", change)
    assert code == 422 and words in message, (code, message)
