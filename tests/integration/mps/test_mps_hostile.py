"""Sharing by MPS beside those that mean harm, and beside other gpushares: nothing that they can write decides what the daemon does."""
import json
import os
import pathlib
import shutil
import signal
import stat
import subprocess
import sys

import pytest

from cuda_client import SUCCESS, Client
from mps_world import CONFIG, EXCLUSIVE, NEEDS, WITHOUT, by_gpu, make, world  # noqa: F401 (fixtures)
from node import Node, healthy, sick, wait_until

pytestmark = NEEDS

# A process that looks like a control daemon to whoever goes by names, and listens where one listens.
FAKE = r"""
import ctypes, os, socket, sys, time
pipe, cgroup = sys.argv[1], sys.argv[2]
if cgroup:
    open(cgroup + "/cgroup.procs", "w").write(str(os.getpid()))
ctypes.CDLL(None).prctl(15, b"nvidia-cuda-mps", 0, 0, 0)
listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
listener.bind(pipe + "/fake")
listener.listen(8)
os.rename(pipe + "/fake", pipe + "/control")
print("ready", flush=True)
while True:
    with open(pipe + "/pid", "w") as file:
        file.write(str(os.getpid()))
    os.rename(pipe + "/pid", pipe + "/nvidia-cuda-mps-control.pid")
    time.sleep(0.005)
"""


def gpus(world):
    return [shares[0].split("::")[0] for shares in by_gpu(healthy(world.ready()))]


@pytest.fixture
def cgroup():
    """A cgroup like a container's: not this process's."""
    path = next((root for root in ("/sys/fs/cgroup/devices", "/sys/fs/cgroup") if os.path.exists(root + "/cgroup.procs")), None)
    path = path and "%s/gpushare-test-%d" % (path, os.getpid())
    try:
        os.mkdir(path or "/proc/none")
    except OSError as error:
        pytest.skip("needs a cgroup of its own: %s" % error)
    yield path
    os.rmdir(path)


@pytest.fixture
def fake():
    """Starts a process that pretends to be the control daemon of a pipe directory."""
    started = []

    def begin(pipe, cgroup=""):
        script = pathlib.Path(pipe, "fake.py")
        script.write_text(FAKE, encoding="ascii")
        started.append(subprocess.Popen(["nvidia-cuda-mps-control", str(script), str(pipe), cgroup, "-d"], executable=sys.executable,
                                        stdout=subprocess.PIPE, text=True, env={}))
        assert started[-1].stdout.readline() == "ready\n"
        return started[-1]

    yield begin
    for process in started:
        process.kill()
        process.wait()
        process.stdout.close()


def node_cgroups(path):
    """Folders that look like a node's cgroups, to see who is moved there."""
    path.mkdir()
    procs = path / "cgroup.procs"
    procs.touch()
    return procs


@pytest.mark.parametrize("runs", [True, False], ids=["node runs", "node starts"])
def test_a_container_is_not_taken_for_a_control_daemon(make, tmp_path, cgroup, fake, runs):
    procs = node_cgroups(tmp_path / "cgroups")
    world = make(arguments=["--host-cgroups", str(procs.parent)]).start()
    gpu, other = gpus(world)
    before = world.mps()
    if not runs:
        world.node.stop()
    os.kill(before[gpu]["pid"], signal.SIGSTOP)
    process = fake(os.path.join(world.root, gpu, "pipe"), cgroup)
    os.kill(before[gpu]["pid"], signal.SIGKILL)
    if not runs:
        world.start().node.wait_listening()
    wait_until(lambda: world.mps().get(gpu, {}).get("pid") not in (0, None, before[gpu]["pid"]) and world.mps()[gpu]["state"] == "Ready",
               "a control daemon of its own; log:\n" + world.node.read_log())
    world.ready()
    assert world.mps()[gpu]["pid"] != process.pid
    assert str(process.pid) not in procs.read_text(encoding="ascii").split()
    client = world.container(gpu + "::0").ready()
    assert client("run(1000)") == SUCCESS
    client.stop()
    assert world.mps()[other]["pid"] == before[other]["pid"]
    # What is left of it names the fake, and the daemon that was started goes all the same.
    world.configure(WITHOUT)
    wait_until(lambda: world.mps() == {}, "the end of MPS")
    assert process.poll() is None


@pytest.mark.parametrize("thing", ["pipe", "link", "folder", "socket of nobody"])
def test_what_is_no_pid_file_stops_nobody(world, thing):
    gpu, _ = gpus(world)
    before = world.mps()
    world.node.stop()
    path = pathlib.Path(world.root, gpu, "pipe", "nvidia-cuda-mps-control.pid")
    path.unlink()
    if thing == "pipe":
        os.mkfifo(path)
    elif thing == "link":
        path.symlink_to("/dev/zero")
    elif thing == "folder":
        path.mkdir()
    else:
        os.mknod(path, stat.S_IFSOCK | 0o600)
    world.start()
    world.ready()
    assert {key: daemon["pid"] for key, daemon in world.mps().items()} == {key: daemon["pid"] for key, daemon in before.items()}
    assert world.node.stop() == 0


@pytest.mark.parametrize("name", ["mps.json", "allocations.json", "config.json", "mig-change"])
def test_pipes_in_place_of_state_files_stop_nobody(make, name):
    world = make()
    os.makedirs(world.node.state, exist_ok=True)
    os.mkfifo(os.path.join(world.node.state, name))
    world.start()
    world.ready()
    assert world.node.stop() == 0


@pytest.fixture
def beside(tmp_path, world):
    """Other node daemons on the same simulated node."""
    nodes = []

    def begin(config, wrap=()):
        node = Node(tmp_path / ("other%d" % len(nodes)), world.sim, config=config % world.root)
        command = node.command()
        node.command = lambda: [*wrap, *command]
        os.makedirs(node.kubelet_dir, exist_ok=True)
        nodes.append(node)
        return node

    yield begin
    for node in nodes:
        if node.process:
            assert node.stop() == 0, node.read_log()


def elsewhere(root):
    """A shell's words that run a command where `root` is another directory than here."""
    probe = subprocess.run(["unshare", "-m", "true"], capture_output=True, text=True)
    if probe.returncode:
        pytest.skip("needs a mount namespace of its own: " + probe.stderr.strip())
    return ["unshare", "-m", "--propagation", "private", "sh", "-c", "mount -t tmpfs -o mode=755 tmpfs %s && exec \"$@\"" % root, "sh"]


@pytest.mark.parametrize("config", [WITHOUT, CONFIG], ids=["without MPS", "with MPS"])
def test_another_daemon_whose_root_only_has_the_same_name(world, beside, config):
    gpu, _ = gpus(world)
    client, before = world.container(gpu + "::0").ready(), world.mps()
    wrap = elsewhere(world.root)
    other = beside(config, wrap).start()
    other.wait_listening()
    wait_until(lambda: len(other.status()["gpus"]) == 2, "the other's GPUs")
    if config == CONFIG:
        wait_until(lambda: len(other.status()["mps"]) == 2 and all(each["pid"] for each in other.status()["mps"]), "daemons of its own")
    assert other.stop() == 0
    theirs = {} if config == WITHOUT else json.loads(pathlib.Path(other.state, "mps.json").read_text(encoding="ascii"))["daemons"]
    ours = [daemon["pid"] for daemon in before.values()]
    assert not [daemon for daemon in theirs.values() if daemon["pid"] in ours]
    # Nor do the commands that end MPS end what is ours.
    for record in other.state, other.state + ".none":
        done = world.sim.run(*wrap, "gpushare", "mps", "stop", "--grace", "0s", "--mps-root", world.root, "--state-dir", record)
        assert done.stdout.startswith("%d control daemons ended" % (2 if config == CONFIG and record == other.state else 0)), done
    assert client("run(1000)") == SUCCESS
    assert {key: daemon["pid"] for key, daemon in world.mps().items()} == {key: daemon["pid"] for key, daemon in before.items()}


def test_another_daemon_with_the_same_root_waits_for_it(world, beside):
    gpu, _ = gpus(world)
    client, before = world.container(gpu + "::0").ready(), world.mps()
    other = beside(CONFIG).start()
    other.wait_log("another gpushare node uses flags.mpsRoot")
    wait_until(lambda: any("another gpushare node uses flags.mpsRoot" in each for each in other.status()["problems"]), "the problem")
    done = world.sim.run("gpushare", "mps", "stop", "--grace", "0s", "--mps-root", world.root, "--state-dir", other.state + ".none")
    assert done.returncode == 1 and "another gpushare node uses %s" % world.root in done.stderr
    assert client("run(1000)") == SUCCESS
    world.node.stop()
    wait_until(lambda: sorted(each["pid"] for each in other.status()["mps"]) == sorted(each["pid"] for each in before.values()),
               "the other to take over what runs")
    assert client("run(1000)") == SUCCESS
    client.stop()
    # It took them over, so it lets them go.
    other.write_config(WITHOUT % world.root)
    wait_until(lambda: other.status()["mps"] == [], "their end")


def test_a_daemon_without_mps_leaves_alone_what_it_did_not_start(world, beside):
    gpu, _ = gpus(world)
    client, before = world.container(gpu + "::0").ready(), world.mps()
    world.node.stop()
    other = beside(WITHOUT).start().wait_listening()
    wait_until(lambda: len(other.status()["gpus"]) == 2, "its GPUs")
    assert other.status()["mps"] == [] and world.mode(0) == EXCLUSIVE
    other.stop()
    command = other.command()
    command.insert(command.index("node") + 1, "--uninstall")
    done = subprocess.run([*command, "--mps-root", world.root], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert client("run(1000)") == SUCCESS
    world.start()
    world.ready()
    assert {key: daemon["pid"] for key, daemon in world.mps().items()} == {key: daemon["pid"] for key, daemon in before.items()}


def test_a_root_that_other_users_cannot_enter(make):
    world = make()
    parent = world.root
    world.root = os.path.join(parent, "mps")
    world.configure(CONFIG)
    os.chmod(parent, 0o700)
    try:
        world.start()
        world.plugin().wait(lambda devices: len(sick(devices)) == 20, "no share to be given out")
        wait_until(lambda: any("only some can enter %s; run chmod o+x" % parent in each for each in world.node.status()["problems"]), "why")
        os.chmod(parent, 0o711)
        world.ready()
    finally:
        world.node.stop()
        world.sim.run("gpushare", "mps", "stop", "--grace", "0s", "--mps-root", world.root, "--state-dir", world.node.state)
        shutil.rmtree(world.root)
        world.root = parent


def test_directories_do_not_depend_on_the_umask(make):
    world = make()
    before = os.umask(0o077)
    try:
        world.start()
    finally:
        os.umask(before)
    share = healthy(world.ready())[0]
    pipe = pathlib.Path(world.root, share.split("::")[0], "pipe")
    assert [oct(path.stat().st_mode & 0o777) for path in (pipe, pipe.parent)] == ["0o755"] * 2
    assert oct(os.stat(world.node.socket).st_mode & 0o777) == "0o600"
    assert oct(os.stat(os.path.dirname(world.node.socket)).st_mode & 0o777) == "0o755"


def test_a_client_needs_no_right_to_write_to_its_pipe_directory(world):
    share = healthy(world.ready())[0]
    answer = world.plugin().allocate([share])[0]
    (mount,) = [each for each in answer.mounts if each.container_path == answer.envs["CUDA_MPS_PIPE_DIRECTORY"]]
    assert mount.read_only
    elsewhere(world.root)
    read_only = "mount --bind {0} {0} && mount -o remount,bind,ro {0} && ! touch {0}/file 2>&- && exec \"$@\"".format(mount.host_path)
    env = {**os.environ, **answer.envs, "CUDA_MPS_PIPE_DIRECTORY": mount.host_path, "CUDA_VISIBLE_DEVICES": share.split("::")[0]}
    del env["NVIDIA_VISIBLE_DEVICES"]
    world.clients.append(Client(env, lambda *command: ["unshare", "-m", "--propagation", "private", "sh", "-c", read_only, "sh",
                                                       *world.sim.command(*command)]))
    client = world.clients[-1].ready()
    assert client("run(1000)") == SUCCESS and client("alloc(9000)") != SUCCESS
