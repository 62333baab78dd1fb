"""`gpushare sim` from outside: statuses, signals, joining, isolation, death, and faults as NVML shows them."""

import ctypes
import json
import os
import pathlib
import signal
import stat
import struct
import subprocess
import sys
import tempfile
import time

import pytest

REPOSITORY = pathlib.Path(__file__).resolve().parents[3]
BUILD = pathlib.Path(os.environ.get("GPUSHARE_BUILD", REPOSITORY / "build")).resolve()
GPUSHARE = str(BUILD / "gpushare")
PATIENCE = 60  # seconds; only ever reached when something hangs

GPU_IS_LOST = 15

# Runs on the node: NVML by hand, so that no client library stands between.
PRELUDE = """
import ctypes, os, sys
nvml = ctypes.CDLL("libnvidia-ml.so.1")
def call(name, *arguments):
    status = getattr(nvml, name)(*arguments)
    if status:
        raise SystemExit(f"{name}: {status}")
def count():
    number = ctypes.c_uint()
    call("nvmlDeviceGetCount_v2", ctypes.byref(number))
    return number.value
def handle(index):
    device = ctypes.c_void_p()
    call("nvmlDeviceGetHandleByIndex_v2", index, ctypes.byref(device))
    return device
def text(name, device):
    buffer = ctypes.create_string_buffer(96)
    call(name, device, buffer, 96)
    return buffer.value.decode()
def memory(device):
    values = (ctypes.c_ulonglong * 3)()
    call("nvmlDeviceGetMemoryInfo", device, values)
    return list(values)
call("nvmlInit_v2")
"""

HOLD_MEMORY = """
import ctypes, sys
cuda = ctypes.CDLL("libcuda.so.1")
context, pointer = ctypes.c_void_p(), ctypes.c_ulonglong()
assert cuda.cuInit(0) == 0
assert cuda.cuCtxCreate_v2(ctypes.byref(context), 0, 0) == 0
assert cuda.cuMemAlloc_v2(ctypes.byref(pointer), ctypes.c_size_t(1 << 30)) == 0
print("ready", flush=True)
sys.stdin.read()
"""


def run(*arguments, **options):
    options.setdefault("timeout", PATIENCE)
    return subprocess.run([GPUSHARE, *arguments], capture_output=True, text=True, **options)


def on_node(directory, program, *arguments):
    """A Python program on a node that runs; its output."""
    done = run("sim", "--join", str(directory), "--", sys.executable, "-c", PRELUDE + program, *arguments)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.strip()


def await_line(process, line):
    assert process.stdout.readline().strip() == line


def eventually(question):
    deadline = time.monotonic() + PATIENCE
    while not question():
        assert time.monotonic() < deadline, "it never became true"
        time.sleep(0.01)


class Node:
    def __init__(self, spec, directory, *options):
        self.directory = directory
        self.process = subprocess.Popen(
            [GPUSHARE, "sim", spec, "--state", str(directory), *options, "--", "sh", "-c", "echo up; exec cat"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        await_line(self.process, "up")

    def stop(self):
        self.process.stdin.close()
        self.process.wait(PATIENCE)
        self.process.stdout.close()


@pytest.fixture
def start_node(tmp_path):
    nodes = []

    def start(spec="2xA100-80GB", name="node", *options):
        nodes.append(Node(spec, tmp_path / name, *options))
        return nodes[-1]

    yield start
    for node in nodes:
        node.stop()


@pytest.fixture
def node(start_node):
    return start_node()


@pytest.fixture(autouse=True)
def private_tmp(tmp_path, monkeypatch):
    """Nodes without --state are made here, so that a test sees what is left behind."""
    (tmp_path / "tmp").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    monkeypatch.delenv("GPUSHARE_SIM", raising=False)
    yield tmp_path / "tmp"
    assert list((tmp_path / "tmp").iterdir()) == []


# The command


@pytest.mark.parametrize("status", [0, 1, 7, 255])
def test_exits_with_the_commands_status(status):
    assert run("sim", "T4", "--", "sh", "-c", f"exit {status}").returncode == status


def test_a_signal_is_128_and_its_number():
    assert run("sim", "T4", "sh", "-c", "kill -9 $$").returncode == 137
    assert run("sim", "T4", "sh", "-c", "kill -TERM $$").returncode == 143


def test_a_command_that_cannot_run(tmp_path):
    assert run("sim", "T4", "--", "no-such-program").returncode == 127
    plain = tmp_path / "plain"
    plain.write_text("")
    done = run("sim", "T4", "--", str(plain))
    assert done.returncode == 126
    assert "Permission denied" in done.stderr


def test_what_the_command_sees(tmp_path):
    script = 'echo "$GPUSHARE_SIM"; command -v gpushare; echo "$LD_LIBRARY_PATH"; ls "$GPUSHARE_SIM"'
    done = run("sim", "T4", "--", "sh", "-c", script, env={**os.environ, "LD_LIBRARY_PATH": "/some/where"})
    directory, program, libraries, *files = done.stdout.splitlines()
    assert os.path.isabs(directory) and directory.startswith(str(tmp_path))
    assert program == GPUSHARE
    assert libraries.endswith(":/some/where") and str(BUILD) in libraries
    assert {"state", "clients", "root"} <= set(files)


def test_options_may_stand_on_either_side_of_the_spec(tmp_path):
    show = ("sh", "-c", "echo $GPUSHARE_SIM")
    assert run("sim", "T4", "--state", str(tmp_path / "a"), "--", *show).stdout.strip() == str(tmp_path / "a")
    assert run("sim", "--state", str(tmp_path / "b"), "T4", *show).stdout.strip() == str(tmp_path / "b")
    # What follows the command is the command's.
    assert run("sim", "T4", "echo", "--state", "x", "--help").stdout.strip() == "--state x --help"


def test_without_a_command_it_is_a_shell():
    done = run("sim", "T4", input="echo $((6 * 7))\nexit 3\n", env={**os.environ, "SHELL": "/bin/sh"})
    assert done.returncode == 3
    assert done.stdout.strip() == "42"
    assert "simulated node" in done.stderr and len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_signals_go_on_to_the_command(number):
    script = "import signal, sys\n" \
             f"signal.signal({int(number)}, lambda *_: sys.exit(42))\n" \
             "print('up', flush=True)\n" \
             "while True: signal.pause()\n"
    command = [GPUSHARE, "sim", "T4", "--", sys.executable, "-c", script]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        await_line(process, "up")
        process.send_signal(number)
        assert process.wait(PATIENCE) == 42


def test_the_commands_own_signal_state_is_untouched():
    script = "import signal; print(signal.pthread_sigmask(signal.SIG_BLOCK, []), repr(signal.getsignal(signal.SIGCHLD)))"
    done = run("sim", "T4", "--", sys.executable, "-c", script)
    assert done.stdout.startswith("set()") and "SIG_DFL" in done.stdout, done.stdout


def test_an_ignored_sigchld_does_not_lose_the_status():
    ignore = lambda: signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # noqa: E731
    done = run("sim", "T4", "--", "sh", "-c", "exit 9", preexec_fn=ignore)
    assert done.returncode == 9


# The node


def test_nodes_do_not_mix(start_node):
    one, two = start_node("2xA100-80GB", "one"), start_node("T4", "two")
    names = "print([text('nvmlDeviceGetName', handle(i)) for i in range(count())])"
    assert on_node(one.directory, names) == "['NVIDIA A100-SXM4-80GB', 'NVIDIA A100-SXM4-80GB']"
    assert on_node(two.directory, names) == "['Tesla T4']"
    uuid = "print(text('nvmlDeviceGetUUID', handle(0)))"
    assert on_node(one.directory, uuid) != on_node(two.directory, uuid)


def test_a_seed_gives_the_same_node_again(start_node):
    uuids = "print([text('nvmlDeviceGetUUID', handle(i)) for i in range(count())])"
    one, two = start_node("2xT4", "one", "--seed", "5"), start_node("2xT4", "two", "--seed", "5")
    other = start_node("2xT4", "other", "--seed", "6")
    assert on_node(one.directory, uuids) == on_node(two.directory, uuids)
    assert on_node(one.directory, uuids) != on_node(other.directory, uuids)


def test_the_driver_version(start_node):
    version = "b = ctypes.create_string_buffer(80); call('nvmlSystemGetDriverVersion', b, 80); print(b.value.decode())"
    node = start_node("T4", "node", "--driver", "535.183.01")
    assert on_node(node.directory, version) == "535.183.01"
    assert "535.183.01" in (node.directory / "root/proc/driver/nvidia/version").read_text()


def test_a_file_describes_a_node(start_node, tmp_path):
    spec = tmp_path / "node.yaml"
    spec.write_text("driverVersion: 560.35.03\n"
                    "gpus:\n- model: H100-80GB\n  count: 2\n  memory: 40Gi\n  numaNode: 1\n- model: L4\n")
    node = start_node(str(spec))
    assert on_node(node.directory, "print(count(), memory(handle(0))[0])") == f"3 {40 << 30}"


def test_joining_what_is_not_there(tmp_path, start_node):
    done = run("sim", "--join", str(tmp_path / "nowhere"), "--", "true")
    assert done.returncode == 1 and "nowhere" in done.stderr
    node = start_node()
    node.stop()
    done = run("sim", "--join", str(node.directory), "--", "true")
    assert done.returncode == 1 and "not running any more" in done.stderr


def test_a_directory_has_one_node(node):
    done = run("sim", "T4", "--state", str(node.directory), "--", "true")
    assert done.returncode == 1
    assert "already running" in done.stderr and "--join" in done.stderr
    assert on_node(node.directory, "print(count())") == "2"


def test_of_many_that_start_at_once_one_gets_the_directory(tmp_path):
    command = [GPUSHARE, "sim", "T4", "--state", str(tmp_path / "node"), "--", "sh", "-c", "echo up; exec cat"]
    options = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    processes = [subprocess.Popen(command, **options) for _ in range(8)]
    # The winner stays until its input ends, so every other must have lost to it.
    lines = [process.stdout.readline().strip() for process in processes]
    assert sorted(lines) == [""] * 7 + ["up"]
    for process in processes:
        _, errors = process.communicate(timeout=PATIENCE)
        assert process.returncode == 0 or "already running" in errors


def test_a_full_disk_is_an_error(tmp_path):
    small = tmp_path / "small"
    small.mkdir()
    script = 'mount -t tmpfs -o size=600k none "$1" || exit 99; "$2" sim T4 --state "$1/node" -- true'
    done = subprocess.run(["unshare", "-m", "sh", "-c", script, "sh", str(small), GPUSHARE], capture_output=True,
                          text=True, timeout=PATIENCE)
    if "unshare" in done.stderr or done.returncode == 99:
        pytest.skip("cannot mount a small disk: " + done.stderr.strip())
    assert done.returncode == 1
    assert "No space left" in done.stderr and "node/state" in done.stderr


def test_a_directory_with_something_else_in_it_is_left_alone(tmp_path):
    precious = tmp_path / "home" / "thesis.tex"
    precious.parent.mkdir()
    precious.write_text("all of it")
    done = run("sim", "T4", "--state", str(precious.parent), "--", "true")
    assert done.returncode != 0 and "not empty" in done.stderr
    assert precious.read_text() == "all of it"
    assert list(precious.parent.iterdir()) == [precious]


def test_state_stays_where_it_was_asked_for(tmp_path):
    assert run("sim", "T4", "--state", str(tmp_path / "kept"), "--", "true").returncode == 0
    assert (tmp_path / "kept" / "state").exists()
    assert stat.S_IMODE((tmp_path / "kept").stat().st_mode) == 0o700
    assert run("sim", "2xT4", "--state", str(tmp_path / "kept"), "--", "true").returncode == 0


def test_a_killed_owner_leaves_a_directory_that_serves_again(start_node):
    node = start_node("2xT4", "node")
    node.process.kill()
    node.process.wait(PATIENCE)
    again = start_node("L4", "node")
    assert on_node(again.directory, "print(count(), text('nvmlDeviceGetName', handle(0)))") == "1 NVIDIA L4"


def test_the_command_does_not_outlive_a_killed_owner(tmp_path):
    command = [GPUSHARE, "sim", "T4", "--state", str(tmp_path / "node"), "--", "sh", "-c", "echo $$; exec sleep 1000"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        child = int(process.stdout.readline())
        process.kill()
        process.wait(PATIENCE)

        def is_gone():
            try:
                return pathlib.Path(f"/proc/{child}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
            except OSError:
                return True
        eventually(is_gone)


@pytest.fixture
def somebody():
    """Options that run a command as a user whom permissions bind, and a directory that this user can get to."""
    with tempfile.TemporaryDirectory() as directory:
        os.chmod(directory, 0o755)
        identity = {"cwd": "/"}
        if os.getuid() == 0:
            identity.update(user=65534, group=65534, extra_groups=[])
        try:
            subprocess.run([GPUSHARE, "sim", "models"], check=True, stdout=subprocess.DEVNULL, **identity)
        except (OSError, subprocess.SubprocessError):
            pytest.skip("another user cannot run the program from here")
        yield identity, pathlib.Path(directory)


def test_a_read_only_place(somebody):
    identity, directory = somebody
    place = directory / "locked"
    place.mkdir(mode=0o555)
    done = run("sim", "T4", "--state", str(place / "node"), "--", "true", **identity)
    assert done.returncode == 1 and "cannot create" in done.stderr and "locked/node" in done.stderr
    done = run("sim", "T4", "--state", str(place), "--", "true", **identity)
    assert done.returncode == 1 and "cannot create" in done.stderr


def test_it_needs_no_privileges(somebody):
    identity, directory = somebody
    open_to_all = directory / "open"
    open_to_all.mkdir()
    open_to_all.chmod(0o777)
    count = ("sh", "-c", "ls $GPUSHARE_SIM/root/dev | wc -l")
    done = run("sim", "2xT4", "--state", str(open_to_all / "node"), "--", *count, **identity)
    assert done.returncode == 0 and done.stdout.strip() == "6", done.stderr


@pytest.mark.parametrize("damage", [lambda f: f.truncate(0), lambda f: f.truncate(4096),
                                    lambda f: f.write(b"\xff" * 4096)])
def test_a_damaged_state_is_an_error_and_no_crash(tmp_path, damage):
    directory = tmp_path / "node"
    assert run("sim", "T4", "--state", str(directory), "--", "true").returncode == 0
    with open(directory / "state", "r+b") as file:
        damage(file)
    done = run("sim", "inject", "--state", str(directory), "--gpu", "0", "lost")
    assert done.returncode in (1, 2) and "state" in done.stderr
    # It is no node any more, so making it anew is what helps.
    assert run("sim", "T4", "--state", str(directory), "--", "true").returncode == 0


@pytest.mark.parametrize("spec, says", [
    ("8xA100-8OGB", "character 3: unknown GPU model 'A100-8OGB'; did you mean A100-80GB?"),
    ("0xT4", "a count of 0"),
    ("33xT4", "at most 32"),
    ("", "a GPU model is missing"),
    ("T4,,L4", "character 4"),
    ("8xa100", "did you mean A100-40GB?"),
    ("nowhere.yaml", "nowhere.yaml"),
    ("/dev/null", "/dev/null: the file is empty"),
    ("/", "/"),
])
def test_bad_specs(spec, says):
    done = run("sim", spec, "--", "true")
    assert done.returncode in (1, 2)
    assert says in done.stderr and len(done.stderr.splitlines()) == 1


def test_a_mistyped_sub_command_is_recognised():
    done = run("sim", "modles")
    assert done.returncode == 2 and "did you mean 'gpushare sim models'?" in done.stderr


def test_help_is_there():
    for command in (["sim"], ["sim", "inject"], ["sim", "models"]):
        done = run(*command, "--help")
        assert done.returncode == 0 and done.stdout.startswith(f"gpushare {' '.join(command)}: ")


def test_bad_options(tmp_path):
    assert "no seed" in run("sim", "T4", "--seed", "x", "--", "true").stderr
    assert "no driver version" in run("sim", "T4", "--driver", "new", "--", "true").stderr
    for arguments in (["sim"], ["sim", "--join", str(tmp_path), "--state", str(tmp_path), "--", "true"]):
        done = run(*arguments)
        assert done.returncode == 2 and done.stderr


def test_the_files_of_a_node(node):
    root = node.directory / "root"
    devices = {"nvidia0", "nvidia1", "nvidiactl", "nvidia-uvm", "nvidia-uvm-tools"}
    assert {file.name for file in (root / "dev").iterdir()} == devices | {"nvidia-caps"}
    assert {file.name for file in (root / "dev/nvidia-caps").iterdir()} == {"nvidia-cap1", "nvidia-cap2"}
    for file in ((root / "dev") / name for name in devices):
        with open(file, "r+b"):  # anybody can, and nothing happens
            pass
    uuid = on_node(node.directory, "print(text('nvmlDeviceGetUUID', handle(0)))")
    (gpu, _) = sorted((root / "proc/driver/nvidia/gpus").iterdir())
    information = dict(line.split(":", 1) for line in (gpu / "information").read_text().splitlines())
    assert information["GPU UUID"].strip() == uuid
    assert information["Bus Location"].strip() == gpu.name
    assert information["Device Minor"].strip() == "0"
    pci = root / "sys/bus/pci/devices" / gpu.name
    assert os.readlink(pci) == "../../../devices/pci0000:00/" + gpu.name and pci.is_dir()
    config = (pci / "config").read_bytes()
    values = {f.name: f.read_text().strip() for f in pci.iterdir() if f.name != "config"}
    assert values["vendor"] == "0x10de" and values["device"] == "0x20b2" and values["class"] == "0x030200"
    assert values["numa_node"] == "0"
    assert len(config) == 4096 and struct.unpack_from("<HH", config) == (0x10DE, 0x20B2)
    assert struct.unpack_from("<I", config, 8)[0] >> 8 == 0x030200, "the class"
    regions = [[int(word, 16) for word in line.split()] for line in values["resource"].splitlines()]
    assert len(regions) == 7 and [end - start + 1 for start, end, flags in regions if flags] == [16 << 20, 128 << 30, 32 << 20]
    low, high = struct.unpack_from("<II", config, 0x14)
    assert (high << 32 | low) & ~0xF == regions[1][0]


# Processes


@pytest.mark.skipif(not (BUILD / "sim/cuda/libcuda.so.1").exists(), reason="libcuda.so.1 is not built")
def test_sigkill_frees_memory(node):
    used = "print(memory(handle(0))[2])"
    idle = int(on_node(node.directory, used))
    command = [GPUSHARE, "sim", "--join", str(node.directory), "--", sys.executable, "-c", HOLD_MEMORY]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        await_line(process, "ready")
        assert int(on_node(node.directory, used)) >= idle + (1 << 30)
        process.kill()
        process.wait(PATIENCE)
    assert int(on_node(node.directory, used)) == idle


# Faults


def inject(node, *arguments):
    return run("sim", "inject", "--state", str(node.directory), *arguments)


WAIT_FOR_EVENT = """
class Event(ctypes.Structure):
    _fields_ = [("device", ctypes.c_void_p), ("type", ctypes.c_ulonglong), ("data", ctypes.c_ulonglong),
                ("gi", ctypes.c_uint), ("ci", ctypes.c_uint)]
events = ctypes.c_void_p()
call("nvmlEventSetCreate", ctypes.byref(events))
for i in range(count()):
    call("nvmlDeviceRegisterEvents", handle(i), ctypes.c_ulonglong(0xB), events)
print("up", flush=True)
for _ in range(int(sys.argv[1])):
    event = Event()
    call("nvmlEventSetWait_v2", events, ctypes.byref(event), 60000)
    print(event.type, event.data, flush=True)
"""


def test_events_arrive_as_nvml_reports_them(node):
    program = PRELUDE + WAIT_FOR_EVENT
    command = [GPUSHARE, "sim", "--join", str(node.directory), "--", sys.executable, "-c", program, "5"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        await_line(process, "up")
        assert inject(node, "--gpu", "0", "xid=31", "ecc=single").returncode == 0
        await_line(process, "8 31")
        await_line(process, "1 0")
        assert inject(node, "--gpu", "1", "ecc=double").returncode == 0
        await_line(process, "2 0")
        await_line(process, "8 48")
        assert inject(node, "--gpu", "0", "remap-failed").returncode == 0
        await_line(process, "8 64")
        assert process.wait(PATIENCE) == 0


def temperature_status(node):
    return on_node(node.directory, "t = ctypes.c_uint(); "
                   "s = nvml.nvmlDeviceGetTemperature(handle(0), 0, ctypes.byref(t)); print(s, t.value)")


def test_lost_and_recovered(node):
    assert inject(node, "--gpu", "1", "xid=79").returncode == 0
    look = "t = ctypes.c_uint(); h = ctypes.c_void_p(); s = nvml.nvmlDeviceGetHandleByIndex_v2(1, ctypes.byref(h)); " \
           "print(s or nvml.nvmlDeviceGetTemperature(h, 0, ctypes.byref(t)))"
    assert on_node(node.directory, look) == str(GPU_IS_LOST)
    assert temperature_status(node).startswith("0 ")
    assert inject(node, "--gpu", "1", "recovered").returncode == 0
    assert on_node(node.directory, look) == "0"
    uuid = on_node(node.directory, "print(text('nvmlDeviceGetUUID', handle(1)))")
    assert inject(node, "--gpu", uuid, "lost").returncode == 0
    assert on_node(node.directory, look) == str(GPU_IS_LOST)


def test_temperature(node):
    cool = temperature_status(node)
    assert inject(node, "--gpu", "0", "temperature=95").returncode == 0
    assert temperature_status(node) == "0 95"
    assert inject(node, "--gpu", "0", "temperature=auto").returncode == 0
    assert temperature_status(node) == cool


def test_unplug_and_plug(node):
    first, second = (on_node(node.directory, f"print(text('nvmlDeviceGetUUID', handle({i})))") for i in (0, 1))
    assert inject(node, "--gpu", "0", "unplug").returncode == 0
    assert on_node(node.directory, "print(count(), text('nvmlDeviceGetUUID', handle(0)))") == f"1 {second}"
    done = inject(node, "--gpu", "0", "xid=79")
    assert done.returncode == 1 and "unplugged" in done.stderr
    done = inject(node, "plug", "L4")
    assert done.returncode == 0 and "NVIDIA L4" in done.stdout
    assert on_node(node.directory, "print(count(), text('nvmlDeviceGetName', handle(1)))") == "2 NVIDIA L4"
    assert first not in on_node(node.directory, "print([text('nvmlDeviceGetUUID', handle(i)) for i in range(count())])")


def test_nvml_calls_fail_on_demand(node):
    assert inject(node, "nvml:nvmlDeviceGetCount_v2=999:2").returncode == 0
    ask = "n = ctypes.c_uint(); print([nvml.nvmlDeviceGetCount_v2(ctypes.byref(n)) for _ in range(3)])"
    assert on_node(node.directory, ask) == "[999, 999, 0]"
    assert inject(node, "nvml:nvmlDeviceGetCount_v2=3").returncode == 0
    assert on_node(node.directory, ask) == "[3, 3, 3]"
    assert inject(node, "nvml:nvmlDeviceGetCount_v2=0").returncode == 0
    assert on_node(node.directory, ask) == "[0, 0, 0]"


@pytest.mark.parametrize("arguments, says", [
    ([], "which fault?"),
    (["xid=79"], "--gpu"),
    (["--gpu", "0", "xdi=79"], "did you mean 'xid'?"),
    (["--gpu", "0", "xid"], "needs a value"),
    (["--gpu", "0", "xid=abc"], "no XID"),
    (["--gpu", "0", "xid=0"], "no XID"),
    (["--gpu", "0", "lost=1"], "takes no value"),
    (["--gpu", "0", "temperature=1000"], "no temperature"),
    (["--gpu", "0", "ecc=triple"], "single or ecc=double"),
    (["--gpu", "7", "lost"], "there is no GPU 7"),
    (["--gpu", "GPU-nope", "lost"], "there is no GPU"),
    (["plug"], "needs a value"),
    (["plug", "A100-8OGB"], "did you mean A100-80GB?"),
    (["nvml:cudaMalloc=1"], "names no call"),
    (["nvml:nvmlDeviceGetUUD=1"], "did you mean nvmlDeviceGetUUID?"),
    (["nvml:nvmlDeviceFlyToTheMoonAndBack=1"], "NVML has no nvmlDeviceFly"),
    (["nvml:nvmlInit_v2=x"], "return code"),
    (["nvml:nvmlInit_v2"], "names no call"),
    (["nvml=1"], "needs a value"),
])
def test_bad_faults(node, arguments, says):
    done = inject(node, *arguments)
    assert done.returncode == 2
    assert says in done.stderr


def test_a_mistake_in_one_fault_plays_none(node):
    assert inject(node, "--gpu", "0", "temperature=95", "typo").returncode == 2
    assert not temperature_status(node).endswith(" 95")


def test_inject_without_a_node():
    done = run("sim", "inject", "--gpu", "0", "lost")
    assert done.returncode == 2 and "GPUSHARE_SIM" in done.stderr


def test_inject_into_a_node_that_is_over(start_node):
    node = start_node()
    node.stop()
    done = inject(node, "--gpu", "0", "lost")
    assert done.returncode == 1 and "not running any more" in done.stderr


def test_the_models_are_listed():
    table = run("sim", "models")
    listed = json.loads(run("sim", "models", "-o", "json").stdout)
    assert table.returncode == 0
    assert len(listed) == len(table.stdout.splitlines()) - 1 == 11
    for model in listed:
        assert model["model"] in table.stdout and model["name"] in table.stdout
        assert run("sim", model["model"], "--", "true").returncode == 0
