"""The configuration is changed while pods run: by editing the ConfigMap, and by the node's label."""
import os
import pathlib

import pytest

from cluster import HOME, NODE, run, wait_for
from deployment import CONFIG_MAP, NAMESPACE, TIME_SLICING, gpu_of, now
from pods import wait_allocatable

LABEL = "nvidia.com/device-plugin.config"


@pytest.fixture
def several(cluster, gpushare):
    """Configurations to choose from, and afterwards the well-known one alone."""
    gpushare.ensure()
    yield
    cluster.kubectl("label", "node", NODE, LABEL + "-")
    gpushare.ensure()


def mounted_config():
    """When the kubelet last brought the ConfigMap's files up to date: the link that it replaces names the time."""
    for link in pathlib.Path("/var/lib/kubelet/pods").glob("*/volumes/kubernetes.io~configmap/config/..data"):
        return os.readlink(link)
    return None


def shares(gpushare):
    status = gpushare.status()
    return sum(resource["shares"] for resource in status["resources"]) if status else None


def test_kubectl_edit(cluster, gpushare, pods, figure):
    gpushare.ensure()
    (name,) = pods.create()
    pods.wait_running([name])
    granted = gpushare.granted_to(pods, [name])
    editor = HOME / "editor"
    editor.write_text("#!/bin/sh\nexec sed -i 's/replicas: 4/replicas: 6/' \"$1\"\n")
    editor.chmod(0o755)
    before = mounted_config()
    pid = gpushare.pid()
    run("kubectl", f"--kubeconfig={cluster.admin}", "edit", "configmap", CONFIG_MAP, "-n", NAMESPACE,
        env={**os.environ, "EDITOR": str(editor), "KUBE_EDITOR": str(editor)})
    wait_for("the kubelet to bring the edited ConfigMap", lambda: mounted_config() != before)
    began = now()
    wait_for("the new list of devices", lambda: shares(gpushare) == 48)
    figure("config edit to new device list, after the kubelet's update", f"{now() - began:.2f} s", "<= 1 s")
    wait_allocatable(cluster, 48)
    assert gpushare.pid() == pid  # without a restart
    assert gpushare.granted_to(pods, [name]) == granted
    assert pods.see(name) == [gpu_of(granted[name][0])]


def test_a_bad_edit_keeps_the_last_good_one(cluster, gpushare, pods):
    gpushare.ensure()
    gpushare.set_config({"config.yaml": (TIME_SLICING % 4).replace("replicas", "replicsa")})
    gpushare.wait_status("the problem to be told", lambda status: status["problems"])
    wait_allocatable(cluster, 32)
    (name,) = pods.create()
    pods.wait_running([name])
    events = wait_for("an event about it", lambda: [
        event for event in cluster.get("events", "-n", "default")["items"]
        if event["involvedObject"]["kind"] == "Node" and event["type"] == "Warning" and "replicsa" in event["message"]])
    assert events
    gpushare.ensure()
    gpushare.wait_status("no problem any more", lambda status: not status["problems"])


def test_a_nodes_label_chooses_the_configuration(cluster, gpushare, several):
    gpushare.set_config({"default": TIME_SLICING % 4, "many": TIME_SLICING % 10, "whole": "version: v1\n"})
    wait_allocatable(cluster, 32)
    cluster.kubectl("label", "node", NODE, f"{LABEL}=many", "--overwrite")
    wait_allocatable(cluster, 80)
    cluster.kubectl("label", "node", NODE, f"{LABEL}=whole", "--overwrite")
    wait_allocatable(cluster, 8)
    cluster.kubectl("label", "node", NODE, LABEL + "-")
    wait_allocatable(cluster, 32)
