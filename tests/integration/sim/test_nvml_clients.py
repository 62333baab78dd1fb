"""Programs that nobody here wrote, on the simulated node: nvidia-smi, nvtop, NVIDIA's Python bindings.

They are fetched into build/clients by tests/tools/fetch-clients; a test whose client cannot be had is skipped and says why.
"""

import csv
import json
import os
import pathlib
import shutil
import subprocess
import sys
import textwrap
import xml.etree.ElementTree

import pytest

REPOSITORY = pathlib.Path(__file__).resolve().parents[3]
BUILD = pathlib.Path(os.environ.get("GPUSHARE_BUILD", REPOSITORY / "build")).resolve()
CLIENTS = BUILD / "clients"
BUSY_NODE = BUILD / "tests" / "tools" / "busy_node"
PATIENCE = 120  # seconds; only ever reached when something hangs

# What runs on the node of most tests: memory in MiB and percent of each process, on GPUs 0, 0, 1 and 1.
LOAD = ["0:compute:4096:30", "0:compute:1000:20", "1:mps:500:50", "1:graphics:100:10"]


@pytest.fixture(scope="session")
def fetched():
    """Fetches what is missing, once; what it said when something could not be had."""
    try:
        done = subprocess.run([REPOSITORY / "tests" / "tools" / "fetch-clients", CLIENTS], capture_output=True, text=True,
                              timeout=600)
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    return done.stderr.strip()


def client(name, fetched):
    path = CLIENTS / name
    if not path.exists():
        pytest.skip(f"{name} is not to be had: {fetched or 'not fetched'}")
    return str(path)


@pytest.fixture(params=["bookworm", "sid"])
def smi(request, fetched):
    """nvidia-smi of Debian's stable release (R535) and of its development (R550 at the time of writing)."""
    return client(f"nvidia-smi-{request.param}/run", fetched)


@pytest.fixture
def on_node(tmp_path):
    """Runs a shell script on a simulated node with clients; returns its output and the clients' pids."""

    def run(script, spec="2xA100-80GB", load=(), status=0, **environment):
        script = 'echo "pids $CLIENT_PIDS"\n' + textwrap.dedent(script)
        environment = {**os.environ, "LD_LIBRARY_PATH": str(BUILD / "sim" / "nvml"), "HOME": str(tmp_path), **environment}
        directory = tmp_path / "node"
        done = subprocess.run([BUSY_NODE, directory, spec, *load, "--", "sh", "-c", script], capture_output=True, text=True,
                              timeout=PATIENCE, env=environment, cwd=tmp_path)
        assert done.returncode == status, done.stdout + done.stderr
        assert not directory.exists()
        first, _, rest = done.stdout.partition("\n")
        return rest, [int(pid) for pid in first.split()[1:]]

    return run


def rows(text):
    return [[cell.strip() for cell in row] for row in csv.reader(text.strip().splitlines())]


def test_smi_is_the_one_meant(on_node, smi):
    out, _ = on_node(smi)
    assert ("NVIDIA-SMI 535." in out) == ("bookworm" in smi)


def test_smi_lists(on_node, smi):
    out, _ = on_node(f"{smi} -L", spec="2xA100-80GB,T4")
    lines = out.strip().splitlines()
    assert [line.split(" (UUID: GPU-")[0] for line in lines] == [
        "GPU 0: NVIDIA A100-SXM4-80GB", "GPU 1: NVIDIA A100-SXM4-80GB", "GPU 2: Tesla T4"]
    assert len({line.split("UUID: ")[1] for line in lines}) == 3


def test_smi_table_shows_processes(on_node, smi):
    out, pids = on_node(smi, load=LOAD)
    assert "Driver Version: 550.163.01" in out and "CUDA Version: 12.4" in out
    processes = [line.split() for line in out.splitlines() if "busy_node" in line]
    assert [[row[1], int(row[4]), row[5], row[7]] for row in processes] == [
        ["0", pids[0], "C", "4096MiB"], ["0", pids[1], "C", "1000MiB"],
        ["1", pids[2], "M+C", "500MiB"], ["1", pids[3], "G", "100MiB"]]


def test_smi_table_of_an_idle_node(on_node, smi):
    out, _ = on_node(smi, spec="4xT4,H100-80GB")
    assert "No running processes found" in out
    assert out.count("Tesla T4") == 4


def test_smi_query_gpu(on_node, smi):
    out, _ = on_node(f"""{smi} --format=csv,noheader,nounits --query-gpu=index,uuid,name,pci.bus_id,memory.total,memory.used,\
utilization.gpu,temperature.gpu,power.draw,clocks.sm,ecc.mode.current,compute_mode,pstate,mig.mode.current""", load=LOAD)
    first, second = rows(out)
    assert first[0] == "0" and first[1].startswith("GPU-") and first[2] == "NVIDIA A100-SXM4-80GB"
    assert first[4] == "81920" and first[5] == "5096" and second[5] == "600"
    # Two busy machines may steal time from the clients, never add to it.
    assert 20 <= int(first[6]) <= 55 and 20 <= int(second[6]) <= 65
    assert 31 < int(first[7]) < 80 and 61 < float(first[8]) < 400 and first[9] == "1410"
    assert first[10:] == ["Enabled", "Default", "P0", "Disabled"]


@pytest.mark.parametrize("busid", ["00000000:0F:00.0", "00000000:0f:00.0", "0000:0F:00.0", "0000:0f:00.0", "0F:00.0", "0f:00.0", "f:0.0"])
def test_smi_takes_a_bus_id(on_node, smi, busid):
    out, _ = on_node(f"{smi} -i {busid} --query-gpu=index,pci.bus_id --format=csv,noheader; {smi} -i {busid} | grep -c A100; {smi} -q -i {busid} | grep '^GPU'",
                     spec="3xA100-80GB")
    assert out.splitlines() == ["1, 00000000:0F:00.0", "1", "GPU 00000000:0F:00.0"]


@pytest.mark.parametrize("busid, status, says", [("0F:00.1", 6, "No devices were found"), ("99:00.0", 6, "No devices were found"),
                                                 ("0F:00.0x", 255, "Invalid PCI bus id format")])
def test_smi_says_what_is_wrong_with_a_bus_id(on_node, smi, busid, status, says):
    out, _ = on_node(f"{smi} -i {busid} > said; echo $?; grep -ac '{says}' said")  # the text is not always UTF-8
    assert out.split() == [str(status), "1"]


def test_smi_query_compute_apps(on_node, smi):
    out, pids = on_node(f"{smi} --query-compute-apps=pid,process_name,used_memory,gpu_uuid --format=csv,noheader,nounits",
                        load=LOAD)
    apps = {int(row[0]): row for row in rows(out)}
    assert sorted(apps) == sorted(pids[:3])
    assert [apps[pid][2] for pid in pids[:3]] == ["4096", "1000", "500"]
    assert apps[pids[0]][1].endswith("busy_node")
    assert apps[pids[0]][3] == apps[pids[1]][3] != apps[pids[2]][3]


def test_smi_long_query(on_node, smi):
    out, _ = on_node(f"{smi} -q")
    for line in ("Product Name", "GPU UUID", "Bus Id", "Minor Number", "Remapped Rows", "ECC Errors", "Clocks Event Reasons"):
        assert line in out
    assert out.count("\nGPU 00000000:") == 2


def test_smi_xml(on_node, smi):
    out, pids = on_node(f"{smi} -q -x", load=LOAD)
    gpus = xml.etree.ElementTree.fromstring(out[out.index("<?xml"):].encode()).findall("gpu")
    assert [gpu.findtext("minor_number") for gpu in gpus] == ["0", "1"]
    assert gpus[0].findtext("fb_memory_usage/used") == "5096 MiB"
    assert [int(info.findtext("pid")) for info in gpus[0].findall("processes/process_info")] == pids[:2]
    assert gpus[1].findtext("processes/process_info/type") == "M+C"


def test_smi_topology(on_node, smi):
    out, _ = on_node(f"{smi} topo -m", spec="8xA100-80GB")
    lines = [line.split() for line in out.splitlines() if line.startswith("GPU")]
    for i, line in enumerate(lines[:8]):
        assert line[1:9] == ["X" if i == k else "NV12" for k in range(8)]


def test_smi_topology_without_links(on_node, smi):
    out, _ = on_node(f"{smi} topo -m", spec="4xT4")
    lines = [line.split()[1:5] for line in out.splitlines() if line.startswith("GPU")]
    near, _ = on_node(f"{smi} topo -C -i 0; {smi} topo -C -i 3", spec="4xT4")
    assert near == "NUMA IDs of closest CPU: 0\nNUMA IDs of closest CPU: 1\n"
    assert lines == [["X", "PIX", "SYS", "SYS"], ["PIX", "X", "SYS", "SYS"], ["SYS", "SYS", "X", "PIX"],
                     ["SYS", "SYS", "PIX", "X"]]


def test_smi_topology_of_a_cube_mesh(on_node, smi):
    out, _ = on_node(f"{smi} topo -m", spec="8xV100-32GB")
    first = next(line.split() for line in out.splitlines() if line.startswith("GPU0"))
    assert first[1:9] == ["X", "NV1", "NV1", "NV2", "NV2", "SYS", "SYS", "SYS"]


def test_smi_dmon(on_node, smi):
    out, _ = on_node(f"{smi} dmon -c 1", load=LOAD)
    header = next(line for line in out.splitlines() if line.startswith("# gpu")).lstrip("# ").split()
    values = [dict(zip(header, line.split())) for line in out.splitlines() if not line.startswith("#")]
    assert [row["gpu"] for row in values] == ["0", "1"]
    assert all(20 <= int(row["sm"]) <= 65 for row in values)
    assert all(row["mclk"] == "1593" for row in values)


def test_smi_pmon(on_node, smi):
    out, pids = on_node(f"{smi} pmon -c 1", load=LOAD)
    seen = {int(row[1]): row for row in (line.split() for line in out.splitlines()) if row[1:2] and row[1].isdigit()}
    assert sorted(seen) == sorted(pids)
    assert [seen[pid][2] for pid in pids] == ["C", "C", "M+C", "G"]
    shares = [int(seen[pid][3]) for pid in pids]
    assert 15 <= shares[0] <= 35 and 10 <= shares[1] <= 25 and 25 <= shares[2] <= 55 and 3 <= shares[3] <= 15
    assert seen[pids[0]][-1] == "busy_node"


def test_smi_sees_a_planned_failure(on_node, smi):
    out, _ = on_node(f"{smi} || echo status $?", GPUSHARE_SIM_NVML_FAIL="1:9")
    assert "couldn't communicate with the NVIDIA driver" in out and "status 9" in out


def test_smi_changes_the_power_limit(on_node, smi):
    if os.geteuid() != 0:
        pytest.skip("only root may change a GPU's settings")
    out, _ = on_node(f"{smi} -i 1 -pl 250; {smi} --query-gpu=power.limit --format=csv,noheader,nounits")
    assert out.strip().splitlines()[-2:] == ["400.00", "250.00"]


def test_smi_sets_the_timeslice(on_node, smi):
    if os.geteuid() != 0:
        pytest.skip("only root may change a GPU's settings")
    out, _ = on_node(f"""{smi} compute-policy --set-timeslice 3 -i 1; {smi} compute-policy -l; {smi} -i 1 -r
{smi} compute-policy -l -i 1; {smi} compute-policy --set-timeslice 4 || echo refused""")
    rows = [line.strip("| ").split() for line in out.splitlines() if "Timeslice " in line]
    assert rows == [["0", "Timeslice", "Default"], ["1", "Timeslice", "Long"], ["1", "Timeslice", "Default"]]
    assert out.endswith("refused\n")


def test_smi_holds_clocks(on_node, smi):
    if os.geteuid() != 0:
        pytest.skip("only root may change a GPU's settings")
    out, _ = on_node(f"""ask() {{ {smi} -i 0 --query-gpu=clocks.sm,clocks.applications.graphics,ecc.mode.pending,power.limit \
--format=csv,noheader,nounits; }}; {smi} -i 0 -pl 300; {smi} -i 0 -lgc 900,1200; ask; {smi} -i 0 -rgc; {smi} -i 0 -ac 1593,1005; ask
{smi} -i 0 -e 0; {smi} -i 0 -lgc 1200,900 && ask; {smi} -i 0 -r; ask""")
    assert [line for line in out.splitlines() if line[:1].isdigit()] == [
        "900, 1410, Enabled, 300.00", "210, 1005, Enabled, 300.00", "210, 1005, Disabled, 300.00", "210, 1410, Disabled, 400.00"]
    assert 'Specified clock combination "(gpuClkMin 1200, gpuClkMax 900)" is not supported' in out


def test_smi_under_gpushare_sim(fetched, tmp_path):
    smi = client("nvidia-smi-sid/run", fetched)
    done = subprocess.run([BUILD / "gpushare", "sim", "2xH100-80GB", "--", smi, "-L"], capture_output=True, text=True,
                          timeout=PATIENCE, env={**os.environ, "TMPDIR": str(tmp_path)})
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("NVIDIA H100 80GB HBM3") == 2


def test_smi_sees_an_honest_cuda_client(fetched, tmp_path):
    smi = client("nvidia-smi-bookworm/run", fetched)
    script = f"""
        gpushare sim load --gpu 1 --memory 4Gi --busy 50% --for 600s >ready & load=$!
        until grep -q holding ready; do sleep 0.2; done
        sleep 2
        echo "pid $load"
        {smi} --query-compute-apps=pid,used_memory --format=csv,noheader,nounits
        {smi} --query-gpu=index,memory.used,utilization.gpu --format=csv,noheader,nounits
        kill $load"""
    done = subprocess.run([BUILD / "gpushare", "sim", "2xA100-80GB", "--", "sh", "-c", script], capture_output=True, text=True,
                          timeout=PATIENCE, cwd=tmp_path, env={**os.environ, "TMPDIR": str(tmp_path)})
    lines = done.stdout.strip().splitlines()
    assert len(lines) == 4, done.stdout + done.stderr
    pid = lines[0].split()[1]
    app, first, second = rows("\n".join(lines[1:]))
    assert app[0] == pid and 4096 <= int(app[1]) <= 4800  # its memory and what a context costs
    assert first == ["0", "0", "0"]
    assert second[:2] == ["1", app[1]] and 20 <= int(second[2]) <= 60


def test_nvtop_draws(on_node, fetched):
    nvtop = client("nvtop-bookworm/run", fetched)
    if subprocess.run([nvtop, "--version"], capture_output=True).returncode != 0:
        pytest.skip("nvtop's libraries are not installed")
    if not shutil.which("tmux"):
        pytest.skip("tmux is not installed")
    # The screen is asked for until the processes are on it.
    out, pids = on_node(f"""
        tmux -S "$PWD/tmux" -f /dev/null new-session -d -x 160 -y 50 env TERM=screen LD_LIBRARY_PATH="$LD_LIBRARY_PATH" \\
            GPUSHARE_SIM="$GPUSHARE_SIM" HOME="$HOME" {nvtop}
        for i in $(seq 60); do
            tmux -S "$PWD/tmux" capture-pane -p >screen
            grep -q '% *4096MiB' screen && break
            sleep 1
        done
        tmux -S "$PWD/tmux" kill-server
        cat screen""", load=LOAD)
    assert out.count("NVIDIA A100-SXM4-80GB") == 2
    found = {int(row[0]): row for row in (line.split() for line in out.splitlines()) if row and row[0].isdigit()}
    assert {pids[0], pids[1], pids[2]} <= set(found)
    assert "4096MiB" in found[pids[0]] and found[pids[0]][2] == "0" and found[pids[2]][2] == "1"


WALK = """
import inspect, json, sys
import pynvml as n
n.nvmlInit()
count = n.nvmlDeviceGetCount()
first, second = n.nvmlDeviceGetHandleByIndex(0), n.nvmlDeviceGetHandleByIndex(1)
codes = {}
for name, function in sorted(inspect.getmembers(n, inspect.isfunction)):
    if not name.startswith("nvmlDeviceGet"):
        continue
    arguments = []
    for parameter in inspect.signature(function).parameters.values():
        if parameter.default is parameter.empty and parameter.kind is parameter.POSITIONAL_OR_KEYWORD:
            known = {"handle": first, "device": first, "handle1": first, "device1": first, "handle2": second, "device2": second}
            arguments.append(known.get(parameter.name, 0))
    try:
        function(*arguments)
        codes[name] = 0
    except n.NVMLError as error:
        codes[name] = error.value
    except (TypeError, AttributeError, ValueError):
        codes[name] = None  # wants an argument of its own making
memory = n.nvmlDeviceGetMemoryInfo(first, version=n.nvmlMemory_v2)
json.dump({
    "codes": codes,
    "count": count,
    "driver": n.nvmlSystemGetDriverVersion(),
    "name": n.nvmlDeviceGetName(second),
    "used": memory.used, "total": memory.total,
    "compute": {p.pid: p.usedGpuMemory for p in n.nvmlDeviceGetComputeRunningProcesses(first)},
    "mps": {p.pid: p.usedGpuMemory for p in n.nvmlDeviceGetMPSComputeRunningProcesses(second)},
    "graphics": {p.pid: p.usedGpuMemory for p in n.nvmlDeviceGetGraphicsRunningProcesses(second)},
    "shares": {p.pid: p.smUtil for p in n.nvmlDeviceGetProcessUtilization(first, 0)},
    "busy": n.nvmlDeviceGetUtilizationRates(first).gpu,
    "by uuid": n.nvmlDeviceGetIndex(n.nvmlDeviceGetHandleByUUID(n.nvmlDeviceGetUUID(second))),
    "by bus": n.nvmlDeviceGetIndex(n.nvmlDeviceGetHandleByPciBusId(n.nvmlDeviceGetPciInfo(second).busId)),
    "energy": n.nvmlDeviceGetFieldValues(first, [n.NVML_FI_DEV_TOTAL_ENERGY_CONSUMPTION])[0].value.ullVal,
}, sys.stdout)
n.nvmlShutdown()
"""


def test_python_bindings(on_node, fetched, tmp_path):
    module = client("nvidia-ml-py", fetched)
    (tmp_path / "walk.py").write_text(WALK)
    out, pids = on_node(f"{sys.executable} walk.py", load=LOAD, PYTHONPATH=module)
    told = json.loads(out)
    assert told["count"] == 2 and told["driver"] == "550.163.01" and told["name"] == "NVIDIA A100-SXM4-80GB"
    assert told["used"] == 5096 << 20 and told["total"] == 81920 << 20
    assert told["compute"] == {str(pids[0]): 4096 << 20, str(pids[1]): 1000 << 20}
    assert told["mps"] == {str(pids[2]): 500 << 20}
    assert told["graphics"] == {str(pids[3]): 100 << 20}
    assert 15 <= told["shares"][str(pids[0])] <= 35 and 10 <= told["shares"][str(pids[1])] <= 25
    assert 20 <= told["busy"] <= 55
    assert told["by uuid"] == told["by bus"] == 1
    assert told["energy"] > 0
    # Answers, NOT_SUPPORTED, NOT_FOUND, and refusals of the zeroes given for arguments: nothing else, and no symbol missing.
    codes = told["codes"]
    assert len(codes) > 200 and sum(code == 0 for code in codes.values()) > 100
    strange = {name: code for name, code in codes.items() if code not in (0, 2, 3, 6, 7, 25, None)}
    assert not strange
