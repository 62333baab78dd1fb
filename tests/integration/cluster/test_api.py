"""The API server: what the daemon hears from it and tells it, and one that lies, hangs, cuts off and stays away."""
import json
import os
import queue
import re
import socket
import subprocess
import threading

import pytest

from apiserver import NODE, Authority
from kubelet import BUILD, WAIT
from node import GPUSHARE, wait_until

PEER = os.path.join(BUILD, "tests", "integration", "cluster_peer")
LABEL = "nvidia.com/device-plugin.config"

pytestmark = pytest.mark.skipif(not os.path.exists(GPUSHARE), reason="gpushare is not built")


def sanitized():
    """Whether the build keeps freed memory for a while, to find uses of it."""
    with open(PEER, "rb") as file:
        return b"__asan_init" in file.read()


class Peer:
    """The cluster room on its own, in a process."""

    def __init__(self, api, *labels):
        self.process = subprocess.Popen([PEER, "127.0.0.1", str(api.port), api.credentials.directory, NODE, *labels], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.said = queue.Queue()
        self.log = []
        threading.Thread(target=self._read, daemon=True).start()
        threading.Thread(target=self._read_log, daemon=True).start()

    def _read(self):
        for line in self.process.stdout:
            self.said.put(line.rstrip("\n"))

    def _read_log(self):
        for line in self.process.stderr:
            self.log.append(line)

    def tell(self, line):
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def next(self):
        try:
            return self.said.get(timeout=WAIT)
        except queue.Empty:
            raise AssertionError("said nothing; log:\n" + "".join(self.log)) from None

    def state(self):
        self.tell("state")
        name, waiting, requests, *problem = self.next().split(" ", 4)[1:]
        return name, int(waiting), int(requests), problem[0] if problem else ""

    def wait_state(self, accept, what):
        def probe():
            state = self.state()
            return state if accept(*state) else None
        return wait_until(probe, what)

    def memory_kib(self):
        with open("/proc/%d/status" % self.process.pid, encoding="ascii") as file:
            return int(re.search(r"VmRSS:\s+(\d+)", file.read()).group(1))

    def stop(self):
        if self.process.stdin.closed:
            return
        self.process.stdin.close()
        code = self.process.wait(WAIT)
        assert code == 0, "".join(self.log)


@pytest.fixture
def start(api):
    peers = []

    def begin(*labels):
        peers.append(Peer(api, *labels))
        return peers[-1]
    yield begin
    for peer in peers:
        peer.stop()


# --- one that is right ---

def test_labels_of_the_node_are_heard(api, start):
    api.label(**{LABEL: "small"})
    peer = start(LABEL, "nvidia.com/mig.config")
    assert sorted([peer.next(), peer.next()]) == ["label nvidia.com/device-plugin.config small", "label nvidia.com/mig.config"]
    api.label(**{LABEL: "large"})
    assert peer.next() == "label nvidia.com/device-plugin.config large"
    api.label(**{"other": "x", "nvidia.com/mig.config": "all-1g.10gb"})
    assert peer.next() == "label nvidia.com/mig.config all-1g.10gb"
    api.label(**{LABEL: None})
    assert peer.next() == "label nvidia.com/device-plugin.config"
    assert len(api.requests) == 1


def test_each_manager_has_labels_of_its_own(api, start):
    peer = start()
    peer.tell("labels gpushare nvidia.com/gpu.count=2 nvidia.com/gpu.family=ampere")
    peer.tell("labels gpushare-mig nvidia.com/mig.config.state=success")
    wait_until(lambda: "nvidia.com/mig.config.state" in api.labels() and "nvidia.com/gpu.count" in api.labels(), "both")
    peer.tell("labels gpushare nvidia.com/gpu.count=4")
    wait_until(lambda: api.labels().get("nvidia.com/gpu.count") == "4", "the new set")
    assert api.labels() == {"kubernetes.io/hostname": NODE, "nvidia.com/gpu.count": "4", "nvidia.com/mig.config.state": "success"}


def test_the_same_again_costs_no_request(api, start):
    peer = start()
    for _ in range(50):
        peer.tell("labels gpushare a=1 b=2")
        peer.tell("condition GPUShareHealthy True Fine all is well")
    wait_until(lambda: api.condition("GPUShareHealthy") and "b" in api.labels(), "label and condition")
    quiet = api.wait_quiet()
    for _ in range(50):
        peer.tell("labels gpushare b=2 a=1")
        peer.tell("condition GPUShareHealthy True Fine all is well")
        peer.tell("event Twice the same")
    api.wait_event("Twice")
    assert api.wait_quiet() == quiet + 1
    assert len(api.watches()) == 1 and len(api.writes()) == 3, api.requests


def test_a_flood_of_events_is_cut(api, start):
    peer = start()
    for number in range(500):
        peer.tell("event Flood number %d" % number)
    api.wait_event("Flood", 10)
    api.wait_quiet()
    assert 10 <= len(api.events) <= 15  # a burst, then one in 20 s
    name, waiting, _, _ = peer.state()
    assert name == "Watching" and waiting <= 32
    event = api.events[0]
    assert event["regarding"] == {"apiVersion": "v1", "kind": "Node", "name": NODE, "uid": "uid-1"} or event["regarding"]["uid"] == NODE
    assert event["type"] == "Warning" and event["note"] == "number 0" and event["reportingController"] == "gpushare"


def test_texts_of_any_length_fit(api, start):
    peer = start()
    peer.tell("event Long " + "ä" * 3000)
    assert api.wait_event("Long")["note"] == "ä" * 512
    peer.tell("condition Long False R " + "x" * 9000)
    assert len(api.wait_condition("Long", "False", "R")["message"]) == 4096


def test_a_condition_keeps_its_time_while_its_status_stands(api, start):
    peer = start()
    peer.tell("condition C False One first")
    first = api.wait_condition("C", "False", "One")
    peer.tell("condition C False Two second")
    second = api.wait_condition("C", "False", "Two")
    assert first["lastTransitionTime"] == second["lastTransitionTime"]


def test_labels_that_someone_else_changes_are_set_again_and_a_fight_is_told(api, start):
    peer = start()
    peer.tell("labels gpushare mine=1")
    for _ in range(3):
        wait_until(lambda: api.labels().get("mine") == "1", "our label")
        api.label(mine="theirs")
    assert "mine" in api.wait_event("LabelsOverwritten")["note"]
    wait_until(lambda: api.labels().get("mine") == "1", "our label")
    api.label(mine="theirs")
    before = len(api.writes())
    api.wait_quiet()
    assert len(api.writes()) <= before + 1  # no faster than every ten minutes now


def test_a_node_that_is_made_anew_is_told_everything_again(api, start):
    peer = start()
    peer.tell("labels gpushare mine=1")
    peer.tell("condition C True Fine well")
    wait_until(lambda: api.labels().get("mine") == "1" and api.condition("C"), "the first node")
    api.change(lambda node: None)

    def replace(node):
        node["metadata"].update(uid="uid-2", labels={}, annotations={})
        node["status"]["conditions"] = []
    api.change(replace, "ADDED")
    wait_until(lambda: api.labels().get("mine") == "1" and api.condition("C"), "the second node")


def test_all_that_was_said_is_taken_back(api, start):
    peer = start()
    peer.tell("labels gpushare mine=1")
    peer.tell("labels gpushare-mig state=fine")
    peer.tell("condition GPUShareHealthy True Fine well")
    wait_until(lambda: "mine" in api.labels() and "state" in api.labels() and api.condition("GPUShareHealthy"), "all of it")
    peer.stop()
    clean = [PEER, "127.0.0.1", str(api.port), api.credentials.directory, NODE, "CLEAN"]
    done = subprocess.run(clean, capture_output=True, text=True, timeout=WAIT, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert api.labels() == {"kubernetes.io/hostname": NODE} and api.condition("GPUShareHealthy") is None
    api.stop()
    done = subprocess.run(clean, capture_output=True, text=True, timeout=WAIT, check=False)
    assert done.returncode == 1 and "gave no answer" in done.stderr


# --- one that comes and goes ---

def test_away_at_first_and_again(api, start):
    api.stop()
    peer = start(LABEL)
    peer.tell("labels gpushare mine=1")
    peer.tell("event Early before it was there")
    peer.wait_state(lambda name, *_: name == "Retrying", "Retrying")
    api.start()
    assert peer.next() == "label " + LABEL
    wait_until(lambda: api.labels().get("mine") == "1", "the label")
    api.wait_event("Early")
    api.stop()
    peer.wait_state(lambda name, *_: name == "Retrying", "Retrying")
    peer.tell("labels gpushare mine=2")
    peer.tell("labels gpushare mine=3")
    peer.tell("condition C True Fine well")
    api.label(**{LABEL: "while-away"})
    api.start()
    assert peer.next() == "label %s while-away" % LABEL
    wait_until(lambda: api.labels().get("mine") == "3" and api.condition("C"), "what was said meanwhile")
    assert not any('"mine":"2"' in body for _, _, body in api.requests)
    wait_until(lambda: peer.state()[3] == "", "no problem")


def test_a_watch_resumes_where_it_was_cut(api, start):
    peer = start(LABEL)
    assert peer.next() == "label " + LABEL
    api.label(**{LABEL: "one"})
    assert peer.next() == "label %s one" % LABEL
    api.cut_connections()
    api.label(**{LABEL: "two"})
    assert peer.next() == "label %s two" % LABEL
    wait_until(lambda: len(api.watches()) >= 2, "another watch")
    assert "resourceVersion=1001" in api.watches()[1][1]


@pytest.mark.parametrize("how", ["status", "event"])
def test_a_watch_whose_place_is_gone_begins_anew(api, start, how):
    peer = start(LABEL)
    assert peer.next() == "label " + LABEL
    api.label(**{LABEL: "one"})
    assert peer.next() == "label %s one" % LABEL
    if how == "status":
        api.forgotten = 10 ** 6
    else:
        def gone(request):
            if not request.is_watch or request.path.endswith("resourceVersion=0"):
                return False
            request.begin_watch()
            request.send_chunk(b'{"type":"ERROR","object":{"kind":"Status","code":410,"reason":"Expired","message":"too old"}}\n')
            request.end_watch()
            return True
        api.faults.append(gone)
    api.cut_connections()
    api.label(**{LABEL: "two"})
    assert peer.next() == "label %s two" % LABEL
    assert api.watches()[-1][1].endswith("resourceVersion=0")


def test_a_store_that_was_restored_from_a_backup(api, start):
    peer = start(LABEL)
    assert peer.next() == "label " + LABEL
    with api.lock:
        api.version, api.log = 10, []
    api.cut_connections()
    api.label(**{LABEL: "restored"})
    assert peer.next() == "label %s restored" % LABEL


# --- credentials ---

def test_a_token_that_is_rotated(api, start):
    peer = start(LABEL)
    assert peer.next() == "label " + LABEL
    api.tokens = {"second-token"}
    api.cut_connections()
    wait_until(lambda: api.refused >= 2, "a refusal of the old token")
    assert "401" in peer.wait_state(lambda _, __, ___, problem: problem, "a problem")[3]
    api.credentials.write(api.authority, "second-token\n")
    api.label(**{LABEL: "rotated"})
    assert peer.next() == "label %s rotated" % LABEL


def test_a_token_that_is_missing_for_a_while_or_is_none(api, start):
    token = os.path.join(api.credentials.directory, "token")
    os.unlink(token)
    with open(token, "w", encoding="ascii") as file:
        file.write("evil\r\nX-Header: 1")
    peer = start(LABEL)
    peer.wait_state(lambda _, __, ___, problem: "token" in problem, "a problem")
    assert not api.requests and api.refused == 0
    os.unlink(token)
    os.symlink("..data/token", token)
    assert peer.next() == "label " + LABEL


def test_a_ca_that_is_replaced(api, start, tmp_path):
    peer = start(LABEL)
    assert peer.next() == "label " + LABEL
    api.stop()
    api.authority = Authority(tmp_path, "second")
    api.start()
    peer.wait_state(lambda _, __, ___, problem: "vouch" in problem, "distrust")
    seen = len(api.requests)
    api.credentials.write(api.authority, "first-token")
    api.label(**{LABEL: "new-ca"})
    assert peer.next() == "label %s new-ca" % LABEL
    assert api.refused == 0 and len(api.requests) > seen


def test_a_server_that_our_ca_does_not_vouch_for_never_sees_the_token(api, start, tmp_path):
    api.credentials.write(Authority(tmp_path, "other"), "first-token")
    seen = []
    api.faults.append(lambda request: seen.append(request.headers) or False)
    peer = start(LABEL)
    peer.wait_state(lambda _, __, ___, problem: "vouch" in problem, "distrust")
    assert seen == []


def test_a_proxy_in_the_environment_is_not_used(api, start, monkeypatch):
    for name in "http_proxy", "https_proxy", "HTTPS_PROXY", "ALL_PROXY":
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    assert start(LABEL).next() == "label " + LABEL


# --- one that lies, hangs and cuts off ---

def _chunks(*chunks, end=True):
    """A watch that sends these."""
    def fault(request):
        if not request.is_watch:
            return False
        request.begin_watch()
        for chunk in chunks:
            request.send_chunk(chunk)
        if end:
            request.end_watch()
        else:
            request.cut()
        return True
    return fault


def _raw(data):
    def fault(request):
        if not request.is_watch:
            return False
        request.wfile.write(data)
        request.wfile.flush()
        request.cut()
        return True
    return fault


def _flood(line, times):
    def fault(request):
        if not request.is_watch:
            return False
        request.begin_watch()
        for _ in range(times):
            request.send_chunk(line)
        request.end_watch()
        return True
    return fault


def _headers_for_ever(request):
    if not request.is_watch:
        return False
    request.wfile.write(b"HTTP/1.1 200 OK\r\n")
    for number in range(100000):
        request.wfile.write(b"X-%d: %s\r\n" % (number, b"x" * 1000))
    request.cut()
    return True


def _other_node(request):
    if not request.is_watch:
        return False
    node = {"kind": "Node", "metadata": {"name": "node-2", "uid": "u", "resourceVersion": "5000", "labels": {LABEL: "stolen"}}}
    request.begin_watch()
    request.send_chunk(json.dumps({"type": "ADDED", "object": node}).encode() + b"\n")
    request.end_watch()
    return True


def _redirect(request):
    if not request.is_watch:
        return False
    request.answer(302, {}, [("Location", "https://127.0.0.1:%d/elsewhere" % request.api.port)])
    return True


def _labelled(value, **metadata):
    node = {"metadata": {"name": NODE, "uid": "uid-1", "resourceVersion": "7", "labels": {LABEL: value}, **metadata}}
    return json.dumps({"type": "MODIFIED", "object": node}).encode() + b"\n"


LIES = {
    "garbage": _chunks(b"\x00\xff\xfe garbage \n" * 100),
    "no JSON object": _chunks(b"[]\n", b"17\n", b'"x"\n'),
    "wrong types": _chunks(b'{"type":17,"object":{"metadata":[]}}\n'),
    "unknown event": _chunks(b'{"type":"EXPLODED","object":{}}\n'),
    "no resourceVersion": _chunks(_labelled("x", resourceVersion=None)),
    "a resourceVersion that is a URL": _chunks(_labelled("x", resourceVersion="1&watch=0#")),
    "labels that are a list": _chunks(json.dumps({"type": "ADDED", "object": {"metadata": {"name": NODE, "resourceVersion": "7",
                                                                                           "labels": ["x"]}}}).encode() + b"\n"),
    "an object that takes a hundred times its own size": _chunks(
        b'{"type":"MODIFIED","object":{"metadata":{"name":"' + NODE.encode() + b'","resourceVersion":"7"},"x":[' +
        b"{}," * 1300000 + b"{}]}}\n"),
    "deep nesting": _chunks(b'{"type":' + b"[" * 100000 + b"\n"),
    "an error without a code": _chunks(b'{"type":"ERROR","object":{}}\n'),
    "an error": _chunks(b'{"type":"ERROR","object":{"code":-5,"message":"\\u0000\\u001b[31mred"}}\n'),
    "a cut in the middle of a line": _chunks(b'{"type":"ADDED","object":{"metadata":{"na', end=False),
    "an end in the middle of a line": _chunks(b'{"type":"ADDED","object":{"metadata":{"na'),
    "a line of 50 MB": _flood(b"x" * (1 << 20), 50),
    "50 MB of empty lines": _flood(b"\n" * (1 << 20), 50),
    "headers for ever": _headers_for_ever,
    "no HTTP": _raw(b"SSH-2.0-OpenSSH_9.2\r\n" * 100),
    "a status line alone": _raw(b"HTTP/1.1 200 OK\r\n"),
    "a bad chunk": _raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzzzz\r\n{}"),
    "nothing": _raw(b""),
    "another node": _other_node,
    "a redirect": _redirect,
    "an empty watch": _chunks(),
}


@pytest.mark.parametrize("lie", sorted(LIES))
def test_a_server_that_lies(api, start, lie):
    told = []

    def fault(request):
        if not request.is_watch or len(told) >= 2:
            return False
        told.append(lie)
        return LIES[lie](request)
    api.faults.append(fault)
    peer = start(LABEL)
    # Nothing that it said is believed; when it is right again, all is well.
    heard = peer.next()
    if lie == "labels that are a list":
        assert heard == "label " + LABEL
    api.label(**{LABEL: "truth"})
    wait_until(lambda: heard == "label %s truth" % LABEL or peer.next() == "label %s truth" % LABEL, "the truth")
    assert len(told) == 2
    wait_until(lambda: peer.state()[0] == "Watching", "Watching")
    if not sanitized():
        assert peer.memory_kib() < 40 * 1024
    assert "\x1b" not in "".join(peer.log)


def test_a_server_that_never_stops_lying_is_asked_ever_more_seldom(api, start):
    api.faults.append(_chunks(b"garbage\n"))
    peer = start(LABEL)
    state = peer.wait_state(lambda _, __, requests, problem: requests >= 4 and problem, "four tries")
    assert state[0] == "Retrying" and "not JSON" in state[3]
    assert state[2] <= 6
    assert peer.said.empty()


@pytest.mark.parametrize("head", [b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 503 Busy\r\nContent-Length: 100\r\n\r\n"])
def test_a_server_that_hangs_after_some_headers(api, start, head):
    released = threading.Event()

    def hang(request):
        if not request.is_watch or released.is_set():
            return False
        request.wfile.write(head)
        request.wfile.flush()
        released.wait(WAIT)
        request.cut()
        return True

    api.faults.append(hang)
    peer = start(LABEL)
    assert "did not answer" in peer.wait_state(lambda name, *_: name == "Retrying", "a time-out")[3]
    released.set()
    assert peer.next() == "label " + LABEL


def test_what_comes_before_the_answer_is_not_the_answer(api, start):
    def hint(request):
        if request.is_watch:
            request.wfile.write(b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n")
        return False

    api.faults.append(hint)
    peer = start(LABEL)
    assert peer.next() == "label " + LABEL
    wait_until(lambda: peer.state()[0] == "Watching", "Watching")


@pytest.mark.parametrize("where", ["before TLS", "before the answer"])
def test_a_server_that_hangs(api, start, where):
    released = threading.Event()
    if where == "before TLS":
        port = api.port
        api.stop()
        silent = socket.create_server(("127.0.0.1", port), backlog=64)
        peer = start(LABEL)
        peer.wait_state(lambda name, *_: name == "Retrying", "a time-out")
        silent.close()
        api.start()
    else:
        def hang(request):
            if not request.is_watch or released.is_set():
                return False
            released.wait(WAIT)
            request.cut()
            return True
        api.faults.append(hang)
        peer = start(LABEL)
        assert "did not answer" in peer.wait_state(lambda name, *_: name == "Retrying", "a time-out")[3]
        released.set()
    assert peer.next() == "label " + LABEL


def test_a_write_that_hangs_holds_up_no_other_and_is_repeated(api, start):
    released = threading.Event()

    def hang(request):
        if "fieldManager=gpushare&" not in request.path or released.is_set():
            return False
        released.wait(WAIT)
        request.cut()
        return True
    api.faults.append(hang)
    peer = start(LABEL)
    assert peer.next() == "label " + LABEL
    peer.tell("labels gpushare mine=1")
    peer.tell("labels gpushare-mig state=fine")
    wait_until(lambda: api.labels().get("state") == "fine", "the other label")
    # A server that accepts a watch and answers nothing else is none to rely on.
    assert peer.wait_state(lambda _, __, ___, problem: "labels" in problem, "a time-out")[0] == "Retrying"
    released.set()
    wait_until(lambda: api.labels().get("mine") == "1", "the label")
    wait_until(lambda: peer.state()[0] == "Watching", "an answer")
    wait_until(lambda: peer.state()[3] == "", "no problem")


def test_an_event_whose_answer_is_lost_is_recorded_once(api, start):
    lost = []

    def fault(request):
        if request.command != "POST" or lost:
            return False
        lost.append(json.loads(request.body))
        request.api.events.append(lost[0])
        request.cut()
        return True
    api.faults.append(fault)
    peer = start()
    peer.tell("event Once only")
    wait_until(lambda: lost and peer.state()[1] == 0, "delivery")
    assert [e["reason"] for e in api.events] == ["Once"]


def test_a_server_that_is_busy_is_given_the_time_it_asks_for(api, start):
    refused = []

    def busy(request):
        if request.is_watch or len(refused) >= 1:
            return False
        refused.append(len(api.writes()))
        request.refuse(429, "too many requests", [("Retry-After", "3")])
        return True
    api.faults.append(busy)
    peer = start()
    peer.tell("labels gpushare mine=1")
    assert "429" in peer.wait_state(lambda _, __, ___, problem: problem, "the refusal")[3]
    assert "mine" not in api.labels()
    wait_until(lambda: api.labels().get("mine") == "1", "the label")


def test_a_right_that_is_missing_holds_up_nothing_else(api, start):
    def forbid(request):
        if request.command != "POST":
            return False
        request.refuse(403, 'events.events.k8s.io is forbidden: User "x" cannot create resource "events"')
        return True
    api.faults.append(forbid)
    peer = start()
    peer.tell("event Never recorded")
    peer.tell("labels gpushare mine=1")
    peer.tell("condition C True Fine well")
    wait_until(lambda: api.labels().get("mine") == "1" and api.condition("C"), "label and condition")
    assert "forbidden" in peer.wait_state(lambda _, __, ___, problem: problem, "the problem")[3]


def test_rights_that_are_granted_late(api, start):
    granted = threading.Event()

    def forbid(request):
        if granted.is_set():
            return False
        request.refuse(403, "forbidden")
        return True
    api.faults.append(forbid)
    peer = start(LABEL)
    peer.tell("event Late but recorded")
    peer.tell("labels gpushare mine=1")
    peer.wait_state(lambda _, __, requests, problem: requests >= 9 and problem, "refusals")
    granted.set()
    assert peer.next() == "label " + LABEL
    api.wait_event("Late")
    wait_until(lambda: api.labels().get("mine") == "1" and peer.state()[3] == "", "the label, and no problem")


def test_a_change_that_is_refused_for_good_is_not_repeated(api, start):
    def refuse(request):
        if '"mine":"bad"' not in request.body.decode():
            return False
        request.api.requests.append((request.command, request.path, ""))
        request.refuse(422, "Node is invalid: metadata.labels: Invalid value")
        return True
    api.faults.append(refuse)
    peer = start()
    peer.tell("labels gpushare mine=bad")
    assert "Invalid value" in peer.wait_state(lambda _, __, ___, problem: problem, "the refusal")[3]
    before = len(api.writes())
    api.wait_quiet()
    assert len(api.writes()) == before
    peer.tell("labels gpushare mine=good")
    wait_until(lambda: api.labels().get("mine") == "good", "the label")
    wait_until(lambda: peer.state()[3] == "", "no problem")


def test_ends_while_all_hangs(api, start):
    released = threading.Event()
    api.faults.append(lambda request: released.wait(WAIT) and False)
    peer = start(LABEL)
    peer.tell("labels gpushare mine=1")
    peer.tell("event Never recorded")
    wait_until(lambda: len(api.connections) >= 2, "two connections")
    peer.stop()
    released.set()
