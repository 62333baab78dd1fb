"""gpushare node --uninstall: nothing is left on a node, and nothing of others is touched."""
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess

import pytest

from kubelet import BUILD
from node import wait_until

PATIENCE = 300  # seconds; only ever reached when something hangs
GPUSHARE = pathlib.Path(BUILD).resolve() / "gpushare"


class Machine:
    """A simulated node that is held, whose root is a driver's root, and a daemon on it."""

    def __init__(self, folder):
        self.folder = folder
        self.node = folder / "node"
        self.state, self.cdi, self.plugins = folder / "state", folder / "cdi", folder / "kubelet" / "device-plugins"
        self.plugins.mkdir(parents=True)
        self.environment = {"PATH": "/usr/bin:/bin", "GPUSHARE_SIM": str(self.node)}
        self.flags = ["--kubelet-socket=", f"--kubelet-dir={self.plugins.parent}", f"--device-plugin-dir={self.plugins}", f"--state-dir={self.state}", f"--cdi-dir={self.cdi}",
                      f"--socket={folder}/run/sock", f"--driver-root={self.node}/root", "--device-list-strategy=cdi-cri"]
        self.holder = subprocess.Popen([GPUSHARE, "sim", "--hold", f"--state={self.node}", "2xA100-80GB"], stdout=subprocess.PIPE,
                                       text=True, stdin=subprocess.DEVNULL)
        assert "is up" in self.holder.stdout.readline()
        self.daemon = None

    def start(self):
        self.daemon = subprocess.Popen([GPUSHARE, "node", *self.flags], env=self.environment, stdin=subprocess.DEVNULL,
                                       stderr=subprocess.DEVNULL)
        wait_until(lambda: any(self.cdi.glob("*.json")) and any(self.plugins.glob("*.sock")), "the daemon to serve")

    def end(self, number):
        self.daemon.send_signal(number)
        self.daemon.wait(PATIENCE)

    def uninstall(self):
        return subprocess.run([GPUSHARE, "node", "--uninstall", *self.flags], env=self.environment, capture_output=True, text=True,
                              timeout=PATIENCE, stdin=subprocess.DEVNULL)

    def left(self):
        places = (self.state, self.cdi, self.plugins, self.folder / "run")
        return sorted(path.name for place in places if place.exists() for path in place.iterdir())

    def stop(self):
        for process in (self.daemon, self.holder):
            if process and process.poll() is None:
                process.terminate()
                process.wait(PATIENCE)
        self.holder.stdout.close()


DAEMON_SETS = "/apis/apps/v1/namespaces/gpu-operator/daemonsets/gpushare"


class DaemonSet:
    """The API server's answers about the DaemonSet: there, being deleted, gone, or not for this account to know."""

    def __init__(self, api):
        self.state, self.asked, self.until_gone = "there", [], 2
        api.faults.append(self.answer)

    def answer(self, request):
        if not request.path.startswith(DAEMON_SETS):
            return False
        self.asked.append((request.command, request.body.decode()))
        if request.command == "DELETE":
            self.state = "going"
        elif self.state == "going" and self.asked[0][0] == "DELETE":
            self.until_gone -= 1
            self.state = "going" if self.until_gone > 0 else "gone"
        if self.state in ("gone", "forbidden"):
            request.refuse(404 if self.state == "gone" else 403, self.state)
        else:
            metadata = {"name": "gpushare", **({"deletionTimestamp": "2026-01-01T00:00:00Z"} if self.state == "going" else {})}
            request.answer(200, {"kind": "DaemonSet", "metadata": metadata})
        return True


@pytest.fixture
def machine(tmp_path):
    made = Machine(tmp_path)
    yield made
    made.stop()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_nothing_is_left(machine, number):
    machine.start()
    machine.end(number)
    assert machine.left()
    done = machine.uninstall()
    assert done.returncode == 0, done.stderr
    assert machine.left() == []
    assert "k8s.device-plugin.nvidia.com-gpu.json" in done.stdout
    again = machine.uninstall()
    assert (again.returncode, again.stdout) == (0, "")


def test_refused_while_a_daemon_runs(machine):
    machine.start()
    before = machine.left()
    done = machine.uninstall()
    assert done.returncode == 1 and "stop it first" in done.stderr
    assert machine.left() == before


def test_what_others_have_there_stays(machine):
    """A plugin that answers, a spec of another vendor, a file in the state directory that is not ours."""
    machine.start()
    machine.end(signal.SIGTERM)
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(machine.plugins / "nvidia-other.sock"))
        other.listen()
        (machine.plugins / "kubelet_internal_checkpoint").write_text("{}")
        (machine.cdi / "nvidia.yaml").write_text("x")
        (machine.state / "notes.txt").write_text("x")
        assert machine.uninstall().returncode == 0
    assert machine.left() == ["kubelet_internal_checkpoint", "notes.txt", "nvidia-other.sock", "nvidia.yaml"]


def test_a_container_joins_the_node_by_the_spec(machine):
    """What the daemon's CDI spec asks for, done by hand as a container runtime does it: mounts, hooks, then a program that
    finds the driver's library by the loader's cache alone."""
    if os.geteuid() != 0:
        pytest.skip("a container's root needs root to be set up")
    machine.start()
    bundle = machine.folder / "bundle"
    root = bundle / "rootfs"
    library_folder = "/opt/driver/lib"  # not one that the loader looks in by itself
    (root / "etc").mkdir(parents=True)
    (bundle / "config.json").write_text(json.dumps({"root": {"path": "rootfs"}}))
    edits = json.loads(next(machine.cdi.glob("*gpu.json")).read_text())["containerEdits"]
    folder = next(hook["args"][-1] for hook in edits["hooks"] if "update-ldcache" in hook["args"])
    steps = ["set -e", "mount --bind $1 $1"]
    for mount in edits["mounts"]:
        target = f"$1{mount['containerPath'].replace(folder, library_folder)}"
        make = f"mkdir -p {target}" if pathlib.Path(mount["hostPath"]).is_dir() else f"mkdir -p $(dirname {target}); touch {target}"
        steps += [make, f"mount --bind {mount['hostPath']} {target}"]
    for hook in edits["hooks"]:
        assert hook["hookName"] == "createContainer"
        arguments = " ".join(argument.replace(folder, library_folder) for argument in hook["args"][1:])
        steps.append(f"echo '{{\"bundle\": \"{bundle}\"}}' | {hook['path']} {arguments}")
    # The container's own programs: this machine's, for the loader and Python.
    for path in ("/usr", "/lib", "/lib64", "/bin"):
        steps += [f"mkdir -p $1{path}", f"mount --rbind {path} $1{path}"]
    variables = " ".join(variable for variable in edits["env"] if variable.startswith("GPUSHARE_SIM="))
    program = ("import ctypes; cuda = ctypes.CDLL(\\'libcuda.so.1\\'); n = ctypes.c_int();"
               "assert cuda.cuInit(0) == 0 and cuda.cuDeviceGetCount(ctypes.byref(n)) == 0; print(n.value)")
    steps.append(f"mkdir -p $1/dev; exec env {variables} chroot $1 /usr/bin/python3 -c $'{program}'")
    done = subprocess.run(["unshare", "--mount", "--fork", "bash", "-c", "\n".join(steps), "bash", root], capture_output=True, text=True,
                          timeout=PATIENCE, stdin=subprocess.DEVNULL)
    if "unshare:" in done.stderr:
        pytest.skip("no mount namespaces here: " + done.stderr.strip())
    assert (done.returncode, done.stdout.strip()) == (0, "2"), done.stdout + done.stderr
    shutil.rmtree(bundle)


@pytest.mark.parametrize("state, clean", [("there", False), ("forbidden", False), ("going", True), ("gone", True)])
def test_a_daemon_cleans_up_when_its_daemon_set_is_deleted_and_only_then(machine, api, state, clean):
    """An upgrade or a restart stops the daemon in the same way, and must leave everything to the next one."""
    daemon_set = DaemonSet(api)
    machine.environment |= {**api.environment(), "GPUSHARE_DAEMONSET": "gpu-operator/gpushare"}
    machine.start()
    wait_until(lambda: any(key.startswith("nvidia.com/") for key in api.node["metadata"]["labels"]), "labels")
    daemon_set.state = state
    machine.end(signal.SIGTERM)
    assert machine.daemon.returncode == 0
    assert [method for method, _ in daemon_set.asked] == ["GET"]
    labels = {key for key in api.node["metadata"]["labels"] if key.startswith("nvidia.com/")}
    assert (machine.left() == [] and not labels) if clean else (machine.left() and labels)


def test_a_daemon_cleans_up_though_the_driver_hangs(machine, api):
    DaemonSet(api).state = "gone"
    machine.environment |= {**api.environment(), "GPUSHARE_DAEMONSET": "gpu-operator/gpushare"}
    machine.start()
    wait_until(lambda: any(key.startswith("nvidia.com/") for key in api.node["metadata"]["labels"]), "labels")
    subprocess.run([GPUSHARE, "sim", "inject", f"--state={machine.node}", "--gpu", "1", "hang=on"], check=True, timeout=PATIENCE)
    subprocess.run([GPUSHARE, "status", f"--socket={machine.folder}/run/sock"], check=True, timeout=PATIENCE, stdout=subprocess.DEVNULL)
    machine.end(signal.SIGTERM)
    assert machine.daemon.returncode == 0 and machine.left() == []
    assert not [key for key in api.node["metadata"]["labels"] if key.startswith("nvidia.com/")]


@pytest.mark.parametrize("trouble", [503, 429, 401, "cut off"])
def test_an_api_server_in_trouble_is_asked_again(machine, api, trouble):
    """Nobody else cleans the node: one answer that did not come must not leave the labels there for ever."""
    DaemonSet(api).state = "gone"
    machine.environment |= {**api.environment(), "GPUSHARE_DAEMONSET": "gpu-operator/gpushare"}
    machine.start()
    wait_until(lambda: any(key.startswith("nvidia.com/") for key in api.node["metadata"]["labels"]) and api.node["status"]["conditions"],
               "labels and conditions")
    met = set()

    def once(request):
        """The first request of each kind, and of each path, fails."""
        kind = (request.command, request.path)
        if kind in met:
            return False
        met.add(kind)
        if trouble == "cut off":
            request.connection.shutdown(socket.SHUT_RDWR)
        else:
            request.refuse(trouble, "not now")
        return True

    api.faults.insert(0, once)
    machine.end(signal.SIGTERM)
    assert machine.daemon.returncode == 0 and machine.left() == []
    assert not [key for key in api.node["metadata"]["labels"] if key.startswith("nvidia.com/")]
    assert api.node["status"]["conditions"] == []
    assert len(met) >= 4


@pytest.mark.parametrize("ours", [True, False])
def test_our_node_feature_goes_and_one_of_gpu_feature_discovery_stays(machine, api, ours):
    api.features = {}
    machine.environment |= {**api.environment(), "NAMESPACE": "gpu", "USE_NODE_FEATURE_API": "true"}
    machine.start()
    wait_until(lambda: api.features, "the object")
    machine.end(signal.SIGTERM)
    (feature,) = api.features.values()
    if not ours:
        feature["metadata"]["managedFields"][0]["manager"] = "gpu-feature-discovery"
    done = machine.uninstall()
    assert done.returncode == 0, done.stderr
    assert bool(api.features) is not ours


def test_a_stop_is_not_held_up_by_an_api_server_that_is_away(machine, api):
    machine.environment |= {**api.environment(), "GPUSHARE_DAEMONSET": "gpu-operator/gpushare"}
    machine.start()
    api.stop()
    machine.end(signal.SIGTERM)
    assert machine.daemon.returncode == 0 and machine.left()


def test_deleting_the_daemon_set_waits_for_its_pods(machine, api):
    daemon_set = DaemonSet(api)
    machine.environment |= api.environment()
    done = subprocess.run([GPUSHARE, "node", "--delete-daemonset=gpu-operator/gpushare"], env=machine.environment, capture_output=True,
                          text=True, timeout=PATIENCE, stdin=subprocess.DEVNULL)
    assert done.returncode == 0 and "is gone" in done.stdout, done.stderr
    method, body = daemon_set.asked[0]
    assert method == "DELETE" and json.loads(body)["propagationPolicy"] == "Foreground"
    assert [method for method, _ in daemon_set.asked[1:]] == ["GET", "GET"]
    daemon_set.state, daemon_set.asked[:] = "forbidden", []
    api.faults[:] = [lambda request: request.refuse(403, "no rights") or True]
    done = subprocess.run([GPUSHARE, "node", "--delete-daemonset=gpu-operator/gpushare"], env=machine.environment, capture_output=True,
                          text=True, timeout=PATIENCE, stdin=subprocess.DEVNULL)
    assert done.returncode == 1 and "no rights" in done.stderr


def test_what_mps_left_goes_and_nothing_of_others(machine):
    """Folders of control daemons that are gone, below the root of now and below one from before; no link leads out of them."""
    machine.start()
    machine.end(signal.SIGTERM)
    root, before, outside = machine.folder / "mps", machine.folder / "mps-before", machine.folder / "outside"
    outside.mkdir()
    (outside / "precious").write_text("x")
    for place in (root, before):
        for name in ("GPU-00000000-0000-4000-8000-000000000001", "GPU-00000000-0000-4000-8000-000000000001-3"):
            (place / name / "pipe").mkdir(parents=True)
            (place / name / "log").mkdir()
            (place / name / "pipe" / "control").write_text("x")
            (place / name / "log" / "server.log").write_text("x")
        (place / name / "pipe" / "link").symlink_to(outside)
    (root / "GPU-00000000-0000-4000-8000-000000000002").mkdir()
    (root / "GPU-00000000-0000-4000-8000-000000000002" / "log").symlink_to(outside)
    (root / "nvidia.com" / "gpu" / "pipe").mkdir(parents=True)  # as NVIDIA's own plugin calls it
    (before / "shm").mkdir()
    (before / "shm" / "cuda.shm.0.1").write_text("x")
    (machine.state / "mps.json").write_text(json.dumps({"version": 1, "root": str(before), "computeModes": {}}))
    (machine.state / "mps.json").chmod(0o600)
    machine.flags.append(f"--mps-root={root}")
    done = machine.uninstall()
    assert (outside / "precious").exists() and not before.exists()
    # The folder that was made to look like ours holds a link that we did not make.
    assert sorted(path.name for path in root.iterdir()) == ["GPU-00000000-0000-4000-8000-000000000002", "nvidia.com"]
    assert done.returncode == 1 and "000000000002" in done.stderr
    (root / "GPU-00000000-0000-4000-8000-000000000002" / "log").unlink()
    done = machine.uninstall()
    assert done.returncode == 0, done.stderr
    assert [path.name for path in root.iterdir()] == ["nvidia.com"]


@pytest.mark.parametrize("whose", ["ours", "theirs"])
def test_the_labels_file_of_another_program_stays(machine, tmp_path, whose):
    features = tmp_path / "features"
    features.mkdir()
    machine.flags.append(f"--output-file={features}/gfd")
    machine.start()
    wait_until((features / "gfd").exists, "the file")
    machine.end(signal.SIGTERM)
    if whose == "theirs":
        (features / "gfd").write_text("nvidia.com/gpu.count=2\n", encoding="ascii")
    done = machine.uninstall()
    assert done.returncode == 0, done.stderr
    assert (features / "gfd").exists() == (whose == "theirs")
    assert machine.left() == []
