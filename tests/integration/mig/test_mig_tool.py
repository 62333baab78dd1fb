"""`gpushare mig` on a simulated node: what it says and does, and what is left when it is refused, killed, or interfered with."""
import json
import os
import random
import re
import shutil
import signal
import subprocess
import time

import pytest

from kubelet import BUILD, WAIT
from node import GPUSHARE, Node, Sim, wait_until

pytestmark = [
    pytest.mark.skipif(not os.path.exists(GPUSHARE), reason="gpushare is not built"),
    pytest.mark.skipif(os.geteuid() != 0, reason="NVML lets only root change MIG layouts"),
]

BALANCED = ["2g.20gb@0", "1g.10gb@2", "1g.10gb@3", "3g.40gb@4"]
SEVEN = ["1g.10gb@%d" % i for i in range(7)]


class Tool:
    def __init__(self, path, spec="A100-80GB", mig=None):
        self.path = path
        self.sim = Sim(path / "sim", spec, *(["--mig", mig] if mig else []))
        self.env = {**os.environ, "GPUSHARE_STATE_DIR": str(path / "state"), "GPUSHARE_SOCKET": str(path / "none.sock")}
        self.started = []

    def __call__(self, *arguments, **kwargs):
        return self.sim.run("gpushare", "mig", *arguments, env=self.env, **kwargs)

    def start(self, *arguments, **kwargs):
        process = self.sim.popen("gpushare", "mig", *arguments, env=self.env, **kwargs)
        self.started.append(process)
        return process

    def ok(self, *arguments, **kwargs):
        done = self(*arguments, **kwargs)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def refused(self, *arguments, status=1, **kwargs):
        """What it says; nothing may have changed."""
        before = self.everything()
        done = self(*arguments, **kwargs)
        assert done.returncode == status, done.stdout + done.stderr
        assert self.everything() == before
        assert not self.record()
        return done.stderr

    def gpus(self):
        return json.loads(self.ok("list", "-o", "json"))

    def everything(self):
        """All that a change could change."""
        return [(g["migEnabled"], g["migPending"], [(i["id"], i["profile"], i["start"],
                 [(c["id"], c["profile"], c["start"], c["uuid"]) for c in i["computeInstances"]]) for i in g["instances"]])
                for g in self.gpus()]

    def layout(self, gpu=0):
        instances = self.gpus()[gpu]["instances"]
        assert all(i["computeInstances"] for i in instances), instances
        return ["%s@%d" % (i["profile"], i["start"]) for i in instances]

    def uuid(self, start, gpu=0):
        return next(i for i in self.gpus()[gpu]["instances"] if i["start"] == start)["computeInstances"][0]["uuid"]

    def record(self):
        return os.path.exists(self.path / "state" / "mig-change")

    def work(self, device):
        """A CUDA program that stays on a MIG device, or a GPU."""
        env = {**os.environ, "CUDA_VISIBLE_DEVICES": device}
        process = self.sim.popen("gpushare", "sim", "load", "--memory", "1Gi", "--busy", "10%", env=env,
                                 stdout=subprocess.PIPE, text=True)
        self.started.append(process)
        assert process.stdout.readline()
        return process

    def stop(self):
        for process in self.started:
            process.kill()
            process.wait(WAIT)
            if process.stdout:
                process.stdout.close()
            if process.stderr:
                process.stderr.close()
        self.sim.stop()


@pytest.fixture
def make(tmp_path):
    tools = []

    def build(*arguments, **kwargs):
        tools.append(Tool(tmp_path, *arguments, **kwargs))
        return tools[-1]

    yield build
    for tool in tools:
        tool.stop()


@pytest.fixture
def tool(make):
    return make(mig="none")


def write(path, text):
    path.write_text(text)
    return str(path)


# --- what it shows and does ---


@pytest.mark.parametrize("spec", ["A100-80GB", "H100-80GB"])
def test_the_four_lines_that_everybody_copies(make, spec):
    """The second is wrong on these GPUs: it is explained, and changes nothing. The corrected one does what was meant."""
    tool = make(spec)
    assert "turned MIG on" in tool.ok("enable", "-i", "0")
    said = tool.refused("create", "-i", "0", "9,9,9,9,9,9,9")
    assert "at most 2 of 3g.40gb (id 9 on this GPU) fit" in said and "7 fit of 1g.10gb (id 19)" in said
    assert "nothing was changed" in said
    tool.ok("create", "-i", "0", "19,19,19,19,19,19,19")
    assert tool.layout() == SEVEN


def test_names_ids_and_places(tool):
    tool.ok("create", "-i", "0", "1g.10gb,1g.10gb,3g.40gb")
    assert sorted(i.split("@")[0] for i in tool.layout()) == ["1g.10gb", "1g.10gb", "3g.40gb"]
    tool.ok("destroy", "--all")
    tool.ok("create", "MIG 3g.40gb", "--at", "0")
    tool.ok("create", "19:6,14:4")
    assert tool.layout() == ["3g.40gb@0", "2g.20gb@4", "1g.10gb@6"]
    tool.ok("destroy", tool.uuid(4), "-i", "0")
    gone = next(i["id"] for i in tool.gpus()[0]["instances"] if i["start"] == 6)
    tool.ok("destroy", str(gone))
    assert tool.layout() == ["3g.40gb@0"]


def test_compute_instances(tool):
    tool.ok("create", "1c.3g.40gb,2c.3g.40gb", "--dry-run")
    assert tool.layout() == []
    tool.ok("create", "1c.3g.40gb,2c.3g.40gb")
    instance, = tool.gpus()[0]["instances"]
    assert sorted((c["profile"], c["slices"]) for c in instance["computeInstances"]) == [("1c.3g.40gb", 1), ("2c.3g.40gb", 2)]
    one = next(c for c in instance["computeInstances"] if c["slices"] == 1)
    tool.ok("destroy", "%d/%d" % (instance["id"], one["id"]))
    instance, = tool.gpus()[0]["instances"]
    assert [c["slices"] for c in instance["computeInstances"]] == [2]
    inside = ["create", "--in", str(instance["id"])]
    assert "no room for that: 2 of its 3 compute slices are taken" in tool.refused(*inside, "1c.3g.40gb,1c.3g.40gb")
    assert "is a 3g.40gb" in tool.refused(*inside, "1g.10gb")
    tool.ok("destroy", "--all")
    tool.ok("create", "1c.3g.40gb")
    inside[2] = str(tool.gpus()[0]["instances"][0]["id"])
    said = tool.refused(*inside, "2c.3g.40gb")
    assert "2c.3g.40gb can begin at compute slice 0, and of its slices 0 is taken" in said
    tool.ok("destroy", "--all")
    tool.ok("create", "2c.3g.40gb")
    inside[2] = str(tool.gpus()[0]["instances"][0]["id"])
    assert "no such GPU instance" in tool.refused("create", "--in", "9", "1c.3g.40gb")
    tool.ok(*inside, "1c.3g.40gb")
    instance, = tool.gpus()[0]["instances"]
    assert sorted(c["slices"] for c in instance["computeInstances"]) == [1, 2]


def test_the_picture(tool):
    tool.ok("create", "1g.10gb:0,3g.40gb:4")
    work = tool.work(tool.uuid(4))
    text = tool.ok("list")
    assert "  |1g.10gb |..........................|3g.40gb                            |" in text
    assert "  |idle    |..........................|in use                             |" in text
    assert re.search(r"3g\.40gb +4-7 +39\.25 GiB +MIG-\S+ +process %d \(gpushare\)" % work.pid, text)


def test_profiles_come_from_the_gpu(make):
    tool = make("A100-80GB,A100-40GB,T4")
    large, small, none = json.loads(tool.ok("list-profiles", "-o", "json"))
    ids = lambda gpu: {p["name"]: p["id"] for p in gpu["profiles"]}
    assert ids(large)["1g.10gb"] == 19 and ids(small)["1g.10gb"] == 15
    assert not none["migCapable"] and none["profiles"] == []
    assert "no MIG" in tool.ok("list-profiles", "-i", "2")
    assert "can't do MIG" in tool.refused("enable", "-i", "2")


def test_export_and_apply_are_each_others_inverse(make, tmp_path):
    tool = make("2xA100-80GB", mig="none")
    tool.ok("create", "-i", "0", "1g.10gb,2g.20gb,1c.3g.40gb,1c.3g.40gb")
    text = tool.ok("export")
    path = write(tmp_path / "mig.yaml", text)
    assert "nothing to do" in tool.ok("assert", "-f", path)
    tool.ok("destroy", "-i", "0", "--all")
    assert tool("assert", "-f", path).returncode == 1
    tool.ok("apply", "-f", "-", input=text)
    assert "nothing to do" in tool.ok("assert", "-f", path, "-c", "current")
    assert json.loads(tool.ok("export", "-o", "json"))["version"] == "v1"
    assert "all-balanced" in tool.ok("export", "--generated")


def test_only_gpus_that_differ_are_touched(make):
    tool = make("3xA100-80GB", mig="none")
    tool.ok("apply", "-i", "0", "1g.10gb,1g.10gb,2g.20gb,3g.40gb")
    first = tool.everything()[0]
    said = tool.ok("apply", "-c", "all-balanced")
    assert "GPU 0" not in said and "GPU 1" in said and "GPU 2" in said
    assert tool.everything()[0] == first
    assert tool.layout(1) == BALANCED
    assert "nothing to do" in tool.ok("apply", "-c", "all-balanced")


# --- mistakes ---


@pytest.mark.parametrize("arguments, said", [
    (["create", "1c.1g.10gb.me"], 'did you mean "1c.1g.10gb+me"?'),
    (["create", "1g.10gb:0,1g.10gb:0"], "1g.10gb at slice 0 is asked for twice"),
    (["create", "4c.3g.40gb"], "there is 1c.3g.40gb, 2c.3g.40gb, and 3g.40gb, which takes all of it"),
    (["create", ",".join(8 * ["1c.7g.80gb"])], "8x 1c.7g.80gb take 2 GPU instances 7g.80gb"),
    (["create", "1g.5gb"], 'this GPU has no MIG profile "1g.5gb"; did you mean "1g.10gb"?'),
    (["create", "99"], "no MIG profile of this GPU has id 99"),
    (["create", "3g.40gb,3g.40gb,3g.40gb"], "at most 2 of 3g.40gb"),
    (["create", "3g.40gb:1"], "3g.40gb can't begin at memory slice 1; it can at: 0, 4"),
    (["create", "-i", "7", "1g.10gb"], "there is no GPU 7; this node has 1, numbered from 0"),
    (["create", "-i", "GPU-00000000-0000-0000-0000-000000000000", "1g.10gb"], "no GPU of this node has this UUID"),
    (["create", "-i", "0000:99:00.0", "1g.10gb"], "no GPU of this node has this UUID or bus id"),
    (["destroy", "3"], "GPU 0 has no instance 3"),
    (["destroy", "MIG-00000000-0000-0000-0000-000000000000"], "no MIG device of this node has the UUID"),
    (["apply", "-c", "all-balance"], 'did you mean "all-balanced"?'),
    (["apply", "-f", "/nonexistent"], "/nonexistent"),
])
def test_mistakes_are_explained_and_change_nothing(make, arguments, said):
    tool = make(mig="1g.10gb@1")
    assert said in tool.refused(*arguments)


def test_what_is_a_mistake_on_any_gpu_is_one_of_the_command_line(make):
    tool = make(mig="1g.10gb@1")
    for arguments, said in [
        (["create", "1g.10gb,"], "an entry of the list of MIG profiles is empty"),
        (["create", ""], "is empty"),
        (["create", "1g.10gb:x"], '"x" is no memory slice'),
        (["create", "1g.10gb", "--at", "-1"], '"-1" is no memory slice'),
        (["create", "1g.10gb,1g.10gb", "--at", "2"], "--at is for one instance"),
        (["create", "--in", "8", "1c.1g.10gb", "--at", "2"], "--at is the place of a GPU instance"),
        (["create", "--in", "x", "1c.1g.10gb"], "--in x: write the id of a GPU instance"),
        (["plan", "1g.10gb,,1g.10gb"], "an entry of the list of MIG profiles is empty"),
        (["create", "-i", "0,0", "1g.10gb"], "GPU 0 is named twice"),
        (["create", "-i", "0,", "1g.10gb"], "an entry is empty"),
        (["list", "-i", ""], "an entry is empty"),
        (["list", "-i", "-1"], "-i -1: that is no index (0), UUID (GPU-...) or PCI bus id (07:00.0)"),
        (["destroy", "8,8"], "GPU instance 8 is named twice"),
        (["destroy", "13,"], "an entry of the list is empty"),
        (["destroy", "2/0/0"], '"2/0/0" is no instance'),
        (["destroy", "x"], '"x" is no instance'),
    ]:
        assert said in tool.refused(*arguments, status=2)


def test_several_gpus_want_a_choice(make):
    tool = make("2xA100-80GB")
    assert "2 GPUs of this node could be meant" in tool.refused("enable", status=2)


def test_gpus_by_bus_id(make):
    tool = make("2xA100-80GB")
    whole = tool.gpus()[1]["pciBusId"]
    for name in (whole, whole.lower(), whole[4:], whole.split(":", 1)[1]):
        gpu, = json.loads(tool.ok("list", "-i", name, "-o", "json"))
        assert gpu["index"] == 1, name


def test_a_uuid_of_another_gpu_than_the_named_one_stays(make):
    tool = make("2xA100-80GB", mig="1g.10gb@0")
    said = tool.refused("destroy", "-i", "1", tool.uuid(0, gpu=0))
    assert "is on GPU 0, which -i does not name" in said
    tool.ok("destroy", "-i", "all", tool.uuid(0, gpu=0))
    assert [len(g["instances"]) for g in tool.gpus()] == [0, 1]


@pytest.mark.parametrize("text, place, said", [
    ("version: v1\nmig-configs:\n  a:\n  - devices: all\n    mig-enabled: true\n    mig-devices: {1g.5gb: 1}\n", "6:19",
     'no MIG profile "1g.5gb"'),
    ("version: v1\nmig-configs:\n  a:\n  - devices: all\n    mig-enabled: true\n    mig-devices: {3g.40gb: 3}\n", "6:19", "at most 2"),
    ("version: v1\nmig-configs:\n  a:\n  - devices: all\n    mig-enabled: true\n    mig-devices: {7x1g.10gb: 1}\n", "6:19",
     'did you mean "1g.10gb": 7?'),
    ("version: v1\nmig-configs:\n  a:\n  - devices: all\n    mig-enable: true\n", "5:5", "mig-enable"),
    ("version: v2\nmig-configs: {}\n", "1:10", "v1"),
    ("version: v1\nmig-configs: [\n", "", ""),
])
def test_mistakes_in_files_have_their_place(tool, tmp_path, text, place, said):
    path = write(tmp_path / "mig.yaml", text)
    text = tool.refused("apply", "-f", path)
    assert re.search(r"^%s:%s: .*%s" % (re.escape(path), place or r"\d+:\d+", re.escape(said)), text, re.MULTILINE), text


def test_gpus_that_the_node_lacks_are_noted(make, tmp_path):
    tool = make("2xA100-80GB")
    path = write(tmp_path / "mig.yaml", """version: v1
mig-configs:
  seven: [{devices: [0,1,2,3,4,5,6,7], mig-enabled: true, mig-devices: {"1g.10gb": 7}}]
  far: [{devices: [5], mig-enabled: false}]
""")
    done = tool("apply", "-f", path, "-c", "seven")
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("this node has no GPU 2, 3, 4, 5, 6, 7, and these are passed over") == 1, done.stderr
    assert [len(g["instances"]) for g in tool.gpus()] == [7, 7]
    assert tool("assert", "-f", path, "-c", "seven").returncode == 0
    assert "nothing to do on the GPUs that the configuration names" in tool.ok("apply", "-f", path, "-c", "far")
    assert "leaves out GPUs of this node" in tool.refused("assert", "-f", path, "-c", "far")


def test_a_filter_that_matches_nothing_is_not_as_wanted(tool, tmp_path):
    path = write(tmp_path / "mig.yaml", """version: v1
mig-configs:
  a: [{devices: all, device-filter: "0x233010DE", mig-enabled: true, mig-devices: {"1g.10gb": 7}}]
""")
    said = tool.refused("assert", "-f", path)
    assert "3:7: warning: the device-filter of this entry matches no GPU of this node" in said and "leaves out" in said
    assert "as wanted" not in tool.ok("apply", "-f", path)


def test_a_config_map_around_a_file(tool, tmp_path):
    path = write(tmp_path / "mig.yaml", """apiVersion: v1
kind: ConfigMap
metadata: {name: mig-parted-config}
data:
  config.yaml: |
    version: v1
    mig-configs:
      three: [{devices: all, mig-enabled: true, mig-devices: {"2g.20gb": 3}}]
      bad: [{devices: all, mig-enabled: true, mig-devices: {"2g.20gb": 8}}]
""")
    tool.ok("apply", "-f", path, "-c", "three")
    assert len(tool.gpus()[0]["instances"]) == 3
    assert f"{path}:9:61: " in tool.refused("apply", "-f", path, "-c", "bad")


def test_only_root_changes_layouts(tool):
    for arguments in (["create", "1g.10gb"], ["destroy", "--all"], ["enable"], ["apply", "-c", "all-balanced"]):
        said = tool.sim.run("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "gpushare", "mig", *arguments, env=tool.env)
        assert said.returncode == 1 and "MIG layouts can be changed only by root: try again with sudo" in said.stderr


def test_in_use_by_nobody_that_is_listed_may_be_a_monitor(tool):
    tool.ok("create", "3g.40gb:0")
    tool.sim.inject("nvml:nvmlGpuInstanceDestroy=19:1")
    said = tool.refused("destroy", "--all")
    assert "no process on it; a monitor may hold it (DCGM, nvidia-smi daemon" in said and "try again" in said


def test_usage(tool):
    assert tool("create").returncode == 2
    assert tool("apply").returncode == 2
    assert "name instances by id or UUID, or say --all" in tool.refused("destroy", status=2)
    assert tool("apply", "-c", "x", "1g.10gb").returncode == 2
    assert tool("list", "-o", "xml").returncode == 2
    assert tool("list", "-o", "yaml").returncode == 2
    assert tool("export", "-o", "table").returncode == 2
    assert tool("create", "1g.10gb", "--wait", "soon").returncode == 2


# --- running workloads ---


def test_a_change_spares_what_runs(tool):
    tool.ok("apply", "1g.10gb,1g.10gb,1g.10gb,1g.10gb,1g.10gb,1g.10gb,1g.10gb")
    running = tool.uuid(2)
    work = tool.work(running)
    tool.ok("apply", "-c", "all-balanced")
    assert tool.uuid(2) == running
    assert work.poll() is None
    assert sorted(i.split("@")[0] for i in tool.layout()) == ["1g.10gb", "1g.10gb", "2g.20gb", "3g.40gb"]


def test_what_stands_in_the_way_is_named_and_waited_for(tool):
    tool.ok("create", "3g.40gb:0")
    work = tool.work(tool.uuid(0))
    for arguments in (["apply", "7g.80gb"], ["plan", "7g.80gb"], ["destroy", "--all"], ["disable", "-i", "0"]):
        said = tool.refused(*arguments)
        assert "process %d (gpushare)" % work.pid in said, said
    waiting = tool.start("apply", "7g.80gb", "--wait", "10m", stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    assert "waiting: " in waiting.stderr.readline()
    assert tool.layout() == ["3g.40gb@0"]
    work.kill()
    work.wait(WAIT)
    assert waiting.wait(WAIT) == 0
    assert tool.layout() == ["7g.80gb@0"]


def test_waiting_ends(tool):
    tool.ok("create", "3g.40gb:0")
    tool.work(tool.uuid(0))
    assert "waited in vain" in tool.refused("apply", "7g.80gb", "--wait", "1s")


def test_who_is_in_a_pod_or_has_a_share(tool):
    tool.ok("create", "3g.40gb:0")
    env = {**os.environ, "CUDA_VISIBLE_DEVICES": tool.uuid(0), "GPUSHARE_SHARES": "MIG-x::3"}
    work = tool.sim.popen("gpushare", "sim", "load", "--memory", "1Gi", env=env, stdout=subprocess.PIPE, text=True)
    tool.started.append(work)
    assert work.stdout.readline()
    assert re.search(r"process %d \(gpushare\), (share MIG-x::3|container [0-9a-f]+|pod \S+)" % work.pid, tool.refused("destroy", "--all"))


# --- the mode ---


def test_a_mode_that_needs_a_reset_says_so_and_stays(make):
    tool = make("2xA100-80GB")
    tool.sim.inject("--gpu", "0", "mig-needs-reset=on")
    assert "gpushare mig enable -i 0 --reset" in tool.refused("enable", "-i", "0")
    assert "gpushare mig enable -i 0 --reset" in tool.refused("apply", "-c", "all-balanced")
    tool.ok("enable", "-i", "1")
    assert [g["migEnabled"] for g in tool.gpus()] == [False, True]
    assert "MIG is noted as on, and will be so after a restart" in tool.ok("enable", "-i", "0", "--at-restart")
    assert [(g["migEnabled"], g["migPending"]) for g in tool.gpus()] == [(False, True), (True, True)]
    assert "nothing to do" in tool.ok("enable", "-i", "0", "--at-restart")
    tool.ok("create", "-i", "1", "1g.10gb")  # is no reason to forget it
    assert "MIG off, and on after a reset" in tool.ok("list", "-i", "0")
    tool.sim.inject("--gpu", "0", "reset")
    assert tool.gpus()[0]["migEnabled"]


def test_a_reset_where_it_is_asked_for_and_needed(make, tmp_path):
    """By nvidia-smi, of which this is a stand-in, and only of GPUs whose mode changes."""
    tool = make("2xA100-80GB")
    tool.sim.inject("--gpu", "0", "mig-needs-reset=on")
    (tmp_path / "bin").mkdir()
    write(tmp_path / "bin" / "nvidia-smi", f"""#!/bin/sh
echo "$@" >> {tmp_path}/resets
[ "$1 $2" = "--gpu-reset -i" ] && exec gpushare sim inject --gpu "$3" reset
""")
    os.chmod(tmp_path / "bin" / "nvidia-smi", 0o755)
    tool.env["PATH"] = f"{tmp_path}/bin:{os.environ['PATH']}"
    tool.ok("apply", "-c", "all-balanced", "--reset")
    assert tool.layout(0) == tool.layout(1) == BALANCED
    assert (tmp_path / "resets").read_text().split() == ["--gpu-reset", "-i", tool.gpus()[0]["uuid"]]


def test_a_reset_by_the_driver_roots_program(make, tmp_path):
    """In a container the driver's programs are not on PATH, and their libraries not where the loader looks."""
    tool = make("A100-80GB")
    tool.sim.inject("--gpu", "0", "mig-needs-reset=on")
    root = tmp_path / "driver-root"
    libraries = root / "usr/lib/x86_64-linux-gnu"
    libraries.mkdir(parents=True)
    shutil.copy(os.path.join(BUILD, "sim", "nvml", "libnvidia-ml.so.1"), libraries)
    (root / "usr/bin").mkdir()
    write(root / "usr/bin/nvidia-smi", f"""#!/bin/sh
echo "$LD_LIBRARY_PATH" > {tmp_path}/libraries
exec gpushare sim inject --gpu "$3" reset
""")
    os.chmod(root / "usr/bin/nvidia-smi", 0o755)
    tool.env["CONTAINER_DRIVER_ROOT"] = str(root)
    tool.ok("apply", "-c", "all-balanced", "--reset")
    assert tool.layout(0) == BALANCED
    assert (tmp_path / "libraries").read_text().startswith(f"{libraries}:")


def test_hopper_needs_none(make):
    tool = make("H100-80GB")
    tool.sim.inject("--gpu", "0", "mig-needs-reset=on")
    tool.ok("apply", "-c", "all-balanced")
    tool.ok("apply", "-c", "all-disabled")
    assert tool.everything() == [(False, False, [])]


def test_the_mode_does_not_change_while_clients_run(make):
    tool = make("2xA100-80GB")
    work = tool.work("1")
    assert "process %d (gpushare)" % work.pid in tool.refused("enable", "-i", "all")
    assert "process %d (gpushare)" % work.pid in tool.refused("apply", "-c", "all-balanced")
    tool.ok("enable", "-i", "0")
    work.kill()
    work.wait(WAIT)
    tool.ok("apply", "-c", "all-balanced")
    assert tool.layout(1) == BALANCED


def test_a_mode_is_left_to_the_restart_while_clients_run(make):
    tool = make("2xA100-80GB")
    work = tool.work("1")
    assert "GPU 1: leave turning MIG on to a restart, since process %d" % work.pid in tool.ok("enable", "-i", "all", "--at-restart", "--dry-run")
    said = tool.ok("enable", "-i", "all", "--at-restart")
    assert "GPU 0: turned MIG on\n" in said and "GPU 1: MIG is noted as on" in said
    assert [(g["migEnabled"], g["migPending"]) for g in tool.gpus()] == [(True, True), (False, True)]
    assert work.poll() is None and not tool.record()
    assert "nothing to do" in tool.ok("enable", "-i", "all", "--at-restart")
    work.kill()
    work.wait(WAIT)
    tool.sim.inject("--gpu", "1", "reset")
    assert tool.gpus()[1]["migEnabled"]
    tool.ok("create", "-i", "0", "1g.10gb:0")
    work = tool.work(tool.uuid(0))
    assert "process %d (gpushare)" % work.pid in tool.refused("disable", "-i", "0", "--at-restart")  # an instance can't wait
    assert "give one" in tool.refused("disable", "-i", "0", "--at-restart", "--reset", status=2)


def test_a_mode_left_to_the_restart_is_taken_back_when_the_rest_fails(make):
    """The change of GPU 0 can't be noted on the disk, which is full as far as this process sees."""
    tool = make("2xA100-80GB")
    tool.work("1")
    before = tool.everything()
    script = "trap '' XFSZ; ulimit -f 0; exec gpushare mig enable -i all --at-restart"
    done = tool.sim.run("sh", "-c", script, env=tool.env)
    assert done.returncode == 1 and "mig-change" in done.stderr, done.stderr
    assert tool.everything() == before


# --- faults ---


def test_a_gpu_that_can_not_be_read_is_a_failure_after_what_can_be_shown(make):
    tool = make("2xA100-80GB", mig="1g.10gb@0")
    tool.sim.inject("--gpu", "1", "lost")
    for command in ("list", "list-profiles"):
        done = tool(command)
        assert done.returncode == 1
        assert "1g.10gb" in done.stdout and "can't be read" in done.stdout
        assert "GPU 1 can't be read" in done.stderr
        done = tool(command, "-o", "json")
        assert done.returncode == 1 and "problem" in json.loads(done.stdout)[1]
        assert tool(command, "-i", "0").returncode == 0
    assert tool("export").returncode == 1


@pytest.mark.parametrize("function, code", [
    ("nvmlDeviceCreateGpuInstanceWithPlacement", 23), ("nvmlGpuInstanceCreateComputeInstance", 999),
    ("nvmlComputeInstanceDestroy", 19), ("nvmlGpuInstanceDestroy", 15), ("nvmlGpuInstanceGetInfo", 6),
    ("nvmlDeviceGetGpuInstances", 4), ("nvmlDeviceGetGpuInstanceById", 999)])
def test_a_call_that_fails_once(make, function, code):
    """Either it was tried again, or all is as it was."""
    tool = make("2xA100-80GB", mig="none")
    tool.ok("apply", "-i", "all", "1g.10gb,1g.10gb,1g.10gb,1g.10gb,1g.10gb,1g.10gb,1g.10gb")
    before = tool.everything()
    tool.sim.inject("nvml:%s=%d:1" % (function, code))
    done = tool("apply", "-c", "all-balanced")
    tool.sim.inject("nvml:%s=0" % function)
    assert not tool.record()
    if done.returncode:
        assert tool.everything() == before, done.stderr
    else:
        assert tool.layout(0) == tool.layout(1) == BALANCED
    tool.ok("apply", "-c", "all-balanced")


def test_what_can_not_be_undone_is_undone_by_the_next(make):
    tool = make("2xA100-80GB", mig="none")
    tool.ok("apply", "-i", "all", "1g.10gb,1g.10gb,1g.10gb,1g.10gb,1g.10gb,1g.10gb,1g.10gb")
    before = tool.everything()
    tool.sim.inject("nvml:nvmlDeviceCreateGpuInstanceWithPlacement=23")
    done = tool("apply", "-c", "all-balanced")
    assert done.returncode == 1 and "can't be undone now" in done.stderr
    assert tool.record()
    assert "can't be undone now" in tool("create", "-i", "0", "1g.10gb").stderr
    tool.sim.inject("nvml:nvmlDeviceCreateGpuInstanceWithPlacement=0")
    assert "it has been undone" in tool("enable", "-i", "all").stderr
    assert tool.everything() == before
    assert not tool.record()


def kill_midway(tool, config, delay):
    """Once it has begun, and `delay` later."""
    process = tool.start("apply", "-c", config, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while not tool.record() and process.poll() is None:
        pass
    time.sleep(delay)
    process.send_signal(signal.SIGKILL)
    process.wait(WAIT)


def test_killed_at_any_point(make):
    tool = make("2xA100-80GB", mig="none")
    tool.ok("apply", "-c", "all-1g.10gb")
    work = tool.work(tool.uuid(2))
    running = tool.uuid(2)
    chosen = random.Random(1)
    cut_off = tries = 0
    while cut_off < 5 and tries < 60:
        tries += 1
        before = [sorted(i.split("@")[0] for i in tool.layout(gpu)) for gpu in range(2)]
        target = "all-balanced" if before[1].count("1g.10gb") == 7 else "all-1g.10gb"
        kill_midway(tool, target, chosen.uniform(0, 0.006))
        cut_off += tool.record()
        tool.ok("enable", "-i", "all")  # nothing to do but to settle
        assert not tool.record()
        after = [sorted(i.split("@")[0] for i in tool.layout(gpu)) for gpu in range(2)]
        assert after == before or tool("assert", "-c", target).returncode == 0
        assert tool.uuid(2) == running and work.poll() is None
    assert cut_off > 0


def test_the_daemon_settles_what_was_cut_off(make, tmp_path):
    tool = make("2xA100-80GB", mig="none")
    tool.ok("apply", "-c", "all-1g.10gb")
    before = tool.everything()
    tool.sim.inject("nvml:nvmlDeviceCreateGpuInstanceWithPlacement=23")
    assert tool("apply", "-c", "all-balanced").returncode == 1
    tool.sim.inject("nvml:nvmlDeviceCreateGpuInstanceWithPlacement=0")
    assert tool.record()
    node = Node(tmp_path, tool.sim, config="version: v1\n").start()
    try:
        wait_until(lambda: not tool.record(), "the daemon to settle the change")
        node.wait_log("settled a MIG change")
    finally:
        node.stop()
    assert tool.everything() == before


def test_another_tool_changes_the_layout_meanwhile(make):
    """With a state directory of its own it does not see our lock, as any other tool."""
    tool = make("2xA100-80GB", mig="none")
    other = {**tool.env, "GPUSHARE_STATE_DIR": str(tool.path / "other")}
    script = "while :; do gpushare mig create -i 1 1g.10gb; gpushare mig destroy -i 1 --all; done"
    rival = tool.sim.popen("sh", "-c", script, env=other, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    try:
        for i in range(12):
            done = tool("apply", "-c", "all-balanced" if i % 2 else "all-2g.20gb")
            assert not tool.record(), done.stderr
            assert done.returncode in (0, 1)
    finally:
        os.killpg(rival.pid, signal.SIGKILL)
        rival.wait(WAIT)
    tool.ok("apply", "-c", "all-balanced")
    assert tool.layout(0) == tool.layout(1) == BALANCED


def test_two_at_once(make):
    tool = make("4xA100-80GB", mig="none")
    both = [tool.start("apply", "-c", config, "--wait", "5m", stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            for config in ("all-balanced", "all-1g.10gb")]
    assert [process.wait(2 * WAIT) for process in both] == [0, 0]
    assert [tool("assert", "-c", config).returncode for config in ("all-balanced", "all-1g.10gb")].count(0) == 1
