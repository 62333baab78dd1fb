"""The node's labels say what it has and how it is shared, and `gpushare status` names the pods that hold shares."""
from cluster import wait_for


def labels(cluster):
    found = cluster.node()["metadata"]["labels"]
    return {key[len("nvidia.com/"):]: value for key, value in found.items() if key.startswith("nvidia.com/")}


def applied(cluster):
    """How and when the daemon last set labels, as the API server recorded it."""
    name = cluster.node()["metadata"]["name"]
    fields = cluster.get("node", name, "--show-managed-fields")["metadata"]["managedFields"]
    return [(field["operation"], field["time"]) for field in fields if field["manager"] == "gpushare" and not field.get("subresource")]


def test_the_labels_of_gpu_feature_discovery(cluster, gpushare):
    gpushare.ensure()
    wait_for("the labels", lambda: labels(cluster).get("gpu.replicas") == "4")
    now = labels(cluster)
    assert now["gpu.product"] == "NVIDIA-A100-SXM4-80GB-SHARED"
    assert (now["gpu.count"], now["gpu.memory"], now["gpu.family"], now["gpu.present"]) == ("8", "81920", "ampere", "true")
    assert now["gpu.sharing-strategy"] == "time-slicing" and now["mps.capable"] == "false" and now["mig.capable"] == "true"
    assert [operation for operation, _ in applied(cluster)] == ["Apply"]


def test_the_labels_follow_the_configuration_and_nothing_else_changes_them(cluster, gpushare, pods):
    gpushare.ensure(replicas=2)
    wait_for("two replicas", lambda: labels(cluster).get("gpu.replicas") == "2")
    before = applied(cluster)
    names = pods.create(2)
    pods.wait_running(names)

    def held():
        status = gpushare.status()
        return status and {pod["name"] for gpu in status["gpus"] for share in gpu["shares"] for pod in share["pods"] or ()} == set(names)
    wait_for("status to name both pods", held)
    assert applied(cluster) == before
