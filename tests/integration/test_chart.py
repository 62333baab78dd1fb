"""The chart, rendered by the real Helm: NVIDIA's values under their names, few rights, errors that help."""
import os
import pathlib
import re
import shutil
import subprocess

import pytest

yaml = pytest.importorskip("yaml", reason="Python's yaml module is not installed")

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]
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
    done = call(helm, *arguments, *settings(OPERATOR + ["toolkit.version=v1", "migManager.enabled=true", "mps.enableHostPID=true"]))
    assert done.returncode == 0, done.stderr
    notes = done.stdout.split("NOTES:")[1]
    ignored = notes.split("ignored:")[1]
    assert re.findall(r"^- ([\w.]+):", ignored, re.M) == ["driver", "toolkit", "migManager.enabled", "mps.enableHostPID"]
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
