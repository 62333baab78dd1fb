"""Sharing by MPS in the daemon: limits that reach containers, settings, restarts and compute modes."""
import json
import os
import pathlib
import shutil
import signal

import pytest

from cuda_client import MAX_CLIENTS, OUT_OF_MEMORY, SUCCESS
from mps_world import CONFIG, DEFAULT, EXCLUSIVE, NEEDS, PROHIBITED, SLICED, WITHOUT, by_gpu, make, world  # noqa: F401 (fixtures)
from node import healthy, sick, wait_until
from pod_resources import PodResources

pytestmark = NEEDS


def test_each_client_has_what_its_share_says(world):
    shares = by_gpu(healthy(world.ready()))[0]
    answer = world.plugin().allocate([shares[0]])[0]
    assert answer.envs["CUDA_MPS_PINNED_DEVICE_MEM_LIMIT"] == "0=8192M"
    assert answer.envs["CUDA_MPS_ACTIVE_THREAD_PERCENTAGE"] == "10"
    assert "/dev/shm" in [mount.container_path for mount in answer.mounts]
    clients = [world.container(share).ready() for share in shares]
    assert {client("attribute(16)") for client in clients} == {11}  # of 108 multiprocessors
    assert [client("alloc(7000)") for client in clients] == [SUCCESS] * 10
    assert clients[0]("alloc(1000)") == OUT_OF_MEMORY
    assert {client("run(1000)") for client in clients} == {SUCCESS}
    assert [world.mode(0), world.mode(1)] == [EXCLUSIVE] * 2
    server = world.say(shares[0].split("::")[0], "get_server_list").strip()

    def counted():
        table = world.sim.run("gpushare", "mps", "status", "--socket", world.node.socket).stdout.splitlines()
        return sorted(line.split()[-2:] for line in table if line.startswith("GPU-")) == sorted([["10", server], ["0", "-"]])

    wait_until(counted, "ten clients of one server")
    holders = {share["id"]: share["holders"] for gpu in world.node.status()["gpus"] for share in gpu["shares"]}
    assert [holder["pid"] for holder in holders[shares[3]]] == [clients[3].pid]


def test_clients_are_listed_with_their_pods(world):
    share, other = healthy(world.ready())[:2]
    kubelet = PodResources(world.node.kubelet_dir).start()
    try:
        kubelet.pods = [("team-a", "train-0", "main", "nvidia.com/gpu", [share])]
        one, two = world.container(share).ready(), world.container(other).ready()
        assert (one("alloc(1000)"), two("init()")) == (SUCCESS, SUCCESS)
        clients = lambda *options: world.sim.run("gpushare", "mps", "clients", "--socket", world.node.socket, *options).stdout
        wait_until(lambda: "team-a/train-0/main" in clients(), "the kubelet's answer")
        rows = {line.split()[0]: line.split() for line in clients().splitlines()}
        assert rows[share][1] == str(one.pid) and rows[share][3] == "8Gi" and rows[share][-1] == "team-a/train-0/main"
        assert rows[other][1] == str(two.pid) and rows[other][-1] == "-"
        listed = {client["share"]: client for client in json.loads(clients("-o", "json"))}
        assert listed[share]["pods"] == [{"namespace": "team-a", "name": "train-0", "container": "main"}]
    finally:
        kubelet.stop()


def listed(world):
    return json.loads(world.sim.run("gpushare", "mps", "clients", "-o", "json", "--socket", world.node.socket).stdout)


def counts(world):
    lines = world.sim.run("gpushare", "mps", "status", "-o", "json", "--socket", world.node.socket).stdout
    return {daemon["id"]: daemon["clients"] for daemon in json.loads(lines)}


def test_a_client_that_cleared_its_environment_is_listed_without_a_share(world):
    first, second = (shares[0] for shares in by_gpu(healthy(world.ready())))
    gpu = first.split("::")[0]
    client, stranger = world.container(first).ready(), world.container(first, GPUSHARE_SHARES="").ready()
    assert stranger("alloc(1000)") == SUCCESS
    wait_until(lambda: len(listed(world)) == 2, "both clients, and not their server")
    one, other = listed(world)
    assert (one["pid"], one["share"]) == (client.pid, first)
    assert (other["pid"], other["share"], other["device"], other["memoryLimitBytes"]) == (stranger.pid, None, gpu, None)
    assert other["memoryBytes"] >= 1000 << 20
    assert counts(world) == {gpu: 2, second.split("::")[0]: 0}
    table = world.sim.run("gpushare", "mps", "clients", "--socket", world.node.socket).stdout.splitlines()
    assert [line.split()[:2] for line in table[1:]] == [[first, str(client.pid)], ["-", str(stranger.pid)]]


def test_answers_that_cannot_be_written_are_errors(world):
    world.ready()
    for what in "status", "clients", "status -o json", "clients -o json":
        for to in ">&-", ">/dev/full":
            done = world.sim.run("sh", "-c", "gpushare mps %s --socket %s %s" % (what, world.node.socket, to))
            assert done.returncode == 1, (what, to)


def test_more_than_one_share_is_refused_unless_allowed(world):
    shares = by_gpu(healthy(world.ready()))[0]
    with pytest.raises(Exception, match="failRequestsGreaterThanOne"):
        world.plugin().allocate(shares[:2])


def test_classes_divide_a_gpu(make):
    world = make(spec="1xA100-80GB", config="""version: v1
flags: {mpsRoot: %s}
sharing:
  mps:
    resources:
    - {name: nvidia.com/gpu, rename: nvidia.com/gpu-small, replicas: 4, memoryLimit: 5Gi, activeThreadPercentage: 10}
    - {name: nvidia.com/gpu, rename: nvidia.com/gpu-large, replicas: 1, memoryLimit: 40Gi, activeThreadPercentage: 60}
""").start()
    small = healthy(world.ready(4, "nvidia.com/gpu-small"))
    large = healthy(world.ready(1, "nvidia.com/gpu-large"))
    assert not set(small) & set(large)
    one, other = world.container(small[0], "nvidia.com/gpu-small").ready(), world.container(large[0], "nvidia.com/gpu-large").ready()
    assert (one("alloc(6000)"), other("alloc(30000)")) == (OUT_OF_MEMORY, SUCCESS)
    assert (one("attribute(16)"), other("attribute(16)")) == (11, 65)


def test_compute_modes_come_back_when_mps_is_configured_away(world):
    world.mode(1)
    world.ready()
    assert (world.mode(0), world.mode(1)) == (EXCLUSIVE, EXCLUSIVE)
    world.configure(WITHOUT)
    wait_until(lambda: (world.mode(0), world.mode(1)) == (DEFAULT, DEFAULT), "the modes to be as before")
    assert len(world.ready(2)) == 2 and world.mps() == {}


def test_compute_modes_come_back_after_a_crash(make):
    world = make()
    world.mode(0, PROHIBITED)
    world.start()
    world.ready()
    world.node.kill()
    assert (world.mode(0), world.mode(1)) == (EXCLUSIVE, EXCLUSIVE)
    world.configure(WITHOUT)
    world.start()
    wait_until(lambda: (world.mode(0), world.mode(1)) == (PROHIBITED, DEFAULT), "the modes to be as before MPS")
    wait_until(lambda: world.mps() == {}, "the daemons that were left are gone")


def test_a_compute_mode_that_cannot_be_restored_is_tried_again(world):
    first, second = by_gpu(healthy(world.ready()))
    world.sim.inject("nvml:nvmlDeviceSetComputeMode=999")
    world.configure(SLICED)
    world.plugin().wait(lambda devices: len(sick(devices)) == 8, "nothing to be given out")
    wait_until(lambda: len([each for each in world.node.status()["problems"] if "before MPS could not be restored: nvml" in each]) == 2,
               "both to wait for it")
    world.sim.inject("nvml:nvmlDeviceSetComputeMode=0")
    world.ready(8)
    assert (world.mode(0), world.mode(1)) == (DEFAULT, DEFAULT)
    assert world.node.read_log().count("the compute mode could not be restored") == 2


def test_mps_that_comes_back_while_its_last_clients_are_waited_for(world):
    share = healthy(world.ready())[0]
    gpu = share.split("::")[0]
    client = world.container(share).ready()
    world.configure(WITHOUT)
    world.wait_state(gpu, "Stopping")
    world.configure(CONFIG)
    client.stop()
    world.wait_state(gpu, "Ready")
    assert world.say(gpu, "get_default_active_thread_percentage") == "10.0\n"
    assert world.say(gpu, "get_default_device_pinned_mem_limit 0") == "8G\n"


def test_another_root_while_clients_run(world, tmp_path_factory):
    """Now nothing moves; at the next start, what runs below the old root has to go before the device is given out."""
    first, second = by_gpu(healthy(world.ready()))
    client = world.container(first[0]).ready()
    before, old = world.mps(), world.root
    new = old + ".new"
    world.node.write_config(CONFIG % (new + "/"))
    world.node.wait_log("flags.mpsRoot changed; that takes effect when the daemon starts again")
    assert [(each["pid"], each["pipeDirectory"]) for each in world.mps().values()] == [
        (each["pid"], each["pipeDirectory"]) for each in before.values()]
    other = world.container(first[1]).ready()
    other.stop()
    world.node.stop()
    world.start()
    world.plugin().wait(lambda devices: sick(devices) == sorted(first), "the other GPU's shares, and no others, to be healthy")
    assert client("run(1000)") == SUCCESS
    client.stop()
    world.ready()
    assert {daemon["pipeDirectory"].startswith(new + "/GPU-") for daemon in world.mps().values()} == {True}
    assert world.container(first[0]).ready()("run(1000)") == SUCCESS
    world.node.stop()
    # The default root has nothing; what the daemon used is known.
    done = world.sim.run("gpushare", "mps", "stop", "--grace", "0s", "--state-dir", world.node.state)
    assert done.stdout == "2 control daemons ended, 2 compute modes restored\n", done.stderr
    shutil.rmtree(new)


def test_a_pid_file_that_names_the_daemon_of_another_device(world):
    ours, other = (shares[0].split("::")[0] for shares in by_gpu(healthy(world.ready())))
    before = world.mps()
    world.node.stop()
    os.kill(before[ours]["pid"], signal.SIGKILL)
    pathlib.Path(world.root, ours, "pipe", "nvidia-cuda-mps-control.pid").write_text(str(before[other]["pid"]), encoding="ascii")
    world.start()
    world.ready()
    after = world.mps()
    assert after[other]["pid"] == before[other]["pid"] != after[ours]["pid"]


@pytest.mark.parametrize("end", ["stop", "kill"])
def test_a_restart_of_the_daemon_ends_no_client(world, end):
    share = healthy(world.ready())[0]
    client, before = world.container(share).ready(), world.mps()
    getattr(world.node, end)()
    assert client("run(1000)") == SUCCESS
    world.start()
    world.ready()
    after = world.mps()
    assert {gpu: daemon["pid"] for gpu, daemon in after.items()} == {gpu: daemon["pid"] for gpu, daemon in before.items()}
    assert all(daemon["starts"] == 0 for daemon in after.values())
    assert client("run(1000)") == SUCCESS


def test_a_config_edit_of_limits_keeps_clients_and_daemons(world):
    shares = by_gpu(healthy(world.ready()))[0]
    client, before = world.container(shares[0]).ready(), world.mps()
    world.configure(CONFIG.replace("8Gi", "4Gi"))
    wait_until(lambda: all(daemon["memoryLimitBytes"] == 4 << 30 for daemon in world.mps().values()), "the new limit")
    for gpu in world.mps():
        world.wait_state(gpu, "Ready")
    assert {gpu: daemon["pid"] for gpu, daemon in world.mps().items()} == {gpu: daemon["pid"] for gpu, daemon in before.items()}
    assert client("alloc(7000)") == SUCCESS  # it keeps what it came with
    assert world.container(shares[1]).ready()("alloc(5000)") == OUT_OF_MEMORY


@pytest.mark.parametrize("memory,words", [("90Gi", "is more than device 0 has"), ("9Gi", "add up to 90Gi")])
def test_limits_that_do_not_fit_are_refused_and_running_shares_stay(world, memory, words):
    before = healthy(world.ready())
    world.configure(CONFIG.replace("8Gi", memory))
    world.node.wait_log(words)
    assert any(words in problem for problem in world.node.status()["problems"])
    assert healthy(world.plugin().wait(lambda devices: len(healthy(devices)) == 20)) == before


def test_mps_on_mig_devices(make):
    world = make(spec="A100-80GB", sim_options=["--mig", "3g.40gb,3g.40gb"], config="""version: v1
flags: {mpsRoot: %s, migStrategy: mixed}
sharing: {mps: {resources: [{name: nvidia.com/mig-3g.40gb, replicas: 2}]}}
""").start()
    share = healthy(world.ready(4, "nvidia.com/mig-3g.40gb"))[0]
    client = world.container(share, "nvidia.com/mig-3g.40gb").ready()
    assert client("alloc(15000)") == SUCCESS and client("alloc(8000)") == OUT_OF_MEMORY
    stranger = world.container(share, "nvidia.com/mig-3g.40gb", GPUSHARE_SHARES="").ready()
    wait_until(lambda: len(listed(world)) == 2, "both clients")
    assert [(one["share"], one["device"]) for one in listed(world)] == [(share, share.split("::")[0]), (None, share.split("::")[0])]
    assert counts(world)[share.split("::")[0]] == 2
    stranger.stop()
    assert world.mode(0) == DEFAULT
    # When it is configured away, its last clients keep that device, and not the one beside it.
    name = "nvidia.com/mig-3g.40gb"
    world.node.stop()
    world.configure(WITHOUT.replace("%s", "%s, migStrategy: mixed"))
    world.start()
    world.plugin(name).wait(lambda devices: sick(devices) == [share.split("::")[0]] and len(devices) == 2, "the other to be healthy")
    client.stop()
    world.ready(2, name)


def entries(*lines):
    return "version: v1\nflags: {mpsRoot: %s}\nsharing:\n  mps:\n    resources:\n" + "".join("    - {%s}\n" % line for line in lines)


@pytest.mark.parametrize("lines, said", [
    (["name: nvidia.com/gpu, replicas: 4, memoryLimit: 81Gi"], "is more than device 0 has"),
    (["name: nvidia.com/gpu, replicas: 11, memoryLimit: 8Gi"], "add up to 88Gi"),
    (["name: nvidia.com/gpu, rename: nvidia.com/gpu.a, replicas: 2, memoryLimit: 30Gi",
      "name: nvidia.com/gpu, rename: nvidia.com/gpu.b, replicas: 1, memoryLimit: 30Gi"], "add up to 90Gi"),
    (["name: nvidia.com/gpu, replicas: 49"], "takes 48 clients"),
    (["name: nvidia.com/gpu, replicas: 4, activeThreadPercentage: 26"], "add up to 104"),
])
def test_what_does_not_fit_is_refused(make, lines, said):
    world = make(spec="A100-80GB", config=entries(*lines)).start()
    world.node.wait_log(said)
    assert not world.kubelet.plugins


def test_one_client_more_than_a_gpu_takes(make):
    """Each share may have several processes, and together they are too many: only the last one feels it."""
    world = make(spec="A100-80GB", config=entries("name: nvidia.com/gpu, replicas: 24")).start()
    shares = healthy(world.ready(24))
    clients = [world.container(share).ready() for share in shares + shares]
    late = world.container(shares[0])
    assert late("init()") == SUCCESS and late("create()") == MAX_CLIENTS
    assert {client("run(1000)") for client in clients} == {SUCCESS}
    clients[0].stop()
    wait_until(lambda: late("create()") == SUCCESS, "there is room again")


def test_modes_that_an_earlier_daemon_left_are_restored_while_the_list_of_them_is_read(make):
    """Each is restored by a worker as soon as it is asked for, so the record shrinks meanwhile."""
    world = make(spec="8xA100-80GB", config="""version: v1
flags: {mpsRoot: %s}
sharing: {mps: {resources: [{name: nvidia.com/gpu, replicas: 2, devices: [0]}]}}
""")
    world.start()
    world.plugin().wait(lambda devices: len(healthy(devices)) == 9, "two shares and seven GPUs")
    uuids = [gpu["uuid"] for gpu in world.node.status()["gpus"]]
    world.node.stop()
    record = pathlib.Path(world.node.state, "mps.json")
    for _ in range(6):
        record.write_text(json.dumps({"version": 1, "computeModes": {uuid: PROHIBITED for uuid in uuids[1:]}}), encoding="ascii")
        world.start()
        wait_until(lambda: not set(json.loads(record.read_text(encoding="ascii"))["computeModes"]) & set(uuids[1:]), "the others to be as before")
        assert world.node.stop() == 0, world.node.read_log()
    assert [world.mode(0), world.mode(7)] == [EXCLUSIVE, PROHIBITED]
