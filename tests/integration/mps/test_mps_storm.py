"""Sharing by MPS while everything around it dies, from one seed: what must hold is how it looks once that is over."""
import os
import pathlib
import random
import shutil
import signal
import time

from cuda_client import SUCCESS
from kubelet import WAIT
from mps_world import CONFIG, DEFAULT, EXCLUSIVE, NEEDS, WITHOUT, make, world  # noqa: F401 (fixtures)
from node import wait_until

pytestmark = NEEDS

SEED = 20261123
ROUNDS = 300
CLIENTS_MAX = 8
FAULTS_MAX = 4  # of more the device is left alone for minutes


def programs_of(root):
    """Control daemons and servers whose files are below `root`: what runs, by pid."""
    found = {}
    for process in pathlib.Path("/proc").iterdir():
        try:
            words = (process / "cmdline").read_bytes().decode(errors="replace").split("\0")
            environment = (process / "environ").read_bytes().decode(errors="replace").split("\0")
        except (OSError, ValueError):
            continue
        name = os.path.basename(words[0])
        daemon = name == "nvidia-cuda-mps-server" or name == "nvidia-cuda-mps-control" and words[1:2] == ["-d"]  # or a front end
        if daemon and any(variable.startswith("CUDA_MPS_PIPE_DIRECTORY=%s/" % root) for variable in environment):
            found[int(process.name)] = name
    return found


def open_files(pid):
    return len(os.listdir("/proc/%d/fd" % pid))


class Storm:
    def __init__(self, world):
        self.world, self.random, self.faults = world, random.Random(SEED), 0

    def alive(self):
        return [client for client in self.world.clients if client.process.poll() is None]

    def start_client(self):
        plugin = self.world.kubelet.plugins.get("nvidia.com/gpu")
        shares = sorted(plugin.latest or {}) if plugin else []
        if len(self.alive()) >= CLIENTS_MAX or not shares:
            return
        try:
            client = self.world.container(self.random.choice(shares))
        except Exception:  # the daemon is away, or has other shares by now
            return
        client.start("init() or create() or alloc(100) or run(1000)")

    def kill_client(self):
        if self.alive():
            self.random.choice(self.alive()).stop()

    def kill_program(self):
        programs = programs_of(self.world.root)
        if programs:
            self.end(self.random.choice(sorted(programs)), self.random.choice([signal.SIGKILL, signal.SIGKILL, signal.SIGTERM]))

    def pause_program(self):
        programs = programs_of(self.world.root)
        if programs:
            pid = self.random.choice(sorted(programs))
            self.end(pid, signal.SIGSTOP)
            time.sleep(self.random.random() / 4)
            self.end(pid, signal.SIGCONT)

    @staticmethod
    def end(pid, number):
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            pass

    def fault(self):
        if self.faults < FAULTS_MAX and self.alive():
            self.faults += 1
            victim = self.random.choice(self.alive())
            victim.start("run(1000)")
            self.world.sim.run("gpushare", "sim", "inject", "fault=%d" % victim.pid)

    def edit(self):
        self.world.configure(self.random.choice([CONFIG, CONFIG.replace("8Gi", "4Gi"), CONFIG.replace("10", "4"), WITHOUT, "version: v9  # %s\n",
                                                 CONFIG.replace("8Gi", "8Gi\n      isolation: per-share").replace("10", "3")]))

    def remove_pipes(self):
        folders = [folder for folder in pathlib.Path(self.world.root).iterdir() if folder.is_dir()]
        if folders:
            shutil.rmtree(self.random.choice(sorted(folders)) / "pipe", ignore_errors=True)

    def kill_node(self):
        self.world.configure(CONFIG)  # a daemon does not start on a bad file
        self.world.node.kill()
        self.world.start()
        self.world.node.wait_listening()

    def restart_kubelet(self):
        self.world.kubelet.restart()

    def rage(self):
        choices = [self.start_client] * 6 + [self.kill_client] * 4 + [self.kill_program] * 2 + [
            self.pause_program, self.fault, self.edit, self.edit, self.remove_pipes, self.kill_node, self.restart_kubelet]
        for _ in range(ROUNDS):
            self.random.choice(choices)()
            time.sleep(self.random.choice([0, 0, self.random.random() / 8]))
            assert self.world.node.process.poll() is None, self.world.node.read_log()[-4000:]


def test_everything_dies_and_comes_back(world):
    world.ready()
    files = open_files(world.node.process.pid)
    storm = Storm(world)
    storm.rage()
    for client in storm.alive():
        client.stop()
    world.configure(CONFIG)
    wait_until(lambda: sum(len(gpu["shares"]) for gpu in world.node.status()["gpus"]) == 20, "the last config")
    everything = lambda: {daemon["state"] for daemon in world.mps().values()} == {"Ready"} and len(world.mps()) == 2
    wait_until(everything, "both control daemons to be ready; %s; log:\n%s" % (world.mps(), world.node.read_log()[-4000:]), timeout=3 * WAIT)
    shares = sorted(world.plugin().wait(lambda devices: len(devices) == 20 and all(d.health == "Healthy" for d in devices.values())))
    for share in (shares[0], shares[-1]):
        assert world.container(share).ready()("run(1000)") == SUCCESS
    assert [world.mode(0), world.mode(1)] == [EXCLUSIVE] * 2
    for client in storm.alive():
        client.stop()
    assert sorted(pid for pid, name in programs_of(world.root).items() if name.endswith("control")) == \
        sorted(daemon["pid"] for daemon in world.mps().values())
    assert open_files(world.node.process.pid) <= files + 8
    world.configure(WITHOUT)
    wait_until(lambda: not programs_of(world.root), "the end of all programs: %s; log:\n%s" % (programs_of(world.root), world.node.read_log()[-4000:]))
    wait_until(lambda: [world.mode(0), world.mode(1)] == [DEFAULT] * 2, "the modes to be as before")
