"""`gpushare status -o json` is read by programs, so it stays byte for byte what it is: on nodes of each kind, what is printed is
what a file in status/ holds. What no two runs have in common (times, process ids, what the sensors read) is written as a placeholder."""
import json
import os
import pathlib
import re
import subprocess
import tempfile

import grpc
import pytest

from cuda_client import SUCCESS, Client
from kubelet import BUILD
from mps_world import CONFIG as MPS_CONFIG
from mps_world import World
from node import CONFIG_4, GPUSHARE, Node, Sim, healthy, wait_until
from pod_resources import PodResources

pytestmark = [pytest.mark.skipif(not os.path.exists(GPUSHARE), reason="gpushare is not built"),
              pytest.mark.skipif(os.geteuid() != 0, reason="NVML lets only root change the compute mode and MIG layouts")]
EXPECTED = pathlib.Path(__file__).parent / "status"
PLAIN = "version: v1\n"
DIVIDED = PLAIN + "sharing: {timeSlicing: {resources: [{name: nvidia.com/gpu, rename: nvidia.com/part, devices: [0], replicas: 2}]}}\n"
MIXED = "version: v1\nflags: {migStrategy: mixed}\nsharing: {timeSlicing: {resources: [{name: nvidia.com/mig-1g.10gb, replicas: 2}]}}\n"
TIME = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ"


def plain(text, pids, directories):
    """The document with placeholders; processes are called by their part in the test, since their order is by process id."""
    for name, pid in pids.items():
        text = re.sub(r'"pid": %d\b' % pid, '"pid": <%s>' % name, text)
    for name, path in directories.items():
        text = text.replace(str(path), "<%s>" % name)
    text = re.sub(r'"version": "[^"]*"', '"version": <version>', text)
    text = re.sub(TIME, "<time>", text)
    text = re.sub(r'"(utilizationPercent|temperatureCelsius|powerWatts)": [\d.]+', r'"\1": <number>', text)
    text = re.sub(r'"pid": [1-9]\d*', '"pid": <pid>', text)
    return re.sub(r'("servers": \[)[\s\d,]+(\])', r"\1<pids>\2", text)


def printed(node, *command):
    return subprocess.run([GPUSHARE, *command, "-o", "json", "--socket", node.socket], capture_output=True, text=True, check=True, timeout=60).stdout


def compare(documents):
    """Documents by the name of the file that holds what they should be."""
    other = {}
    for name, text in documents.items():
        expected = EXPECTED / (name + ".txt")
        if not expected.exists() or text != expected.read_text(encoding="utf-8"):
            kept = pathlib.Path(BUILD, "reports", "status", name + ".txt")
            kept.parent.mkdir(parents=True, exist_ok=True)
            kept.write_text(text, encoding="utf-8")
            other[str(expected)] = str(kept)
    assert not other, "these are not as they should be (by file: what was printed)"


def in_order(pids):
    """The document lists processes by id, which begin anew at some time."""
    if pids != sorted(pids):
        pytest.skip("the ids of processes began anew meanwhile")


def processes(status):
    return [process for gpu in status["gpus"] for process in gpu["processes"] + [h for share in gpu["shares"] for h in share["holders"]]]


class Place:
    """A node of a fixed seed, below a short name: a socket's path has at most 107 bytes."""

    def __init__(self, spec, config, *sim_options):
        self.directory = tempfile.TemporaryDirectory(prefix="status-")
        path = pathlib.Path(self.directory.name)
        self.sim = Sim(path / "sim", spec, "--seed", "7", *sim_options)
        root = str(path / "sim" / "root")
        self.node = Node(path, self.sim, config=config, arguments=["--kubelet-socket=", "--driver-root", root, "--dev-root", root])
        self.pods = PodResources(self.node.kubelet_dir)
        self.clients = {}

    def start(self, pods=()):
        self.node.start().wait_listening()
        status = wait_until(lambda: (lambda s: s["gpus"] and all(gpu["shares"] or gpu["migEnabled"] for gpu in s["gpus"]) and s)(self.node.status()), "the GPUs")
        shares = [share["id"] for gpu in status["gpus"] for share in gpu["shares"]]
        self.pods.pods = [(namespace, pod, container, "nvidia.com/gpu", [shares[i] for i in which]) for namespace, pod, container, which in pods]
        if pods:
            self.pods.start()
        return shares

    def client(self, name, device, shares, mebibytes):
        """A process that has memory on a device, and names shares in its environment."""
        env = {**os.environ, "CUDA_VISIBLE_DEVICES": device, "GPUSHARE_SHARES": ",".join(shares)}
        self.clients[name] = Client(env, self.sim.command).ready()
        assert self.clients[name]("alloc(%d)" % mebibytes) == SUCCESS
        in_order([client.pid for client in self.clients.values()])

    def check(self, name, seen):
        wait_until(lambda: seen(self.node.status()), "what is to be shown")
        pids = {part: client.pid for part, client in self.clients.items()}
        compare({name: plain(printed(self.node, "status"), pids, {"node": self.directory.name})})

    def stop(self):
        for client in self.clients.values():
            client.stop()
        self.pods.stop()
        if self.node.process:
            self.node.stop()
        self.sim.stop()
        self.directory.cleanup()


@pytest.fixture
def make():
    places = []

    def begin(*arguments):
        places.append(Place(*arguments))
        return places[-1]

    yield begin
    for place in places:
        place.stop()


def test_exclusive(make):
    place = make("2xA100-80GB", PLAIN)
    shares = place.start()
    place.client("held", shares[0], [shares[0]], 500)
    place.check("exclusive", lambda status: len(processes(status)) == 1)


def test_time_slicing(make):
    """Pods, a process of two shares, one that names a share of another GPU, and one that names none; shares that begin alike."""
    place = make("2xA100-80GB", CONFIG_4.replace("replicas: 4", "replicas: 11"))
    shares = place.start([("team-a", "train-0", "main", [0, 1]), ("team-b", "notebook", "jupyter", [10])])
    gpu, other = shares[0].split("::")[0], shares[11].split("::")[0]
    place.client("of two", gpu, [shares[10], shares[0], shares[10]], 300)
    place.client("of another", other, ["GPU-unknown::0", shares[0]], 100)
    place.client("stranger", gpu, [], 200)
    place.check("time-slicing", lambda status: len(processes(status)) == 4 and status["gpus"][0]["shares"][0]["pods"])


def test_mig(make):
    place = make("1xA100-80GB", MIXED, "--mig", "3g.40gb,1g.10gb,1g.10gb")
    shares = wait_until(lambda: (lambda shares: len(shares) == 5 and shares)(place.start() if not place.node.process else
                        [share["id"] for gpu in place.node.status()["gpus"] for share in gpu["shares"]]), "the shares of all instances")
    replica = next(share for share in shares if share.endswith("::1"))
    whole = next(share for share in shares if "::" not in share)
    place.client("held", replica.split("::")[0], [replica], 50)
    place.client("stranger", whole, [], 70)
    place.client("elsewhere", whole, [replica], 30)
    place.check("mig", lambda status: len(processes(status)) == 3)


def test_a_missing_gpu(make):
    place = make("3xA100-80GB", CONFIG_4)
    place.start([("team-a", "train-0", "main", [0])])
    gpus = [gpu["uuid"] for gpu in place.node.status()["gpus"]]
    place.sim.inject("--gpu", gpus[1], "unplug")
    place.check("missing", lambda status: len(status["gpus"]) == 2 and status["missingGpus"] and status["gpus"][0]["shares"][0]["pods"])


def test_what_is_wrong(make):
    """A GPU that cannot be read, one that is lost, one that is withdrawn, and one that is divided under another name."""
    place = make("4xA100-80GB", DIVIDED)
    place.sim.inject("--gpu", "3", "nvml:nvmlDeviceGetName=4")
    place.node.start().wait_listening()
    gpus = wait_until(lambda: (lambda gpus: len(gpus) == 4 and gpus)(place.node.status()["gpus"]), "the GPUs")
    place.client("held", gpus[0]["uuid"], [gpus[0]["uuid"] + "::1"], 100)
    place.client("on a whole one", gpus[1]["uuid"], [gpus[1]["uuid"]], 100)
    place.sim.inject("--gpu", gpus[1]["uuid"], "xid=79")
    channel = grpc.insecure_channel("unix:" + place.node.socket)
    request = json.dumps({"devices": [gpus[2]["uuid"]], "reason": "a test"}).encode()
    withdrawal = channel.unary_stream("/gpushare.v1.Node/Withdraw")(request)  # for as long as it is kept
    next(withdrawal)
    place.check("wrong", lambda status: len(processes(status)) == 1 and len(status["problems"]) == 2 and
                status["resources"][1]["healthy"] == 0)
    channel.close()


@pytest.fixture
def mps(tmp_path):
    started = []

    def begin(**options):
        world = World(tmp_path, sim_options=("--seed", "7"), **options).start()
        started.extend((world, PodResources(world.node.kubelet_dir)))
        return started

    yield begin
    for one in reversed(started):
        one.stop()


def test_servers_of_shares(mps):
    """MPS with a server for each share: a client is counted for its share's alone, and one without a share for none."""
    world, _ = mps(spec="1xA100-80GB", config=MPS_CONFIG.replace("memoryLimit: 8Gi", "isolation: per-share").replace("replicas: 10", "replicas: 2"))
    shares = healthy(world.ready(2))
    clients = {"held": world.container(shares[1]).ready(), "stranger": world.container(shares[0], GPUSHARE_SHARES="").ready()}
    wait_until(lambda: (lambda s: len(processes(s)) == 4 and all(daemon["servers"] for daemon in s["mps"]))(world.node.status()), "clients and servers")
    pids = {name: client.pid for name, client in clients.items()}
    compare({name: plain(printed(world.node, "mps", command), pids, {"root": world.root})
             for name, command in (("mps-servers-status", "status"), ("mps-servers-clients", "clients"))})


def test_mps(mps):
    world, pods = mps(config=MPS_CONFIG.replace("replicas: 10", "replicas: 2"))
    shares = healthy(world.ready(4))
    first, second, third = shares[0], shares[1], shares[2]
    clients = {"held": world.container(first).ready(), "held too": world.container(third).ready(),
               "stranger": world.container(second, GPUSHARE_SHARES="").ready()}
    for client in clients.values():
        assert client("alloc(100)") == SUCCESS
    pods.pods = [("team-a", "train-0", "main", "nvidia.com/gpu", [first])]
    pods.start()
    wait_until(lambda: (lambda s: any(share["pods"] for gpu in s["gpus"] for share in gpu["shares"]) and len(processes(s)) == 5 and
                        all(daemon["servers"] for daemon in s["mps"]))(world.node.status()), "clients, servers and the pod")
    pids = {name: client.pid for name, client in clients.items()}
    pids.update({"server %d" % number: daemon["servers"][0] for number, daemon in enumerate(world.node.status()["mps"])})
    in_order([pids[name] for name in ("held", "server 1", "held too", "server 0")])
    in_order([pids["server 1"], pids["stranger"]])
    directories = {"root": world.root, "node": world.node.directory}
    commands = {"mps": ["status"], "mps-clients": ["mps", "clients"], "mps-status": ["mps", "status"]}
    compare({name: plain(printed(world.node, *command), pids, directories) for name, command in commands.items()})
