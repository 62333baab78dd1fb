"""helm uninstall leaves nothing behind, on the node or in the cluster."""
import pathlib

from cluster import wait_for
from deployment import NAMESPACE
from pods import allocatable

KINDS = "daemonsets,pods,serviceaccounts,roles,rolebindings,services,networkpolicies,jobs,secrets"
CLUSTER_KINDS = "clusterroles,clusterrolebindings,validatingadmissionpolicies,validatingadmissionpolicybindings"


def test_helm_uninstall_leaves_nothing_behind(cluster, gpushare, pods):
    gpushare.ensure()
    (name,) = pods.create()
    pods.wait_running([name])
    gpus = pods.see(name)
    assert any(label.startswith("nvidia.com/gpu") for label in cluster.node()["metadata"]["labels"])
    gpushare.uninstall()

    assert pods.phase(name) == "Running"  # what runs, runs on
    assert pods.devices(name) == gpus
    node = cluster.node()
    labels = [label for label in node["metadata"]["labels"] if "nvidia" in label or "gpushare" in label]
    annotations = [key for key in node["metadata"].get("annotations", {}) if "nvidia" in key or "gpushare" in key]
    conditions = [each["type"] for each in node["status"]["conditions"] if "gpu" in each["type"].lower()]
    assert (labels, annotations, conditions) == ([], [], []), cluster.log_tail("daemon-uninstall", 15)
    plugins = pathlib.Path("/var/lib/kubelet/device-plugins")
    assert sorted(path.name for path in plugins.iterdir()) == ["kubelet.sock", "kubelet_internal_checkpoint"]
    for path in ("/var/run/cdi", "/run/gpushare", "/var/lib/gpushare", "/run/nvidia/mps"):
        left = list(pathlib.Path(path).rglob("*")) if pathlib.Path(path).exists() else []
        assert not left, left
    for arguments in ([KINDS, "-n", NAMESPACE], [CLUSTER_KINDS]):
        items = cluster.get(*arguments)["items"]
        ours = [f"{item['kind']}/{item['metadata']['name']}" for item in items
                if item["metadata"].get("labels", {}).get("app.kubernetes.io/name") == "gpushare" or "gpushare" in item["metadata"]["name"]]
        assert not ours, ours
    assert gpushare.pid() is None
    wait_for("the node to have no GPUs to give", lambda: allocatable(cluster) == 0)


def test_it_can_be_installed_again(cluster, gpushare, pods):
    gpushare.ensure()
    (name,) = pods.create()
    pods.wait_running([name])
    assert len(pods.devices(name)) == 1
    gpushare.uninstall()
