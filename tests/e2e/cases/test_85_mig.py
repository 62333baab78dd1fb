"""MIG by the node's label: slices for pods, and changes that touch no slice in use."""
import pytest

from cluster import NODE, wait_for
from deployment import TIME_SLICING
from pods import wait_allocatable

SMALL = "nvidia.com/mig-1g.10gb"
LABEL = "nvidia.com/mig.config"
REPLICAS = TIME_SLICING % 4 + """    - name: nvidia.com/mig-1g.10gb
      replicas: 2
"""


@pytest.fixture(scope="module", autouse=True)
def whole_again(cluster, gpushare):
    gpushare.ensure()
    yield
    cluster.kubectl("label", "node", NODE, f"{LABEL}=all-disabled", "--overwrite")
    wait_state(cluster, "success", "all-disabled")
    cluster.kubectl("label", "node", NODE, f"{LABEL}-")
    gpushare.ensure()


def wait_state(cluster, state, wanted):
    def reached():
        labels = cluster.node()["metadata"]["labels"]
        return labels.get(LABEL) == wanted and labels.get(f"{LABEL}.state") == state
    wait_for(f"{LABEL}={wanted} to be in the state {state}", reached)


def test_a_pod_gets_a_slice_and_a_change_spares_it(cluster, gpushare, pods):
    cluster.kubectl("label", "node", NODE, f"{LABEL}=all-1g.10gb", "--overwrite")
    wait_state(cluster, "success", "all-1g.10gb")
    wait_allocatable(cluster, 56, SMALL)
    first, second = pods.create(2, resource=SMALL, arguments=["--memory", "1000"])
    pods.wait_running([first, second])
    assert len(pods.devices(first)) == len(pods.devices(second)) == 1
    assert pods.devices(first) != pods.devices(second)
    granted = gpushare.granted_to(pods, [first, second], SMALL)

    gpushare.set_config({"config.yaml": REPLICAS})
    wait_allocatable(cluster, 112, SMALL)  # two shares of each slice
    pods.wait_running([first, second])
    gpushare.set_config({"config.yaml": TIME_SLICING % 4})
    wait_allocatable(cluster, 56, SMALL)

    cluster.kubectl("label", "node", NODE, f"{LABEL}=all-balanced", "--overwrite")
    wait_for("the other GPUs to be divided anew", lambda: any(resource.endswith("3g.40gb") for resource in cluster.node()["status"]["allocatable"])
             or cluster.node()["metadata"]["labels"].get(f"{LABEL}.state") in ("pending", "success", "failed"))
    pods.wait_running([first, second])
    assert gpushare.granted_to(pods, [first, second], SMALL) == granted
    pods.delete(first, second)
    wait_state(cluster, "success", "all-balanced")
    wait_allocatable(cluster, 8, "nvidia.com/mig-3g.40gb")


def test_single_publishes_slices_as_gpus(cluster, gpushare, pods):
    cluster.kubectl("label", "node", NODE, f"{LABEL}=all-1g.10gb", "--overwrite")
    wait_state(cluster, "success", "all-1g.10gb")
    gpushare.upgrade("mig.strategy=single")
    wait_allocatable(cluster, 56 * 4)  # four shares of each slice
    (name,) = pods.create(arguments=["--memory", "1000"])
    pods.wait_running([name])
    assert len(pods.devices(name)) == 1
    pods.delete(name)
    gpushare.upgrade()
