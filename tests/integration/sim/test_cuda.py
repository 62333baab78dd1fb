"""The simulated libcuda.so.1 as programs meet it: NVIDIA's own Python bindings, a compiled program, `gpushare sim load`."""

import contextlib
import fcntl
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import time

import pytest

REPOSITORY = pathlib.Path(__file__).resolve().parents[3]
BUILD = pathlib.Path(os.environ.get("GPUSHARE_BUILD", REPOSITORY / "build")).resolve()
GPUSHARE = str(BUILD / "gpushare")
PACKAGES = BUILD / "venv-cuda"
PATIENCE = 120  # seconds; only ever reached when something hangs
MIB = 1 << 20

UUIDS = """
import ctypes
cuda = ctypes.CDLL("libcuda.so.1")
count = ctypes.c_int(0)
status = cuda.cuInit(0)
if status:
    print("none", status)
cuda.cuDeviceGetCount(ctypes.byref(count))
for device in range(count.value):
    uuid = ctypes.create_string_buffer(16)
    cuda.cuDeviceGetUuid_v2(uuid, device)
    h = uuid.raw.hex()
    print("GPU-" + "-".join([h[:8], h[8:12], h[12:16], h[16:20], h[20:]]))
"""

HOLD = """
import ctypes, sys
cuda = ctypes.CDLL("libcuda.so.1")
context, pointer = ctypes.c_void_p(), ctypes.c_ulonglong()
assert cuda.cuInit(0) == 0
assert cuda.cuCtxCreate_v2(ctypes.byref(context), 0, 0) == 0
assert cuda.cuMemAlloc_v2(ctypes.byref(pointer), ctypes.c_size_t(10 << 30)) == 0
print("ready", flush=True)
sys.stdin.read()
"""

FREE = """
import ctypes
cuda = ctypes.CDLL("libcuda.so.1")
context, free, total = ctypes.c_void_p(), ctypes.c_size_t(), ctypes.c_size_t()
assert cuda.cuInit(0) == 0
assert cuda.cuCtxCreate_v2(ctypes.byref(context), 0, 0) == 0
assert cuda.cuMemGetInfo_v2(ctypes.byref(free), ctypes.byref(total)) == 0
print(free.value)
"""


@pytest.fixture(autouse=True)
def clean_environment(tmp_path, monkeypatch):
    for name in ("GPUSHARE_SIM", "CUDA_VISIBLE_DEVICES", "NVIDIA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TMPDIR", str(tmp_path))


class Node:
    """A simulated node that runs until it is stopped."""

    def __init__(self, spec, directory):
        self.directory = str(directory)
        self.process = subprocess.Popen([GPUSHARE, "sim", spec, "--state", self.directory, "--", "sh", "-c", "echo up; exec cat"],
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout.readline() == "up\n"

    def command(self, *command):
        return [GPUSHARE, "sim", "--join", self.directory, "--", *map(str, command)]

    def start(self, *command, **environment):
        return subprocess.Popen(self.command(*command), stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                stderr=subprocess.PIPE, text=True, env={**os.environ, **environment})

    def run(self, *command, **environment):
        return subprocess.run(self.command(*command), stdin=subprocess.DEVNULL, capture_output=True, text=True,
                              timeout=PATIENCE, env={**os.environ, **environment})

    def python(self, program, **environment):
        done = self.run(sys.executable, "-c", program, **environment)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout.split()

    def inject(self, *fault):
        subprocess.run([GPUSHARE, "sim", "inject", "--state", self.directory, *fault], check=True, timeout=PATIENCE)

    def stop(self):
        self.process.stdin.close()
        self.process.wait(PATIENCE)
        self.process.stdout.close()


@contextlib.contextmanager
def running(spec, directory):
    node = Node(spec, directory)
    try:
        yield node
    finally:
        node.stop()


@pytest.fixture
def node(tmp_path):
    with running("3xA100-80GB", tmp_path / "node") as made:
        yield made


@contextlib.contextmanager
def process(started):
    """Whatever happens, the process is gone afterwards."""
    try:
        yield started
    finally:
        if started.poll() is None:
            started.kill()
        started.communicate(timeout=PATIENCE)


# Clients


@pytest.fixture(scope="session")
def bindings():
    """The folder of NVIDIA's cuda-bindings, installed once."""
    BUILD.mkdir(exist_ok=True)
    with open(BUILD / ".venv-cuda.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (PACKAGES / "cuda" / "bindings").exists():
            try:
                done = subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check",
                                       "--target", str(PACKAGES), "cuda-bindings"], capture_output=True, text=True, timeout=300)
            except (OSError, subprocess.TimeoutExpired) as error:
                pytest.skip(f"cuda-bindings cannot be had: {error}")
            if done.returncode != 0:
                shutil.rmtree(PACKAGES, ignore_errors=True)
                pytest.skip(f"cuda-bindings cannot be had: {done.stderr.strip()[-300:]}")
    return str(PACKAGES)


BINDINGS_PROGRAM = """
import ctypes
from cuda.bindings import driver

def call(name, *arguments):
    status, *values = getattr(driver, name)(*arguments)
    assert status == driver.CUresult.CUDA_SUCCESS, (name, status)
    return values[0] if len(values) == 1 else values

call("cuInit", 0)
assert call("cuDriverGetVersion") >= 13000
assert call("cuDeviceGetCount") == 3
device = call("cuDeviceGet", 0)
assert call("cuDeviceGetName", 64, device).split(b"\\0")[0] == b"NVIDIA A100-SXM4-80GB"
attribute = driver.CUdevice_attribute
assert call("cuDeviceGetAttribute", attribute.CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT, device) == 108
assert call("cuDeviceGetAttribute", attribute.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, device) == 8
context = call("cuCtxCreate", None, 0, device)
free, total = call("cuMemGetInfo")
memory = call("cuMemAlloc", 1 << 30)
assert call("cuMemGetInfo")[0] == free - (1 << 30)
data = bytes(i * 7 % 256 for i in range(100000))
call("cuMemcpyHtoD", memory, data, len(data))
copy = call("cuMemAlloc", len(data))
call("cuMemcpyDtoD", copy, memory, len(data))
back = bytearray(len(data))
call("cuMemcpyDtoH", back, copy, len(data))
assert bytes(back) == data
kind = call("cuPointerGetAttribute", driver.CUpointer_attribute.CU_POINTER_ATTRIBUTE_MEMORY_TYPE, memory)
assert int(kind) == int(driver.CUmemorytype.CU_MEMORYTYPE_DEVICE)
ptx = b".version 7.0 .target sm_50 .address_size 64 .visible .entry spin(.param .u64 n) { ret; }\\0"
module = call("cuModuleLoadData", ptx)
function = call("cuModuleGetFunction", module, b"spin")
stream = call("cuStreamCreate", 0)
start, end = call("cuEventCreate", 0), call("cuEventCreate", 0)
call("cuEventRecord", start, stream)
call("cuLaunchKernel", function, 1, 1, 1, 32, 1, 1, 0, stream, ((30000000,), (ctypes.c_uint64,)), 0)
call("cuEventRecord", end, stream)
call("cuEventSynchronize", end)
assert call("cuEventElapsedTime", start, end) >= 30
assert driver.cuMemAlloc(1 << 50)[0] == driver.CUresult.CUDA_ERROR_OUT_OF_MEMORY
assert call("cuGetErrorString", driver.CUresult.CUDA_ERROR_OUT_OF_MEMORY) == b"out of memory"
library = call("cuLibraryLoadData", ptx, None, None, 0, None, None, 0)
kernel = call("cuLibraryGetKernel", library, b"spin")
call("cuKernelGetFunction", kernel)
pool = call("cuDeviceGetDefaultMemPool", device)
pooled = call("cuMemAllocAsync", 1 << 20, stream)
assert int(call("cuMemPoolGetAttribute", pool, driver.CUmemPool_attribute.CU_MEMPOOL_ATTR_USED_MEM_CURRENT)) == 1 << 20
call("cuMemFreeAsync", pooled, stream)
call("cuMemFree", memory)
call("cuCtxDestroy", context)
print("done")
"""


def test_nvidias_python_bindings(node, bindings):
    assert node.python(BINDINGS_PROGRAM, PYTHONPATH=bindings) == ["done"]


def test_python_bindings_with_per_thread_streams(node, bindings):
    assert node.python(BINDINGS_PROGRAM, PYTHONPATH=bindings, CUDA_PYTHON_CUDA_PER_THREAD_DEFAULT_STREAM="1") == ["done"]


@pytest.fixture(scope="session")
def program(tmp_path_factory):
    compiler = shutil.which("cc") or shutil.which("gcc") or pytest.skip("there is no C compiler")
    built = tmp_path_factory.mktemp("program") / "program"
    subprocess.run([compiler, "-Wall", "-Werror", "-o", built, REPOSITORY / "tests/integration/sim/cuda_program.c",
                    f"-I{REPOSITORY / 'include'}", f"-L{BUILD / 'sim/cuda'}", "-lcuda"], check=True, timeout=PATIENCE)
    return built


def test_a_compiled_program(node, program):
    done = node.run(program)
    assert done.returncode == 0, done.stderr


def test_eight_processes_at_once(node, program):
    started = [node.start(program) for _ in range(8)]
    for one in started:
        _, errors = one.communicate(timeout=PATIENCE)
        assert one.returncode == 0, errors


def test_without_a_node_there_is_no_device(program):
    done = subprocess.run([program], capture_output=True, text=True, timeout=PATIENCE,
                          env={**os.environ, "LD_LIBRARY_PATH": str(BUILD / "sim" / "cuda")})
    assert done.returncode == 1 and "CUDA_ERROR_NO_DEVICE" in done.stderr


# Which GPUs are visible


def test_visible_devices(node):
    every = node.python(UUIDS)
    assert len(set(every)) == 3
    first, second, third = every

    def visible(value):
        return node.python(UUIDS, CUDA_VISIBLE_DEVICES=value)

    assert visible("1") == [second]
    assert visible("2,0") == [third, first]
    assert visible(f"{third},{first}") == [third, first]
    assert visible(second[:14]) == [second]
    assert visible("0,5,1") == [first]
    assert visible("") == ["none", "100"]
    assert visible("-1") == ["none", "100"]
    assert node.python(UUIDS, NVIDIA_VISIBLE_DEVICES="1") == every  # that is for container runtimes


def test_hot_plug_changes_what_new_processes_see(node):
    every = node.python(UUIDS)
    node.inject("--gpu", "1", "unplug")
    assert node.python(UUIDS) == [every[0], every[2]]
    node.inject("plug", "A100-80GB")
    assert len(node.python(UUIDS)) == 3
    node.inject("--gpu", "0", "lost")
    assert every[0] not in node.python(UUIDS)


# Death


def test_sigkill_frees_memory(node):
    free = int(node.python(FREE)[0])
    with process(node.start(sys.executable, "-c", HOLD)) as holder:
        assert holder.stdout.readline() == "ready\n"
        assert int(node.python(FREE)[0]) < free - (10 << 30)
        holder.kill()
        holder.wait(PATIENCE)
        assert int(node.python(FREE)[0]) == free


# gpushare sim load


def test_load_holds_memory_and_ends_on_a_signal(node):
    free = int(node.python(FREE)[0])
    with process(node.start(GPUSHARE, "sim", "load", "--memory", "4Gi", "--busy", "30%", "--name", "trainer")) as load:
        ready = load.stdout.readline()
        assert re.fullmatch(r"trainer: holding 4Gi on GPU-[0-9a-f-]{36}, busy 30%\n", ready)
        assert free - int(node.python(FREE)[0]) > 4 << 30
        load.send_signal(signal.SIGTERM)
        rest, errors = load.communicate(timeout=PATIENCE)
        assert load.returncode == 0 and not errors
        assert rest.startswith("trainer: held 4Gi on GPU-")
    assert int(node.python(FREE)[0]) == free


def test_load_ends_by_itself(node):
    done = node.run(GPUSHARE, "sim", "load", "--gpu", "2", "--memory", "0", "--busy", "100", "--for", "300ms")
    assert done.returncode == 0, done.stderr
    assert node.python(UUIDS)[2] in done.stdout


def test_load_says_what_was_free(node):
    with process(node.start(GPUSHARE, "sim", "load", "--memory", "60Gi", "--busy", "0")) as load:
        assert "holding 60Gi" in load.stdout.readline()
        done = node.run(GPUSHARE, "sim", "load", "--memory", "40Gi")
        assert done.returncode == 1 and not done.stdout
        found = re.search(r"out of memory: 40Gi was asked of GPU-\S+, (\d+)Mi of (\d+)Mi is free", done.stderr)
        assert found and int(found[1]) < 20 * 1024 < int(found[2])


@pytest.mark.parametrize("busy", ["0", "50%"])
def test_load_on_a_gpu_that_gets_lost(node, busy):
    with process(node.start(GPUSHARE, "sim", "load", "--gpu", "1", "--busy", busy)) as load:
        load.stdout.readline()
        node.inject("--gpu", "1", "lost")
        _, errors = load.communicate(timeout=PATIENCE)
        assert load.returncode == 1
        assert "does not work any more: CUDA_ERROR_DEVICE_UNAVAILABLE" in errors


def test_load_on_a_gpu_that_is_unplugged(node):
    with process(node.start(GPUSHARE, "sim", "load", "--gpu", "1")) as load:
        load.stdout.readline()
        node.inject("--gpu", "1", "unplug")
        _, errors = load.communicate(timeout=PATIENCE)
        assert load.returncode == 1 and "does not work any more" in errors


def test_load_honours_both_variables(node):
    every = node.python(UUIDS)

    def chosen(*arguments, **environment):
        done = node.run(GPUSHARE, "sim", "load", "--memory", "0", "--for", "1ms", *arguments, **environment)
        return re.search(r"GPU-[0-9a-f-]{36}", done.stdout)[0] if done.returncode == 0 else done.stderr

    assert chosen(CUDA_VISIBLE_DEVICES="2") == every[2]
    assert chosen(NVIDIA_VISIBLE_DEVICES="1") == every[1]
    assert chosen(NVIDIA_VISIBLE_DEVICES=every[2]) == every[2]
    assert chosen(NVIDIA_VISIBLE_DEVICES="1", CUDA_VISIBLE_DEVICES="0") == every[0]
    assert chosen(NVIDIA_VISIBLE_DEVICES="all") == every[0]
    assert "no GPU is visible" in chosen(NVIDIA_VISIBLE_DEVICES="none")
    assert chosen("--gpu", every[1]) == every[1]
    assert "there is no GPU" in chosen("--gpu", every[1], CUDA_VISIBLE_DEVICES="0")


@pytest.mark.parametrize("arguments, words", [
    (["--busy", "101"], "no share of time"),
    (["--busy", "nan"], "no share of time"),
    (["--memory", "lots"], "--memory"),
    (["--memory", "-1"], "--memory"),
    (["--for", "0"], "no time to run"),
    (["--for", "soon"], "--for"),
    (["extra"], "extra"),
    (["--memroy", "1Gi"], "--memory"),
])
def test_load_refuses_what_makes_no_sense(arguments, words):
    done = subprocess.run([GPUSHARE, "sim", "load", *arguments], capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode == 2 and words in done.stderr


def test_two_loads_share_the_gpu(node):
    """Each wants more than half of the time: one GPU cannot do more work than there was time for."""
    start = time.monotonic()
    loads = [node.start(GPUSHARE, "sim", "load", "--memory", "0", "--busy", "80%", "--for", "2s") for _ in range(2)]
    worked = []
    for load in loads:
        out, errors = load.communicate(timeout=PATIENCE)
        assert load.returncode == 0, errors
        worked.append(float(re.search(r"of which ([\d.]+)s busy", out)[1]))
    elapsed = time.monotonic() - start
    assert min(worked) > 0
    assert sum(worked) <= elapsed + 0.1  # the figures are rounded
