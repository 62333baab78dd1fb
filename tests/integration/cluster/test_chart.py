"""The chart, rendered by the real Helm: NVIDIA's values under their names, few rights, errors that help."""
import os
import pathlib
import re
import shutil
import subprocess
import sys

import pytest

yaml = pytest.importorskip("yaml", reason="Python's yaml module is not installed")

REPOSITORY = pathlib.Path(__file__).resolve().parents[3]
BUILD = pathlib.Path(os.environ.get("GPUSHARE_BUILD", REPOSITORY / "build")).resolve()
CHART = REPOSITORY / "deploy" / "helm" / "gpushare"
PATIENCE = 300  # seconds; only ever reached when something hangs
OPERATOR = ["driver.enabled=true", "mig.strategy=mixed", "devicePlugin.config.name=nvidia-device-plugin"]


@pytest.fixture(scope="module")
def helm():
    built = sorted(pathlib.Path(os.path.expanduser("~/.cache/gpushare-e2e")).glob("*/helm"))  # by make e2e
    found = os.environ.get("HELM") or shutil.which("helm") or (built and str(built[-1]))
    if not found or not shutil.which(found):
        pytest.skip("Helm is not installed; make e2e builds it, or HELM=/path/to/helm names one")
    return shutil.which(found)


def call(helm, *arguments):
    return subprocess.run([helm, *arguments], capture_output=True, text=True, timeout=PATIENCE, stdin=subprocess.DEVNULL, cwd=REPOSITORY)


def settings(values):
    return [part for value in values for part in ("--set", value)]


def render(helm, *values):
    """{(kind, name): object}"""
    done = call(helm, "template", "gpushare", CHART, "--namespace", "gpu-operator", *settings(values))
    assert done.returncode == 0, done.stderr
    objects = [entry for entry in yaml.safe_load_all(done.stdout) if entry]
    return {(entry["kind"], entry["metadata"]["name"]): entry for entry in objects}


def refusal(helm, *values):
    done = call(helm, "template", "gpushare", CHART, *settings(values))
    assert done.returncode != 0, done.stdout
    return done.stderr


def pod_of(objects, name="gpushare"):
    return objects["DaemonSet", name]["spec"]["template"]["spec"]


def container_of(objects, name="gpushare"):
    containers = pod_of(objects, name)["containers"]
    assert len(containers) == 1
    return containers[0]


def environment_of(objects):
    return {entry["name"]: entry.get("value") for entry in container_of(objects)["env"]}


def test_versions_agree():
    version = re.search(r"version: '([^']+)'", (REPOSITORY / "meson.build").read_text()).group(1)
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert (chart["appVersion"], chart["version"]) == (version, version)


def test_lint(helm):
    done = call(helm, "lint", "--strict", CHART)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_operators_command_gives_one_container_a_node(helm):
    objects = render(helm, *OPERATOR)
    assert [name for kind, name in objects if kind == "DaemonSet"] == ["gpushare"]
    environment = environment_of(objects)
    assert environment["MIG_STRATEGY"] == "mixed"
    assert environment["CONFIG_FILE_SRCDIR"] == "/etc/gpushare/config"
    assert not {kind for kind, _ in objects} & {"ConfigMap"}  # it is the user's, and may come later
    volumes = {volume["name"]: volume for volume in pod_of(objects)["volumes"]}
    assert volumes["config"]["configMap"] == {"name": "nvidia-device-plugin", "optional": True}
    mounts = {mount["name"] for mount in container_of(objects)["volumeMounts"]}
    assert mounts == set(volumes)


@pytest.mark.parametrize("value, name, expected", [
    ("migStrategy=single", "MIG_STRATEGY", "single"),
    ("mig.strategy=single", "MIG_STRATEGY", "single"),
    ("failOnInitError=false", "FAIL_ON_INIT_ERROR", "false"),
    ("gdrcopyEnabled=true", "GDRCOPY_ENABLED", "true"),
    ("gdsEnabled=true", "GDS_ENABLED", "true"),
    ("mofedEnabled=true", "MOFED_ENABLED", "true"),
    ("compatWithCPUManager=true", "PASS_DEVICE_SPECS", "true"),
    ("deviceListStrategy=envvar", "DEVICE_LIST_STRATEGY", "envvar"),
    ("deviceListStrategy={envvar,cdi-cri}", "DEVICE_LIST_STRATEGY", "envvar,cdi-cri"),
    ("deviceListStrategy=", "DEVICE_LIST_STRATEGY", None),
    ("deviceIDStrategy=index", "DEVICE_ID_STRATEGY", "index"),
    ("nvidiaDriverRoot=/run/nvidia/driver", "NVIDIA_DRIVER_ROOT", "/run/nvidia/driver"),
    ("mps.root=/somewhere", "MPS_ROOT", "/somewhere"),
    ("cdi.nvidiaHookPath=/opt/nvidia-cdi-hook", "NVIDIA_CDI_HOOK_PATH", "/opt/nvidia-cdi-hook"),
    ("kubernetes.api=false", "GPUSHARE_KUBERNETES_API", "false"),
])
def test_a_value_of_nvidias_charts_becomes_a_setting(helm, value, name, expected):
    assert environment_of(render(helm, value)).get(name) == expected


@pytest.mark.parametrize("values", [["config.name=mine", "config.default=four"],
                                    ["devicePlugin.config.name=mine", "devicePlugin.config.default=four"]])
def test_both_charts_names_of_the_configuration(helm, values):
    objects = render(helm, *values)
    assert environment_of(objects)["DEFAULT_CONFIG"] == "four"
    assert {"name": "config", "configMap": {"name": "mine", "optional": True}} in pod_of(objects)["volumes"]


@pytest.mark.parametrize("values, expected", [
    (["config.name=mine"], "named,single,empty"),
    (["config.map.four=version: v1"], "named,single,empty"),
    (["devicePlugin.config.name=mine"], "empty"),
    (["devicePlugin.config.create=true", "devicePlugin.config.data.four=version: v1"], "empty"),
    (["devicePlugin.config.name=mine", "config.fallbackStrategies={single}"], "single"),
])
def test_a_node_without_the_label_is_as_nvidias_chart_of_the_same_values_has_it(helm, values, expected):
    assert environment_of(render(helm, *values))["FALLBACK_STRATEGIES"] == expected


@pytest.mark.parametrize("values, name", [
    (["config.map.four=version: v1"], "gpushare-config"),
    (["devicePlugin.config.create=true", "devicePlugin.config.name=mine", "devicePlugin.config.data.four=version: v1"], "mine"),
])
def test_configurations_given_as_values_become_a_configmap(helm, values, name):
    objects = render(helm, *values)
    assert objects["ConfigMap", name]["data"] == {"four": "version: v1"}
    assert {"name": "config", "configMap": {"name": name, "optional": True}} in pod_of(objects)["volumes"]


def test_the_notes_say_what_is_ignored_and_nothing_else(helm):
    arguments = ["install", "gpushare", CHART, "--dry-run=client", "--namespace", "gpu-operator"]
    done = call(helm, *arguments, *settings(OPERATOR + ["toolkit.version=v1", "migManager.version=v1", "mps.enableHostPID=true"]))
    assert done.returncode == 0, done.stderr
    notes = done.stdout.split("NOTES:")[1]
    ignored = notes.split("ignored:")[1]
    assert re.findall(r"^- ([\w.]+):", ignored, re.M) == ["driver", "toolkit", "migManager.version", "mps.enableHostPID"]
    plain = call(helm, *arguments).stdout
    assert "ignored" not in plain.split("NOTES:")[1]


@pytest.mark.parametrize("values, words", [
    (["devicePlugn.config.name=x"], ["devicePlugn"]),
    (["mig.strategy=mixd"], ["/mig/strategy", "mixed"]),
    (["deviceListStrategy=cdi"], ["/deviceListStrategy", "cdi-cri"]),
    (["nvidiaDriverRoot=run"], ["/nvidiaDriverRoot"]),
    (["migStrategy=single", "mig.strategy=mixed"], ["migStrategy", "mig.strategy", "set one of them"]),
    (["config.name=a", "devicePlugin.config.name=b"], ["config.name", "devicePlugin.config.name", "set one of them"]),
    (["config.name=a", "config.map.x=y"], ["config.name", "config.map", "set one of them"]),
    (["devicePlugin.config.data.x=y"], ["devicePlugin.config.create"]),
    (["simulatedNode.gpu=1xT4"], ["/simulatedNode", "gpu"]),
])
def test_a_wrong_value_is_refused_by_name(helm, values, words):
    text = refusal(helm, *values)
    for word in words:
        assert word in text, text


def test_rights(helm):
    """Privileged only where nothing else opens the GPUs' device nodes."""
    plain = container_of(render(helm))["securityContext"]
    assert plain["privileged"] is True and plain["readOnlyRootFilesystem"] is True
    for values, capabilities in ((["runtimeClassName=nvidia"], ["SYS_PTRACE"]), (["simulatedNode.enabled=true"], ["SYS_PTRACE"]),
                                 (["runtimeClassName=nvidia", "mig.strategy=mixed"], ["SYS_PTRACE", "SYS_ADMIN"]),
                                 (["privileged=false", "capabilities={CHOWN}"], ["CHOWN"])):
        context = container_of(render(helm, *values))["securityContext"]
        assert not context.get("privileged") and context["allowPrivilegeEscalation"] is False, values
        assert context["readOnlyRootFilesystem"] is True
        assert context["capabilities"]["drop"] == ["ALL"] and context["capabilities"]["add"] == capabilities, values


def test_without_the_api_there_is_no_role_and_no_token(helm):
    objects = render(helm, "kubernetes.api=false")
    assert not {kind for kind, _ in objects} & {"ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding", "ValidatingAdmissionPolicy"}
    assert pod_of(objects)["automountServiceAccountToken"] is False
    rules = [rule for (kind, name), entry in render(helm).items() if kind in ("ClusterRole", "Role") and name != "gpushare-cleanup"
             for rule in entry["rules"]]
    assert not {"*", "delete", "create"} & {verb for rule in rules for verb in rule["verbs"] if "events" not in rule["resources"]}
    assert {resource for rule in rules for resource in rule["resources"]} <= {"nodes", "nodes/status", "events", "daemonsets"}


def test_a_simulated_node_has_a_pod_of_its_own(helm):
    objects = render(helm, "simulatedNode.enabled=true", "simulatedNode.gpus=2xT4")
    arguments = container_of(objects, "gpushare-simulated")["args"]
    assert arguments == ["sim", "--hold", "--state=/run/gpushare-sim/node", "2xT4"]
    assert objects["DaemonSet", "gpushare-simulated"]["spec"]["updateStrategy"] == {"type": "OnDelete"}
    environment = environment_of(objects)
    assert environment["GPUSHARE_SIM"] == "/run/gpushare-sim/node"
    assert environment["DRIVER_ROOT_CTR_PATH"] == environment["NVIDIA_DRIVER_ROOT"] == "/run/gpushare-sim/node/root"


def test_the_program_knows_every_flag_and_variable(helm):
    """A chart that is ahead of or behind the program would fail on every node at once."""
    if not (BUILD / "gpushare").exists():
        pytest.skip("the program is not built")
    help_text = subprocess.run([BUILD / "gpushare", "node", "--help"], capture_output=True, text=True, timeout=PATIENCE).stdout
    objects = render(helm, *OPERATOR, "failOnInitError=true", "gdsEnabled=true", "gdrcopyEnabled=true", "mofedEnabled=true",
                     "compatWithCPUManager=true", "deviceIDStrategy=uuid", "deviceDiscoveryStrategy=auto",
                     "cdi.nvidiaHookPath=/x", "config.default=x", "migManager.config.name=x")
    command, *flags = container_of(objects)["args"]
    assert command == "node"
    for flag in flags:
        assert flag.split("=")[0] in help_text
    for name in environment_of(objects):
        assert name in help_text, name


def test_the_plain_manifest_is_the_chart(helm, tmp_path):
    out = tmp_path / "gpushare.yaml"
    done = subprocess.run([REPOSITORY / "scripts" / "manifest", out], capture_output=True, text=True, timeout=PATIENCE,
                          env={**os.environ, "HELM": helm}, stdin=subprocess.DEVNULL)
    assert done.returncode == 0, done.stderr
    assert out.read_text() == (REPOSITORY / "deploy" / "gpushare.yaml").read_text(), "run make manifest, and commit what it wrote"


def test_an_uninstall_cleans_the_nodes_first(helm):
    """A job deletes the DaemonSet, and may do that alone; the daemons may ask whether it is deleted."""
    objects = render(helm)
    name = "gpu-operator/gpushare"
    assert environment_of(objects)["GPUSHARE_DAEMONSET"] == name
    job = objects["Job", "gpushare-cleanup"]
    assert job["metadata"]["annotations"]["helm.sh/hook"] == "pre-delete"
    assert job["spec"]["template"]["spec"]["containers"][0]["args"] == ["node", f"--delete-daemonset={name}"]
    # It must run where no daemon can: on nodes that are cordoned, and where no node is left that is selected.
    picky = render(helm, "nodeSelector.pool=gpu", "nodeSelector.kubernetes\\.io/os=linux")
    pod = picky["Job", "gpushare-cleanup"]["spec"]["template"]["spec"]
    assert pod["tolerations"] == [{"operator": "Exists"}] and pod["nodeSelector"] == {"kubernetes.io/os": "linux"}
    (preferred,) = pod["affinity"]["nodeAffinity"]["preferredDuringSchedulingIgnoredDuringExecution"]
    assert preferred["preference"]["matchExpressions"] == [{"key": "pool", "operator": "In", "values": ["gpu"]}]
    assert picky["DaemonSet", "gpushare"]["spec"]["template"]["spec"]["nodeSelector"] == {"kubernetes.io/os": "linux", "pool": "gpu"}
    rules = objects["Role", "gpushare-cleanup"]["rules"]
    assert [(rule["resources"], rule["resourceNames"], rule["verbs"]) for rule in rules] == [(["daemonsets"], ["gpushare"], ["get", "delete"])]
    assert objects["Role", "gpushare"]["rules"][0]["verbs"] == ["get"]
    simulated = render(helm, "simulatedNode.enabled=true")
    pod = simulated["Job", "gpushare-cleanup"]["spec"]["template"]["spec"]
    assert [c["args"][1] for c in pod["initContainers"] + pod["containers"]] == [f"--delete-daemonset={name}", f"--delete-daemonset={name}-simulated"]
    assert simulated["Role", "gpushare-cleanup"]["rules"][0]["resourceNames"] == ["gpushare", "gpushare-simulated"]
    for values in (["cleanup.enabled=false"], ["kubernetes.api=false"]):
        without = render(helm, *values)
        assert ("Job", "gpushare-cleanup") not in without and "GPUSHARE_DAEMONSET" not in environment_of(without)


def test_mig_configurations_of_the_mig_manager(helm):
    objects = render(helm, "migManager.config.name=mig-parted")
    assert environment_of(objects)["MIG_CONFIG_FILE"] == "/etc/gpushare/mig/config.yaml"
    assert {"name": "mig-config", "configMap": {"name": "mig-parted", "optional": True}} in pod_of(objects)["volumes"]
    assert "MIG_CONFIG_FILE" not in environment_of(render(helm))


def test_labels_through_node_feature_discovery(helm):
    objects = render(helm, "nodeFeatureDiscovery.api=true", "nodeFeatureDiscovery.file=true")
    assert environment_of(objects)["USE_NODE_FEATURE_API"] == "true"
    assert {"apiGroups": ["nfd.k8s-sigs.io"], "resources": ["nodefeatures"], "verbs": ["get", "create", "patch", "delete"]} in objects["Role", "gpushare"]["rules"]
    assert "/etc/kubernetes/node-feature-discovery/features.d" in {mount["mountPath"] for mount in container_of(objects)["volumeMounts"]}


def test_metrics(helm):
    objects = render(helm)
    service = objects["Service", "gpushare"]["spec"]
    (port,) = container_of(objects)["ports"]
    assert service["clusterIP"] == "None" and service["ports"][0]["port"] == port["containerPort"] == 9400
    assert service["ports"][0]["targetPort"] == port["name"]
    labels = objects["DaemonSet", "gpushare"]["spec"]["template"]["metadata"]["labels"]
    assert service["selector"].items() <= labels.items()
    assert objects["NetworkPolicy", "gpushare"]["spec"]["ingress"] == [{"ports": [{"protocol": "TCP", "port": 9400}]}]
    assert environment_of(objects)["GPUSHARE_METRICS_ADDRESS"] == ":9400"
    assert not [kind for kind, _ in objects if kind == "ServiceMonitor"]
    # The pods of the clean-up and of a simulated node have no metrics.
    assert service["selector"]["app.kubernetes.io/component"] == "node"

    moved = render(helm, "metrics.port=9500", "metrics.serviceMonitor.enabled=true", "metrics.serviceMonitor.labels.release=prometheus")
    assert environment_of(moved)["GPUSHARE_METRICS_ADDRESS"] == ":9500"
    assert moved["NetworkPolicy", "gpushare"]["spec"]["ingress"][0]["ports"][0]["port"] == 9500
    monitor = moved["ServiceMonitor", "gpushare"]
    assert monitor["metadata"]["labels"]["release"] == "prometheus" and monitor["spec"]["endpoints"][0]["port"] == "metrics"
    assert monitor["spec"]["selector"]["matchLabels"].items() <= moved["Service", "gpushare"]["metadata"]["labels"].items()

    off = render(helm, "metrics.enabled=false")
    assert ("Service", "gpushare") not in off and "ports" not in container_of(off)
    assert off["NetworkPolicy", "gpushare"]["spec"]["ingress"] == [] and "GPUSHARE_METRICS_ADDRESS" not in environment_of(off)
    assert "metrics.port" in refusal(helm, "metrics.port=0").replace("/", ".")


# --- every key of NVIDIA's charts ---

NVIDIA_VALUES = REPOSITORY / "tests" / "integration" / "cluster" / "nvidia_values"
NOTES = ["install", "gpushare", CHART, "--dry-run=client", "--namespace", "gpu-operator"]
OWN_IMAGE = {"image": {"repository": "registry.example.com/gpushare"}}
CONFIG = {"create": True, "name": "given", "data": {"config.yaml": "version: v1"}}
TOLERATIONS = [{"key": "mine", "operator": "Exists"}]
# What is taken: another value of each, which must make other objects.
TAKEN = {
    "affinity": {"podAffinity": {}},
    "cdi.enabled": False,
    "cdi.nvidiaHookPath": "/opt/nvidia-cdi-hook",
    "compatWithCPUManager": True,
    "config.default": {"config": {"name": "x", "default": "four"}},
    "config.fallbackStrategies": {"config": {"name": "x", "fallbackStrategies": ["empty"]}},
    "config.map": {"a": "version: v1"},
    "config.name": "x",
    "daemonsets.annotations": {"a": "b"},
    "daemonsets.labels": {"a": "b"},
    "daemonsets.priorityClassName": "mine",
    "daemonsets.rollingUpdate.maxUnavailable": "25%",
    "daemonsets.tolerations": TOLERATIONS,
    "daemonsets.updateStrategy": "OnDelete",
    "deviceDiscoveryStrategy": "nvml",
    "deviceIDStrategy": "index",
    "deviceListStrategy": "envvar",
    "devicePlugin.args": ["--log-level=debug"],
    "devicePlugin.config": CONFIG,
    "devicePlugin.enableHostNetwork": True,
    "devicePlugin.enabled": False,
    "devicePlugin.env": [{"name": "DP_DISABLE_HEALTHCHECKS", "value": "all"}],
    "devicePlugin.hostNetwork": True,
    "devicePlugin.mps.root": "/mine",
    "devicePluginDir": "/mine",
    "devicePlugin.resources": {"limits": {"memory": "1Gi"}},
    "failOnInitError": True,
    "fullnameOverride": "mine",
    "gdrcopyEnabled": True,
    "gdsEnabled": True,
    "gfd.enabled": False,
    "gfd.noTimestamp": True,
    "gfd.sleepInterval": "5m",
    "hostPaths.driverInstallDir": "/mine",
    "hostPaths.kubeletRootDir": "/mine",
    "image.pullPolicy": "Always",
    "image.repository": "mine",
    "image.tag": "mine",
    "imagePullSecrets": [{"name": "mine"}],
    "mig.strategy": "mixed",
    "migManager.config.create": {"migManager": {"config": CONFIG}},
    "migManager.config.data": {"migManager": {"config": CONFIG}},
    "migManager.config.name": "mine",
    "migManager.enabled": False,
    "migStrategy": "mixed",
    "mofedEnabled": True,
    "mps.root": "/mine",
    "nameOverride": "mine",
    "nodeSelector": {"a": "b"},
    "nvidiaDevRoot": "/mine",
    "nvidiaDriverRoot": "/mine",
    "podAnnotations": {"a": "b"},
    "podSecurityContext": {"fsGroup": 1},
    "priorityClassName": "mine",
    "resources": {"limits": {"memory": "1Gi"}},
    "runtimeClassName": "nvidia",
    "securityContext": {"privileged": True},
    "tolerations": TOLERATIONS,
    "updateStrategy": {"type": "OnDelete"},
}


def nested(path, value):
    """{"a": {"b": value}} of "a.b"; a value that begins with the path's own first word is whole already."""
    first = path.split(".")[0]
    if isinstance(value, dict) and set(value) == {first}:
        return value
    for word in reversed(path.split(".")):
        value = {word: value}
    return value


def with_values(helm, tmp_path, command, *files):
    options = []
    for number, values in enumerate(files):
        file = tmp_path / f"values-{number}.yaml"
        file.write_text(values if isinstance(values, str) else yaml.safe_dump(values))
        options += ["--values", file]
    return call(helm, *command, *options)


def rendered(helm, tmp_path, *files):
    done = with_values(helm, tmp_path, ["template", "gpushare", CHART, "--namespace", "gpu-operator"], *files)
    assert done.returncode == 0, done.stderr
    return done.stdout


def ignored_of(notes):
    return set(re.findall(r"^- ([\w.-]+): \S", notes.split("and ignored:")[1], re.M)) if "and ignored:" in notes else set()


def leaves(values, path=""):
    for key, value in values.items():
        here = f"{path}.{key}" if path else key
        if value is not None:
            yield here
        if isinstance(value, dict):
            yield from leaves(value, here)


@pytest.mark.parametrize("chart", ["gpu-operator", "k8s-device-plugin"])
def test_every_value_of_nvidias_charts_is_taken_or_said_to_be_ignored(helm, tmp_path, chart):
    text = (NVIDIA_VALUES / f"{chart}.yaml").read_text()
    done = with_values(helm, tmp_path, NOTES, text, OWN_IMAGE)
    assert done.returncode == 0, done.stderr
    said = ignored_of(done.stdout.split("NOTES:")[1])
    known = said | set(TAKEN)

    def is_known(path):
        words = path.split(".")
        above = {".".join(words[:count]) for count in range(1, len(words) + 1)}
        return above & known or any(each.startswith(path + ".") for each in known)

    # A value that is null is as good as absent: Helm takes it out.
    assert not [path for path in sorted(leaves(yaml.safe_load(text))) if not is_known(path)]
    assert not said & set(TAKEN)


@pytest.mark.parametrize("path", sorted(TAKEN))
def test_a_value_that_is_taken_changes_what_is_installed(helm, tmp_path, path):
    assert rendered(helm, tmp_path, nested(path, TAKEN[path])) != rendered(helm, tmp_path, {})


def test_whole_values_of_the_device_plugin_are_refused_for_their_image_alone(helm, tmp_path):
    text = (NVIDIA_VALUES / "k8s-device-plugin.yaml").read_text()
    done = with_values(helm, tmp_path, ["template", "gpushare", CHART], text)
    assert done.returncode != 0
    for word in ("image.repository", "nvcr.io/nvidia/k8s-device-plugin", "gpushare's image"):
        assert word in done.stderr, done.stderr
    assert "DEVICE_LIST_STRATEGY" not in rendered(helm, tmp_path, text, OWN_IMAGE)  # null: as the configuration says


def test_the_operators_switches_mean_what_they_say(helm, tmp_path):
    both = render(helm, "devicePlugin.enabled=false", "gfd.enabled=false")
    assert not {kind for kind, _ in both} & {"DaemonSet", "Service", "Job"}
    labels = environment_of(render(helm, "devicePlugin.enabled=false"))
    assert labels["GPUSHARE_DEVICE_PLUGIN"] == "false" and "GPUSHARE_LABELS" not in labels
    assert environment_of(render(helm, "gfd.enabled=false"))["GPUSHARE_LABELS"] == "false"
    assert environment_of(render(helm, "migManager.enabled=false"))["GPUSHARE_MIG_MANAGER"] == "false"
    notes = call(helm, *NOTES, *settings(["devicePlugin.enabled=false", "gfd.enabled=false"])).stdout.split("NOTES:")[1]
    assert "Nothing runs on any node" in notes


def test_where_the_operators_driver_is(helm):
    for values, root in (([], "/"), (["hostPaths.driverInstallDir=/run/nvidia/driver"], "/run/nvidia/driver"),
                         (["hostPaths.driverInstallDir=/run/nvidia/driver", "driver.enabled=false"], "/")):
        objects = render(helm, *values)
        assert environment_of(objects)["NVIDIA_DRIVER_ROOT"] == root
        assert {"name": "driver-root", "hostPath": {"path": root}} in pod_of(objects)["volumes"]
    assert "hostPaths.driverInstallDir" in refusal(helm, "nvidiaDriverRoot=/a", "hostPaths.driverInstallDir=/b")


def test_a_variable_that_the_user_sets_stands_once(helm):
    """Twice the same name is refused by an API server that applies on its side, as Helm 4 asks for."""
    objects = render(helm, "env[0].name=MPS_ROOT", "env[0].value=/mine", "devicePlugin.env[0].name=MPS_ROOT", "devicePlugin.env[0].value=/other")
    assert [entry for entry in container_of(objects)["env"] if entry["name"] == "MPS_ROOT"] == [{"name": "MPS_ROOT", "value": "/mine"}]


def terms_of(objects):
    affinity = pod_of(objects).get("affinity", {}).get("nodeAffinity", {})
    return affinity.get("requiredDuringSchedulingIgnoredDuringExecution", {}).get("nodeSelectorTerms", [])


def selects(terms, labels):
    """As the scheduler reads node selector terms."""
    def holds(expression):
        value = labels.get(expression["key"])
        return value in expression["values"] if expression["operator"] == "In" else value is None
    return not terms or any(all(map(holds, term["matchExpressions"])) for term in terms)


def test_nodes_without_a_gpu_get_no_pod(helm):
    seen = {"feature.node.kubernetes.io/kernel-version.full": "6.1"}  # by Node Feature Discovery
    gpu = {**seen, "feature.node.kubernetes.io/pci-0302_10de.present": "true"}
    forced = {"nvidia.com/gpu.present": "true"}
    for value, expected in (("auto", (True, False, True, True)), ("labelled", (False, False, True, True)), ("all", (True, True, True, True))):
        terms = terms_of(render(helm, f"nodes={value}"))
        assert tuple(selects(terms, labels) for labels in ({}, seen, gpu, {**seen, **forced})) == expected, value
    assert not selects(terms_of(render(helm)), {"nvidia.com/gpu.present": "false"})
    assert not terms_of(render(helm, "simulatedNode.enabled=true"))
    assert "/nodes" in refusal(helm, "nodes=some")


@pytest.mark.parametrize("values, rolling", [
    ([], {"maxSurge": 1, "maxUnavailable": 0}),
    (["updateStrategy.rollingUpdate.maxSurge=3"], {"maxSurge": 3, "maxUnavailable": 0}),
    (["updateStrategy.rollingUpdate.maxUnavailable=25%"], {"maxUnavailable": "25%"}),  # not both: the API server takes one of them
    (["daemonsets.updateStrategy=RollingUpdate", "daemonsets.rollingUpdate.maxUnavailable=2"], {"maxSurge": 2, "maxUnavailable": 0}),
    (["devicePlugin.hostNetwork=true"], {"maxUnavailable": 1}),  # two pods would want one port
    (["updateStrategy.type=OnDelete"], None),
])
def test_the_next_daemon_takes_over(helm, values, rolling):
    objects = render(helm, *values)
    strategy = objects["DaemonSet", "gpushare"]["spec"]["updateStrategy"]
    assert strategy == ({"type": "RollingUpdate", "rollingUpdate": rolling} if rolling else {"type": "OnDelete"})
    assert environment_of(objects)["GPUSHARE_TAKE_OVER"] == "true"


# --- the fence around the Node, evaluated as the API server does ---

FETCH = REPOSITORY / "tests" / "tools" / "fetch-clients"
LABELS = re.compile(r"^\| `(nvidia\.com/[^`]+)` \|", re.M)
ACCOUNT = "system:serviceaccount:gpu-operator:gpushare"


class Fence:
    def __init__(self, celpy, policy):
        self.celpy, self.environment, self.spec, self.programs = celpy, celpy.Environment(), policy["spec"], {}

    def value(self, expression, activation):
        if expression not in self.programs:
            self.programs[expression] = self.environment.program(self.environment.compile(expression))
        return self.programs[expression].evaluate(activation)

    def refusals(self, old, new, extra=None):
        """The messages of what is not allowed."""
        request = {"userInfo": {"username": ACCOUNT, "extra": {"authentication.kubernetes.io/node-name": ["a"]} if extra is None else extra}}
        activation = {key: self.celpy.json_to_cel(value) for key, value in (("request", request), ("object", new), ("oldObject", old))}
        assert self.value(self.spec["matchConditions"][0]["expression"], activation)
        variables = {}
        for variable in self.spec["variables"]:
            activation["variables"] = self.celpy.celtypes.MapType(variables)
            variables[self.celpy.celtypes.StringType(variable["name"])] = self.value(variable["expression"], activation)
        activation["variables"] = self.celpy.celtypes.MapType(variables)
        return [rule["message"] for rule in self.spec["validations"] if not self.value(rule["expression"], activation)]


@pytest.fixture(scope="module")
def fence(helm):
    subprocess.run([FETCH, BUILD / "clients"], capture_output=True, timeout=PATIENCE * 2, stdin=subprocess.DEVNULL)
    if not (BUILD / "clients" / "cel-python" / "celpy").exists():
        pytest.skip("cel-python could not be fetched from PyPI")
    sys.path.insert(0, str(BUILD / "clients" / "cel-python"))
    try:
        celpy = pytest.importorskip("celpy")
    finally:
        sys.path.pop(0)
    done = call(helm, "template", "gpushare", CHART, "--namespace", "gpu-operator",
                "--api-versions", "admissionregistration.k8s.io/v1/ValidatingAdmissionPolicy")
    assert done.returncode == 0, done.stderr
    policy = next(entry for entry in yaml.safe_load_all(done.stdout) if entry and entry["kind"] == "ValidatingAdmissionPolicy")
    return Fence(celpy, policy)


def node_object():
    ready = {"type": "Ready", "status": "True", "lastHeartbeatTime": "2026-11-29T12:00:00Z"}
    return {"apiVersion": "v1", "kind": "Node",
            "metadata": {"name": "a", "uid": "1", "resourceVersion": "1", "labels": {"zone": "x", "nvidia.com/mig.config": "all-disabled"},
                         "annotations": {"other": "x"}, "managedFields": [{"manager": "kubelet"}]},
            "spec": {"podCIDR": "10.0.0.0/24"},
            "status": {"capacity": {"cpu": "2"}, "allocatable": {"cpu": "2"}, "addresses": [{"type": "InternalIP", "address": "10.0.0.1"}],
                       "conditions": [ready], "nodeInfo": {"kernelVersion": "6"}, "later": {"field": "1"}}}


def changed(change, *path):
    """A Node in which one value is another one; None: it is gone."""
    node = node_object()
    node["metadata"]["resourceVersion"] = "2"
    node["metadata"]["managedFields"].append({"manager": "gpushare"})
    at = node
    for step in path[:-1]:
        at = at[step] if isinstance(step, int) else at.setdefault(step, {})
    if change is None:
        del at[path[-1]]
    else:
        at[path[-1]] = change
    return node


def test_the_fence_lets_the_daemon_write_what_it_writes(fence):
    keys = LABELS.findall((REPOSITORY / "docs" / "labels.md").read_text()) + ["nvidia.com/mig.config.state", "nvidia.com/mig-1g.10gb.count"]
    assert len(keys) > 40
    for key in keys:
        key = key.replace("PROFILE", "1g.10gb")
        assert fence.refusals(node_object(), changed("x", "metadata", "labels", key)) == [], key
        assert fence.refusals(changed("x", "metadata", "labels", key), node_object()) == [], key
    ready = node_object()["status"]["conditions"]
    ours = [{"type": "GPUShareHealthy", "status": "True"}, {"type": "GPUShareMIG", "status": "False"}]
    for before, after in ((ready, ready + ours), (ready + ours, ready), (ready + ours[:1], ours[1:] + ready), ([], ours)):
        assert fence.refusals(changed(before, "status", "conditions"), changed(after, "status", "conditions")) == [], after
    bare, labelled = changed(None, "metadata", "labels"), changed({"nvidia.com/gpu.count": "1"}, "metadata", "labels")
    assert fence.refusals(bare, labelled) == [] and fence.refusals(labelled, bare) == []


@pytest.mark.parametrize("change, path, words", [
    ("y", ("metadata", "labels", "zone"), "no others"), (None, ("metadata", "labels", "zone"), "no others"),
    ("all-balanced", ("metadata", "labels", "nvidia.com/mig.config"), "no others"), ("x", ("metadata", "labels", "nvidia.com/device-plugin.config"), "no others"),
    ("x", ("metadata", "labels", "nvidia.com/gpu.deploy.driver"), "no others"), ("x", ("metadata", "labels", "nvidia.com/gpu.workload.config"), "no others"),
    ("x", ("metadata", "labels", "node-role.kubernetes.io/control-plane"), "no others"),
    ("x", ("metadata", "labels", "nvidiaxcom/gpu.count"), "no others"), ("x", ("metadata", "labels", "x.nvidia.com/gpu.count"), "no others"),
    ("y", ("metadata", "annotations", "other"), "metadata"), (None, ("metadata", "annotations"), "metadata"), (["x"], ("metadata", "finalizers"), "metadata"),
    ([{"kind": "Pod"}], ("metadata", "ownerReferences"), "metadata"), ("99", ("status", "capacity", "cpu"), "status"),
    ("99", ("status", "allocatable", "nvidia.com/gpu"), "status"), ("10.9.9.9", ("status", "addresses", 0, "address"), "status"),
    (None, ("status", "addresses"), "status"), ("2", ("status", "later", "field"), "status"), ({}, ("status", "new"), "status"),
    ("False", ("status", "conditions", 0, "status"), "own conditions"), ([], ("status", "conditions"), "own conditions"),
    (None, ("status", "conditions"), "own conditions"), ("GPUShareReady", ("status", "conditions", 0, "type"), "own conditions"),
    ([{"key": "x", "effect": "NoExecute"}], ("spec", "taints"), "specification")])
def test_the_fence_lets_nothing_else_through(fence, change, path, words):
    refusals = fence.refusals(node_object(), changed(change, *path))
    assert len(refusals) == 1 and words in refusals[0], refusals


def test_the_fence_is_around_the_daemons_own_node(fence):
    for extra in ({}, {"authentication.kubernetes.io/node-name": ["b"]}):
        assert "no other" in fence.refusals(node_object(), node_object(), extra)[0]
