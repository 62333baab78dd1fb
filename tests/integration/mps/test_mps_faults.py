"""Sharing by MPS in the daemon where something fails: control daemons and servers that die, clients' faults, harmed files."""
import os
import pathlib
import shutil
import signal
import subprocess

import pytest

from cuda_client import ILLEGAL_ADDRESS, RPC_FAILURE, SERVER_NOT_READY, SUCCESS
from mps_world import CONFIG, DEFAULT, EXCLUSIVE, NEEDS, WITHOUT, by_gpu, make, world  # noqa: F401 (fixtures)
from node import gpus_of, healthy, sick, wait_until

pytestmark = NEEDS


def test_a_killed_control_daemon_comes_back(world):
    gpu = by_gpu(healthy(world.ready()))[0][0].split("::")[0]
    before = world.mps()
    os.kill(before[gpu]["pid"], signal.SIGKILL)
    world.plugin().wait(lambda devices: gpus_of(sick(devices)) == [gpu], "the shares of its GPU, and no others, to be unhealthy")
    world.ready()
    after = world.mps()
    assert after[gpu]["starts"] == 2
    assert all(after[other]["pid"] == before[other]["pid"] for other in before if other != gpu)
    assert world.container(gpu + "::0").ready()("run(1000)") == SUCCESS


def test_clients_that_outlive_their_control_daemon_keep_new_ones_away(world):
    """The server goes on without it and has the GPU for itself: what is advertised must say so."""
    first, second = by_gpu(healthy(world.ready()))
    gpu = first[0].split("::")[0]
    client = world.container(first[0]).ready()
    os.kill(world.mps()[gpu]["pid"], signal.SIGKILL)
    daemon = world.wait_state(gpu, "Draining")
    assert daemon["pid"] and "its control daemon died, and clients that it had still run" in daemon["reason"]
    world.plugin().wait(lambda devices: sick(devices) == sorted(first), "this GPU's shares, and no others, to be unhealthy")
    assert client("run(1000)") == SUCCESS and world.container(second[0]).ready()("run(1000)") == SUCCESS
    # The next node daemon knows it too.
    world.node.kill()
    world.start()
    world.plugin().wait(lambda devices: sick(devices) == sorted(first), "this GPU's shares, and no others, to be unhealthy")
    assert world.mps()[gpu]["state"] == "Draining" and world.mps()[gpu]["pid"] == daemon["pid"]
    client.stop()
    world.ready()
    assert world.container(first[0]).ready()("run(1000)") == SUCCESS


def test_servers_that_a_control_daemon_left_end_with_mps(world):
    share = healthy(world.ready())[0]
    gpu = share.split("::")[0]
    client = world.container(share).ready()
    os.kill(world.mps()[gpu]["pid"], signal.SIGKILL)
    world.wait_state(gpu, "Draining")
    world.node.stop()
    done = world.sim.run("gpushare", "mps", "stop", "--grace", "0s", "--mps-root", world.root, "--state-dir", world.node.state)
    assert done.returncode == 0 and done.stdout == "2 control daemons ended, 2 compute modes restored\n", done.stderr
    assert client("run(1000)") == RPC_FAILURE


@pytest.mark.parametrize("waits", [True, False])
def test_servers_that_a_control_daemon_left_have_the_device_until_they_end(world, waits):
    """MPS is configured away while they run: nobody gets the device beside them, and they do not have it for ever."""
    first, second = by_gpu(healthy(world.ready()))
    gpu, other = first[0].split("::")[0], second[0].split("::")[0]
    client = world.container(first[0]).ready()
    os.kill(world.mps()[gpu]["pid"], signal.SIGKILL)
    world.wait_state(gpu, "Draining")
    if waits:  # also for the next node daemon, and without a control daemon
        world.node.kill()
        os.kill(world.mps_pid(gpu), signal.SIGKILL)
    world.configure(WITHOUT)
    if waits:
        world.start()
    world.plugin().wait(lambda devices: healthy(devices) == [other] and len(devices) == 2, "only the other GPU to be given out")
    assert (world.mps()[gpu]["state"], world.mode(0), world.mode(1)).count(EXCLUSIVE) == 1
    if waits:
        assert client("run(1000)") == SUCCESS
        client.stop()
    world.ready(2)
    assert (world.mode(0), world.mode(1)) == (DEFAULT, DEFAULT)
    if not waits:
        assert client("run(1000)") == RPC_FAILURE


def test_clients_that_come_all_the_time_do_not_hide_a_fault(world):
    first = by_gpu(healthy(world.ready()))[0]
    gpu = first[0].split("::")[0]
    client = world.container(first[0]).ready()
    env = {**os.environ, **world.container(first[1]).environment}
    loops = [world.sim.popen("sh", "-c", "while :; do gpushare sim load --memory 1Mi --for 1ms; done", env=env, stdout=subprocess.DEVNULL,
                             stderr=subprocess.DEVNULL, start_new_session=True) for _ in range(3)]
    try:
        wait_until(lambda: world.mps()[gpu]["servers"], "its server to be seen")
        world.sim.inject("fault=%d" % client.pid)
        assert client("run(1000)") == ILLEGAL_ADDRESS
        world.wait_state(gpu, "Fault")
        client.stop()
    finally:
        for loop in loops:
            os.killpg(loop.pid, signal.SIGKILL)
            loop.wait()
    world.ready()


def test_a_killed_server_is_replaced(world):
    share = healthy(world.ready())[0]
    gpu = share.split("::")[0]
    client = world.container(share).ready()
    server = int(world.say(gpu, "get_server_list"))
    os.kill(server, signal.SIGKILL)
    wait_until(lambda: client("run(1000)") == RPC_FAILURE, "the client to hear of it")
    wait_until(lambda: world.container(share)("init() or create()") == SUCCESS, "a new server takes clients")
    client.stop()
    assert world.wait_state(gpu, "Ready")["pid"] == world.mps()[gpu]["pid"]


def test_a_fault_is_the_gpus_alone_and_passes(world):
    first, second = by_gpu(healthy(world.ready()))
    gpu = first[0].split("::")[0]
    guilty, neighbour, elsewhere = world.container(first[0]).ready(), world.container(first[1]).ready(), world.container(second[0]).ready()
    world.sim.inject("fault=%d" % guilty.pid)
    assert guilty("run(1000)") == ILLEGAL_ADDRESS
    world.plugin().wait(lambda devices: sick(devices) == sorted(first), "this GPU's shares, and no others, to be unhealthy")
    assert world.mps()[gpu]["state"] == "Fault" and world.mps()[gpu]["faults"] == 1
    late = world.container(first[2])
    assert late("init()") == SUCCESS and late("create()") == SERVER_NOT_READY
    assert elsewhere("run(1000)") == SUCCESS
    guilty.stop()
    neighbour.stop()
    late.stop()
    world.ready()
    assert world.container(first[0]).ready()("run(1000)") == SUCCESS
    assert elsewhere("run(1000)") == SUCCESS
    other = second[0].split("::")[0]
    assert not [line for line in world.node.read_log().splitlines() if "state=Fault" in line and other in line]


def test_clients_of_a_server_in_fault_are_ended_when_they_do_not_go(world):
    """Meanwhile, on the other GPU, a limit that somebody changed by the control socket is put right."""
    first, second = by_gpu(healthy(world.ready()))
    other = second[0].split("::")[0]
    world.say(other, "set_default_device_pinned_mem_limit 0 70G")
    assert world.say(other, "get_default_device_pinned_mem_limit 0") == "70G\n"
    guilty, neighbour, elsewhere = world.container(first[0]).ready(), world.container(first[1]).ready(), world.container(second[0]).ready()
    server = int(world.say(first[0].split("::")[0], "get_server_list"))
    world.sim.inject("fault=%d" % guilty.pid)
    assert guilty("run(1000)") == ILLEGAL_ADDRESS
    world.plugin().wait(lambda devices: sick(devices) == sorted(first), "this GPU's shares to be unhealthy")
    world.plugin().wait(lambda devices: len(healthy(devices)) == 20, "the deadline, and the shares to return", timeout=90)
    assert "ending a server in FAULT" in world.node.read_log()
    assert neighbour("run(1000)") == ILLEGAL_ADDRESS and not os.path.exists("/proc/%d" % server)
    assert elsewhere("run(1000)") == SUCCESS
    assert world.container(first[2]).ready()("run(1000)") == SUCCESS
    elsewhere.stop()
    wait_until(lambda: world.say(other, "get_default_device_pinned_mem_limit 0") == "8G\n", "the limit to be as configured", 120)


def test_faults_in_a_loop_end_in_quarantine(world):
    shares = by_gpu(healthy(world.ready()))[0]
    gpu = shares[0].split("::")[0]
    for number in range(6):
        client = world.container(shares[0])
        wait_until(lambda: client("init() or create()") == SUCCESS, "the device takes clients")
        world.sim.inject("fault=%d" % client.pid)
        assert client("run(1000)") == ILLEGAL_ADDRESS
        wait_until(lambda: world.mps()[gpu]["faults"] == number + 1, "the daemon to hear of fault %d" % number)
        client.stop()
        if number < 5:
            world.wait_state(gpu, "Ready")
    assert "6 faults of clients within 10 minutes" in world.wait_state(gpu, "Quarantined")["reason"]
    world.plugin().wait(lambda devices: sick(devices) == sorted(shares), "this GPU's shares to be unhealthy")
    # Neither new settings nor a new control daemon make it shorter.
    world.configure(CONFIG.replace("8Gi", "4Gi"))
    wait_until(lambda: {daemon["memoryLimitBytes"] for daemon in world.mps().values()} == {4 << 30}, "the new limit")
    os.kill(world.mps()[gpu]["pid"], signal.SIGKILL)
    wait_until(lambda: world.mps()[gpu]["pid"] == 0, "its death to be known")
    other = next(share for share in world.mps() if share != gpu)
    world.wait_state(other, "Ready")
    world.container(other + "::0").ready().stop()  # the log of one device is another's no business
    assert world.mps()[gpu]["state"] == "Quarantined"
    assert sick(world.plugin().latest) == sorted(shares)


def test_shares_with_servers_of_their_own_fail_alone(make):
    world = make(spec="1xA100-80GB", config=CONFIG.replace("memoryLimit: 8Gi", "isolation: per-share").replace("replicas: 10", "replicas: 3")).start()
    shares = healthy(world.ready(3))
    guilty, neighbour = world.container(shares[0]).ready(), world.container(shares[1]).ready()
    world.sim.inject("fault=%d" % guilty.pid)
    assert guilty("run(1000)") == ILLEGAL_ADDRESS
    assert neighbour("run(1000)") == SUCCESS
    wait_until(lambda: sorted(daemon["state"] for daemon in world.mps().values()) == ["Fault", "Ready", "Ready"], "one server in FAULT")
    assert neighbour("run(1000)") == SUCCESS
    world.plugin().wait(lambda devices: sick(devices) == [shares[0]] and len(healthy(devices)) == 2, "this share alone to be unhealthy")
    assert [share["state"] for share in world.node.status()["gpus"][0]["shares"]] == ["Unhealthy", "Healthy", "Healthy"]
    guilty.stop()
    wait_until(lambda: {daemon["state"] for daemon in world.mps().values()} == {"Ready"}, "all servers well")
    # And so does one whose control daemon dies.
    (own,) = [daemon for key, daemon in world.mps().items() if key.endswith("-2")]
    os.kill(own["pid"], signal.SIGKILL)
    world.plugin().wait(lambda devices: sick(devices) == [shares[2]], "this share alone to be unhealthy")
    wait_until(lambda: not sick(world.plugin().latest), "its return")
    assert neighbour("run(1000)") == SUCCESS


def test_a_missing_program_is_a_clear_condition_and_other_strategies_go_on(make, tmp_path):
    empty = tmp_path / "bin"
    empty.mkdir()
    world = make(config="""version: v1
flags: {mpsRoot: %s}
sharing:
  mps: {resources: [{name: nvidia.com/gpu, replicas: 4, devices: [0], rename: nvidia.com/gpu-mps}]}
  timeSlicing: {resources: [{name: nvidia.com/gpu, replicas: 4, devices: [1]}]}
""")
    daemon = [argument for argument in world.node.command() if argument != "--"]
    world.node.command = lambda: ["env", *world.sim.command("env", "PATH=%s" % empty, *daemon[daemon.index("node") - 1:])]
    world.start()
    assert len(healthy(world.ready(4))) == 4
    devices = world.plugin("nvidia.com/gpu-mps").wait(lambda devices: len(sick(devices)) == 4, "shares that nobody can use")
    assert len(devices) == 4
    assert "cannot run nvidia-cuda-mps-control" in next(iter(world.mps().values()))["reason"]


def test_a_pipe_directory_deleted_under_a_running_daemon_is_made_again(world):
    share = healthy(world.ready())[0]
    gpu = share.split("::")[0]
    before = world.mps()[gpu]["pid"]
    shutil.rmtree(pathlib.Path(world.root, gpu, "pipe"))
    wait_until(lambda: world.mps()[gpu]["pid"] not in (0, before), "another daemon")
    world.ready()
    assert world.container(share).ready()("run(1000)") == SUCCESS


def test_a_daemon_whose_pipe_directory_went_unseen_is_replaced(world):
    """Nothing names it any more, and nobody can ask it anything: it must not stay for ever."""
    share = healthy(world.ready())[0]
    gpu = share.split("::")[0]
    before = world.mps()[gpu]["pid"]
    world.node.stop()
    shutil.rmtree(pathlib.Path(world.root, gpu, "pipe"))
    world.start()
    wait_until(lambda: not os.path.exists("/proc/%d" % before), "the end of the old daemon")
    world.ready()
    assert world.container(share).ready()("run(1000)") == SUCCESS


@pytest.mark.parametrize("harm", ["deleted", "a file"])
def test_a_pipe_directory_that_is_harmed_is_made_again(world, harm):
    share = healthy(world.ready())[0]
    gpu = share.split("::")[0]
    pipe = pathlib.Path(world.root, gpu, "pipe")
    os.kill(world.mps()[gpu]["pid"], signal.SIGKILL)
    shutil.rmtree(pipe)
    if harm == "a file":
        pipe.write_text("in the way")
        wait_until(lambda: str(pipe) in world.mps()[gpu]["reason"], "the reason names the path")
        pipe.unlink()
    wait_until(lambda: world.mps()[gpu]["state"] == "Ready", "the daemon is back")
    world.ready()
    assert world.container(share).ready()("run(1000)") == SUCCESS


@pytest.fixture
def harmed(world, request):
    """A pipe directory that nothing, or not much, can be written to; gives it back when called."""
    gpu = healthy(world.ready())[0].split("::")[0]
    pipe = pathlib.Path(world.root, gpu, "pipe")
    os.kill(world.mps()[gpu]["pid"], signal.SIGSTOP)  # so that it is not started again in between
    mount = subprocess.run(["mount", "-t", "tmpfs", "-o", request.param, "tmpfs", pipe], capture_output=True, text=True)
    if mount.returncode:
        os.kill(world.mps()[gpu]["pid"], signal.SIGCONT)
        pytest.skip("needs a mount of its own: " + mount.stderr.strip())
    if "size" in request.param:
        (pipe / "filler").write_bytes(b"x" * 4096)
    os.kill(world.mps()[gpu]["pid"], signal.SIGKILL)
    mounted = [True]

    def mend():
        if mounted and mounted.pop():
            subprocess.run(["umount", "-l", pipe], check=True)

    yield gpu, mend
    mend()


@pytest.mark.parametrize("harmed", ["ro", "size=4k,nr_inodes=2"], indirect=True, ids=["unwritable", "no room for a file"])
def test_a_pipe_directory_that_takes_nothing(world, harmed):
    gpu, mend = harmed
    shares = [share for share in world.plugin().latest if share.startswith(gpu)]
    world.plugin().wait(lambda devices: sick(devices) == sorted(shares), "this GPU's shares, and no others, to be unhealthy")
    world.node.wait_log("state=Failed reason=\"nvidia-cuda-mps-control -d ended")
    assert world.container(next(share for share in world.plugin().latest if share not in shares)).ready()("run(1000)") == SUCCESS
    mend()
    world.ready()
    assert world.container(shares[0]).ready()("run(1000)") == SUCCESS
