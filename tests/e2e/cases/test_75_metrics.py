"""Prometheus finds each daemon by the chart's Service, and reads there what its node's shares are."""
import urllib.request

from cluster import wait_for
from deployment import NAMESPACE


def read(address, path):
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(f"http://{address}:9400{path}", timeout=60) as answer:
        return answer.read().decode()


def total(text, name):
    """The sum of a metric's samples."""
    return sum(float(line.rsplit(" ", 1)[1]) for line in text.splitlines() if line.startswith(name + "{"))


def test_the_service_leads_to_the_metrics(cluster, gpushare, pods):
    gpushare.ensure()
    names = pods.create(3)
    pods.wait_running(names)

    def endpoints():
        slices = cluster.get("endpointslices", "-n", NAMESPACE, "-l", "kubernetes.io/service-name=gpushare")["items"]
        return [address for item in slices for endpoint in item.get("endpoints") or () for address in endpoint["addresses"]]

    wait_for("the Service to have the daemon's address", lambda: endpoints() == [gpushare.pod()["status"]["podIP"]])
    (address,) = endpoints()
    assert read(address, "/healthz") == read(address, "/readyz") == "ok\n"
    assert total(read(address, "/metrics"), "gpushare_shares") == 32
    wait_for("the shares of three pods to be told", lambda: total(read(address, "/metrics"), "gpushare_shares_held") == 3)
