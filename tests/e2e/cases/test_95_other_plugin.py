"""From another device plugin and back, as docs/migrate.md has it, with pods of both that run all the while."""
import pathlib
import sys

import pytest

from cluster import NODE, wait_for
from deployment import DRIVER_GPUS
from pods import manifest, wait_allocatable
from tools import REPOSITORY

sys.path.insert(0, str(REPOSITORY / "tests" / "integration" / "lib"))
from foreign import SPEC, Foreign  # noqa: E402

PLUGINS = pathlib.Path("/var/lib/kubelet/device-plugins")
THEIR_SPEC = pathlib.Path("/var/run/cdi/k8s.device-plugin.nvidia.com-gpu.json")
MIG_CONFIG, MIG_STATE = "nvidia.com/mig.config", "nvidia.com/mig.config.state"
REPLICAS = 4


class KubeletSocket:
    socket = str(PLUGINS / "kubelet.sock")


@pytest.fixture
def ids(gpushare):
    """Of the shares, as both plugins name them. gpushare is not there afterwards."""
    gpushare.ensure(REPLICAS)
    shares = [share["id"] for gpu in gpushare.status()["gpus"] for share in gpu["shares"]]
    gpushare.uninstall()
    return shares


@pytest.fixture
def other(cluster, ids):
    """NVIDIA's plugin, which brings a CDI spec; and the label that NVIDIA's mig-manager follows."""
    plugin = Foreign(PLUGINS, ids)
    THEIR_SPEC.parent.mkdir(parents=True, exist_ok=True)
    THEIR_SPEC.write_text(SPEC, encoding="utf-8")
    label(cluster, "all-1g.10gb")
    yield plugin
    plugin.stop()
    THEIR_SPEC.unlink(missing_ok=True)
    cluster.kubectl("label", "node", NODE, f"{MIG_CONFIG}-")


def label(cluster, layout):
    cluster.kubectl("label", "node", NODE, f"{MIG_CONFIG}={layout}", "--overwrite")


def create_idle(cluster, count=1):
    """Pods that only hold what they are given: the other plugin brings no driver."""
    made = [manifest(plain=True) for _ in range(count)]
    for pod in made:
        pod["spec"]["containers"][0]["image"] = "localhost/e2e-pause:1"
    cluster.apply(*made, how="create")
    return [pod["metadata"]["name"] for pod in made]


def labels(cluster):
    return cluster.node()["metadata"]["labels"]


def condition(cluster, kind):
    for each in cluster.node()["status"]["conditions"]:
        if each["type"] == kind:
            return each["status"], each["reason"], each["message"]
    return None, None, ""


def wait_condition(cluster, *wanted, says=("",)):
    """Kind, status and reason; its message has one of the words `says`."""
    def reached():
        found = condition(cluster, wanted[0])
        return found[:2] == wanted[1:] and any(word in found[2] for word in says)
    wait_for(f"the condition {wanted}", reached)


def check_mig_waits_for_them(cluster, theirs):
    """A layout that would divide their GPUs touches nothing, and names one of them; then it is not wanted any more."""
    label(cluster, "all-1g.10gb")
    wait_condition(cluster, "GPUShareMIG", "False", "MIGConfigPending", says=[f"default/{name}" for name in theirs])
    assert labels(cluster)[MIG_STATE] == "pending"
    label(cluster, "all-disabled")
    wait_condition(cluster, "GPUShareMIG", "True", "MIGConfigApplied", says=["all-disabled"])


def test_there_and_back(cluster, gpushare, pods, ids, other):
    total = DRIVER_GPUS * REPLICAS
    other.start().register(KubeletSocket)
    wait_allocatable(cluster, total)
    theirs = create_idle(cluster, 2)
    pods.wait_running(theirs)

    gpushare.install()
    wait_condition(cluster, "GPUShareServing", "False", "PluginConflict", says=[other.path])
    theirs += create_idle(cluster)  # is still theirs to give
    pods.wait_running(theirs)
    given = gpushare.granted_to(pods, theirs)
    gpushare.wait_status("the GPUs to be known", lambda status: len(status["gpus"]) == DRIVER_GPUS)
    assert THEIR_SPEC.read_text(encoding="utf-8") == SPEC
    assert not [key for key in labels(cluster) if key.startswith("nvidia.com/") and key != MIG_CONFIG]
    assert not [gpu["uuid"] for gpu in gpushare.status()["gpus"] if gpu["migEnabled"]]

    label(cluster, "all-disabled")  # NVIDIA's mig-manager goes together with the plugin, and leaves whole GPUs
    other.stop()
    wait_condition(cluster, "GPUShareServing", "True", "Serving")
    wait_condition(cluster, "GPUShareMIG", "True", "MIGConfigApplied", says=["all-disabled"])
    assert "GPUSHARE_CDI_SPEC" in THEIR_SPEC.read_text(encoding="utf-8")
    check_mig_waits_for_them(cluster, theirs)
    wait_allocatable(cluster, total)
    ours = pods.create(total - len(theirs), plain=True)
    pods.wait_running([*theirs, *ours], patience=300)
    everything = gpushare.granted_to(pods, [*theirs, *ours])  # none is given out twice
    assert {name: everything[name] for name in theirs} == given
    assert sorted(share for shares in everything.values() for share in shares) == sorted(ids)

    gpushare.uninstall()
    assert THEIR_SPEC.read_text(encoding="utf-8") == SPEC
    other.start().register(KubeletSocket)
    wait_allocatable(cluster, total)
    pods.delete(*ours[:2])
    (last,) = create_idle(cluster)
    pods.wait_running([*theirs, *ours[2:], last])
    everything = gpushare.granted_to(pods, [*theirs, *ours[2:], last])
    assert {name: everything[name] for name in theirs} == given
    assert len(everything[last]) == 1
