"""A Kubernetes of one node: etcd, API server, scheduler, controller manager, containerd and kubelet as processes of this
namespace, with the paths that a node has in earnest (tests/e2e/run has put us into namespaces of our own)."""
import contextlib
import json
import os
import pathlib
import shutil
import signal
import subprocess
import time

import cgroups
from tools import say

NODE = "n1"
NODE_IP = "10.88.0.1"  # the bridge's, where pods find the node
SERVICE_IP = "10.96.0.1"  # the first of the services': the API server itself, so that no kube-proxy is needed
TOKENS = {"admin": ("e2e-admin", "admin", "system:masters"),
          "kubelet": ("e2e-kubelet", f"system:node:{NODE}", "system:nodes"),
          "scheduler": ("e2e-scheduler", "system:kube-scheduler", ""),
          "manager": ("e2e-manager", "system:kube-controller-manager", "system:masters")}
MEMORY = pathlib.Path(os.environ["GPUSHARE_E2E"]) / "node"  # all that is written: a tmpfs that only we see
HOME = MEMORY / "cluster"  # keys, configuration, etcd's data
PATIENCE = 120  # seconds; only ever reached when something hangs


def run(*command, check=True, timeout=PATIENCE, **more):
    """Runs a command to its end; one that fails says what it printed."""
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, timeout=timeout,
                          **{"stdin": subprocess.DEVNULL, **({} if "input" not in more else {"stdin": None}), **more})
    if check and done.returncode:
        raise AssertionError(f"{' '.join(map(str, command))} failed with {done.returncode}:\n{done.stdout[-4000:]}{done.stderr[-4000:]}")
    return done


def wait_for(what, probe, patience=PATIENCE):
    """The first true answer of `probe`, and says what it waits for once that takes a while."""
    began = time.monotonic()
    told = began + 3
    while True:
        answer = probe()
        if answer:
            return answer
        now = time.monotonic()
        if now - began > patience:
            raise AssertionError(f"waited {patience} s in vain for {what}")
        if now > told:
            say(f"waiting for {what} ({now - began:.0f} s)")
            told = now + 10
        time.sleep(0.05)


def make_root():
    """Nothing that is written from here on is seen outside, nor outlives us: /etc and /var are overlaid, /run is new."""
    run("mount", "--make-rprivate", "/")
    MEMORY.mkdir()
    run("mount", "-t", "tmpfs", "-o", "size=75%,mode=755", "tmpfs", MEMORY)
    for name in ("etc", "var"):
        upper, work = MEMORY / f"{name}.upper", MEMORY / f"{name}.work"
        upper.mkdir()
        work.mkdir()
        run("mount", "-t", "overlay", "overlay", "-o", f"lowerdir=/{name},upperdir={upper},workdir={work}", f"/{name}")
    run("mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", "/run")
    # containerd's own overlays cannot lie on another, nor may the kubelet find what this machine's has left.
    for path in ("/var/lib/containerd", "/var/lib/kubelet", "/var/lib/cni", "/var/lib/gpushare", "/var/log/pods", "/var/log/containers",
                 "/etc/cni", "/etc/cdi"):
        own = MEMORY / path.strip("/").replace("/", "-")
        own.mkdir()
        os.makedirs(path, exist_ok=True)
        run("mount", "--bind", own, path)
    if not os.path.islink("/var/run"):
        run("mount", "--bind", "/run", "/var/run")
    run("mount", "--make-rshared", "/")
    HOME.mkdir()
    run("hostname", NODE)
    pathlib.Path("/etc/hosts").write_text(f"127.0.0.1 localhost {NODE}\n")


def make_network():
    run("ip", "link", "set", "lo", "up")
    run("ip", "address", "add", f"{SERVICE_IP}/32", "dev", "lo")
    # With an address of its own: else it takes that of a port, and pods lose it for seconds whenever one comes or goes.
    run("ip", "link", "add", "cni0", "address", "02:00:0a:58:00:01", "type", "bridge")
    run("ip", "address", "add", f"{NODE_IP}/16", "dev", "cni0")
    run("ip", "link", "set", "cni0", "up")
    run("ip", "route", "add", "default", "via", NODE_IP)
    pathlib.Path("/etc/cni/net.d").mkdir()
    pathlib.Path("/etc/cni/net.d/10-bridge.conflist").write_text(json.dumps({
        "cniVersion": "1.0.0", "name": "bridge", "plugins": [{
            "type": "bridge", "bridge": "cni0", "isGateway": True, "isDefaultGateway": True,
            "ipam": {"type": "host-local", "ranges": [[{"subnet": "10.88.0.0/16", "rangeStart": "10.88.1.1"}]]}}]}))


CONTAINERD = """version = 3
root = "/var/lib/containerd"
state = "/run/containerd"
[grpc]
address = "/run/containerd/containerd.sock"
[plugins."io.containerd.cri.v1.images"]
snapshotter = "overlayfs"
[plugins."io.containerd.cri.v1.images".pinned_images]
sandbox = "localhost/e2e-pause:1"
[plugins."io.containerd.cri.v1.runtime"]
enable_cdi = true
cdi_spec_dirs = ["/etc/cdi", "/var/run/cdi"]
restrict_oom_score_adj = true
[plugins."io.containerd.cri.v1.runtime".cni]
bin_dirs = ["/usr/lib/cni"]
conf_dir = "/etc/cni/net.d"
[plugins."io.containerd.cri.v1.runtime".containerd]
default_runtime_name = "runc"
[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"
[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc.options]
SystemdCgroup = false
"""


class Cluster:
    def __init__(self, logs):
        self.logs = pathlib.Path(logs)
        self.processes = {}
        self.admin = HOME / "admin.kubeconfig"

    # --- files ---

    def write_files(self):
        (HOME / "tokens.csv").write_text("".join(f'{token},{user},{user}{"," + chr(34) + group + chr(34) if group else ""}\n'
                                                 for token, user, group in TOKENS.values()))
        run("openssl", "genrsa", "-out", HOME / "service-accounts.key", "2048")
        for name, (token, user, _) in TOKENS.items():
            (HOME / f"{name}.kubeconfig").write_text(json.dumps({
                "apiVersion": "v1", "kind": "Config", "current-context": "e2e",
                "clusters": [{"name": "e2e", "cluster": {"server": f"https://{SERVICE_IP}:443", "insecure-skip-tls-verify": True}}],
                "users": [{"name": user, "user": {"token": token}}],
                "contexts": [{"name": "e2e", "context": {"cluster": "e2e", "user": user}}]}))
        (HOME / "containerd.toml").write_text(CONTAINERD)
        (HOME / "kubelet.json").write_text(json.dumps({
            "apiVersion": "kubelet.config.k8s.io/v1beta1", "kind": "KubeletConfiguration", "cgroupDriver": "cgroupfs",
            "failCgroupV1": False, "failSwapOn": False, "cgroupsPerQOS": False, "enforceNodeAllocatable": [],
            "evictionHard": {"memory.available": "100Mi", "nodefs.available": "1%", "imagefs.available": "1%"},
            "containerRuntimeEndpoint": "unix:///run/containerd/containerd.sock", "address": NODE_IP, "maxPods": 200,
            "registerNode": True, "makeIPTablesUtilChains": False, "authentication": {"anonymous": {"enabled": True}, "webhook": {"enabled": False}},
            "authorization": {"mode": "AlwaysAllow"}, "serverTLSBootstrap": False, "imageGCHighThresholdPercent": 100,
            "nodeStatusUpdateFrequency": "2s", "shutdownGracePeriod": "0s",
            # The files of an edited ConfigMap follow within this time; a kubelet's default is a minute.
            "syncFrequency": "5s"}))

    # --- processes ---

    def start_process(self, name, *command):
        with open(self.logs / f"{name}.log", "ab") as log:
            self.processes[name] = subprocess.Popen([str(word) for word in command], stdout=log, stderr=log, stdin=subprocess.DEVNULL,
                                                    start_new_session=True)

    def start_etcd(self):
        self.start_process("etcd", "etcd", "--data-dir", HOME / "etcd", "--unsafe-no-fsync=true", "--listen-client-urls", "http://127.0.0.1:2379",
                           "--advertise-client-urls", "http://127.0.0.1:2379", "--listen-peer-urls", "http://127.0.0.1:2380")

    def start_apiserver(self):
        self.start_process(
            "kube-apiserver", "kube-apiserver", "--etcd-servers=http://127.0.0.1:2379", f"--advertise-address={NODE_IP}", "--secure-port=443",
            f"--cert-dir={HOME}/apiserver", f"--token-auth-file={HOME}/tokens.csv", "--service-cluster-ip-range=10.96.0.0/24",
            "--service-account-issuer=https://kubernetes.default.svc", f"--service-account-key-file={HOME}/service-accounts.key",
            f"--service-account-signing-key-file={HOME}/service-accounts.key", "--authorization-mode=Node,RBAC",
            "--enable-admission-plugins=NodeRestriction", "--kubelet-preferred-address-types=InternalIP", "--allow-privileged=true",
            "--endpoint-reconciler-type=none")

    def start_controllers(self):
        self.start_process(
            "kube-controller-manager", "kube-controller-manager", f"--kubeconfig={HOME}/manager.kubeconfig",
            f"--service-account-private-key-file={HOME}/service-accounts.key", f"--root-ca-file={HOME}/apiserver/apiserver.crt",
            f"--cert-dir={HOME}/manager", "--use-service-account-credentials=true", "--leader-elect=false",
            "--node-monitor-grace-period=600s")
        self.start_process("kube-scheduler", "kube-scheduler", f"--kubeconfig={HOME}/scheduler.kubeconfig", "--leader-elect=false",
                           f"--cert-dir={HOME}/scheduler")

    def start_containerd(self):
        self.start_process("containerd", "containerd", "--config", HOME / "containerd.toml")
        wait_for("containerd's socket", lambda: run("ctr", "--address", "/run/containerd/containerd.sock", "version", check=False).returncode == 0)

    def start_kubelet(self):
        self.start_process("kubelet", "kubelet", f"--config={HOME}/kubelet.json", f"--kubeconfig={HOME}/kubelet.kubeconfig",
                           f"--hostname-override={NODE}", f"--node-ip={NODE_IP}", "--cert-dir=/var/lib/kubelet/pki", "--v=2")

    def stop_process(self, name, how=signal.SIGTERM):
        process = self.processes.pop(name)
        process.send_signal(how)
        process.wait(PATIENCE)

    # --- the whole ---

    def start(self):
        say("starting etcd, API server, scheduler, controller manager, containerd and kubelet")
        self.write_files()
        self.start_all()

    def start_all(self):
        self.start_etcd()
        self.start_apiserver()
        wait_for("the API server", lambda: self.alive("kube-apiserver") and self.kubectl("get", "--raw=/readyz", check=False).returncode == 0)
        self.start_controllers()
        self.start_containerd()
        self.start_kubelet()

    def wait_ready(self):
        def ready():
            self.alive("kubelet")
            done = self.kubectl("get", "node", NODE, "-o", "json", check=False)
            if done.returncode:
                return False
            conditions = {each["type"]: each["status"] for each in json.loads(done.stdout)["status"]["conditions"]}
            return conditions.get("Ready") == "True"
        wait_for("the node to be Ready", ready)
        wait_for("the default service account", lambda: self.kubectl("get", "serviceaccount", "default", check=False).returncode == 0)

    def alive(self, name):
        status = self.processes[name].poll()
        if status is not None:
            raise AssertionError(f"{name} ended with status {status}:\n{self.log_tail(name)}")
        return True

    def kubectl(self, *arguments, **more):
        return run("kubectl", f"--kubeconfig={self.admin}", "--request-timeout=60s", *arguments, **more)

    def get(self, *arguments):
        return json.loads(self.kubectl("get", *arguments, "-o", "json").stdout)

    def apply(self, *objects, how="apply"):
        self.kubectl(how, "-f", "-", input=json.dumps({"apiVersion": "v1", "kind": "List", "items": objects}))

    def import_image(self, path):
        run("ctr", "--address", "/run/containerd/containerd.sock", "-n", "k8s.io", "images", "import", path)

    def tag_image(self, name, another):
        run("ctr", "--address", "/run/containerd/containerd.sock", "-n", "k8s.io", "images", "tag", "--force", name, another)

    def node(self):
        return self.get("node", NODE)

    def restart_kubelet(self):
        self.stop_process("kubelet")
        self.start_kubelet()

    def reboot(self):
        """All processes of the node are killed at once, and what a reboot forgets is forgotten."""
        say("rebooting the node: killing every process, and clearing /run")
        own = os.getpid()
        for _ in range(20):
            others = [int(entry) for entry in os.listdir("/proc") if entry.isdigit() and int(entry) not in (1, own)]
            for pid in others:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            for process in self.processes.values():
                process.wait(PATIENCE)
            with contextlib.suppress(ChildProcessError):
                while os.waitpid(-1, os.WNOHANG)[0]:
                    pass
            if len(others) <= 0:
                break
            time.sleep(0.1)
        self.processes.clear()
        for mount in self.mounts_below("/run", "/var/lib/kubelet/"):
            run("umount", "--lazy", mount, check=False)
        cgroups.remove()
        for entry in pathlib.Path("/run").iterdir():
            shutil.rmtree(entry) if entry.is_dir() and not entry.is_symlink() else entry.unlink()
        self.start_all()

    @staticmethod
    def mounts_below(*folders):
        lines = pathlib.Path("/proc/self/mountinfo").read_text().splitlines()
        paths = [line.split()[4] for line in lines]
        return [path for path in reversed(paths) if any(path.startswith(folder.rstrip("/") + "/") for folder in folders)]

    # --- for the reader ---

    def log_tail(self, name, lines=40):
        path = self.logs / f"{name}.log"
        return "\n".join(path.read_text(errors="replace").splitlines()[-lines:]) if path.exists() else "(no log)"

    def memory_bytes(self, pid):
        """Resident memory of a process."""
        for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) * 1024
        return 0
