"""A simulated node with a running daemon, for tests."""
import json
import os
import signal
import socket
import subprocess
import time

from kubelet import BUILD, WAIT

GPUSHARE = os.path.join(BUILD, "gpushare")

CONFIG_4 = """version: v1
sharing:
  timeSlicing:
    renameByDefault: false
    resources:
    - name: nvidia.com/gpu
      replicas: 4
"""


class Sim:
    """`gpushare sim SPEC` kept alive by a sleeping command; others join it."""

    def __init__(self, directory, spec="8xA100-80GB", *options):
        self.directory = str(directory)
        before = self.state_file()  # of a node that was there before; it can be joined until the new one takes its place
        self.process = subprocess.Popen([GPUSHARE, "sim", spec, *options, "--state", self.directory, "--", "sleep", "3600"])
        wait_until(lambda: self.state_file() not in (None, before) and self.run("true").returncode == 0, "the simulated node")

    def state_file(self):
        """Which file the node's state is in; None: there is none."""
        try:
            about = os.stat(os.path.join(self.directory, "state"))
        except FileNotFoundError:
            return None
        return about.st_ino, about.st_ctime_ns

    def command(self, *arguments):
        return [GPUSHARE, "sim", "--join", self.directory, "--", *arguments]

    def run(self, *arguments, **kwargs):
        return subprocess.run(self.command(*arguments), capture_output=True, text=True, timeout=WAIT * 2, **kwargs)

    def popen(self, *arguments, **kwargs):
        return subprocess.Popen(self.command(*arguments), **kwargs)

    def inject(self, *arguments):
        result = subprocess.run([GPUSHARE, "sim", "inject", "--state", self.directory, *arguments], capture_output=True, text=True,
                                timeout=WAIT)
        assert result.returncode == 0, result.stderr

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(WAIT)


class Node:
    """`gpushare node` on a Sim (or on none), with directories of its own below `directory`."""

    def __init__(self, directory, sim=None, config=CONFIG_4, env=None, arguments=()):
        self.directory = str(directory)
        self.sim = sim
        self.config = os.path.join(self.directory, "config", "config.yaml")
        self.kubelet_dir = os.path.join(self.directory, "kubelet")
        self.plugin_dir = os.path.join(self.kubelet_dir, "device-plugins")
        self.state = os.path.join(self.directory, "state")
        self.socket = os.path.join(self.directory, "run", "gpushare.sock")
        self.cdi = os.path.join(self.directory, "cdi")
        self.log = os.path.join(self.directory, "node.log")
        self.env = env or {}
        self.arguments = list(arguments)
        self.process = None
        os.makedirs(os.path.dirname(self.config), exist_ok=True)
        if config is not None:
            self.write_config(config)

    def write_config(self, text):
        temporary = self.config + ".new"
        with open(temporary, "w", encoding="utf-8") as file:
            file.write(text)
        os.rename(temporary, self.config)

    def command(self):
        own = [GPUSHARE, "node", "--config", self.config, "--kubelet-dir", self.kubelet_dir, "--device-plugin-dir", self.plugin_dir, "--state-dir", self.state, "--socket",
               self.socket, "--cdi-dir", self.cdi, *self.arguments]
        return self.sim.command(*own) if self.sim else own

    def start(self):
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(self.command(), stderr=log, env={**os.environ, **self.env})
        return self

    def kill(self):
        self.process.kill()  # `gpushare sim --join` became the daemon by exec
        self.process.wait(WAIT)

    def stop(self):
        """Asks it to stop; its exit status."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(WAIT)

    def read_log(self):
        with open(self.log, encoding="utf-8", errors="replace") as file:
            return file.read()

    def wait_log(self, text):
        wait_until(lambda: text in self.read_log(), "the log line %r; log:\n%s" % (text, self.read_log()))

    def wait_listening(self):
        """The socket's file is there a moment before the daemon listens."""
        def probe():
            with socket.socket(socket.AF_UNIX) as client:
                return client.connect_ex(self.socket) == 0
        wait_until(probe, "the daemon's socket")
        return self

    def status(self):
        result = subprocess.run([GPUSHARE, "status", "-o", "json", "--socket", self.socket], capture_output=True, text=True,
                                timeout=WAIT)
        assert result.returncode == 0, result.stderr
        return json.loads(result.stdout)


def wait_until(probe, what, timeout=WAIT):
    """The first true answer of `probe`."""
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        answer = probe()
        if answer:
            return answer
        time.sleep(0.02)
    raise AssertionError("waited in vain for " + what)


def healthy(devices):
    return sorted(d.ID for d in devices.values() if d.health == "Healthy")


def sick(devices):
    return sorted(d.ID for d in devices.values() if d.health == "Unhealthy")


def gpus_of(ids):
    return sorted({i.split("::")[0] for i in ids})
