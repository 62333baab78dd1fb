"""src/rpc against Python's grpcio, which shares no code with it, and against bytes that no library would send."""

import contextlib
import os
import random
import resource
import shutil
import signal
import socket
import struct
import subprocess
import tempfile
import threading
import time
from concurrent import futures
from pathlib import Path

import pytest

grpc = pytest.importorskip("grpc", reason="python3-grpcio is not installed")

BUILD = Path(os.environ.get("GPUSHARE_BUILD", Path(__file__).resolve().parents[3] / "build"))
PEER = BUILD / "tests/integration/rpc_peer"
PATIENCE = 60  # seconds until a test that hangs is called failed

pytestmark = pytest.mark.skipif(not PEER.exists(), reason=f"{PEER} is not built")


@contextlib.contextmanager
def running_server(directory, *options):
    path = directory / "rpc.sock"
    # A sanitizer that keeps freed memory for long would hide what the tests of memory look for.
    sanitizer = ":".join(filter(None, [os.environ.get("ASAN_OPTIONS"), "quarantine_size_mb=1"]))
    process = subprocess.Popen([PEER, "serve", path, *options], stdout=subprocess.PIPE, text=True,
                               env={**os.environ, "ASAN_OPTIONS": sanitizer})
    try:
        assert process.stdout.readline() == "ready\n"
        yield path, process
        process.send_signal(signal.SIGTERM)
        out, _ = process.communicate(timeout=PATIENCE)
        assert out == "stopped\n"
        assert process.returncode == 0
        assert not path.exists()
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


@contextlib.contextmanager
def connected(path, *options):
    big = [("grpc.max_receive_message_length", 64 << 20), ("grpc.max_send_message_length", 64 << 20),
           ("grpc.use_local_subchannel_pool", 1), ("grpc.default_authority", "localhost")]
    with grpc.insecure_channel(f"unix:{path}", options=list(options) + big) as channel:
        yield channel


def unary(channel, method, request=b"", timeout=PATIENCE):
    return channel.unary_unary(f"/test.Echo/{method}")(request, timeout=timeout)


def stream(channel, method, request=b"", timeout=PATIENCE):
    return channel.unary_stream(f"/test.Echo/{method}")(request, timeout=timeout)


@pytest.fixture
def server(tmp_path):
    with running_server(tmp_path) as (path, _):
        yield path


@pytest.fixture
def channel(server):
    with connected(server) as channel:
        yield channel


def resident_bytes(process):
    status = Path(f"/proc/{process.pid}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) * 1024


# ---- our server, their client ----


@pytest.mark.parametrize("size", [0, 1, 100, 16379, 16384, 65536, 352_000, 3_900_000])
def test_echo_of_any_size(channel, size):
    request = random.Random(size).randbytes(size)
    assert unary(channel, "Echo", request) == request


def test_many_calls_at_once(channel):
    call = channel.unary_unary("/test.Echo/Echo")
    pending = [call.future(b"%d" % i, timeout=PATIENCE) for i in range(1000)]
    assert [future.result() for future in pending] == [b"%d" % i for i in range(1000)]


def test_request_at_and_above_the_limit(tmp_path):
    with running_server(tmp_path, "message_bytes=1000") as (path, _), connected(path) as channel:
        assert unary(channel, "Swallow", bytes(1000)) == b""
        for size in (1001, 3_000_000):
            with pytest.raises(grpc.RpcError) as caught:
                unary(channel, "Swallow", bytes(size))
            assert caught.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
            assert str(size) in caught.value.details()
        with pytest.raises(grpc.RpcError) as caught:
            unary(channel, "Size", b"1001")
        assert caught.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
        assert unary(channel, "Size", b"1000") == bytes(1000)


@pytest.mark.parametrize("text", ["plain", "100% of it", "Größe 🙂", "two\nlines\r\n", "", "%41", "x" * 2000])
def test_error_texts_arrive_whole(channel, text):
    with pytest.raises(grpc.RpcError) as caught:
        unary(channel, "Fail", f"5 {text}".encode())
    assert caught.value.code() == grpc.StatusCode.NOT_FOUND
    assert caught.value.details() == text


@pytest.mark.parametrize("code", grpc.StatusCode)
def test_every_status(channel, code):
    if code == grpc.StatusCode.OK:
        return
    with pytest.raises(grpc.RpcError) as caught:
        unary(channel, "Fail", b"%d why" % code.value[0])
    assert caught.value.code() == code


def test_unknown_methods_and_services(channel):
    for path in ("/test.Echo/Nope", "/other.Service/Echo", "/", "/test.Echo/Ech", "/test.Echo/Echoo", "/" + "a" * 5000):
        with pytest.raises(grpc.RpcError) as caught:
            channel.unary_unary(path)(b"", timeout=PATIENCE)
        assert caught.value.code() == grpc.StatusCode.UNIMPLEMENTED


def test_stream_to_its_end(channel):
    assert list(stream(channel, "Count", b"5")) == [b"0", b"1", b"2", b"3", b"4"]


def test_answer_that_comes_later(channel):
    assert unary(channel, "Later") == b"0"


def test_cancelled_stream_is_heard_of(channel):
    call = stream(channel, "Count", b"0", timeout=None)
    assert next(call) == b"0"
    before = unary(channel, "Stats").split()[1]
    call.cancel()
    wait_until(lambda: int(unary(channel, "Stats").split()[1]) == int(before) + 1)


def test_deadline(channel):
    with pytest.raises(grpc.RpcError) as caught:
        unary(channel, "Never", timeout=0.3)
    assert caught.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
    wait_until(lambda: unary(channel, "Stats").split()[1] == b"1")
    assert unary(channel, "Echo", b"still here") == b"still here"


def test_compressed_request_is_refused(server):
    with connected(server, ("grpc.default_compression_algorithm", 2)) as channel:
        with pytest.raises(grpc.RpcError) as caught:
            unary(channel, "Echo", bytes(10_000))
    assert caught.value.code() == grpc.StatusCode.UNIMPLEMENTED


@pytest.mark.parametrize("authority", ["/var/lib/kubelet/device-plugins/nvidia-gpu.sock", "%2Ftmp%2Fx.sock", "localhost"])
def test_any_authority(server, authority):
    options = [("grpc.default_authority", authority), ("grpc.use_local_subchannel_pool", 1)]
    with grpc.insecure_channel(f"unix:{server}", options=options) as channel:
        assert unary(channel, "Echo", b"x") == b"x"


def test_metadata_beyond_the_limit_ends_only_its_call(channel):
    call = channel.unary_unary("/test.Echo/Echo")
    with pytest.raises(grpc.RpcError):
        call(b"", timeout=PATIENCE, metadata=[(f"k{i}", "v" * 1000) for i in range(40)])
    assert unary(channel, "Echo", b"x") == b"x"


def test_slow_reader_gets_the_latest(tmp_path):
    """The stream is flow-controlled while its reader sleeps; what it missed is skipped, and memory stays small."""
    with running_server(tmp_path) as (path, process), connected(path, ("grpc.http2.bdp_probe", 0)) as channel:
        call = stream(channel, "Watch", b"200000")
        first = int(next(call))
        before = resident_bytes(process)
        time.sleep(1)
        seen = [int(next(call)) for _ in range(100)]
        assert seen == sorted(set(seen)) and seen[0] > first
        assert max(b - a for a, b in zip(seen, seen[1:])) > 1, "nothing was skipped"
        assert resident_bytes(process) - before < 4 << 20
        call.cancel()


def test_large_messages_leave_nothing_behind(tmp_path):
    with running_server(tmp_path) as (path, process), connected(path) as channel:
        unary(channel, "Echo", bytes(100))
        before = resident_bytes(process)
        for _ in range(5):
            unary(channel, "Swallow", bytes(3_900_000))
        assert resident_bytes(process) - before < 1 << 20


def test_stopping_ends_streams_with_ok(tmp_path):
    with running_server(tmp_path) as (path, process), connected(path) as channel:
        call = stream(channel, "Count", b"0")
        next(call)
        process.send_signal(signal.SIGTERM)
        for _ in call:
            pass
        assert call.code() == grpc.StatusCode.OK
        process.wait(PATIENCE)


def test_socket_file(tmp_path):
    with running_server(tmp_path) as (path, process):
        assert path.stat().st_mode & 0o7777 == 0o600
        # Another server takes the place over; the old one leaves the new file alone.
        with running_server(tmp_path) as (again, _):
            process.send_signal(signal.SIGTERM)
            process.wait(PATIENCE)
            with connected(again) as channel:
                assert unary(channel, "Echo", b"new") == b"new"


def test_what_cannot_be_a_socket(tmp_path):
    file = tmp_path / "file"
    file.write_text("precious")
    long = tmp_path / ("x" * 120)
    for path, word in ((file, "no socket"), (long, "107"), (tmp_path / "none" / "x.sock", "No such file")):
        result = subprocess.run([PEER, "serve", path], capture_output=True, text=True, timeout=PATIENCE)
        assert result.returncode == 1 and word in result.stderr and str(path) in result.stderr
    assert file.read_text() == "precious"


def test_other_users_are_refused():
    if os.geteuid() != 0:
        pytest.skip("needs root to become someone else")
    script = "import socket,sys; s=socket.socket(socket.AF_UNIX); s.connect(sys.argv[1]); print(s.recv(100))"
    with tempfile.TemporaryDirectory() as folder, running_server(Path(folder)) as (path, _):
        os.chmod(folder, 0o755)
        os.chmod(path, 0o666)
        for user, answer in ((65534, "b''\n"), (0, "b'\\x00")):
            result = subprocess.run(["/usr/bin/python3", "-c", script, path], user=user, capture_output=True, text=True,
                                    timeout=PATIENCE)
            assert result.stdout.startswith(answer), result.stderr


@pytest.fixture(scope="module")
def grpc_go(tmp_path_factory):
    """The kubelet's own gRPC library. Building it fetches modules and takes a minute, so it must be asked for."""
    if os.environ.get("GPUSHARE_TEST_GO") != "1":
        pytest.skip("set GPUSHARE_TEST_GO=1 to build and run a grpc-go client")
    if not shutil.which("go"):
        pytest.skip("go is not installed")
    program = tmp_path_factory.mktemp("go") / "grpc_go"
    build = subprocess.run(["go", "build", "-o", program, "."], cwd=Path(__file__).parent / "grpc_go",
                           capture_output=True, text=True)
    if build.returncode != 0:
        pytest.skip(f"cannot build it: {build.stderr[-300:]}")
    return program


@pytest.mark.parametrize("arguments", [[], ["/var/lib/kubelet/device-plugins/nvidia-gpu.sock"], ["localhost", "300ms"]])
def test_grpc_go(grpc_go, server, arguments):
    result = subprocess.run([grpc_go, server, *arguments], capture_output=True, text=True, timeout=PATIENCE)
    assert (result.returncode, result.stdout) == (0, "ok\n")


# ---- our server, no library ----

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = 0, 1, 3, 4, 6, 7, 8, 9
END_STREAM, END_HEADERS, ACK = 1, 4, 1


def frame(kind, flags, stream_id, payload=b""):
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream_id) + payload


def integer(value, bits):
    if value < (1 << bits) - 1:
        return bytes([value])
    out = [(1 << bits) - 1]
    value -= (1 << bits) - 1
    while value >= 128:
        out.append(value % 128 + 128)
        value //= 128
    return bytes(out + [value])


def header_block(headers):
    return b"".join(b"\0" + integer(len(n), 7) + n + integer(len(v), 7) + v for n, v in headers)


def request_headers(stream_id, path=b"/test.Echo/Echo", flags=END_HEADERS, **changes):
    headers = {b":method": b"POST", b":scheme": b"http", b":path": path, b":authority": b"localhost",
               b"content-type": b"application/grpc", b"te": b"trailers"}
    headers.update({name.encode().replace(b"_", b"-"): value for name, value in changes.items()})
    return frame(HEADERS, flags, stream_id, header_block(headers.items()))


def message(body):
    return b"\0" + struct.pack(">I", len(body)) + body


def raw(path):
    peer = socket.socket(socket.AF_UNIX)
    peer.connect(str(path))  # while it blocks: a full queue means to wait
    peer.settimeout(PATIENCE)
    return peer


def frames(peer, until):
    """Frames as (kind, flags, stream, payload) up to one of the kind `until`, or the end of the connection."""
    reader, seen = peer.makefile("rb"), []
    while len(head := reader.read(9)) == 9:
        length = int.from_bytes(head[:3], "big")
        seen.append((head[3], head[4], int.from_bytes(head[5:], "big"), reader.read(length)))
        if seen[-1][0] == until:
            break
    return seen


def wait_until(condition):
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


def test_settings_come_at_once(server):
    with raw(server) as peer:
        assert frames(peer, SETTINGS)[0][0] == SETTINGS


def test_hand_made_request_cut_into_single_bytes(server):
    data = message(b"hello")
    sent = PREFACE + frame(SETTINGS, 0, 0) + request_headers(1)
    sent += b"".join(frame(DATA, END_STREAM if i == len(data) - 1 else 0, 1, data[i:i + 1]) for i in range(len(data)))
    with raw(server) as peer:
        for byte in sent:
            peer.sendall(bytes([byte]))
        seen = frames(peer, DATA)
        assert seen[-1][3] == message(b"hello")


def test_ping_is_answered(server):
    with raw(server) as peer:
        peer.sendall(PREFACE + frame(SETTINGS, 0, 0) + frame(PING, 0, 0, b"12345678"))
        assert frames(peer, PING)[-1] == (PING, ACK, 0, b"12345678")


@pytest.mark.parametrize("junk", [b"GET / HTTP/1.1\r\n\r\n", PREFACE + bytes(1000), PREFACE + b"\xff" * 1000, b"PRI",
                                  PREFACE + frame(DATA, 0, 1, b"x"), PREFACE + frame(SETTINGS, 0, 0, b"odd"),
                                  PREFACE + frame(SETTINGS, 0, 0) + frame(WINDOW_UPDATE, 0, 0, bytes(4)),
                                  PREFACE + frame(SETTINGS, 0, 0) + frame(CONTINUATION, 0, 1, b"x")])
def test_junk_harms_nobody_else(server, channel, junk):
    with raw(server) as peer:
        peer.sendall(junk)
        peer.shutdown(socket.SHUT_WR)
        with contextlib.suppress(ConnectionResetError):
            frames(peer, None)
    assert unary(channel, "Echo", b"x") == b"x"


def test_random_bytes(server, channel):
    generator = random.Random(1)
    good = frame(SETTINGS, 0, 0) + request_headers(1) + frame(DATA, END_STREAM, 1, message(b"hello"))
    for turn in range(400):
        noise = bytearray(good)
        for _ in range(generator.randrange(1, 8)):
            noise[generator.randrange(len(noise))] = generator.randrange(256)
        with raw(server) as peer, contextlib.suppress(BrokenPipeError, ConnectionResetError):
            peer.sendall(PREFACE + (noise if turn % 2 else generator.randbytes(2000)))
    assert unary(channel, "Echo", b"x") == b"x"


def test_peer_goaway_is_harmless(server):
    with raw(server) as peer:
        peer.sendall(PREFACE + frame(SETTINGS, 0, 0) + request_headers(1) + frame(DATA, END_STREAM, 1, message(b"a")) +
                     frame(GOAWAY, 0, 0, bytes(8)))
        assert DATA in [kind for kind, *_ in frames(peer, DATA)]
        frames(peer, None)  # the server closes: nothing is left to do


def test_rapid_resets_are_sent_away(server, channel):
    with raw(server) as peer, contextlib.suppress(BrokenPipeError, ConnectionResetError):
        peer.sendall(PREFACE + frame(SETTINGS, 0, 0))
        for stream_id in range(1, 200_001, 2):
            peer.sendall(request_headers(stream_id) + frame(RST_STREAM, 0, stream_id, struct.pack(">I", 8)))
        pytest.fail("100,000 resets were served")
    assert unary(channel, "Echo", b"x") == b"x"


def test_client_that_never_reads(tmp_path):
    """It asks for ever more and reads nothing: we stop listening to it, and memory stays bounded."""
    with running_server(tmp_path) as (path, process), connected(path) as channel:
        unary(channel, "Echo", b"x")
        before = resident_bytes(process)
        with raw(path) as peer:
            window = struct.pack(">I", 0x7fffffff - 65535)
            settings = struct.pack(">HI", 4, 0x7fffffff)
            peer.sendall(PREFACE + frame(SETTINGS, 0, 0, settings) + frame(WINDOW_UPDATE, 0, 0, window))
            peer.settimeout(1)  # nothing taken for so long: it reads no more
            stream_id, sent = 1, 0
            with contextlib.suppress(TimeoutError):
                while sent < 50 << 20:
                    block = b"".join(
                        frame(PING, 0, 0, bytes(8)) + request_headers(i, b"/test.Echo/Size") +
                        frame(DATA, END_STREAM, i, message(b"100000")) for i in range(stream_id, stream_id + 200, 2))
                    while block:
                        taken = peer.send(block)
                        block, sent = block[taken:], sent + taken
                    stream_id += 200
            assert sent < 50 << 20, "the server read on"
            assert unary(channel, "Echo", b"x") == b"x"
            assert resident_bytes(process) - before < 40 << 20


def test_silent_peer_is_dropped(tmp_path):
    with running_server(tmp_path, "handshake_ms=300") as (path, _), connected(path) as channel, raw(path) as peer:
        assert unary(channel, "Echo", b"x") == b"x"
        assert frames(peer, None)[0][0] == SETTINGS  # and then the end
        time.sleep(0.5)
        assert unary(channel, "Echo", b"x") == b"x", "one that has spoken may be idle"


def test_peer_that_takes_no_replies_is_dropped(tmp_path):
    with running_server(tmp_path, "stall_ms=300") as (path, process), raw(path) as peer:
        frames(peer, SETTINGS)
        files = len(os.listdir(f"/proc/{process.pid}/fd"))
        window = struct.pack(">I", 0x7fffffff - 65535)
        peer.sendall(PREFACE + frame(SETTINGS, 0, 0, struct.pack(">HI", 4, 0x7fffffff)) +
                     frame(WINDOW_UPDATE, 0, 0, window) + request_headers(1, b"/test.Echo/Size") +
                     frame(DATA, END_STREAM, 1, message(b"4000000")))
        wait_until(lambda: len(os.listdir(f"/proc/{process.pid}/fd")) < files)


def test_a_thousand_connections(tmp_path):
    """More than the limit: those within are served, the others refused, and afterwards all is as before."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < 3000:
        pytest.skip("the limit of open files is too low")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 3000), hard))
    with running_server(tmp_path, "connections=900") as (path, _), connected(path) as channel:
        assert unary(channel, "Echo", b"x") == b"x"
        peers = [raw(path) for _ in range(1000)]
        served = sum(1 for peer in peers if peer.recv(1))
        assert served == 899
        assert unary(channel, "Echo", b"x") == b"x"
        for peer in peers:
            peer.close()
        with connected(path) as another:
            wait_until(lambda: attempt(another))
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def attempt(channel):
    try:
        return unary(channel, "Echo", b"x", timeout=5) == b"x"
    except grpc.RpcError:
        return False


def test_out_of_descriptors(tmp_path):
    with running_server(tmp_path) as (path, process), connected(path) as channel:
        assert unary(channel, "Echo", b"x") == b"x"
        used = len(os.listdir(f"/proc/{process.pid}/fd"))
        resource.prlimit(process.pid, resource.RLIMIT_NOFILE, (used + 2, used + 2))
        peers = [raw(path) for _ in range(6)]
        before = cpu_seconds(process)
        time.sleep(1)
        assert cpu_seconds(process) - before < 0.5, "it spins"
        assert unary(channel, "Echo", b"x") == b"x"
        for peer in peers:
            peer.close()
        with connected(path) as another:
            wait_until(lambda: attempt(another))


def cpu_seconds(process):
    fields = Path(f"/proc/{process.pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


# ---- our client, their server ----


class Handlers(grpc.GenericRpcHandler):
    def service(self, details):
        name = details.method.rsplit("/", 1)[1]
        if name == "Stream":
            return grpc.unary_stream_rpc_method_handler(self.stream)
        method = getattr(self, name.lower(), None)
        return grpc.unary_unary_rpc_method_handler(method) if method else None

    def echo(self, request, context):
        return request

    def size(self, request, context):
        return bytes(int(request))

    def fail(self, request, context):
        code, text = request.decode().split(" ", 1)
        status = next(status for status in grpc.StatusCode if status.value[0] == int(code))
        context.abort(status, text)

    def hang(self, request, context):
        self.stopping.wait(PATIENCE)
        return b""

    def stream(self, request, context):
        for i in range(int(request)):
            yield b"%d" % i

    def __init__(self):
        self.stopping = threading.Event()


@contextlib.contextmanager
def python_server(path):
    handlers = Handlers()
    server = grpc.server(futures.ThreadPoolExecutor(4), handlers=[handlers],
                         options=[("grpc.max_receive_message_length", 64 << 20)])
    server.add_insecure_port(f"unix:{path}")
    server.start()
    try:
        yield server
    finally:
        handlers.stopping.set()
        server.stop(0).wait()


@pytest.fixture
def python_path(tmp_path):
    with python_server(tmp_path / "py.sock"):
        yield tmp_path / "py.sock"


def hash_of(body):
    value = 14695981039346656037
    for byte in body:
        value = (value ^ byte) * 1099511628211 % (1 << 64)
    return value


def call(path, method, request=b"", *options):
    """(status, text, messages as (length, hash))"""
    result = subprocess.run([PEER, "call", path, f"/test.Echo/{method}", *options], input=request, capture_output=True,
                            timeout=PATIENCE)
    assert result.returncode == 0, result.stderr
    lines = [line.split(" ") for line in result.stdout.decode().splitlines()]
    status, text = lines[-1][1], bytes.fromhex(lines[-1][2]).decode()
    return status, text, [(int(length), int(value)) for _, length, value in lines[:-1]]


@pytest.mark.parametrize("size", [0, 1, 16384, 352_000, 3_900_000])
def test_client_echo(python_path, size):
    body = random.Random(size).randbytes(size) if size < 500_000 else bytes(size)
    status, text, messages = call(python_path, "Echo", body)
    assert (status, text) == ("OK", "")
    assert [length for length, _ in messages] == [size]
    if size < 500_000:
        assert messages[0][1] == hash_of(body)


def test_client_stream(python_path):
    status, _, messages = call(python_path, "Stream", b"300")
    assert status == "OK"
    assert messages == [(len(b"%d" % i), hash_of(b"%d" % i)) for i in range(300)]


@pytest.mark.parametrize("text", ["plain", "100% ä 🙂", "two\nlines"])
def test_client_error_text(python_path, text):
    assert call(python_path, "Fail", f"5 {text}".encode()) == ("NOT_FOUND", text, [])


def test_client_unimplemented(python_path):
    assert call(python_path, "Nope")[0] == "UNIMPLEMENTED"


def test_client_deadline(python_path):
    assert call(python_path, "Hang", b"", "timeout_ms=300")[0] == "DEADLINE_EXCEEDED"


def test_client_cancel(python_path):
    result = subprocess.run([PEER, "call", python_path, "/test.Echo/Hang", "cancel_ms=200"], input=b"",
                            capture_output=True, timeout=PATIENCE)
    assert (result.returncode, result.stdout) == (0, b"cancelled\n")


def test_client_reply_limit(python_path):
    status, text, _ = call(python_path, "Size", b"5000000")
    assert status == "RESOURCE_EXHAUSTED" and "5000000" in text
    status, _, messages = call(python_path, "Size", b"9000000", f"message_bytes={16 << 20}")
    assert status == "OK" and messages[0][0] == 9_000_000


def test_client_keeps_one_connection(python_path):
    result = subprocess.run([PEER, "call", python_path, "/test.Echo/Echo", "repeat=200"], input=b"x",
                            capture_output=True, timeout=PATIENCE)
    assert result.stdout.count(b"done OK") == 200


def test_client_without_server(tmp_path):
    status, text, _ = call(tmp_path / "none.sock", "Echo")
    assert status == "UNAVAILABLE" and "none.sock" in text and "No such file" in text
    dead = socket.socket(socket.AF_UNIX)
    dead.bind(str(tmp_path / "dead.sock"))
    dead.close()
    status, text, _ = call(tmp_path / "dead.sock", "Echo")
    assert status == "UNAVAILABLE" and "refused" in text


@contextlib.contextmanager
def acting(path, act):
    """A listener that treats each connection with `act`."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen(10)

        def work():
            with contextlib.suppress(OSError):
                while True:
                    peer, _ = listener.accept()
                    with peer, contextlib.suppress(OSError):
                        act(peer)

        thread = threading.Thread(target=work)
        thread.start()
        yield
        listener.shutdown(socket.SHUT_RDWR)
        thread.join(PATIENCE)


def hang_up(peer):
    pass


def hang_up_in_the_middle(peer):
    peer.sendall(frame(SETTINGS, 0, 0))
    peer.recv(1000)


def answer_headers_only(peer):
    peer.sendall(frame(SETTINGS, 0, 0))
    peer.recv(1000)
    peer.sendall(frame(HEADERS, END_HEADERS, 1, header_block([(b":status", b"200"),
                                                               (b"content-type", b"application/grpc")])))


def answer_half_a_message(peer):
    answer_headers_only(peer)
    peer.sendall(frame(DATA, 0, 1, b"\0\0\0\0\x10half"))


def talk_http1(peer):
    peer.recv(1000)
    peer.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")


def talk_nonsense(peer):
    peer.sendall(random.Random(7).randbytes(5000))
    peer.recv(1000)


@pytest.mark.parametrize("act", [hang_up, hang_up_in_the_middle, answer_headers_only, answer_half_a_message, talk_http1,
                                 talk_nonsense])
def test_client_of_a_bad_server(tmp_path, act):
    with acting(tmp_path / "bad.sock", act):
        result = subprocess.run([PEER, "call", tmp_path / "bad.sock", "/test.Echo/Echo", "repeat=3"], input=b"x",
                                capture_output=True, timeout=PATIENCE)
    assert result.returncode == 0, result.stderr
    assert result.stdout.count(b"done UNAVAILABLE") == 3


def test_client_of_a_server_that_sends_noise(tmp_path):
    good = frame(SETTINGS, 0, 0) + frame(HEADERS, END_HEADERS, 1, header_block(GRPC)) + frame(DATA, 0, 1, message(b"x")) + \
        frame(HEADERS, END_HEADERS | END_STREAM, 1, header_block([(b"grpc-status", b"0"), (b"grpc-message", b"%")]))
    generator = random.Random(3)

    def act(peer):
        noise = bytearray(good)
        for _ in range(generator.randrange(1, 6)):
            noise[generator.randrange(len(noise))] = generator.randrange(256)
        peer.sendall(noise)
        peer.recv(1000)

    with acting(tmp_path / "noise.sock", act):
        result = subprocess.run([PEER, "call", tmp_path / "noise.sock", "/test.Echo/Echo", "repeat=300"], input=b"x",
                                capture_output=True, timeout=PATIENCE)
    assert result.returncode == 0, result.stderr
    assert result.stdout.count(b"done ") == 300
    assert result.stdout.count(b"done OK") < 300


def reply(headers, data=b"", trailers=None):
    def act(peer):
        peer.sendall(frame(SETTINGS, 0, 0))
        received = b""
        while b"test.Echo" not in received and len(received) < 100:
            received += peer.recv(1000)
        ends = END_STREAM if not data and trailers is None else 0
        peer.sendall(frame(HEADERS, END_HEADERS | ends, 1, header_block(headers)))
        if data:
            peer.sendall(frame(DATA, END_STREAM if trailers is None else 0, 1, data))
        if trailers is not None:
            peer.sendall(frame(HEADERS, END_HEADERS | END_STREAM, 1, header_block(trailers)))
        with contextlib.suppress(OSError):
            while peer.recv(1000):
                pass

    return act


GRPC = [(b":status", b"200"), (b"content-type", b"application/grpc+proto")]


@pytest.mark.parametrize("act, status", [
    (reply(GRPC, message(b"x"), [(b"grpc-status", b"0")]), "OK"),
    (reply(GRPC + [(b"grpc-status", b"7")]), "PERMISSION_DENIED"),
    (reply(GRPC, message(b"x")), "INTERNAL"),
    (reply(GRPC, b"\0\0\0\0\x05abc", [(b"grpc-status", b"0")]), "INTERNAL"),
    (reply(GRPC, b"\1\0\0\0\1a", [(b"grpc-status", b"0")]), "INTERNAL"),
    (reply(GRPC, b"\0\xff\xff\xff\xff", [(b"grpc-status", b"0")]), "RESOURCE_EXHAUSTED"),
    (reply(GRPC, message(b"x"), [(b"grpc-status", b"nonsense")]), "UNKNOWN"),
    (reply([(b":status", b"503")]), "UNAVAILABLE"),
    (reply([(b":status", b"404"), (b"content-type", b"text/html")], b"<html>"), "UNIMPLEMENTED"),
    (reply([(b":status", b"200"), (b"content-type", b"text/html")], b"<html>"), "UNKNOWN"),
])
def test_client_reads_hand_made_answers(tmp_path, act, status):
    with acting(tmp_path / "hand.sock", act):
        assert call(tmp_path / "hand.sock", "Echo", b"x", "timeout_ms=30000")[0] == status


def test_client_moves_unsent_calls_to_a_new_connection(tmp_path):
    """A call that the first connection had no room for when its GOAWAY came is made on the second."""
    seen = []
    answer = frame(HEADERS, END_HEADERS, 1, header_block(GRPC)) + frame(DATA, 0, 1, message(b"x")) + frame(
        HEADERS, END_HEADERS | END_STREAM, 1, header_block([(b"grpc-status", b"0")]))

    def act(peer):
        seen.append(peer)
        peer.sendall(frame(SETTINGS, 0, 0))
        received = b""
        while received.find(message(b"x")) < 0:
            received += peer.recv(1000)
        if len(seen) > 1:
            peer.sendall(answer)
            peer.recv(1000)
            return
        peer.sendall(answer + frame(SETTINGS, 0, 0, struct.pack(">HI", 3, 0)))
        time.sleep(0.2)
        peer.sendall(frame(GOAWAY, 0, 0, struct.pack(">II", 1, 0)) + frame(SETTINGS, 0, 0, struct.pack(">HI", 3, 100)))
        time.sleep(0.2)

    with acting(tmp_path / "busy.sock", act):
        result = subprocess.run([PEER, "call", tmp_path / "busy.sock", "/test.Echo/Echo", "repeat=2"], input=b"x",
                                capture_output=True, timeout=PATIENCE)
    assert result.stdout.count(b"done OK") == 2, result.stdout
    assert len(seen) == 2


def test_client_of_a_server_that_never_answers(tmp_path):
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "mute.sock"))
        listener.listen(1)
        assert call(tmp_path / "mute.sock", "Echo", bytes(1_000_000), "timeout_ms=300")[0] == "DEADLINE_EXCEEDED"


def test_client_reconnects_when_the_server_returns(tmp_path):
    path = tmp_path / "py.sock"
    with python_server(path):
        process = subprocess.Popen([PEER, "call", path, "/test.Echo/Echo", "repeat=1000000", "pause_ms=10"],
                                   stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
        read_until(process, "done OK")
    try:
        read_until(process, "done UNAVAILABLE")
        with python_server(path):
            read_until(process, "done OK")
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def read_until(process, start):
    for line in process.stdout:
        if line.startswith(start):
            return
    pytest.fail(f"never said {start!r}")
