"""MIG on the simulated node, driven by programs that nobody here wrote: nvidia-smi of two releases and NVIDIA's Python bindings.

Clients are fetched as in test_nvml_clients; a test whose client cannot be had is skipped and says why.
"""

import os
import re
import subprocess
import sys
import textwrap
import xml.etree.ElementTree

import pytest

from test_nvml_clients import BUILD, CLIENTS, PATIENCE, client, fetched, smi  # noqa: F401 (fixtures)
from test_sim import somebody  # noqa: F401

GPUSHARE = str(BUILD / "gpushare")

OK, INVALID, NOT_FOUND, IN_USE, NO_ROOM = 0, 2, 6, 19, 23


@pytest.fixture
def on_node(tmp_path):
    """Runs, as root, a shell script on a simulated node; returns its output. `$SMI` and `$GPUSHARE` are set for it."""

    if os.geteuid() != 0:
        pytest.skip("only root may partition a GPU")

    def run(script, spec="A100-80GB", mig=None, smi="false", status=0, **environment):
        command = [GPUSHARE, "sim", spec, "--seed", "7", *(["--mig", mig] if mig else []), "--", "sh", "-c", textwrap.dedent(script)]
        environment = {**os.environ, "SMI": smi, "GPUSHARE": GPUSHARE, "HOME": str(tmp_path), "TMPDIR": str(tmp_path), **environment}
        environment.pop("CUDA_VISIBLE_DEVICES", None)
        done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, env=environment, cwd=tmp_path)
        assert done.returncode == status, done.stdout + done.stderr
        assert not list(tmp_path.glob("gpushare-sim-*"))
        return done.stdout

    return run


@pytest.fixture
def steps(on_node, smi):
    """Runs nvidia-smi once for each of a list of argument strings, on one node; [(exit status, lines of output)]."""

    def run(*commands, **options):
        script = "".join(f'$SMI {command}; echo "==rc $?"\n' if not command.startswith("!")
                         else f'{command[1:]}; echo "==rc $?"\n' for command in commands)
        out = on_node(script, smi=smi, **options)
        parts = re.split(r"^==rc (\d+)\n", out, flags=re.M)
        return [(int(code), text.strip().splitlines()) for text, code in zip(parts[0::2], parts[1::2])]

    return run


def instances(lines):
    """Rows of `mig -lgi`: (profile name, profile id, instance id, start, size)."""
    found = re.findall(r"^\| +\d+ +MIG (\S+) +(\d+) +(\d+) +(\d+):(\d+)", "\n".join(lines), flags=re.M)
    return [(name, *map(int, numbers)) for name, *numbers in found]


def test_the_folklore_for_seven_small_ones_half_applies_and_fails(steps):
    """On an A100-80GB profile 9 is 3g.40gb, of which two fit; what was made before the failure stays."""
    mode, create, compute, listed = steps("-i 0 -mig 1", "mig -cgi 9,9,9,9,9,9,9 -i 0", "mig -cci -gi 0,1,2,3,4,5,6 -i 0", "mig -lgi")
    assert mode == (OK, ["Enabled MIG Mode for GPU 00000000:07:00.0", "All done."])
    assert create == (NO_ROOM, [
        "Successfully created GPU instance ID  2 on GPU  0 using profile MIG 3g.40gb (ID  9)",
        "Successfully created GPU instance ID  1 on GPU  0 using profile MIG 3g.40gb (ID  9)",
        "Unable to create a GPU instance on GPU  0 using profile 9: Insufficient Resources",
        "Failed to create GPU instances: Insufficient Resources"])
    assert compute == (OK, [
        "Successfully created compute instance ID  0 on GPU  0 GPU instance ID  1 using profile MIG 3g.40gb (ID  2)",
        "Successfully created compute instance ID  0 on GPU  0 GPU instance ID  2 using profile MIG 3g.40gb (ID  2)"])
    assert instances(listed[1]) == [("3g.40gb", 9, 1, 0, 4), ("3g.40gb", 9, 2, 4, 4)]


@pytest.mark.parametrize("spec", ["A100-80GB", "H100-80GB"])
def test_seven_small_ones_by_their_own_id(steps, spec):
    mode, create, compute, names, again = steps(
        "-i 0 -mig 1", "mig -cgi 19,19,19,19,19,19,19 -i 0", "mig -cci -gi 7,8,9,10,11,12,13 -i 0", "-L", "mig -cgi 19 -i 0", spec=spec)
    assert mode[0] == OK and create[0] == OK and compute[0] == OK
    # The ids tell the places, and those are the ones that drivers choose.
    assert [int(re.search(r"instance ID +(\d+)", line)[1]) for line in create[1]] == [13, 11, 12, 7, 8, 9, 10]
    devices = [line for line in names[1] if "MIG 1g.10gb" in line]
    assert len(devices) == 7 and len(set(re.findall(r"MIG-[0-9a-f-]{36}", "\n".join(devices)))) == 7
    assert again[0] == NO_ROOM


def test_life_cycle(steps):
    results = steps("mig -lgi", "-i 0 -mig 1", "mig -lgi", "mig -lci", "mig -dgi", "mig -dci", "mig -cgi 99 -i 0",
                    "mig -cgi 3g.40gb:4,1g.10gb -C -i 0", "mig -cgi 9:1 -i 0", "mig -cgi 9:4 -i 0", "mig -lgi", "mig -lci",
                    "mig -dgi -gi 2 -i 0", "-i 0 -mig 0", "mig -dci -i 0", "mig -dgi -i 0", "-i 0 -mig 0")
    codes = [code for code, _ in results]
    assert codes[1:] == [OK, NOT_FOUND, NOT_FOUND, NOT_FOUND, NOT_FOUND, INVALID, OK, INVALID, NO_ROOM, OK, OK, IN_USE, IN_USE, OK, OK, OK]
    text = ["\n".join(lines) for _, lines in results]
    assert text[0] == "No MIG-enabled devices found."
    for i in (2, 3, 4, 5):
        assert text[i] == "No GPU instances found: Not Found"
    assert "using profile 99: Invalid Argument" in text[6]
    assert "GPU instance ID  2 on GPU  0 using profile MIG 3g.40gb (ID  9)" in text[7]
    assert "GPU instance ID  7 using profile MIG 1g.10gb (ID  0)" in text[7]
    assert instances(results[10][1]) == [("1g.10gb", 19, 7, 0, 1), ("3g.40gb", 9, 2, 4, 4)]
    assert re.search(r"0 +2 +MIG 3g.40gb +2 +0 +0:3", text[11]) and re.search(r"0 +7 +MIG 1g.10gb +0 +0 +0:1", text[11])
    assert "Unable to destroy GPU instance ID  2 from GPU  0: In use by another client" in text[12]
    assert text[13] == "Unable to disable MIG Mode for GPU 00000000:07:00.0: In use by another client\nTerminating early due to previous errors."
    assert "Successfully destroyed compute instance ID  0 from GPU  0 GPU instance ID  2" in text[14]
    assert "Successfully destroyed GPU instance ID  7 from GPU  0" in text[15]
    assert text[16] == "Disabled MIG Mode for GPU 00000000:07:00.0\nAll done."


def test_profiles_as_listed(steps):
    profiles, places = steps("mig -lgip", "mig -lgipp", mig="none")
    rows = re.findall(r"\| +0 +MIG (\S+) +(\d+) +(\d+)/(\d+) +([\d.]+) +No +(\d+)", "\n".join(profiles[1]))
    assert rows == [("1g.10gb", "19", "7", "7", "9.50", "14"), ("1g.10gb+me", "20", "1", "1", "9.50", "14"),
                    ("1g.20gb", "15", "4", "4", "19.50", "14"), ("2g.20gb", "14", "3", "3", "19.50", "28"),
                    ("3g.40gb", "9", "2", "2", "39.25", "42"), ("4g.40gb", "5", "1", "1", "39.25", "56"),
                    ("7g.80gb", "0", "1", "1", "79.00", "98")]
    assert places[1] == [f"GPU  0 Profile ID {row}" for row in (
        "19 Placements: {0,1,2,3,4,5,6}:1", "20 Placements: {0,1,2,3,4,5,6}:1", "15 Placements: {0,2,4,6}:2",
        "14 Placements: {0,2,4}:2", " 9 Placements: {0,4}:4", " 5 Placement : {0}:4", " 0 Placement : {0}:8")]


def test_profiles_of_other_grids(steps):
    small, large = (steps("mig -lgipp", spec=spec, mig="none")[0][1] for spec in ("A30", "RTX-PRO-6000"))
    assert "GPU  0 Profile ID  5 Placements: {0,2}:2" in small and "GPU  0 Profile ID  0 Placement : {0}:4" in small
    assert "GPU  0 Profile ID 14 Placements: {0,3,6,9}:3" in large and "GPU  0 Profile ID  0 Placement : {0}:12" in large


def test_compute_instances(steps):
    made, places, profiles, listed, full = steps(
        "mig -cgi 9 -i 0", "mig -lcipp", "mig -lcip", "mig -cci 1,0 -gi 2 -i 0", "mig -cci 0 -gi 2 -i 0", mig="none")
    assert made[0] == OK
    assert places[1] == ["GPU  0 GI  2 Profile ID  0 Placements: {0,1,2}:1", "GPU  0 GI  2 Profile ID  1 Placement : {0}:2",
                         "GPU  0 GI  2 Profile ID  2 Placement : {0}:3"]
    rows = re.findall(r"\| +0 +2 +MIG (\S+) +(\d\*?) +(\d)/(\d) +(\d+)", "\n".join(profiles[1]))
    assert rows == [("1c.3g.40gb", "0", "3", "3", "14"), ("2c.3g.40gb", "1", "1", "1", "28"), ("3g.40gb", "2*", "1", "1", "42")]
    assert listed == (OK, [
        "Successfully created compute instance ID  0 on GPU  0 GPU instance ID  2 using profile MIG 2c.3g.40gb (ID  1)",
        "Successfully created compute instance ID  1 on GPU  0 GPU instance ID  2 using profile MIG 1c.3g.40gb (ID  0)"])
    assert full[0] == NO_ROOM


def test_a_busy_instance_is_left_alone(steps):
    """One with a process on it cannot be destroyed, its neighbour can, and the process notices nothing."""
    start = ("!id=$($SMI -L | sed -n 's/.*UUID: \\(MIG-[^)]*\\)).*/\\1/p' | head -n 1); "
             "$GPUSHARE sim load --gpu $id --memory 1Gi >load.txt & sleep 0.1; "
             "until grep -q holding load.txt; do sleep 0.1; done; echo $! >pid; cat load.txt")
    results = steps(start, "mig -dci -gi 2 -i 0", "mig -dci -gi 7 -i 0", "mig -dgi -gi 7 -i 0", "mig -cgi 14 -C -i 0", "",
                    "!kill $(cat pid); while kill -0 $(cat pid) 2>/dev/null; do sleep 0.1; done; cat load.txt", "mig -dci -gi 2 -i 0",
                    mig="3g.40gb,1g.10gb")
    assert re.search(r"holding 1Gi on MIG-[0-9a-f-]{36}", results[0][1][0])
    assert results[1] == (IN_USE, ["Unable to destroy compute instance ID  0 from GPU  0 GPU instance ID  2: In use by another client",
                                   "Failed to destroy compute instances: In use by another client"])
    assert [code for code, _ in results[2:5]] == [OK, OK, OK]
    table = "\n".join(results[5][1])
    assert re.search(r"0 +2 +0 +\d+ +C +\S*gpushare +1442MiB", table)
    assert re.search(r"\| +0 +2 +0 +0 +\| +1442MiB / 40192MiB", table)
    assert "held 1Gi" in results[6][1][-1]
    assert results[7][0] == OK


def test_a_mode_that_waits(steps):
    """With clients on it, or where the driver cannot reset it, an Ampere GPU changes its mode at its next reset."""
    query = "--query-gpu=mig.mode.current,mig.mode.pending --format=csv,noheader"
    inject = "!$GPUSHARE sim inject --gpu 0"
    start = "!$GPUSHARE sim load --memory 1Gi >load.txt & until grep -q holding load.txt; do sleep 0.1; done; echo $! >pid"
    stop = "!kill $(cat pid); while kill -0 $(cat pid) 2>/dev/null; do sleep 0.1; done"
    results = steps(start, "-i 0 -mig 1", query, inject + " reset", stop, query, inject + " reset", query, inject + " mig-needs-reset=on",
                    "-i 0 -mig 0", query, "--gpu-reset -i 0", query)
    codes, text = [code for code, _ in results], [lines for _, lines in results]
    assert codes[1] == OK and text[1][0] == \
        "Warning: MIG mode is in pending enable state for GPU 00000000:07:00.0:In use by another client"
    assert text[2] == text[5] == ["Disabled, Enabled"]
    assert codes[3] != OK and codes[6] == OK
    assert text[7] == ["Enabled, Enabled"]
    assert codes[9] == OK and text[9][0].endswith("GPU requires reset") and "--gpu-reset" in text[9][1]
    assert text[10] == ["Enabled, Disabled"] and text[12] == ["Disabled, Disabled"]
    assert results[11] == (OK, ["GPU 00000000:07:00.0 was successfully reset.", "All done."])


def test_a_reset(steps):
    """It takes the instances away and keeps the mode; a GPU with a process on it is not reset."""
    start = ("!id=$($SMI -L | sed -n 's/.*UUID: \\(MIG-[^)]*\\)).*/\\1/p' | head -n 1); $GPUSHARE sim load --gpu $id --memory 1Gi >load.txt & "
             "until grep -q holding load.txt; do sleep 0.1; done; echo $! >pid")
    stop = "!kill $(cat pid); while kill -0 $(cat pid) 2>/dev/null; do sleep 0.1; done"
    results = steps(start, "--gpu-reset -i 0", stop, "--gpu-reset", "mig -lgi", "--query-gpu=mig.mode.current --format=csv,noheader",
                    spec="2xA100-80GB", mig="3g.40gb,1g.10gb")
    assert results[1] == (IN_USE, ["GPU reset unavailable: In use by another client"])
    assert results[3] == (OK, ["GPU 00000000:07:00.0 was successfully reset.", "GPU 00000000:0F:00.0 was successfully reset.", "All done."])
    assert results[4][0] == NOT_FOUND and results[5][1] == ["Enabled", "Enabled"]


def test_boards_without_mig(steps):
    results = steps("mig -lgi", "-i 0 -mig 1", "--query-gpu=mig.mode.current --format=csv,noheader", spec="T4")
    assert results[0] in ((NOT_FOUND, ["No MIG-supported devices found."]), (NOT_FOUND, ["No MIG-enabled devices found."]))
    assert results[1] == (OK, ["Unable to enable MIG Mode for GPU 00000000:07:00.0: Not Supported",
                               "Treating as warning and moving on.", "All done."])
    assert results[2] == (OK, ["[N/A]"])


def test_long_query_as_xml(on_node, smi):
    out = on_node("$SMI -q -x", smi=smi, mig="4g.40gb,2g.20gb,1g.10gb")
    gpu = xml.etree.ElementTree.fromstring(out[out.index("<?xml"):].encode()).find("gpu")
    assert gpu.findtext("mig_mode/current_mig") == "Enabled"
    devices = gpu.findall("mig_devices/mig_device")
    assert [[int(device.findtext(tag)) for tag in ("index", "gpu_instance_id", "compute_instance_id")] for device in devices] == [
        [0, 1, 0], [1, 5, 0], [2, 13, 0]]
    assert [device.findtext("fb_memory_usage/total") for device in devices] == ["40192 MiB", "19968 MiB", "9728 MiB"]
    assert [device.findtext("device_attributes/shared/multiprocessor_count") for device in devices] == ["56", "28", "14"]


def test_python_bindings(on_node, fetched):
    """nvidia-ml-py: partition, look, destroy."""
    if not (CLIENTS / "nvidia-ml-py").exists():
        pytest.skip(f"nvidia-ml-py is not to be had: {fetched or 'not fetched'}")
    program = """
        from pynvml import *
        nvmlInit()
        gpu = nvmlDeviceGetHandleByIndex(0)
        assert nvmlDeviceGetMigMode(gpu) == [NVML_DEVICE_MIG_DISABLE] * 2
        assert nvmlDeviceSetMigMode(gpu, NVML_DEVICE_MIG_ENABLE) == NVML_SUCCESS
        profile = nvmlDeviceGetGpuInstanceProfileInfo(gpu, NVML_GPU_INSTANCE_PROFILE_2_SLICE)
        assert (profile.id, profile.instanceCount, profile.memorySizeMB) == (14, 3, 19968)
        assert nvmlDeviceGetGpuInstanceRemainingCapacity(gpu, profile.id) == 3
        instance = nvmlDeviceCreateGpuInstance(gpu, profile.id)
        info = nvmlGpuInstanceGetInfo(instance)
        assert (info.id, info.profileId, info.placement.start, info.placement.size) == (5, 14, 4, 2)
        compute = nvmlGpuInstanceCreateComputeInstance(instance, NVML_COMPUTE_INSTANCE_PROFILE_2_SLICE)
        assert nvmlDeviceGetMaxMigDeviceCount(gpu) == 7
        mig = nvmlDeviceGetMigDeviceHandleByIndex(gpu, 0)
        name, uuid = nvmlDeviceGetName(mig), nvmlDeviceGetUUID(mig)
        assert str(name) == "NVIDIA A100-SXM4-80GB MIG 2g.20gb", name
        assert nvmlDeviceGetMemoryInfo(mig).total == 19968 << 20
        assert nvmlDeviceGetGpuInstanceId(mig) == 5 and nvmlDeviceGetComputeInstanceId(mig) == 0
        assert nvmlDeviceGetAttributes(mig).multiprocessorCount == 28
        is_mig = nvmlDeviceIsMigDeviceHandle(mig)  # a ctypes object in some releases
        assert getattr(is_mig, "value", is_mig) == 1
        assert nvmlDeviceGetUUID(nvmlDeviceGetHandleByUUID(uuid)) == uuid
        assert nvmlDeviceGetUUID(nvmlDeviceGetDeviceHandleFromMigDeviceHandle(mig)) == nvmlDeviceGetUUID(gpu)
        try:
            nvmlDeviceGetUtilizationRates(mig)
            raise SystemExit("utilisation of an instance")
        except NVMLError_NotSupported:
            pass
        try:
            nvmlGpuInstanceDestroy(instance)
            raise SystemExit("destroyed while in use")
        except NVMLError_InUse:
            pass
        nvmlComputeInstanceDestroy(compute)
        nvmlGpuInstanceDestroy(instance)
        try:
            nvmlDeviceGetMigDeviceHandleByIndex(gpu, 0)
            raise SystemExit("still there")
        except NVMLError_NotFound:
            pass
        assert nvmlDeviceSetMigMode(gpu, NVML_DEVICE_MIG_DISABLE) == NVML_SUCCESS
        print("fine")
    """
    out = on_node('"$PYTHON" -c "$PROGRAM"', PYTHON=sys.executable, PROGRAM=textwrap.dedent(program), PYTHONPATH=str(CLIENTS / "nvidia-ml-py"))
    assert out == "fine\n"


def test_the_node_starts_with_a_layout(on_node, smi, tmp_path):
    out = on_node("$SMI -L", smi=smi, spec="2xH100-80GB,T4", mig="3g.40gb,1g.20gb@0")
    assert out.count("MIG 3g.40gb") == 2 and out.count("MIG 1g.20gb") == 2
    (tmp_path / "node.yaml").write_text("gpus:\n- model: A30\n  mig: 2g.12gb,1g.6gb\n- model: A100-80GB\n- model: H100-80GB\n  mig: none\n")
    out = on_node("$SMI -L; $SMI --query-gpu=mig.mode.current --format=csv,noheader", smi=smi, spec=str(tmp_path / "node.yaml"))
    assert re.findall(r"MIG (\S+)", out) == ["2g.12gb", "1g.6gb"]
    assert out.splitlines()[-3:] == ["Enabled", "Disabled", "Enabled"]


@pytest.mark.parametrize("spec,layout,complaint", [
    ("A100-80GB", "3g.40gb,3g.40gb,1g.10gb", "no room is left for a 1g.10gb"),
    ("A100-80GB", "3g.20gb", "has no MIG profile '3g.20gb'"),
    ("A100-80GB", "1g.10gb@7", "does not begin at memory slice '7'"),
    ("A100-80GB", "1g.10gb@6,1g.10gb@6", "memory slice 6 is taken"),
    ("A100-80GB", "1g.10gb,", "names no MIG profile"),
    ("T4", "none", "none of the node's GPUs has MIG"),
])
def test_layouts_that_cannot_be(spec, layout, complaint):
    done = subprocess.run([GPUSHARE, "sim", spec, "--mig", layout, "--", "true"], capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode == 2 and complaint in done.stderr


def test_events_of_an_instance(on_node):
    """An XID that is played on an instance names it."""
    program = """
        import ctypes, subprocess
        nvml = ctypes.CDLL("libnvidia-ml.so.1")
        class Event(ctypes.Structure):
            _fields_ = [("device", ctypes.c_void_p), ("type", ctypes.c_ulonglong), ("data", ctypes.c_ulonglong),
                        ("gi", ctypes.c_uint), ("ci", ctypes.c_uint)]
        gpu, mig, events, event = ctypes.c_void_p(), ctypes.c_void_p(), ctypes.c_void_p(), Event()
        uuid = ctypes.create_string_buffer(96)
        assert nvml.nvmlInit_v2() == 0 and nvml.nvmlDeviceGetHandleByIndex_v2(0, ctypes.byref(gpu)) == 0
        assert nvml.nvmlDeviceGetMigDeviceHandleByIndex(gpu, 1, ctypes.byref(mig)) == 0
        assert nvml.nvmlDeviceGetUUID(mig, uuid, 96) == 0
        assert nvml.nvmlEventSetCreate(ctypes.byref(events)) == 0
        assert nvml.nvmlDeviceRegisterEvents(gpu, ctypes.c_ulonglong(8), events) == 0
        def inject(target, fault):
            return subprocess.run(["gpushare", "sim", "inject", "--gpu", target, fault], capture_output=True).returncode
        def wait():
            assert nvml.nvmlEventSetWait_v2(events, ctypes.byref(event), 60000) == 0
            return event.data, event.gi, event.ci
        assert inject(uuid.value.decode(), "xid=31") == 0
        assert wait() == (31, 7, 0), wait
        assert inject("0", "xid=48") == 0
        assert wait() == (48, 0xFFFFFFFF, 0xFFFFFFFF)
        assert inject(uuid.value.decode(), "lost") == 2
        print("fine")
    """
    out = on_node('"$PYTHON" -c "$PROGRAM"', mig="3g.40gb,1g.10gb", PYTHON=sys.executable, PROGRAM=textwrap.dedent(program))
    assert out == "fine\n"


def test_killed_between_calls(steps):
    """A client that dies in the middle leaves what it had made, and the node goes on."""
    made, count = 0, 1
    for count in range(1, 1000, 7):
        killed, listed, _, _ = steps(f"!GPUSHARE_SIM_NVML_FAIL={count}:kill $SMI mig -cgi 9,9 -C -i 0", "mig -lgi", "mig -dci", "mig -dgi",
                                     mig="none")
        now = len(instances(listed[1]))
        assert now >= made or killed[0] == OK
        made = now
        if killed[0] == OK:
            break
        assert killed[0] == 137
    assert made == 2 and count > 10


def test_without_rights(smi, somebody):
    """A node can be started with a layout by anybody; looking at it and changing it takes root, using it does not."""
    identity, directory = somebody
    script = f"for c in '-L' '-i 0 -mig 0' 'mig -lgi' 'mig -cgi 19 -i 0' 'mig -dci -i 0'; do {smi} $c; echo \"==rc $?\"; done; " \
             f"{GPUSHARE} sim load --memory 1Gi --busy 0% --for 1ms"
    os.chmod(directory, 0o777)
    done = subprocess.run([GPUSHARE, "sim", "A100-80GB", "--state", str(directory / "node"), "--mig", "3g.40gb", "--", "sh", "-c", script],
                          capture_output=True, text=True, timeout=PATIENCE, **identity)
    parts = re.split(r"^==rc (\d+)\n", done.stdout, flags=re.M)
    text, codes = [part.strip() for part in parts[0::2]], [int(code) for code in parts[1::2]]
    assert "MIG 3g.40gb" in text[0]
    assert codes == [OK] + [4] * 4 and all("Insufficient Permissions" in answer for answer in text[1:5])
    assert "holding 1Gi on MIG-" in text[5]
