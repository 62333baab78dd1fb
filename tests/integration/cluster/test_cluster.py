"""The daemon in a cluster: the config that the node's label chooses, and what the Node's conditions and events say."""
import json
import os
import shutil
import socket
import subprocess

import pytest

from kubelet import WAIT, Kubelet
from node import GPUSHARE, Node, Sim, wait_until

LABEL = "nvidia.com/device-plugin.config"
ALONE = ["--kubelet-socket="]  # serves, and looks for no kubelet

pytestmark = pytest.mark.skipif(not os.path.exists(GPUSHARE), reason="gpushare is not built")


def config(replicas, extra=""):
    return "version: v1\n%ssharing: {timeSlicing: {resources: [{name: nvidia.com/gpu, replicas: %d}]}}\n" % (extra, replicas)


class Volume:
    """A mounted ConfigMap, written as the kubelet's atomic writer does it."""

    def __init__(self, directory, **files):
        self.directory = str(directory)
        self.generation = 0
        os.makedirs(self.directory)
        self.write(**files)

    def write(self, **files):
        self.generation += 1
        data = "..2026_%d" % self.generation
        os.makedirs(os.path.join(self.directory, data))
        for name, text in files.items():
            with open(os.path.join(self.directory, data, name), "w", encoding="utf-8") as file:
                file.write(text)
        link = os.path.join(self.directory, "..data")
        old = os.readlink(link) if os.path.islink(link) else None
        os.symlink(data, link + "_tmp")
        os.rename(link + "_tmp", link)
        for name in files:
            if not os.path.islink(os.path.join(self.directory, name)):
                os.symlink(os.path.join("..data", name), os.path.join(self.directory, name))
        for name in os.listdir(self.directory):
            if not name.startswith("..") and name not in files:
                os.unlink(os.path.join(self.directory, name))
        if old:
            shutil.rmtree(os.path.join(self.directory, old))

    def path(self, name):
        return os.path.join(self.directory, name)


@pytest.fixture
def sim(tmp_path):
    node = Sim(tmp_path / "sim", "2xA100-80GB")
    yield node
    node.stop()


@pytest.fixture
def volume(tmp_path):
    return Volume(tmp_path / "available-configs", default=config(2), small=config(3), large=config(5))


@pytest.fixture
def daemon(tmp_path, sim, api, volume):
    made = Node(tmp_path, sim, env=api.environment(), arguments=["--config-dir", volume.directory, "--default-config", "default", *ALONE])
    yield made
    if made.process:
        made.stop()


def shares(node):
    done = subprocess.run([GPUSHARE, "status", "-o", "json", "--socket", node.socket], capture_output=True, text=True, timeout=60, check=False)
    if done.returncode:
        return -1  # not there yet
    resources = json.loads(done.stdout)["resources"]
    return resources[0]["shares"] if resources else 0


def wait_shares(node, count):
    wait_until(lambda: shares(node) == count, "%d shares; log:\n%s" % (count, node.read_log()))


# --- which config is in force ---

def test_the_label_chooses_the_config_without_a_restart(daemon, api):
    api.label(**{LABEL: "small"})
    daemon.start()
    wait_shares(daemon, 6)
    assert "shares=4" not in daemon.read_log()  # the default was never published
    api.label(**{LABEL: "large"})
    wait_shares(daemon, 10)
    api.label(**{LABEL: None})
    wait_shares(daemon, 4)
    wait_until(lambda: 'configuration "default"' in (api.condition("GPUShareConfigured") or {"message": ""})["message"], "the condition")
    assert daemon.status()["config"] == {"name": "default", "ready": True}


def test_a_name_that_does_not_exist_keeps_the_last_good_config(daemon, api, volume):
    api.label(**{LABEL: "large"})
    daemon.start()
    wait_shares(daemon, 10)
    api.label(**{LABEL: "huge"})
    note = api.wait_event("ConfigRejected")["note"]
    assert all(name in note for name in ("huge", "default", "large", "small"))
    api.wait_condition("GPUShareConfigured", "False", "ConfigRejected")
    assert shares(daemon) == 10
    assert any("huge" in problem for problem in daemon.status()["problems"])
    volume.write(default=config(2), huge=config(7))
    wait_shares(daemon, 14)
    api.wait_condition("GPUShareConfigured", "True", "ConfigInForce")
    assert "huge" in api.wait_event("ConfigLoaded")["note"]


def test_a_bad_config_keeps_the_last_good_one_also_over_a_restart(daemon, api, volume):
    api.label(**{LABEL: "large"})
    daemon.start()
    wait_shares(daemon, 10)
    volume.write(default=config(2), large=config(5).replace("replicas: 5", "replicas: none"))
    assert "replicas" in api.wait_event("ConfigRejected")["note"]
    assert shares(daemon) == 10
    daemon.kill()
    daemon.start()
    wait_shares(daemon, 10)
    api.wait_condition("GPUShareConfigured", "False", "ConfigRejected")
    volume.write(default=config(2), large=config(6))
    wait_shares(daemon, 12)
    api.wait_condition("GPUShareConfigured", "True", "ConfigInForce")


OF_NODE = {"nvidiaCTKPath": "flags: {plugin: {nvidiaCTKPath: /tmp/evil}}\n",
           "containerDriverRoot": "flags: {plugin: {containerDriverRoot: /tmp}}\n",
           "outputFile": "flags: {gfd: {outputFile: %s}}\n"}


@pytest.mark.parametrize("key", sorted(OF_NODE))
def test_a_configmap_names_no_files_or_programs_of_the_node(daemon, api, volume, tmp_path, key):
    """Who can edit it need not be root there: the daemon's own arguments name them."""
    target = tmp_path / "other-file"
    target.write_text("mine\n")
    evil = OF_NODE[key].replace("%s", str(target))
    api.label(**{LABEL: "large"})
    daemon.start()
    wait_shares(daemon, 10)
    volume.write(default=config(2), large=config(6, evil))
    note = api.wait_event("ConfigRejected")["note"]
    assert key in note and "only the daemon's --" in note
    assert shares(daemon) == 10 and target.read_text() == "mine\n"
    daemon.kill()
    volume.write(default=config(2), large=config(6, evil))
    daemon.arguments += ["--trust-config"]
    daemon.start()
    wait_shares(daemon, 12)


def test_a_config_in_a_pod_is_not_trusted_and_a_plain_file_is(tmp_path, sim, api):
    text = config(5, "flags: {gfd: {machineTypeFile: /etc/hostname}}\n")
    for environment, refused in ((api.environment(), True), ({}, False)):
        node = Node(tmp_path / str(refused), sim, env=environment, arguments=ALONE)
        node.start()
        try:
            wait_shares(node, 8)
            node.write_config(text)
            if refused:
                wait_until(lambda: "flags.gfd.machineTypeFile names what is the node's own" in node.read_log(), "the problem")
            else:
                wait_shares(node, 10)
        finally:
            node.stop()


def test_without_any_good_config_it_shares_nothing_and_says_so(daemon, api, volume):
    api.label(**{LABEL: "large"})
    volume.write(large="version: v9\n")
    daemon.start()
    assert "nothing is shared" in api.wait_event("ConfigRejected")["note"]
    wait_until(lambda: len(daemon.status()["gpus"]) == 2, "the GPUs")
    assert daemon.status()["resources"] == [] and not daemon.status()["config"]["ready"]
    volume.write(large=config(4))
    wait_shares(daemon, 8)


def test_the_choice_outlives_a_restart_while_the_server_is_away(daemon, api, volume):
    api.label(**{LABEL: "large"})
    daemon.start()
    wait_shares(daemon, 10)
    daemon.stop()
    api.stop()
    daemon.start()
    wait_shares(daemon, 10)
    volume.write(default=config(2), small=config(3), large=config(6))
    wait_shares(daemon, 12)
    api.label(**{LABEL: "small"})
    api.start()
    wait_shares(daemon, 6)


def test_the_default_is_taken_when_the_server_is_away_at_the_first_start(daemon, api):
    api.label(**{LABEL: "large"})
    api.stop()
    daemon.start()
    wait_shares(daemon, 4)
    assert any("API server" in problem for problem in daemon.status()["problems"])
    assert daemon.status()["kubernetes"]["state"] == "Retrying"
    api.start()
    wait_shares(daemon, 10)
    # A write that was not answered is tried again in its own time.
    wait_until(lambda: daemon.status()["kubernetes"]["state"] == "Watching", "the state Watching")


@pytest.mark.parametrize("files, arguments, count", [
    ({"default": 2, "b": 3}, [], 2),
    ({"only": 3}, [], 2),
    ({"a": 2, "b": 3}, [], 2),
    ({"default": 2, "b": 3}, ["--fallback-strategies", "named, single"], 4),
    ({"only": 3}, ["--fallback-strategies", " named ,single "], 6),
    ({"a": 2, "b": 3}, ["--default-config", "b"], 6),
    ({"default": 2, "b": 3}, ["--default-config", "b"], 6),
    ({"a": 2, "b": 3}, ["--fallback-strategies", "empty"], 2),
    ({"default": 2, "b": 3}, ["--fallback-strategies", "empty,named"], 2),
])
def test_defaults_and_fallbacks_of_a_node_without_the_label(tmp_path, sim, api, files, arguments, count):
    directory = Volume(tmp_path / "configs", **{name: config(replicas) for name, replicas in files.items()}).directory
    node = Node(tmp_path, sim, env=api.environment(), arguments=["--config-dir", directory, *ALONE, *arguments])
    node.start()
    try:
        wait_shares(node, count)
    finally:
        node.stop()


@pytest.mark.parametrize("files, arguments, reason", [
    ({"a": 2, "b": 3}, ["--fallback-strategies", "named,single"], "none of the fallbacks"),
    ({"a": 2, "b": 3}, ["--default-config", "c"], 'the default is "c"'),
    ({"a": 2}, ["--fallback-strategies", ""], "none of the fallbacks"),
])
def test_when_nothing_is_chosen(tmp_path, sim, api, files, arguments, reason):
    directory = Volume(tmp_path / "configs", **{name: config(replicas) for name, replicas in files.items()}).directory
    node = Node(tmp_path, sim, env=api.environment(), arguments=["--config-dir", directory, *ALONE, *arguments])
    node.start()
    try:
        assert reason in api.wait_event("ConfigRejected")["note"]
        api.label(**{LABEL: "a"})
        wait_shares(node, 4)
    finally:
        node.stop()


def test_an_unknown_fallback_is_a_mistake(tmp_path, api, volume):
    node = Node(tmp_path, env=api.environment(), arguments=["--config-dir", volume.directory, "--fallback-strategies", "named,best"])
    node.start()
    assert node.process.wait(60) == 1
    assert 'unknown fallback strategy "best"' in node.read_log()


def test_a_label_that_leads_out_of_the_directory_is_refused(daemon, api, volume):
    with open(os.path.join(os.path.dirname(volume.directory), "outside"), "w", encoding="ascii") as file:
        file.write(config(9))
    daemon.start()
    wait_shares(daemon, 4)
    for value in "../outside", "..data/large", ".":
        api.label(**{LABEL: value})
        wait_until(lambda value=value: any('"%s"' % value in e["note"] for e in api.events), "the refusal of " + value)
    assert shares(daemon) == 4


# --- edits of a mounted ConfigMap ---

@pytest.mark.parametrize("way", ["directory", "file", "link to a file"])
def test_a_mounted_configmap_is_followed(tmp_path, sim, volume, way):
    node = Node(tmp_path, sim, arguments=ALONE)
    if way == "directory":
        node.arguments += ["--config-dir", volume.directory, "--default-config", "default"]
    elif way == "file":
        node.config = volume.path("default")
    else:
        node.config = str(tmp_path / "chosen.yaml")
        os.symlink(volume.path("default"), node.config)
    node.start()
    try:
        wait_shares(node, 4)
        for replicas in 3, 5, 2, 7:
            volume.write(default=config(replicas), small=config(1))
            wait_shares(node, 2 * replicas)
        for replicas in range(20, 40):  # faster than anyone reads
            volume.write(default=config(replicas))
        wait_shares(node, 78)
        assert node.status()["problems"] == []
    finally:
        node.stop()


def test_a_volume_that_is_mounted_anew(tmp_path, sim, volume):
    node = Node(tmp_path, sim, arguments=["--config-dir", volume.directory, "--default-config", "default", *ALONE])
    node.start()
    try:
        wait_shares(node, 4)
        os.rename(volume.directory, volume.directory + ".old")
        wait_until(lambda: node.status()["problems"], "a problem")
        assert shares(node) == 4
        Volume(volume.directory, default=config(6))
        wait_shares(node, 12)
        wait_until(lambda: not node.status()["problems"], "no problem")
    finally:
        node.stop()


# --- what the cluster is told ---

def test_what_a_healthy_node_says_and_that_it_then_is_silent(daemon, api):
    kubelet = Kubelet(daemon.kubelet_dir).start()
    daemon.arguments = [a for a in daemon.arguments if a not in ALONE]
    try:
        daemon.start()
        kubelet.wait_registered()
        api.wait_condition("GPUShareHealthy", "True", "GPUsHealthy")
        api.wait_condition("GPUShareServing", "True", "Serving")
        api.wait_condition("GPUShareConfigured", "True", "ConfigInForce")
        before = api.wait_quiet(5)
        assert api.wait_quiet(5) == before
        assert len(api.watches()) == 1
        assert api.events == []
        state = daemon.status()["kubernetes"]
        assert (state["state"], state["nodeName"], state["problem"], state["waiting"]) == ("Watching", "node-1", "", 0)
        assert state["requests"] == before
    finally:
        kubelet.stop()


def test_a_sick_gpu_is_told_and_its_recovery(daemon, api, sim):
    daemon.start()
    wait_shares(daemon, 4)
    sim.inject("--gpu", "1", "xid=79")
    event = api.wait_event("GPUUnhealthy")
    assert event["type"] == "Warning" and "GPU 1 (" in event["note"] and "79" in event["note"]
    assert "GPU 1" in api.wait_condition("GPUShareHealthy", "False", "GPUUnhealthy")["message"]
    sim.inject("--gpu", "1", "recovered")
    assert api.wait_event("GPUHealthy")["type"] == "Normal"
    api.wait_condition("GPUShareHealthy", "True", "GPUsHealthy")
    assert [e["reason"] for e in api.events] == ["GPUUnhealthy", "GPUHealthy"]


def test_a_gpu_that_the_node_had_is_missed(daemon, api):
    daemon.start()
    wait_shares(daemon, 4)
    memory = os.path.join(daemon.state, "gpus.json")
    wait_until(lambda: os.path.exists(memory), "the memory of GPUs")
    daemon.stop()
    with open(memory, encoding="utf-8") as file:
        document = json.load(file)
    document["gpus"].append({"uuid": "GPU-gone", "name": "Tesla T4", "pciBusId": "00000000:FE:00.0", "index": 5, "minor": 5})
    with open(memory, "w", encoding="utf-8") as file:
        json.dump(document, file)
    daemon.start()
    assert "GPU 5 (GPU-gone) is missing; " in api.wait_event("GPUMissing")["note"]
    assert api.wait_condition("GPUShareHealthy", "False", "GPUMissing")["message"] == "GPU 5 (GPU-gone) is missing"
    done = subprocess.run([GPUSHARE, "forget", "--all", "--socket", daemon.socket], capture_output=True, text=True, timeout=WAIT)
    assert done.returncode == 0, done.stderr
    api.wait_condition("GPUShareHealthy", "True", "GPUsHealthy")


def test_a_node_without_a_driver_says_so(tmp_path, api, volume):
    arguments = ["--config-dir", volume.directory, "--default-config", "default", "--pci-devices", str(tmp_path / "unknown"), *ALONE]
    node = Node(tmp_path, env=api.environment(), arguments=arguments)
    node.start()
    try:
        api.wait_condition("GPUShareHealthy", "False", "DriverMissing")
    finally:
        node.stop()


def test_another_plugin_s_resource_is_not_taken_from_it(daemon, api):
    os.makedirs(daemon.plugin_dir)
    path = os.path.join(daemon.plugin_dir, "nvidia-gpu.sock")
    other = socket.socket(socket.AF_UNIX)
    other.bind(path)
    other.listen(16)
    inode = os.stat(path).st_ino
    daemon.start()
    event = api.wait_event("PluginConflict")
    assert "nvidia.com/gpu" in event["note"] and "devicePlugin.enabled=false" in event["note"]
    api.wait_condition("GPUShareServing", "False", "PluginConflict")
    assert os.stat(path).st_ino == inode
    assert any("another device plugin" in problem for problem in daemon.status()["problems"])
    other.close()  # it was removed, and left its socket behind
    daemon.wait_log("serving")
    api.wait_condition("GPUShareServing", "True", "Serving")
    assert daemon.status()["problems"] == []


def test_a_config_that_does_not_fit_the_hardware_is_told(daemon, api, volume):
    daemon.start()
    wait_shares(daemon, 4)
    volume.write(default=config(65536))
    api.wait_event("ConfigDoesNotFit")
    api.wait_condition("GPUShareConfigured", "False", "ConfigDoesNotFit")
    assert shares(daemon) == 4


# --- without the API server ---

@pytest.mark.parametrize("how", ["flag", "environment", "file"])
def test_without_rights_nothing_is_asked(tmp_path, sim, api, how):
    node = Node(tmp_path, sim, env=api.environment(), arguments=ALONE)
    if how == "flag":
        node.arguments += ["--kubernetes-api=false"]
    elif how == "environment":
        node.env["GPUSHARE_KUBERNETES_API"] = "false"
    else:
        node.write_config(config(4, "kubernetes: {api: false}\n"))
    node.start()
    try:
        wait_shares(node, 8)
        status = node.status()
        assert status["kubernetes"] is None and status["problems"] == []
        assert api.requests == [] and not api.connections
        with open("/proc/%d/maps" % node.process.pid, encoding="ascii") as maps:
            assert "libcurl" not in maps.read()
    finally:
        node.stop()


@pytest.mark.parametrize("missing, reason", [("NODE_NAME", "NODE_NAME"), ("token", "token"), ("KUBERNETES_SERVICE_HOST", "KUBERNETES_SERVICE_HOST")])
def test_what_is_missing_is_said_where_the_api_is_wanted(tmp_path, sim, api, missing, reason):
    node = Node(tmp_path, sim, env=api.environment(), arguments=["--kubernetes-api", *ALONE])
    if missing == "token":
        os.unlink(os.path.join(api.credentials.directory, "token"))
    else:
        del node.env[missing]
    node.start()
    try:
        wait_shares(node, 8)
        assert any(reason in problem for problem in node.status()["problems"])
    finally:
        node.stop()


def test_a_change_of_the_section_kubernetes_waits_for_the_next_start(tmp_path, sim, api):
    node = Node(tmp_path, sim, env=api.environment(), arguments=ALONE)
    node.start()
    try:
        api.wait_condition("GPUShareConfigured", "True", "ConfigInForce")
        node.write_config(config(5, "kubernetes: {api: false}\n"))
        wait_shares(node, 10)
        assert "takes effect when the daemon starts again" in node.read_log()
        assert node.status()["kubernetes"]["state"] == "Watching"
    finally:
        node.stop()


def test_the_daemon_stays_small(daemon, api):
    daemon.start()
    wait_shares(daemon, 4)
    api.wait_condition("GPUShareHealthy", "True", "GPUsHealthy")
    with open("/proc/%d/status" % daemon.process.pid, encoding="ascii") as file:
        lines = dict(line.split(":", 1) for line in file)
    resident = int(lines["VmRSS"].split()[0])
    with open(GPUSHARE, "rb") as file:
        if b"__asan_init" in file.read():
            pytest.skip("a build with sanitizers is large")
    assert resident <= 20 * 1024
