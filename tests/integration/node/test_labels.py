"""Node labels: what is published, where, and how often."""
import json
import os
import shutil
import subprocess

import pytest

from node import CONFIG_4, GPUSHARE, Node, Sim, wait_until

REPO = os.path.dirname(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))
ALONE = ["--kubelet-socket="]  # serves, and looks for no kubelet

pytestmark = pytest.mark.skipif(not os.path.exists(GPUSHARE), reason="gpushare is not built")


def printed(spec, config=None, options=(), sim_options=(), env=None):
    """What `gpushare labels` prints on a simulated node, without the prefix."""
    command = [GPUSHARE, "sim", spec, *sim_options, "--", GPUSHARE, "labels", "-o", "json", *options]
    done = subprocess.run([*command, *(["-c", config] if config else [])], capture_output=True, text=True, timeout=120, check=False,
                          env={**os.environ, **(env or {})})
    assert done.returncode == 0, done.stderr
    labels = json.loads(done.stdout)
    assert all(key.startswith("nvidia.com/") for key in labels)
    return {key[len("nvidia.com/"):]: value for key, value in labels.items()}


def written(tmp_path, text):
    path = tmp_path / "labels.yaml"
    path.write_text(text)
    return str(path)


def subset(labels, expected):
    return {key: labels.get(key) for key in expected}


# --- values that GFD is known to give (NVIDIA's documentation, and nodes that people have shown) ---

KNOWN = {
    "8xH100-80GB": {"gpu.product": "NVIDIA-H100-80GB-HBM3", "gpu.memory": "81559", "gpu.family": "hopper", "gpu.compute.major": "9",
                    "gpu.compute.minor": "0", "gpu.count": "8", "gpu.replicas": "1", "gpu.sharing-strategy": "none", "gpu.mode": "compute",
                    "mig.capable": "true", "mps.capable": "false", "vgpu.present": "false"},
    "8xA100-80GB": {"gpu.product": "NVIDIA-A100-SXM4-80GB", "gpu.memory": "81920", "gpu.family": "ampere", "gpu.compute.major": "8",
                    "gpu.compute.minor": "0", "gpu.count": "8", "mig.capable": "true"},
    "1xT4": {"gpu.product": "Tesla-T4", "gpu.memory": "15360", "gpu.family": "turing", "gpu.compute.major": "7", "gpu.compute.minor": "5",
             "gpu.count": "1", "mig.capable": "false"},
}


@pytest.mark.parametrize("spec", KNOWN)
def test_known_nodes(spec):
    assert subset(printed(spec), KNOWN[spec]) == KNOWN[spec]


def test_driver_and_cuda():
    labels = printed("1xT4", sim_options=["--driver", "535.104.05"])
    expected = {"cuda.driver-version.full": "535.104.05", "cuda.driver-version.major": "535", "cuda.driver-version.minor": "104",
                "cuda.driver-version.revision": "05", "cuda.driver.major": "535", "cuda.driver.minor": "104", "cuda.driver.rev": "05"}
    assert subset(labels, expected) == expected
    assert labels["cuda.runtime-version.full"] == "%s.%s" % (labels["cuda.runtime.major"], labels["cuda.runtime.minor"])


def test_shared(tmp_path):
    labels = printed("4xT4", written(tmp_path, CONFIG_4))
    expected = {"gpu.product": "Tesla-T4-SHARED", "gpu.replicas": "4", "gpu.count": "4", "gpu.sharing-strategy": "time-slicing"}
    assert subset(labels, expected) == expected
    renamed = printed("4xT4", written(tmp_path, CONFIG_4.replace("renameByDefault: false", "renameByDefault: true")))
    assert renamed["gpu.product"] == "Tesla-T4" and renamed["gpu.replicas"] == "4"


SLICE_1G = {"memory": "4864", "multiprocessors": "14", "slices.gi": "1", "slices.ci": "1", "engines.copy": "1", "engines.decoder": "0",
            "engines.encoder": "0", "engines.jpeg": "0", "engines.ofa": "0"}
SLICE_2G = {"memory": "9856", "multiprocessors": "28", "slices.gi": "2", "slices.ci": "2", "engines.copy": "2", "engines.decoder": "1",
            "engines.encoder": "0", "engines.jpeg": "0", "engines.ofa": "0"}


def test_mig_single_as_documented(tmp_path):
    """NVIDIA's documentation shows eight A100-SXM4-40GB with 1g.5gb throughout."""
    labels = printed("8xA100-40GB", written(tmp_path, "flags: {migStrategy: single}\n"),
                     sim_options=["--mig", ",".join(["1g.5gb"] * 7)])
    expected = {"gpu.product": "NVIDIA-A100-SXM4-40GB-MIG-1g.5gb", "gpu.count": "56", "gpu.replicas": "1", "mig.strategy": "single",
                "gpu.family": "ampere", **{"gpu." + key: value for key, value in SLICE_1G.items()}}
    assert subset(labels, expected) == expected
    assert not any(key.startswith("mig-") for key in labels)


def test_mig_mixed_as_documented(tmp_path):
    """And one with 1g.5gb, 2g.10gb and 3g.20gb. Memory of 2g.10gb differs by driver: 9984 there, 9856 since."""
    labels = printed("1xA100-40GB", written(tmp_path, "flags: {migStrategy: mixed}\n"), sim_options=["--mig", "3g.20gb,2g.10gb,1g.5gb"])
    expected = {"gpu.product": "NVIDIA-A100-SXM4-40GB", "gpu.count": "1", "gpu.replicas": "0", "gpu.memory": "40960", "mig.strategy": "mixed",
                "mig-1g.5gb.product": "NVIDIA-A100-SXM4-40GB-MIG-1g.5gb", "mig-1g.5gb.count": "1", "mig-1g.5gb.replicas": "1",
                "mig-1g.5gb.sharing-strategy": "none", "mig-2g.10gb.count": "1", "mig-3g.20gb.count": "1",
                **{"mig-1g.5gb." + key: value for key, value in SLICE_1G.items()},
                **{"mig-2g.10gb." + key: value for key, value in SLICE_2G.items()}}
    assert subset(labels, expected) == expected


def test_mig_single_that_is_not_uniform(tmp_path):
    labels = printed("1xA100-40GB", written(tmp_path, "flags: {migStrategy: single}\n"), sim_options=["--mig", "3g.20gb,1g.5gb"])
    expected = {"gpu.product": "NVIDIA-A100-SXM4-40GB-MIG-INVALID", "gpu.count": "0", "gpu.replicas": "0", "gpu.memory": "0"}
    assert subset(labels, expected) == expected


def test_mps(tmp_path):
    shares = "sharing: {mps: {resources: [{name: nvidia.com/%s, replicas: %d}]}}\n"
    labels = printed("2xA100-80GB", written(tmp_path, "flags: {mpsRoot: /run/nvidia/mps}\n" + shares % ("gpu", 10)))
    expected = {"mps.capable": "true", "gpu.sharing-strategy": "mps", "gpu.replicas": "10", "gpu.product": "NVIDIA-A100-SXM4-80GB-SHARED"}
    assert subset(labels, expected) == expected
    labels = printed("1xA100-80GB", written(tmp_path, "flags: {mpsRoot: /run/nvidia/mps, migStrategy: mixed}\n" + shares % ("mig-1g.10gb", 5)),
                     sim_options=["--mig", "1g.10gb,3g.40gb"])
    expected = {"mps.capable": "true", "mig-1g.10gb.sharing-strategy": "mps", "mig-1g.10gb.replicas": "5", "gpu.sharing-strategy": "none",
                "mig-3g.40gb.sharing-strategy": "none", "mig-1g.10gb.product": "NVIDIA-A100-SXM4-80GB-MIG-1g.10gb-SHARED"}
    assert subset(labels, expected) == expected


def test_mixed_models_do_not_flip():
    one, other = printed("2xT4,1xH100-80GB,2xL4", env={"GFD_NO_TIMESTAMP": "true"}), printed("2xL4,1xH100-80GB,2xT4", env={"GFD_NO_TIMESTAMP": "true"})
    assert one == other
    assert one["gpu.product"] == "NVIDIA-L4" and one["gpu.count"] == "2"


def test_machine_type(tmp_path):
    name = tmp_path / "product_name"
    name.write_text("DGXA100 920-23687-2530-000 (rev 2)\nsecond line\n")
    assert printed("1xT4", env={"GFD_MACHINE_TYPE_FILE": str(name)})["gpu.machine"] == "DGXA100-920-23687-2530-000-rev-2"
    os.unlink(name)
    os.mkfifo(name)
    assert printed("1xT4", env={"GFD_MACHINE_TYPE_FILE": str(name)})["gpu.machine"] == "unknown"


# --- the command ---

def run_labels(*options):
    return subprocess.run([GPUSHARE, "sim", "2xT4", "--", GPUSHARE, "labels", *options], capture_output=True, text=True, timeout=120, check=False)


def test_formats_agree():
    yaml = pytest.importorskip("yaml")
    as_json = json.loads(run_labels("-o", "json").stdout)
    as_yaml = yaml.safe_load(run_labels("-o", "yaml").stdout)
    as_text = dict(line.split("=", 1) for line in run_labels().stdout.splitlines())
    for labels in as_json, as_yaml, as_text:
        assert int(labels.pop("nvidia.com/gfd.timestamp")) > 1700000000
    assert as_json == as_yaml == as_text
    assert all(isinstance(value, str) for value in as_yaml.values())


def test_wrong_use(tmp_path):
    assert run_labels("-o", "xml").returncode == 2
    assert run_labels("extra").returncode == 2
    bad = run_labels("-c", written(tmp_path, "version: v2\n"))
    assert bad.returncode == 1 and "labels.yaml:1" in bad.stderr
    missing = subprocess.run([GPUSHARE, "labels"], capture_output=True, text=True, timeout=120, check=False)
    if missing.returncode:  # a machine with a driver has labels
        assert missing.returncode == 1 and "libnvidia-ml" in missing.stderr and not missing.stdout


def test_docs_list_every_label():
    table = subprocess.run([GPUSHARE, "labels", "-o", "markdown"], capture_output=True, text=True, timeout=60, check=True).stdout
    with open(os.path.join(REPO, "docs", "labels.md"), encoding="utf-8") as file:
        docs = file.read()
    assert table and docs.endswith(table), "write the end of docs/labels.md anew: gpushare labels -o markdown"


# --- the feature file ---

@pytest.fixture
def sim(tmp_path):
    node = Sim(tmp_path / "sim", "2xA100-80GB")
    yield node
    node.stop()


@pytest.fixture
def features(tmp_path):
    directory = tmp_path / "features.d"
    directory.mkdir()
    return directory


@pytest.fixture
def daemon(tmp_path, sim, features):
    made = Node(tmp_path, sim, arguments=[*ALONE, "--output-file", str(features / "gfd"), "--sleep-interval", "100ms"])
    yield made
    if made.process:
        assert made.stop() == 0


def labels_in(path):
    try:
        return dict(line.split("=", 1) for line in path.read_text().splitlines())
    except FileNotFoundError:
        return {}


def test_the_file_follows_the_config(daemon, features):
    daemon.start()
    wait_until(lambda: labels_in(features / "gfd").get("nvidia.com/gpu.replicas") == "4", "the file")
    assert os.stat(features / "gfd").st_mode & 0o777 == 0o644
    daemon.write_config(CONFIG_4.replace("replicas: 4", "replicas: 6"))
    wait_until(lambda: labels_in(features / "gfd").get("nvidia.com/gpu.replicas") == "6", "the new labels")
    assert sorted(os.listdir(features)) == ["gfd"]
    daemon.stop()
    assert labels_in(features / "gfd")["nvidia.com/gpu.replicas"] == "6"  # an upgrade is no reason to lose labels


def test_the_file_follows_the_hardware(daemon, sim, features):
    daemon.start()
    wait_until(lambda: labels_in(features / "gfd").get("nvidia.com/gpu.count") == "2", "the file")
    sim.inject("--gpu", "1", "unplug")
    wait_until(lambda: labels_in(features / "gfd").get("nvidia.com/gpu.count") == "1", "one GPU less")


def test_the_file_follows_a_mig_layout(daemon, sim, features):
    daemon.write_config("flags: {migStrategy: mixed}\n")
    daemon.start()
    wait_until(lambda: labels_in(features / "gfd").get("nvidia.com/mig.strategy") == "mixed", "the file")
    env = {**os.environ, "GPUSHARE_STATE_DIR": daemon.state, "GPUSHARE_SOCKET": daemon.socket}

    def mig(*command):
        done = sim.run(GPUSHARE, "mig", *command, env=env)
        assert done.returncode == 0, done.stdout + done.stderr

    mig("enable", "-i", "0")
    mig("create", "-i", "0", "3g.40gb,1g.10gb,1g.10gb")
    wait_until(lambda: labels_in(features / "gfd").get("nvidia.com/mig-1g.10gb.count") == "2", "the instances")
    labels = labels_in(features / "gfd")
    assert labels["nvidia.com/mig-3g.40gb.memory"] == "40192" and labels["nvidia.com/mig-3g.40gb.multiprocessors"] == "42"
    mig("destroy", "-i", "0", "--all")
    wait_until(lambda: not any("/mig-" in key for key in labels_in(features / "gfd")), "their end")


def test_a_file_that_was_removed_or_changed_is_mended(daemon, features):
    daemon.start()
    wait_until(lambda: labels_in(features / "gfd"), "the file")
    first = labels_in(features / "gfd")
    os.unlink(features / "gfd")
    wait_until(lambda: labels_in(features / "gfd") == first, "the file again")
    (features / "gfd").write_text("nvidia.com/gpu.count=99\n")
    wait_until(lambda: labels_in(features / "gfd") == first, "the right file again")


def test_the_file_is_written_only_when_it_changes(daemon, features):
    daemon.start()
    wait_until(lambda: labels_in(features / "gfd"), "the file")
    for _ in range(3):
        daemon.process.send_signal(1)  # SIGHUP
        daemon.status()
    daemon.write_config(CONFIG_4.replace("replicas: 4", "replicas: 5"))
    wait_until(lambda: labels_in(features / "gfd").get("nvidia.com/gpu.replicas") == "5", "the change")
    wait_until(lambda: daemon.read_log().count("labels written") >= 2, "the log")  # which comes after the file
    assert daemon.read_log().count("labels written") == 2


def test_a_directory_that_is_not_there_is_not_made(daemon, features):
    os.rmdir(features)
    daemon.start()
    daemon.wait_listening()
    wait_until(lambda: daemon.status()["gpus"], "the GPUs")
    assert not daemon.status()["problems"]
    assert not features.exists()
    os.mkdir(features)  # Node Feature Discovery is installed later
    wait_until(lambda: labels_in(features / "gfd"), "the file")


def test_oneshot_publishes_once(daemon, features):
    daemon.arguments += ["--oneshot"]
    daemon.start()
    wait_until(lambda: labels_in(features / "gfd").get("nvidia.com/gpu.replicas") == "4", "the file")
    daemon.write_config(CONFIG_4.replace("replicas: 4", "replicas: 6"))
    wait_until(lambda: daemon.status()["resources"][0]["shares"] == 12, "the new config")
    assert labels_in(features / "gfd")["nvidia.com/gpu.replicas"] == "4"


def test_a_file_that_cannot_be_written_is_a_problem_until_it_can(daemon, features):
    (features / ".gfd").mkdir()  # in the way of the new file
    (features / ".gfd" / "x").write_text("")
    daemon.start()
    daemon.wait_listening()
    wait_until(lambda: any("labels" in p for p in daemon.status()["problems"]), "the problem")
    shutil.rmtree(features / ".gfd")
    daemon.process.send_signal(1)  # SIGHUP; else it tries again in half a minute
    wait_until(lambda: labels_in(features / "gfd"), "the file")
    wait_until(lambda: not daemon.status()["problems"], "no problem")


# --- the Node object ---

@pytest.fixture
def joined(tmp_path, sim, api):
    made = Node(tmp_path, sim, env=api.environment(), arguments=ALONE)
    yield made
    if made.process:
        assert made.stop() == 0


def patches(api):
    return [r for r in api.writes() if r[0] == "PATCH" and "fieldManager=gpushare&" in r[1]]


def test_the_node_is_labelled_by_one_patch_a_change(joined, api):
    joined.start()
    wait_until(lambda: api.labels().get("nvidia.com/gpu.replicas") == "4", "the labels")
    assert len(patches(api)) == 1
    assert api.labels()["kubernetes.io/hostname"]  # not ours
    expected = {"nvidia.com/gpu.product": "NVIDIA-A100-SXM4-80GB-SHARED", "nvidia.com/gpu.count": "2", "nvidia.com/mig.capable": "true"}
    assert {key: api.labels().get(key) for key in expected} == expected
    joined.process.send_signal(1)  # SIGHUP: everything is looked at, and nothing changed
    api.wait_quiet()
    assert len(patches(api)) == 1
    joined.write_config(CONFIG_4.replace("replicas: 4", "replicas: 6"))
    wait_until(lambda: api.labels().get("nvidia.com/gpu.replicas") == "6", "the change")
    assert len(patches(api)) == 2


def test_labels_that_are_no_longer_true_are_removed(joined, api):
    joined.write_config("flags: {migStrategy: mixed}\n" + CONFIG_4)
    joined.start()
    wait_until(lambda: api.labels().get("nvidia.com/mig.strategy") == "mixed", "the labels")
    joined.write_config("flags: {gfd: {noTimestamp: true}}\n" + CONFIG_4)
    wait_until(lambda: "nvidia.com/mig.strategy" not in api.labels(), "the strategy's end")
    assert "nvidia.com/gfd.timestamp" not in api.labels()
    assert api.labels()["nvidia.com/gpu.count"] == "2"


def test_labels_wait_for_the_api_server(joined, api):
    api.stop()
    joined.start()
    joined.wait_listening()
    wait_until(lambda: joined.status()["gpus"], "the GPUs")
    api.start()
    wait_until(lambda: api.labels().get("nvidia.com/gpu.count") == "2", "the labels")


def test_without_the_api_nothing_is_sent(joined, api):
    joined.env["GPUSHARE_KUBERNETES_API"] = "false"
    joined.start()
    joined.wait_listening()
    wait_until(lambda: joined.status()["gpus"], "the GPUs")
    assert not api.requests


# --- NodeFeature objects ---

FEATURE = "/apis/nfd.k8s-sigs.io/v1alpha1/namespaces/gpu/nodefeatures/nvidia-features-for-"


def feature_labels(api):
    found = {path: f for path, f in api.features.items() if path.startswith(FEATURE)}
    assert len(found) == len(api.features) <= 1
    for feature in found.values():
        assert FEATURE + feature["metadata"]["labels"]["nfd.node.kubernetes.io/node-name"] == list(found)[0]
        return feature["spec"]["labels"]
    return {}


@pytest.fixture
def featured(joined):
    joined.env.update(USE_NODE_FEATURE_API="true", NAMESPACE="gpu")
    return joined


def test_a_node_feature_instead_of_labels_on_the_node(featured, api):
    api.features = {}
    featured.start()
    wait_until(lambda: feature_labels(api).get("nvidia.com/gpu.replicas") == "4", "the object")
    featured.write_config(CONFIG_4.replace("replicas: 4", "replicas: 6"))
    wait_until(lambda: feature_labels(api).get("nvidia.com/gpu.replicas") == "6", "the change")
    assert not any(key.startswith("nvidia.com/") for key in api.labels())


def test_without_the_crd_the_node_is_labelled(featured, api):
    featured.start()
    wait_until(lambda: api.labels().get("nvidia.com/gpu.replicas") == "4", "the labels")
    featured.write_config(CONFIG_4.replace("replicas: 4", "replicas: 6"))
    wait_until(lambda: api.labels().get("nvidia.com/gpu.replicas") == "6", "the change")
    assert sum("nodefeatures" in r[1] for r in api.requests) == 1
    assert not featured.status()["problems"]


def test_a_node_feature_that_is_refused_for_a_while(featured, api):
    api.features = {}
    refused = [True]

    def fault(request):
        if not refused or "nodefeatures" not in request.path:
            return False
        request.refuse(403, "forbidden")
        return True
    api.faults.append(fault)
    featured.start()
    wait_until(lambda: api.labels().get("nvidia.com/gpu.replicas") == "4", "the labels")
    refused.clear()
    api.cut_connections()
    wait_until(lambda: feature_labels(api).get("nvidia.com/gpu.replicas") == "4", "the object")
    wait_until(lambda: "nvidia.com/gpu.replicas" not in api.labels(), "the labels' end")


def test_from_labels_to_a_node_feature_and_back(joined, api):
    api.features = {}
    joined.env["NAMESPACE"] = "gpu"
    joined.start()
    wait_until(lambda: api.labels().get("nvidia.com/gpu.replicas") == "4", "the labels")
    joined.write_config("flags: {useNodeFeatureAPI: true}\n" + CONFIG_4)
    wait_until(lambda: feature_labels(api).get("nvidia.com/gpu.replicas") == "4", "the object")
    wait_until(lambda: "nvidia.com/gpu.replicas" not in api.labels(), "the labels' end")
    joined.write_config(CONFIG_4)
    wait_until(lambda: api.labels().get("nvidia.com/gpu.replicas") == "4", "the labels again")
    wait_until(lambda: not feature_labels(api), "an empty object")
