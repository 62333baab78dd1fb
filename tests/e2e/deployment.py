"""gpushare in the cluster, installed by Helm from the chart, on a simulated node."""
import json
import os
import pathlib
import subprocess
import time

from cluster import HOME, PATIENCE, run, wait_for
from pods import SIM, wait_allocatable
from tools import REPOSITORY

CHART = REPOSITORY / "deploy" / "helm" / "gpushare"
NAMESPACE = "gpu-operator"
CONFIG_MAP = "nvidia-device-plugin"
DRIVER_GPUS = 8
# What people have: NVIDIA's documented ConfigMap, and the operator's values.
TIME_SLICING = """version: v1
sharing:
  timeSlicing:
    resources:
    - name: nvidia.com/gpu
      replicas: %d
"""
VALUES = ["driver.enabled=true", "mig.strategy=mixed", f"devicePlugin.config.name={CONFIG_MAP}", "simulatedNode.enabled=true",
          f"simulatedNode.gpus={DRIVER_GPUS}xA100-80GB",
          # as with the plugin's own chart: nodes without the label take the one configuration
          "config.fallbackStrategies={named,single}"]
SOCKET = "/run/gpushare/gpushare.sock"
CHECKPOINT = pathlib.Path("/var/lib/kubelet/device-plugins/kubelet_internal_checkpoint")


class Deployment:
    def __init__(self, cluster, build):
        self.cluster, self.program = cluster, build / "gpushare"

    # --- Helm ---

    def helm(self, *arguments, check=True):
        environment = {**os.environ, "KUBECONFIG": str(self.cluster.admin), "HELM_CACHE_HOME": str(HOME / "helm"),
                       "HELM_CONFIG_HOME": str(HOME / "helm"), "HELM_DATA_HOME": str(HOME / "helm")}
        return run("helm", *arguments, "--namespace", NAMESPACE, env=environment, check=check)

    def set_config(self, data):
        """The ConfigMap's keys and texts."""
        self.cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}},
                           {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": CONFIG_MAP, "namespace": NAMESPACE}, "data": data})

    def install(self, *values):
        self.helm("install", "gpushare", CHART, "--create-namespace", *sets(VALUES), *sets(values))

    def upgrade(self, *values):
        self.helm("upgrade", "gpushare", CHART, *sets(VALUES), *sets(values))
        self.cluster.kubectl("rollout", "status", "daemonset/gpushare", "-n", NAMESPACE, "--timeout=120s")

    def uninstall(self):
        """Removes it; what the daemon says meanwhile is kept beside the other logs, since its pod will be gone."""
        with open(self.cluster.logs / "daemon-uninstall.log", "ab") as log:
            follower = subprocess.Popen(["kubectl", f"--kubeconfig={self.cluster.admin}", "logs", "-f", "-n", NAMESPACE, "daemonset/gpushare"],
                                        stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        self.helm("uninstall", "gpushare", "--wait")
        follower.wait(PATIENCE)

    def ensure(self, replicas=4):
        """Installed, with the well-known configuration in force and nothing else set."""
        self.set_config({"config.yaml": TIME_SLICING % replicas})
        if self.helm("status", "gpushare", check=False).returncode:
            self.install()
        wait_allocatable(self.cluster, DRIVER_GPUS * replicas)

    # --- the daemon ---

    def pod(self):
        """The daemon's pod: the one that is not being deleted."""
        items = self.cluster.get("pods", "-n", NAMESPACE, "-l", "app.kubernetes.io/component=node")["items"]
        live = [item for item in items if "deletionTimestamp" not in item["metadata"]]
        return live[0] if live else None

    def pid(self):
        """Of the daemon."""
        for entry in os.listdir("/proc"):
            try:
                words = pathlib.Path(f"/proc/{entry}/cmdline").read_bytes().split(b"\0") if entry.isdigit() else []
            except OSError:
                continue
            if len(words) > 1 and words[0].endswith(b"gpushare") and words[1] == b"node":
                return int(entry)
        return None

    def restart(self):
        """The daemon's pod is deleted, and another one takes over."""
        before = self.pod()["metadata"]["name"]
        self.cluster.kubectl("delete", "pod", before, "-n", NAMESPACE, "--wait=true")
        self.cluster.kubectl("rollout", "status", "daemonset/gpushare", "-n", NAMESPACE, "--timeout=120s")

    def status(self):
        """As `gpushare status` on the node says it; None while nobody answers."""
        done = run(self.program, "status", "-o", "json", "--socket", SOCKET, check=False)
        return json.loads(done.stdout) if done.returncode == 0 else None

    def log(self):
        return self.cluster.kubectl("logs", "-n", NAMESPACE, "daemonset/gpushare", "-c", "gpushare", check=False).stdout

    def inject(self, *fault):
        """A fault on the simulated node, by `gpushare sim inject`."""
        run(self.program, "sim", "inject", "--state", SIM, *fault)

    # --- what the kubelet gave to whom ---

    def granted(self, resource="nvidia.com/gpu"):
        """{pod's UID: ids of its shares}, from the kubelet's own file."""
        granted = {}
        for entry in json.loads(CHECKPOINT.read_text())["Data"]["PodDeviceEntries"] or ():
            if entry["ResourceName"] == resource:
                ids = [share for group in entry["DeviceIDs"].values() for share in group]
                granted.setdefault(entry["PodUID"], []).extend(ids)
        return granted

    def granted_to(self, pods, names, resource="nvidia.com/gpu"):
        """{pod: ids of its shares} of those pods; no id may be given out twice."""
        by_uid = self.granted(resource)
        listed = pods.list()
        granted = {name: sorted(by_uid.get(listed[name]["metadata"]["uid"], ())) for name in names}
        everything = [share for shares in granted.values() for share in shares]
        assert len(everything) == len(set(everything)), f"a share is given out twice: {granted}"
        return granted

    def wait_status(self, what, probe):
        def answer():
            status = self.status()
            return status is not None and probe(status)
        wait_for(what, answer)


def sets(values):
    return [word for value in values for word in ("--set", value)]


def gpu_of(share):
    return share.split("::")[0]


def now():
    return time.monotonic()
