"""What the daemon survives: kubelets, disks, peers and NVML that misbehave, and being killed."""
import os
import random
import signal
import socket
import subprocess
import threading
import time

import grpc
import pytest

from kubelet import WAIT, Kubelet
from node import CONFIG_4, GPUSHARE, Node, Sim, gpus_of, healthy, sick, wait_until
from pod_resources import PodResources

pytestmark = pytest.mark.skipif(not os.path.exists(GPUSHARE), reason="gpushare is not built")


@pytest.fixture(scope="module")
def sim(tmp_path_factory):
    node = Sim(tmp_path_factory.mktemp("sim"), "2xA100-80GB")
    yield node
    node.stop()


def test_kubelet_that_comes_late(node, kubelet):
    node.start()
    node.wait_log("serving")
    kubelet.start()
    assert len(kubelet.wait_registered().wait(lambda d: len(d) == 8)) == 8


def test_kubelet_that_refuses_at_first(node, kubelet):
    kubelet.refuse = "no 100% sure: naïve\nplugin"
    kubelet.start()
    node.start()
    node.wait_log("did not register")
    assert "naïve" in node.read_log()
    kubelet.refuse = None
    assert kubelet.wait_registered().wait(lambda d: len(d) == 8)


def test_kubelet_that_hangs_and_restarts_in_the_middle_of_register(node, kubelet):
    kubelet.delay = threading.Event()
    kubelet.start()
    node.start()
    node.wait_log("serving")
    time.sleep(0.3)  # let Register reach the hanging kubelet; the outcome does not depend on it
    hang, kubelet.delay = kubelet.delay, None
    kubelet.generation += 1
    hang.set()
    kubelet.restart()
    assert kubelet.wait_registered().wait(lambda d: len(d) == 8)


def test_kubelet_directory_that_is_replaced(node, kubelet):
    kubelet.start()
    node.start()
    kubelet.wait_registered()
    kubelet.stop()
    os.rename(node.plugin_dir, node.plugin_dir + ".old")
    os.makedirs(node.plugin_dir)
    kubelet.start()
    assert kubelet.wait_registered().wait(lambda d: len(d) == 8)


def test_two_daemons_on_one_directory(node, sim, tmp_path):
    node.start()
    node.wait_log("serving")
    second = subprocess.run(node.command(), capture_output=True, text=True, timeout=WAIT)
    assert second.returncode == 1
    assert "another gpushare node" in second.stderr


def test_killed_at_random_moments(node, kubelet):
    kubelet.start()
    random.seed(7)
    seen = None
    for _ in range(8):
        node.start()
        if random.random() < 0.7:
            devices = sorted(kubelet.wait_registered().wait(lambda d: len(d) == 8))
            assert seen in (None, devices), "ids must survive"
            seen = devices
            kubelet.plugins["nvidia.com/gpu"].allocate([devices[0]])
        time.sleep(random.random() * 0.05)
        node.kill()
    node.start()
    assert sorted(kubelet.wait_registered().wait(lambda d: len(d) == 8)) == seen
    assert sorted(os.listdir(node.plugin_dir)) == ["kubelet.sock", "nvidia-gpu.sock"]
    assert [n for n in os.listdir(node.state) if ".tmp" in n] == []


def test_allocations_are_remembered(node, kubelet):
    kubelet.start()
    node.start()
    plugin = kubelet.wait_registered()
    share = sorted(plugin.wait(lambda d: len(d) == 8))[3]
    plugin.allocate([share])
    wait_until(lambda: os.path.exists(os.path.join(node.state, "allocations.json")), "the ledger on disk")
    node.kill()
    node.start()
    kubelet.wait_registered()
    shares = [s for g in node.status()["gpus"] for s in g["shares"]]
    assert [s["id"] for s in shares if s["lastAllocated"]] == [share]


def test_status_watches_on_through_a_restart(node, tmp_path):
    node.start()
    wait_until(lambda: subprocess.run([GPUSHARE, "status", "--socket", node.socket], capture_output=True, timeout=WAIT).returncode == 0,
               "the daemon")
    shown, complaints = tmp_path / "shown", tmp_path / "complaints"
    with open(shown, "wb") as out, open(complaints, "wb") as err:
        watch = subprocess.Popen([GPUSHARE, "status", "--watch", "100ms", "--socket", node.socket], stdout=out, stderr=err)
    try:
        wait_until(lambda: b"SHARE" in shown.read_bytes(), "the first table")
        node.kill()
        wait_until(lambda: b"no daemon listens" in complaints.read_bytes() or b"refused" in complaints.read_bytes(), "a complaint")
        before = len(shown.read_bytes())
        node.start()
        wait_until(lambda: len(shown.read_bytes()) > before, "a table of the next daemon")
        assert watch.poll() is None
    finally:
        watch.kill()
        watch.wait(WAIT)
    gone = subprocess.run([GPUSHARE, "status", "--watch", "100ms", "--socket", str(tmp_path / "none")], capture_output=True, timeout=WAIT)
    assert gone.returncode == 1  # what was never there is a mistake


def test_corrupt_ledger_is_moved_aside(node, kubelet):
    os.makedirs(node.state)
    with open(os.path.join(node.state, "allocations.json"), "w", encoding="utf-8") as file:
        file.write("{broken")
    kubelet.start()
    node.start()
    assert kubelet.wait_registered().wait(lambda d: len(d) == 8)
    assert "allocations.json.corrupt" in node.read_log()
    with open(os.path.join(node.state, "allocations.json.corrupt"), encoding="utf-8") as file:
        assert file.read() == "{broken"


def test_full_disk(node, kubelet, tmp_path):
    """A state directory that takes no more bytes: allocation goes on, the problem is shown."""
    os.makedirs(node.state)
    if os.geteuid() != 0 or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4k", "tmpfs", node.state], check=False,
                                           capture_output=True).returncode != 0:
        pytest.skip("needs root and mount to make a full file system")
    try:
        with open(os.path.join(node.state, "filler"), "wb") as filler:
            try:
                filler.write(b"x" * 65536)
                filler.flush()
            except OSError:
                pass
        kubelet.start()
        node.start()
        plugin = kubelet.wait_registered()
        share = sorted(plugin.wait(lambda d: len(d) == 8))[0]
        assert plugin.allocate([share])
        node.wait_log("can't be kept")
        assert any("can't be kept" in p for p in node.status()["problems"])
        assert plugin.allocate([share])
        assert node.stop() == 0
    finally:
        node.stop()
        subprocess.run(["umount", "-l", node.state], check=True)


def test_read_only_state_directory(node, kubelet):
    os.makedirs(node.state)
    if os.geteuid() != 0 or subprocess.run(["mount", "-t", "tmpfs", "-o", "ro", "tmpfs", node.state], check=False,
                                           capture_output=True).returncode != 0:
        pytest.skip("needs root and mount to make a read-only file system")
    try:
        kubelet.start()
        node.start()
        plugin = kubelet.wait_registered()
        assert plugin.allocate([sorted(plugin.wait(lambda d: len(d) == 8))[0]])
        node.wait_log("can't be kept")
    finally:
        node.stop()
        subprocess.run(["umount", "-l", node.state], check=True)


def test_no_driver_at_first(tmp_path, sim):
    """Without a driver the daemon waits, and says so; it serves when the driver comes."""
    lonely = Node(tmp_path, None)
    stand_in = Kubelet(lonely.kubelet_dir).start()
    library = tmp_path / "lib"
    library.mkdir()
    lonely.env = {"LD_LIBRARY_PATH": str(library), "GPUSHARE_SIM": sim.directory}
    lonely.start()
    try:
        problems = wait_until(lambda: os.path.exists(lonely.socket) and lonely.status()["problems"], "the reason for waiting")
        assert "libnvidia-ml.so.1" in problems[0]
        real = sim.run("sh", "-c", "echo $LD_LIBRARY_PATH").stdout.strip()
        for directory in real.split(":"):
            candidate = os.path.join(directory, "libnvidia-ml.so.1")
            if os.path.exists(candidate):
                os.symlink(candidate, library / "libnvidia-ml.so.1")
                break
        assert stand_in.wait_registered().wait(lambda d: len(d) == 8)
        assert lonely.status()["problems"] == []
    finally:
        stand_in.stop()
        assert lonely.stop() == 0


def test_hot_plug(node, kubelet, sim):
    kubelet.start()
    node.start()
    plugin = kubelet.wait_registered()
    before = set(plugin.wait(lambda d: len(d) == 8))
    sim.inject("plug", "A100-80GB")
    after = plugin.wait(lambda d: len(d) == 12, "the new GPU")
    assert before < set(after)
    new = gpus_of(set(after) - before)[0]
    sim.inject("--gpu", new, "unplug")
    assert set(plugin.wait(lambda d: len(d) == 8, "the list without the GPU")) == before


def test_hot_plug_where_nvml_must_be_opened_anew(tmp_path, sim):
    """NVML lists the GPUs of its start; /proc, as the driver shows it, has one more."""
    inside = ["unshare", "--mount", "--propagation", "private"]
    proc = os.path.join(sim.directory, "root/proc/driver")
    if os.geteuid() != 0 or subprocess.run([*inside, "mount", "--bind", proc, "/proc/driver"], check=False,
                                           capture_output=True).returncode != 0:
        pytest.skip("needs root and a mount namespace for the driver's files in /proc")
    daemon = Node(tmp_path, sim, env={"GPUSHARE_SIM_NVML_SNAPSHOT": "1"})
    plain = daemon.command()
    daemon.command = lambda: [*inside, "sh", "-c", 'mount --bind "$0" /proc/driver && exec "$@"', proc, *plain]
    stand_in = Kubelet(daemon.kubelet_dir).start()
    daemon.start()
    try:
        plugin = stand_in.wait_registered()
        before = set(plugin.wait(lambda d: len(d) == 8))
        sim.inject("plug", "A100-80GB")
        new = gpus_of(set(plugin.wait(lambda d: len(d) == 12, "the new GPU")) - before)[0]
        assert "opening NVML anew" in daemon.read_log()
        sim.inject("--gpu", new, "xid=48")
        plugin.wait(lambda d: gpus_of(sick(d)) == [new], "an event of the new GPU")
        sim.inject("--gpu", new, "unplug")
        assert set(plugin.wait(lambda d: len(d) == 8, "the list without the GPU")) == before
        assert not plugin.ended.is_set()
    finally:
        stand_in.stop()
        assert daemon.stop() == 0


def test_lost_gpu_comes_back(node, kubelet, sim):
    kubelet.start()
    node.start()
    plugin = kubelet.wait_registered()
    gpu = gpus_of(plugin.wait(lambda d: len(d) == 8))[0]
    sim.inject("--gpu", gpu, "lost")
    try:
        after = plugin.wait(lambda d: len(sick(d)) == 4)
        assert len(after) == 8 and gpus_of(sick(after)) == [gpu]
    finally:
        sim.inject("--gpu", gpu, "recovered")
    plugin.wait(lambda d: len(healthy(d)) == 8, "recovery")


def test_a_driver_that_hangs_on_a_gpu(node, kubelet, sim):
    """It costs that GPU, and nobody's time: not that of who asks for the status, who allocates, or who stops the daemon."""
    kubelet.start()
    node.start()
    plugin = kubelet.wait_registered()
    gpu = gpus_of(plugin.wait(lambda d: len(d) == 8))[1]
    sim.inject("--gpu", gpu, "hang=on")
    try:
        for _ in range(8):  # more than there are threads
            assert node.status()["gpus"][1]["memory"]["usedBytes"] is None
        plugin.wait(lambda d: gpus_of(sick(d)) == [gpu], "the hanging GPU to be withdrawn")
        status = node.status()
        assert any("driver hangs" in problem for problem in status["problems"])
        reasons = {each["uuid"]: each["reason"] for each in status["gpus"]}
        assert reasons.pop(gpu) == "the driver hangs on it; waits until it answers" and list(reasons.values()) == [""]
        (other,) = gpus_of(healthy(plugin.latest))
        assert plugin.allocate([other + "::0"])
        assert status["gpus"][0]["memory"]["usedBytes"] is not None, "the other GPU is sampled"
    finally:
        sim.inject("--gpu", gpu, "hang=off")
    node.wait_log("the driver answers again")
    plugin.wait(lambda d: len(healthy(d)) == 8, "recovery")
    wait_until(lambda: node.status()["gpus"][1]["memory"]["usedBytes"] is not None, "samples")
    sim.inject("--gpu", gpu, "hang=on")
    try:
        assert node.status()
        assert node.stop() == 0
        assert not os.path.exists(node.socket)
    finally:
        sim.inject("--gpu", gpu, "hang=off")


@pytest.fixture()
def eight(tmp_path_factory):
    world = Sim(tmp_path_factory.mktemp("eight"), "8xT4")
    yield world
    for gpu in range(9):
        subprocess.run([GPUSHARE, "sim", "inject", "--state", world.directory, "--gpu", str(gpu), "hang=off"], capture_output=True, timeout=WAIT)
    world.stop()


def test_gpus_that_hang_hide_no_others(tmp_path, kubelet, eight):
    """Four hang: each of them is sick, and what happens to the others is seen, also by a daemon that starts then."""
    node = Node(tmp_path, eight)
    kubelet.start()
    node.start()
    try:
        plugin = kubelet.wait_registered()
        gpus = [each["uuid"] for each in sorted(node.status()["gpus"], key=lambda each: each["index"])]
        hanging = [gpus[0], gpus[3], gpus[4], gpus[7]]
        for gpu in hanging:
            eight.inject("--gpu", gpu, "hang=on")
        plugin.wait(lambda d: gpus_of(sick(d)) == sorted(hanging), "each that hangs to be withdrawn")
        assert any("on GPU 0, 3, 4, 7" in problem for problem in node.status()["problems"])
        eight.inject("--gpu", gpus[2], "lost")
        plugin.wait(lambda d: gpus_of(sick(d)) == sorted([*hanging, gpus[2]]), "the lost one")
        eight.inject("--gpu", gpus[5], "xid=48")
        plugin.wait(lambda d: gpus[5] in gpus_of(sick(d)), "an XID")
        eight.inject("plug", "T4")
        plugin.wait(lambda d: len(gpus_of(d)) == 9, "the one that is plugged in")
        eight.inject("--gpu", gpus[1], "unplug")
        plugin.wait(lambda d: len(gpus_of(d)) == 8 and gpus[1] not in gpus_of(d), "the one that is unplugged")
        assert [each["uuid"] for each in node.status()["gpus"] if each["memory"]["usedBytes"] is None] == [gpus[0], *gpus[2:5], gpus[7]]
        assert node.stop() == 0
        node.start()
        plugin = kubelet.wait_registered()
        plugin.wait(lambda d: len(gpus_of(healthy(d))) == 3, "the GPUs that answer")
        for gpu in hanging:
            eight.inject("--gpu", gpu, "hang=off")
        plugin.wait(lambda d: set(hanging) <= set(gpus_of(healthy(d))), "those that answer again")
        node.wait_log("the driver answers again")
        assert node.stop() == 0
    finally:
        if node.process.poll() is None:
            node.kill()


def test_commands_go_past_a_gpu_that_hangs(eight):
    eight.inject("--gpu", "1", "hang=on")
    done = eight.run(GPUSHARE, "mig", "list")
    assert "GPU 1 can't be read: nvmlDeviceGetHandleByIndex: Timeout" in done.stderr and len(done.stdout.splitlines()) >= 8
    done = eight.run(GPUSHARE, "labels")
    assert done.returncode == 0 and "nvidia.com/gpu.count=7" in done.stdout.splitlines() and "GPU 1: " in done.stderr


def forget(node, *arguments):
    return subprocess.run([GPUSHARE, "forget", "--socket", node.socket, *arguments], capture_output=True, text=True, timeout=WAIT)


def missing(node):
    return [each["uuid"] for each in node.status()["missingGpus"]]


def test_a_gpu_that_was_there_is_missed_until_an_operator_says_that_it_is_gone(tmp_path, eight):
    node = Node(tmp_path, eight)
    node.start().wait_listening()
    node.wait_log("serving")
    status = node.status()
    gpus = [each["uuid"] for each in status["gpus"]]
    assert len(gpus) == 8 and status["missingGpus"] == [] and forget(node, "--all").stdout == "no GPU is missing\n"
    eight.inject("--gpu", gpus[1], "xid=79")
    eight.inject("--gpu", gpus[6], "unplug")
    wait_until(lambda: missing(node) == [gpus[6]], "the one that was unplugged to be missed")
    assert node.stop() == 0
    try:
        for _ in range(2):  # the lost one stays in NVML's list, and can't be read there
            node.start().wait_listening()
            wait_until(lambda: set(missing(node)) == {gpus[1], gpus[6]}, "both to be missed")
            assert node.stop() == 0
        node.start().wait_listening()
        wait_until(lambda: len(missing(node)) == 2, "both to be missed")
        problem, = (each for each in node.status()["problems"] if gpus[6] in each)
        assert problem.startswith("GPU 6 (Tesla T4, %s, at 00000000:" % gpus[6]) and problem.endswith("gpushare forget " + gpus[6])
        refused = forget(node, gpus[0])
        assert refused.returncode == 1 and "%s is not missing" % gpus[0] in refused.stderr
        assert forget(node).returncode == 2
        done = forget(node, gpus[6])
        assert (done.returncode, done.stdout) == (0, "%s is not missed any more\n" % gpus[6])
        assert missing(node) == [gpus[1]]
        eight.inject("--gpu", gpus[1], "recovered")
        wait_until(lambda: missing(node) == [] and len(node.status()["gpus"]) == 7, "the lost one to be back")
        assert node.stop() == 0
        node.start().wait_listening()
        wait_until(lambda: len(node.status()["gpus"]) == 7, "the daemon")
        assert missing(node) == []
    finally:
        node.kill()


def test_a_gpu_that_was_swapped_is_not_missed(tmp_path):
    world = Sim(tmp_path / "sim", "32xT4")  # no room for more, so that a new one takes an old one's place
    node = Node(tmp_path / "node", world)
    try:
        node.start().wait_listening()
        wait_until(lambda: len(node.status()["gpus"]) == 32, "the daemon")
        old = node.status()["gpus"][2]
        assert node.stop() == 0
        world.inject("--gpu", old["uuid"], "unplug")
        world.inject("plug", "L4")
        node.start().wait_listening()
        wait_until(lambda: len(node.status()["gpus"]) == 32, "the daemon")
        new, = (each for each in node.status()["gpus"] if each["pciBusId"] == old["pciBusId"])
        assert new["name"] == "NVIDIA L4" and missing(node) == []
        node.wait_log("a GPU was replaced")
    finally:
        node.kill()
        world.stop()


def test_another_simulated_node_is_another_machine(tmp_path):
    for spec, count in ("4xT4", 4), ("2xT4", 2):
        world = Sim(tmp_path / "sim", spec)
        node = Node(tmp_path / "node", world)
        node.start().wait_listening()
        try:
            wait_until(lambda: len(node.status()["gpus"]) == count, "the daemon")
            assert missing(node) == []
            wait_until(lambda: os.path.exists(os.path.join(node.state, "gpus.json")), "the memory")
        finally:
            node.kill()
            world.stop()


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"version": 1, "machine": "", "gpus": 7}', b"\xff" * 1000,
                                     b'{"version": 1, "machine": "", "gpus": [{"uuid": 1}]}', b'{"version": 9, "machine": "", "gpus": []}'])
def test_a_memory_of_gpus_that_is_damaged(node, content):
    os.makedirs(node.state, exist_ok=True)
    with open(os.path.join(node.state, "gpus.json"), "wb") as file:
        file.write(content)
    node.start()
    node.wait_log("serving")
    assert missing(node) == []


@pytest.mark.parametrize("fault", ["ecc=double", "remap-failed"])
def test_memory_faults(node, kubelet, sim, fault):
    kubelet.start()
    node.start()
    plugin = kubelet.wait_registered()
    gpu = gpus_of(plugin.wait(lambda d: len(d) == 8))[1]
    sim.inject("--gpu", gpu, fault)
    try:
        after = plugin.wait(lambda d: len(sick(d)) == 4)
        assert gpus_of(sick(after)) == [gpu]
    finally:
        sim.inject("--gpu", gpu, "recovered")
    plugin.wait(lambda d: len(healthy(d)) == 8, "recovery")


@pytest.mark.parametrize("code", [999, 15, 3])
def test_nvml_that_fails_at_any_call(tmp_path, sim, code):
    """The Nth NVML call fails, for one N after the other: the daemon never crashes, and gets there in the end."""
    # The first call is nvmlInit_v2; a library that fails there is closed and opened anew, which counts from 1 again.
    for nth in list(range(2, 30)) + list(range(30, 300, 30)):
        daemon = Node(tmp_path / str(nth), sim, env={"GPUSHARE_SIM_NVML_FAIL": "%d:%d" % (nth, code)})
        daemon.start()
        try:
            daemon.wait_listening()
            wait_until(lambda: daemon.status()["resources"], "shares, with call %d failing" % nth)
        finally:
            status = daemon.stop()
        assert status == 0, daemon.read_log()


def test_driver_that_does_not_start_at_once(node, kubelet, sim):
    sim.inject("nvml:nvmlInit_v2=9:3")
    kubelet.start()
    node.start()
    assert len(kubelet.wait_registered().wait(lambda d: len(d) == 8)) == 8
    assert "nvmlInit_v2" in node.read_log()


def test_random_bytes_and_many_connections(node, kubelet):
    kubelet.start()
    node.start()
    plugin = kubelet.wait_registered()
    share = sorted(plugin.wait(lambda d: len(d) == 8))[0]
    path = os.path.join(node.plugin_dir, "nvidia-gpu.sock")
    rng = random.Random(11)
    crowd = []
    for number in range(1000):
        peer = socket.socket(socket.AF_UNIX)
        try:
            peer.connect(path)
            peer.send((b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" if number % 2 else b"") + rng.randbytes(rng.randrange(1, 400)))
            crowd.append(peer)
        except OSError:
            peer.close()
    assert plugin.allocate([share]), "the kubelet is served beside a crowd"
    for peer in crowd:
        peer.close()
    assert plugin.allocate([share])
    assert not plugin.ended.is_set()


def test_reader_that_never_reads(node, kubelet):
    """A ListAndWatch stream nobody reads costs a bounded amount of memory, and the others go on."""
    kubelet.start()
    node.start()
    plugin = kubelet.wait_registered()
    plugin.wait(lambda d: len(d) == 8)
    lazy = grpc.insecure_channel("unix:" + os.path.join(node.plugin_dir, "nvidia-gpu.sock"), options=[("grpc.http2.bdp_probe", 0)])
    stream = lazy.unary_stream("/v1beta1.DevicePlugin/ListAndWatch")(b"")
    for replicas in (1000, 500, 1000, 500, 1000, 4):
        node.write_config(CONFIG_4.replace("replicas: 4", "replicas: %d" % replicas))
        plugin.wait(lambda d, n=replicas: len(d) == 2 * n)
    stream.cancel()
    lazy.close()
    assert plugin.allocate([sorted(plugin.latest)[0]])


def test_flags_that_do_not_exist_are_explained(tmp_path):
    result = subprocess.run([GPUSHARE, "node", "--confg", "x"], capture_output=True, text=True, timeout=WAIT)
    assert result.returncode == 2
    assert "--config" in result.stderr


def test_paths_that_no_socket_can_have(tmp_path):
    for arguments, expected in ((["--device-plugin-dir", str(tmp_path / ("k" * 100))], "--device-plugin-dir"), (["--socket", ""], "--socket")):
        result = subprocess.run([GPUSHARE, "node", "--state-dir", str(tmp_path / "s"), "--device-plugin-dir", str(tmp_path / "k"), *arguments],
                                capture_output=True, text=True, timeout=WAIT)
        assert result.returncode == 1
        assert expected in result.stderr


def test_bad_config_at_start(tmp_path):
    node = Node(tmp_path, None, config="version: v1\nsharing:\n  timeSlicing:\n    resources:\n    - name: nvidia.com/gpu\n      replicas: 0\n")
    node.start()
    assert node.process.wait(WAIT) == 1
    assert "config.yaml:6:17" in node.read_log()


def test_the_kubelets_directory_moves_what_the_kubelet_moves(tmp_path, sim):
    """Its --root-dir moves the socket that tells about pods, and not the one that device plugins register at."""
    root, plugins = tmp_path / "k0s", tmp_path / "meeting"
    node = Node(tmp_path, sim)
    node.kubelet_dir, node.plugin_dir = str(root), str(plugins)
    pods = PodResources(str(root)).start()
    kubelet = Kubelet(str(tmp_path / "other"))
    plugins.mkdir()
    kubelet.plugin_dir, kubelet.socket = str(plugins), str(plugins / "kubelet.sock")
    kubelet.start()
    try:
        node.start()
        share = sorted(kubelet.wait_registered().wait(lambda d: len(d) == 8))[0]
        pods.pods = [("team-a", "train-0", "main", "nvidia.com/gpu", [share])]
        wait_until(lambda: any(share_["pods"] for gpu in node.status()["gpus"] for share_ in gpu["shares"]), "the pod")
        assert not (root / "device-plugins").exists()
    finally:
        node.stop()
        kubelet.stop()
        pods.stop()
