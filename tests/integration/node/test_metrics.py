"""What the daemon serves by HTTP: metrics that Prometheus' own tool accepts, and clients that do not behave."""
import http.client
import json
import os
import re
import resource
import socket
import subprocess

import grpc
import pytest

from kubelet import BUILD, WAIT
from mps_world import World
from node import GPUSHARE, Sim, healthy, wait_until

pytestmark = pytest.mark.skipif(not os.path.exists(GPUSHARE), reason="gpushare is not built")

FETCH = os.path.join(os.path.dirname(__file__), "..", "..", "tools", "fetch-clients")
PROMTOOL = os.path.join(BUILD, "clients", "prometheus-bookworm", "run")
SAMPLE = re.compile(r'([a-z_]+)(?:\{(.*)\})? (\S+)$')
LABEL = re.compile(r'([A-Za-z_]+)="((?:[^"\\]|\\.)*)"(?:,|$)')


@pytest.fixture
def sim(tmp_path):
    node = Sim(tmp_path / "sim", "2xA100-80GB")
    yield node
    node.stop()


class Page:
    """The daemon's HTTP address, at a port that it chooses and tells in its log."""

    def __init__(self, node, host="127.0.0.1"):
        self.node, self.host, self.chosen = node, host, None
        node.arguments += ["--metrics-address", ("[%s]:0" if ":" in host else "%s:0") % host]

    @property
    def port(self):
        if not self.chosen:
            told = wait_until(lambda: re.search(r"serving metrics address=\S+:(\d+)\n", self.node.read_log()), "the address")
            self.chosen = int(told.group(1))
        return self.chosen

    def ask(self, path="/metrics", method="GET", **kwargs):
        connection = http.client.HTTPConnection(self.host, self.port, timeout=WAIT)
        try:
            connection.request(method, path, **kwargs)
            reply = connection.getresponse()
            return reply.status, reply.read().decode(), dict(reply.getheaders())
        finally:
            connection.close()

    def connect(self):
        return socket.create_connection((self.host, self.port), timeout=WAIT)

    def metrics(self):
        """Values by name and labels."""
        values = {}
        for line in self.ask()[1].splitlines():
            if not line.startswith("#"):
                name, labels, value = SAMPLE.match(line).groups()
                values.setdefault(name, []).append((dict(LABEL.findall(labels or "")), float(value)))
        return values


@pytest.fixture
def page(node):
    return Page(node)


@pytest.fixture
def serving(node, kubelet, page):
    kubelet.start()
    node.start()
    kubelet.wait_registered().wait(lambda devices: len(healthy(devices)) == 8)
    return node


def test_what_it_tells(serving, sim, page, kubelet):
    status, text, headers = page.ask()
    assert status == 200 and headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    wait_until(lambda: page.metrics()["gpushare_resource_registered"] == [({"resource": "nvidia.com/gpu"}, 1)], "the kubelet's yes")
    values = page.metrics()
    gpus = serving.status()["gpus"]
    assert sorted(labels["UUID"] for labels, _ in values["gpushare_device_healthy"]) == sorted(gpu["uuid"] for gpu in gpus)
    assert {value for _, value in values["gpushare_device_healthy"]} == {1}
    labels, value = values["gpushare_shares"][0]
    assert value == 4 and labels == {"gpu": "0", "UUID": gpus[0]["uuid"], "device": "nvidia0", "modelName": gpus[0]["name"],
                                     "resource": "nvidia.com/gpu", "strategy": "time-slicing"}
    assert values["gpushare_config_in_force"] == [({}, 1)] and values["gpushare_driver_up"] == [({}, 1)]
    with open("/proc/%d/status" % serving.process.pid, encoding="ascii") as file:
        resident = next(int(line.split()[1]) << 10 for line in file if line.startswith("VmRSS:"))
    assert abs(values["process_resident_memory_bytes"][0][1] - resident) < 4 << 20
    assert abs(values["process_open_fds"][0][1] - len(os.listdir("/proc/%d/fd" % serving.process.pid))) < 4
    sim.inject("--gpu", "1", "xid=79")
    wait_until(lambda: [value for _, value in page.metrics()["gpushare_device_healthy"]] == [1, 0], "the sick GPU to be told")
    assert page.metrics()["gpushare_gpus_missing"] == [({}, 0)]
    memory = os.path.join(serving.state, "gpus.json")
    with open(memory, encoding="utf-8") as file:
        document = json.load(file)
    serving.stop()
    document["gpus"].append({"uuid": "GPU-gone", "name": "Tesla T4", "pciBusId": "00000000:FE:00.0", "index": 5, "minor": 5})
    with open(memory, "w", encoding="utf-8") as file:
        json.dump(document, file)
    os.remove(serving.log)
    page.chosen = None  # another daemon has another port
    serving.start()
    wait_until(lambda: page.metrics().get("gpushare_gpus_missing") == [({}, 2)], "the lost one and another one to be missed")
    gone = {"gpu": "5", "UUID": "GPU-gone", "device": "nvidia5", "modelName": "Tesla T4"}
    assert (gone, 0) in page.metrics()["gpushare_device_healthy"]
    serving.write_config("version: v9")
    wait_until(lambda: page.metrics()["gpushare_config_in_force"] == [({}, 0)], "the bad config to be told")


def test_allocations_are_counted(serving, page, kubelet):
    plugin = kubelet.plugins["nvidia.com/gpu"]
    ids = sorted(plugin.wait(lambda devices: len(devices) == 8))
    plugin.allocate(ids[:2])
    plugin.allocate(ids[2:3], ids[3:4])
    for refused in (["no-such-device"], ids + ids[:1]):
        with pytest.raises(grpc.RpcError):
            plugin.allocate(refused)
    values, resource = page.metrics(), {"resource": "nvidia.com/gpu"}
    assert values["gpushare_allocations_total"] == [(resource, 3)]
    assert values["gpushare_allocated_shares_total"] == [(resource, 4)]
    assert values["gpushare_allocation_errors_total"] == [({**resource, "reason": "request"}, 2), ({**resource, "reason": "node"}, 0)]


@pytest.mark.skipif(os.geteuid() != 0, reason="NVML lets only root change the compute mode")
def test_mps_daemons_are_told(tmp_path):
    world = World(tmp_path)
    page = Page(world.node)
    try:
        world.start().ready()
        values, daemons = page.metrics(), world.node.status()["mps"]
        assert values["gpushare_mps_daemon_state"] == [({"id": d["id"], "UUID": d["device"], "state": "Ready"}, 1) for d in daemons]
        assert [value for _, value in values["gpushare_mps_daemon_starts_total"]] == [1, 1]
        assert [value for _, value in values["gpushare_mps_daemon_faults_total"]] == [0, 0]
        lint(page)
        os.kill(daemons[0]["pid"], 9)
        wait_until(lambda: sorted(value for _, value in page.metrics()["gpushare_mps_daemon_starts_total"]) == [1, 2], "the start to count")
    finally:
        world.stop()


def lint(page):
    subprocess.run([FETCH], stdin=subprocess.DEVNULL, check=False)
    if not os.path.exists(PROMTOOL):
        return False
    done = subprocess.run([PROMTOOL, "check", "metrics"], input=page.ask()[1], capture_output=True, text=True, timeout=WAIT)
    # Labels are dcgm-exporter's, whose modelName is not what its advice has in mind.
    assert not [line for line in (done.stdout + done.stderr).splitlines() if "camelCase" not in line]
    return True


def test_promtool_likes_it(serving, page):
    if not lint(page):
        pytest.skip("Debian's promtool could not be fetched")


def test_mig_devices_have_the_labels_of_their_instance(node, tmp_path, kubelet, page):
    mig = Sim(tmp_path / "mig", "A100-80GB", "--mig", "3g.40gb")
    node.sim = mig
    node.write_config("version: v1\nflags: {migStrategy: mixed}\n")
    node.start()
    node.wait_listening()
    try:
        wait_until(lambda: len(page.metrics().get("gpushare_device_healthy", [])) == 2, "the GPU and its instance")
        labels = page.metrics()["gpushare_shares"][0][0]
        assert (labels["GPU_I_PROFILE"], labels["resource"]) == ("3g.40gb", "nvidia.com/mig-3g.40gb") and labels["GPU_I_ID"].isdigit()
    finally:
        node.stop()
        mig.stop()


def test_shares_that_pods_hold(node, kubelet, kubelet_pods, page):
    kubelet_pods.start()
    kubelet.start()
    node.start()
    ids = healthy(kubelet.wait_registered().wait(lambda devices: len(healthy(devices)) == 8))
    kubelet_pods.pods = [("team-a", "train-0", "main", "nvidia.com/gpu", ids[:3])]
    wait_until(lambda: [value for _, value in page.metrics().get("gpushare_shares_held", [])] == [3, 0], "the kubelet's word")


def test_ready_once_it_is_registered(node, kubelet, page):
    node.start()
    node.wait_listening()
    wait_until(lambda: page.ask("/readyz")[:2] == (503, "nvidia.com/gpu is not registered with the kubelet\n"), "the reason")
    assert page.ask("/healthz")[:2] == (200, "ok\n")
    kubelet.start()
    wait_until(lambda: page.ask("/readyz")[:2] == (200, "ok\n"), "the daemon to be ready")


def test_what_else_is_asked(serving, page):
    assert page.ask("/")[0] == page.ask("/metrics/")[0] == page.ask("/../etc/passwd")[0] == 404
    assert page.ask("/metrics?name=x")[0] == 200
    for method in ("POST", "PUT", "DELETE", "OPTIONS", "PATCH"):
        status, _, headers = page.ask(method=method, body=b"x" * 5000)
        assert (status, headers["Allow"]) == (405, "GET, HEAD")
    status, body, headers = page.ask(method="HEAD")
    assert (status, body) == (200, "") and int(headers["Content-Length"]) > 1000
    assert page.ask(body=b"a body that nobody wants")[0] == 200


def test_clients_that_do_not_behave(serving, page):
    """Garbage, headers without end, a line without end, many that say nothing: others are answered, and nothing grows."""
    files = len(os.listdir("/proc/%d/fd" % serving.process.pid))
    for bad in (b"\0" * 4096, b"GET /metrics HTTP/9.9\r\n\r\n", b"\x16\x03\x01\x02\x00\x01", b"GET " + b"/" * (1 << 20),
                b"GET /metrics HTTP/1.1\r\n" + b"a: b\r\n" * 100000, b"GET /metrics HTTP/1.1\r\nContent-Length: -1\r\n\r\n"):
        with page.connect() as client:
            try:
                client.sendall(bad)
                client.shutdown(socket.SHUT_WR)
                while client.recv(65536):
                    pass
            except OSError:  # it was cut off
                pass
        assert page.ask("/healthz")[0] == 200
    # Those of one address beyond a few are closed at once; so one client alone can't keep all others out.
    silent = [page.connect() for _ in range(200)]
    for client in silent:
        client.settimeout(0.01)

    def is_open(client):
        try:
            return client.recv(1) != b""
        except TimeoutError:
            return True
        except OSError:
            return False

    wait_until(lambda: sum(map(is_open, silent)) == 16, "only so many of one address to be kept")
    silent[-1].close()
    with socket.create_connection((page.host, page.port), timeout=WAIT, source_address=("127.0.0.2", 0)) as other:
        other.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        assert other.recv(65536).startswith(b"HTTP/1.1 200 ")
    assert serving.status()["gpus"]  # its own socket is another one
    for client in silent:
        client.close()

    def answers():
        try:
            return page.ask("/healthz")[0] == 200
        except OSError:  # those that were closed just now still count: this one was one too many
            return False

    wait_until(answers, "an answer again")
    wait_until(lambda: len(os.listdir("/proc/%d/fd" % serving.process.pid)) <= files + 2, "their connections to be closed")
    assert serving.stop() == 0


@pytest.mark.parametrize("clients", range(2, 8))
def test_no_descriptor_was_free_for_a_moment(serving, page, clients):
    """While there was a connection: it ends, and who comes when there are descriptors again is answered."""
    assert page.ask("/healthz")[0] == 200
    pid = serving.process.pid
    limits = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    open_ones = {int(number) for number in os.listdir("/proc/%d/fd" % pid)}
    free = next(number for number in range(3, 4096) if number not in open_ones)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (free + 1, limits[1]))
    begun = [page.connect() for _ in range(clients)]
    for client in begun:
        client.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
    assert begun[0].recv(65536).startswith(b"HTTP/1.1 200 ")
    for client in begun:
        client.close()
    resource.prlimit(pid, resource.RLIMIT_NOFILE, limits)
    assert page.ask("/healthz")[0] == 200


@pytest.mark.parametrize("begin, drip", [(b"GET /metrics HTTP/1.1\r\nHost: ", b"x"),
                                         (b"GET /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n", b"x"), (b"", b"\r\n")])
def test_a_byte_now_and_then_holds_no_connection(serving, page, begin, drip):
    """A request counts as a whole, not each silence in it: else a few addresses could hold all connections for ever."""
    with page.connect() as client:
        client.settimeout(1)
        client.sendall(begin)

        def is_cut_off():
            try:
                client.sendall(drip)
                return client.recv(65536) == b""
            except TimeoutError:
                return False
            except OSError:
                return True

        wait_until(is_cut_off, "the connection to be cut off")
    assert page.ask("/healthz")[0] == 200


@pytest.mark.parametrize("address, words", [
    ("nonsense", "is not an address to listen at"), (":", "is not an address"), (":99999", "is not an address"), ("example.com:9400", "is not an address"),
    ("::1:9400", "is not an address"), ("[::1:9400", "is not an address"), ("[]x:9400", "is not an address"), (":94a", "is not an address"),
    ("203.0.113.7:9400", "cannot listen at 203.0.113.7:9400")])
def test_addresses_that_are_none(node, address, words):
    node.arguments += ["--metrics-address", address]
    done = subprocess.run(node.command(), capture_output=True, text=True, timeout=WAIT)
    assert done.returncode == 1 and words in done.stderr.splitlines()[-1]


def test_an_address_that_is_taken(node):
    with socket.create_server(("127.0.0.1", 0)) as other:
        address = "127.0.0.1:%d" % other.getsockname()[1]
        node.arguments += ["--metrics-address", address]
        done = subprocess.run(node.command(), capture_output=True, text=True, timeout=WAIT)
    assert done.returncode == 1 and "cannot listen at %s: Address already in use" % address in done.stderr


def test_ipv6(node):
    if not os.path.exists("/proc/net/if_inet6"):
        pytest.skip("this machine has no IPv6")
    page = Page(node, "::1")
    node.start()
    node.wait_listening()
    assert page.ask("/healthz")[0] == 200


def test_without_an_address_nothing_is_opened(node):
    node.start()
    node.wait_listening()
    with open("/proc/%d/maps" % node.process.pid, encoding="utf-8") as maps:
        assert "microhttpd" not in maps.read()
