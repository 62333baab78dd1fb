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
    node, label = f"/api/v1/nodes/{NODE}", {"metadata": {"annotations": {"gpushare.test/x": "y"}}}
    assert patch(cluster, own, node, label) == (200, "")
    assert patch(cluster, own, node, {"metadata": {"annotations": {"gpushare.test/x": None}}}) == (200, "")
    code, message = patch(cluster, own, node, {"spec": {"unschedulable": True}})
    assert code == 422 and "not a node's specification" in message, (code, message)
    code, message = patch(cluster, unbound, node, label)
    assert code == 422 and "the node that it runs on" in message, (code, message)
    for path in (f"/api/v1/namespaces/{NAMESPACE}/configmaps/x", f"/apis/apps/v1/namespaces/{NAMESPACE}/daemonsets/gpushare"):
        assert patch(cluster, own, path, label)[0] == 403
    assert not cluster.node()["spec"].get("unschedulable")
