"""nvidia-cuda-mps-control of a simulated node against NVIDIA's own, which runs without a GPU as long as no server is needed:
the same commands to both give the same answers, exit statuses and files."""
import os
import re
import shutil
import signal
import stat
import subprocess

import pytest

from kubelet import BUILD
from node import wait_until

REAL = os.path.join(BUILD, "clients", "nvidia-cuda-mps-sid", "run")  # once tests/tools/fetch-clients fetched it
OURS = os.path.join(BUILD, "sim", "mps", "nvidia-cuda-mps-control")

COMMANDS = """
get_server_list
get_server_list extra
get_server_status 1234
get_server_status
get_server_status abc
get_server_status 0
get_server_status 0x
get_server_status -1
get_server_status 99999999999
get_server_status 4294967296
start_server
start_server -uid
start_server -uid abc
shutdown_server
shutdown_server 99
shutdown_server 99 -f
shutdown_server abc
get_client_list
get_client_list 1234
get_client_list abc
get_device_client_list
get_device_client_list 1
get_device_client_list 0
get_device_client_list abc
get_device_client_list -1
get_device_client_list 99999999999
get_device_client_list 4294967296
get_client_list 9999999999999999999999
get_client_list -9999999999999999999999
get_default_active_thread_percentage
set_default_active_thread_percentage 50
get_default_active_thread_percentage
set_default_active_thread_percentage 0
set_default_active_thread_percentage 150
set_default_active_thread_percentage abc
set_default_active_thread_percentage
set_default_active_thread_percentage 12.5
set_default_active_thread_percentage 33.333
set_default_active_thread_percentage 0.1
set_default_active_thread_percentage 12.35
get_default_active_thread_percentage
set_default_active_thread_percentage 12.39
set_default_active_thread_percentage 0.01
get_default_active_thread_percentage
set_default_active_thread_percentage 99.99
set_default_active_thread_percentage 100.001
set_default_active_thread_percentage nan
set_default_active_thread_percentage 1e1
set_default_active_thread_percentage 100
get_active_thread_percentage
get_active_thread_percentage 1
set_active_thread_percentage 1 50
set_active_thread_percentage 1
get_default_device_pinned_mem_limit 0
set_default_device_pinned_mem_limit 0 2G
get_default_device_pinned_mem_limit 0
get_default_device_pinned_mem_limit
get_default_device_pinned_mem_limit abc
get_default_device_pinned_mem_limit 1
set_default_device_pinned_mem_limit 0 1024
get_default_device_pinned_mem_limit 0
set_default_device_pinned_mem_limit 0 512M
get_default_device_pinned_mem_limit 0
set_default_device_pinned_mem_limit 0 1536M
get_default_device_pinned_mem_limit 0
set_default_device_pinned_mem_limit 0 2g
get_default_device_pinned_mem_limit 0
set_default_device_pinned_mem_limit 0 5k
get_default_device_pinned_mem_limit 0
set_default_device_pinned_mem_limit 0 8Gi
get_default_device_pinned_mem_limit 0
set_default_device_pinned_mem_limit 0 1.5G
get_default_device_pinned_mem_limit 0
set_default_device_pinned_mem_limit 0 abc
get_default_device_pinned_mem_limit 0
set_default_device_pinned_mem_limit 0 0
get_default_device_pinned_mem_limit 0
set_default_device_pinned_mem_limit 0
set_default_device_pinned_mem_limit
set_default_device_pinned_mem_limit 31 3G
get_default_device_pinned_mem_limit 31
set_default_device_pinned_mem_limit 32 3G
get_default_device_pinned_mem_limit 32
set_default_device_pinned_mem_limit 0 17179869184G
get_default_device_pinned_mem_limit 0
set_default_device_pinned_mem_limit 0 17179869185G
get_default_device_pinned_mem_limit 0
set_default_device_pinned_mem_limit 0 17592186044416M
get_default_device_pinned_mem_limit 0
set_default_device_pinned_mem_limit 0 99999999999999999999G
get_default_device_pinned_mem_limit 0
set_default_device_pinned_mem_limit 0 -1M
get_default_device_pinned_mem_limit 0
set_default_device_pinned_mem_limit 4294967296 3G
get_default_device_pinned_mem_limit 4294967296
get_default_device_pinned_mem_limit 0
set_default_device_pinned_mem_limit -1 3G
get_default_device_pinned_mem_limit -1
set_default_device_pinned_mem_limit GPU-abc 1G
get_default_device_pinned_mem_limit GPU-abc
get_device_pinned_mem_limit
get_device_pinned_mem_limit 1 0
set_device_pinned_mem_limit 1
set_device_pinned_mem_limit 1 0 2G
get_default_client_priority
set_default_client_priority 1
get_default_client_priority
set_default_client_priority 9
set_default_client_priority -1
set_default_client_priority 4294967297
get_default_client_priority
set_default_client_priority 4294967298
set_default_client_priority abc
get_default_client_priority
set_default_client_priority 1
set_default_client_priority
get_default_client_priority
ps
ps x
ps -p 1
ps -p
ps -p 0
ps -p abc
ps -p -1
ps -p 99999999999
terminate_client
terminate_client 1
terminate_client 1 2
terminate_client a b
terminate_client 99999999999 1
bogus
help

  get_default_client_priority
GET_SERVER_LIST
""".strip("\n").split("\n")


class Control:
    def __init__(self, program, path, **env):
        self.program, self.path = program, path
        self.pipe, self.log = path / "pipe", path / "log"
        path.mkdir()
        self.env = dict(os.environ, CUDA_MPS_PIPE_DIRECTORY=str(self.pipe), CUDA_MPS_LOG_DIRECTORY=str(self.log), **env)

    def run(self, *options, text=None):
        done = subprocess.run([self.program, *options], input=text or "", capture_output=True, text=True, env=self.env, timeout=60)
        return done.returncode, done.stdout.replace(str(self.path), "DIR"), done.stderr.replace(str(self.path), "DIR")

    def say(self, *commands):
        return self.run(text="\n".join(commands) + "\n")

    @property
    def pid(self):
        return int((self.pipe / "nvidia-cuda-mps-control.pid").read_text())

    def files(self):
        return {name: (stat.S_IFMT(status.st_mode), oct(status.st_mode & 0o777))
                for name, status in ((name, os.lstat(self.pipe / name)) for name in os.listdir(self.pipe))}

    def stop(self):
        self.say("quit")
        if (self.pipe / "nvidia-cuda-mps-control.pid").exists():
            try:
                os.kill(self.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass


@pytest.fixture(scope="module")
def real_program():
    subprocess.run([os.path.join(os.path.dirname(__file__), "..", "..", "tools", "fetch-clients"), os.path.join(BUILD, "clients")], timeout=900,
                   capture_output=True)
    if not os.access(REAL, os.X_OK):
        pytest.skip("NVIDIA's nvidia-cuda-mps-control could not be fetched")
    return REAL


@pytest.fixture
def make():
    made = []

    def start(*arguments, **options):
        made.append(Control(*arguments, **options))
        return made[-1]

    yield start
    for control in made:
        control.stop()


@pytest.fixture
def both(tmp_path, real_program, make):
    return make(real_program, tmp_path / "real"), make(OURS, tmp_path / "ours")


def test_every_command_answers_as_the_real_one_does(both):
    for control in both:
        assert control.run("-d")[0] == 0
    for command in COMMANDS:
        real, ours = (control.say(command) for control in both)
        assert ours == real, command
    real, ours = (control.say("get_default_client_priority", "bogus", "", "get_default_active_thread_percentage") for control in both)
    assert ours == real


def test_files_and_exit_statuses_of_a_whole_life(both):
    seen = []
    for control in both:
        life = [control.say("ps"), control.run("-x"), control.run("-d")]
        life += [control.files(), control.run("-d"), control.run("-f"), control.say("ps")]
        os.kill(control.pid, signal.SIGKILL)
        wait_until(lambda: control.say("ps")[0] == 1, "the daemon is dead")
        life += [control.say("ps"), control.files(), control.run("-d"), control.say("ps"), control.say("quit")]
        wait_until(lambda: "log" not in control.files(), "the daemon has tidied up")
        life += [control.files()]
        life += [control.say("quit"), control.run("-d"), control.say("quit -t 5"), control.say("ps")]
        seen.append(life)
    assert seen[1] == seen[0]


def test_settings_from_the_environment(tmp_path, real_program, make):
    for number, (percent, priority) in enumerate([("30", "1"), ("abc", "7"), ("12.55", "0"), ("101", "-1"), ("12.35", "0"), ("0.01", "1")]):
        answers = []
        for name, program in (("real", real_program), ("ours", OURS)):
            control = make(program, tmp_path / ("%s%d" % (name, number)), CUDA_MPS_ACTIVE_THREAD_PERCENTAGE=percent,
                           CUDA_MPS_CLIENT_PRIORITY=priority)
            assert control.run("-d")[0] == 0
            answers.append(control.say("get_default_active_thread_percentage", "get_default_client_priority"))
        assert answers[1] == answers[0]


def test_directories_that_cannot_be_used(both):
    for control in both:
        control.env["CUDA_MPS_PIPE_DIRECTORY"] = str(control.path / "a" / "b")
    real, ours = (control.run("-d") for control in both)
    assert ours == real and ours[0] == 1
    for control in both:
        control.env["CUDA_MPS_PIPE_DIRECTORY"] = str(control.pipe)
        control.env["CUDA_MPS_LOG_DIRECTORY"] = "/proc/nowhere"
    real, ours = (control.run("-d") for control in both)
    assert ours == real and ours[0] == 0


def test_log_lines_have_the_real_form(both):
    lines = []
    for control in both:
        control.run("-d")
        control.say("set_default_active_thread_percentage 50", "bogus")
        control.say("quit")
        wait_until(lambda: "Exit with status" in (control.log / "control.log").read_text(), "the log is whole")
        text = (control.log / "control.log").read_text().replace(str(control.path), "DIR")
        lines.append([re.sub(r"^\[\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3} Control +\d+\]", "[WHEN]", line) for line in text.splitlines()])
    assert lines[1] == lines[0]


def test_ours_runs_where_nothing_was_fetched(tmp_path, make):
    control = make(OURS, tmp_path / "ours")
    assert control.run("-d") == (0, "", "")
    assert control.say("set_default_active_thread_percentage 25", "ps") == (0, "25.0\nServer not found\n", "")
    assert not shutil.which("nvidia-cuda-mps-control", path=str(control.pipe))
