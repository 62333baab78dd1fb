"""One cluster for all cases. A case is one file in cases/, which uses the fixtures from here."""
import os
import pathlib
import signal
import sys
import time

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parent))

import images  # noqa: E402
from cluster import HOME, NODE, Cluster, make_network, make_root, run  # noqa: E402
from deployment import Deployment  # noqa: E402
from pods import IMAGE, Pods  # noqa: E402
from tools import REPOSITORY, say  # noqa: E402

BUILD = pathlib.Path(os.environ["GPUSHARE_BUILD"])
OUTPUT = pathlib.Path(os.environ["GPUSHARE_E2E"])
FIGURES = []


def make_images(cluster):
    folder = HOME / "images"
    folder.mkdir()
    here = pathlib.Path(__file__).parent / "programs"
    run("gcc", "-O2", "-static", "-o", folder / "pause", here / "pause.c")
    run("gcc", "-O2", "-I", REPOSITORY / "include", "-o", folder / "gpus", here / "gpus.c", "-L", BUILD / "sim" / "cuda", "-lcuda")
    cluster.import_image(images.archive(folder / "pause.tar", "localhost/e2e-pause:1", {"/pause": folder / "pause"}, ["/pause"]))
    files = {"/bin/gpus": folder / "gpus", **images.libraries(folder / "gpus")}
    cluster.import_image(images.archive(folder / "workload.tar", IMAGE, files, ["/bin/gpus"]))
    for archive in (BUILD / "image").glob("*.oci.tar"):
        cluster.import_image(archive)


@pytest.fixture(scope="session")
def cluster():
    began = time.monotonic()
    make_root()
    make_network()
    cluster = Cluster(OUTPUT)
    try:
        cluster.start()
        make_images(cluster)
        cluster.wait_ready()
        say(f"the cluster is up: node {NODE} is Ready after {time.monotonic() - began:.0f} s")
        yield cluster
        if os.environ.get("GPUSHARE_E2E_KEEP"):
            keep(cluster)
    except BaseException:
        show_logs(cluster)
        raise


def keep(cluster):
    script = OUTPUT / "kubectl"
    pid = f"$(cat {OUTPUT}/pid)"
    script.write_text(f"#!/bin/sh\nexec nsenter --target {pid} --mount --net --pid --uts -- env KUBECONFIG={cluster.admin} PATH='{os.environ['PATH']}' "
                      'kubectl "$@"\n')
    script.chmod(0o755)
    say("the cluster stays up until Ctrl-C. From another terminal, as root:")
    say(f"    {script} get pods -A")
    say(f"    nsenter --target {pid} --mount --net --pid --uts -- env KUBECONFIG={cluster.admin} PATH='{os.environ['PATH']}' bash   # a shell on the node")
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT, signal.SIGTERM])
    signal.sigwait([signal.SIGINT, signal.SIGTERM])


def show_logs(cluster):
    """What matters when something failed; everything is in OUTPUT."""
    say(f"all logs are in {OUTPUT}")
    for name in cluster.processes:
        if cluster.processes[name].poll() is not None:
            say(f"{name} has ended; its last lines:\n{cluster.log_tail(name)}")


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    report = (yield).get_result()
    if report.when == "call" and report.failed and "cluster" in item.fixturenames:
        cluster = item.funcargs.get("cluster")
        if cluster:
            show_state(cluster)


def show_state(cluster):
    """The state of the cluster, of our daemon and of the kubelet, at the moment of a failure."""
    def text(*command):
        done = cluster.kubectl(*command, check=False, timeout=60)
        return (done.stdout + done.stderr)[-6000:]
    say("it failed; pods, events, the daemon's log and the kubelet's:")
    print(text("get", "pods", "-A", "-o", "wide"))
    print(text("get", "events", "-A", "--sort-by=.lastTimestamp")[-4000:])
    print(text("logs", "-n", "gpu-operator", "-l", "app.kubernetes.io/name=gpushare", "--tail=60", "--prefix", "--all-containers"))
    print(cluster.log_tail("kubelet", 25))
    show_logs(cluster)


@pytest.fixture
def pods(cluster):
    pods = Pods(cluster)
    yield pods
    pods.delete_all()


@pytest.fixture(scope="session")
def gpushare(cluster):
    """gpushare, which is not installed at first; `gpushare.ensure()` makes it so."""
    return Deployment(cluster, BUILD)


@pytest.fixture(scope="session")
def figure():
    """figure(name, value, target) keeps a figure for the end."""
    return lambda *columns: FIGURES.append(columns)


def pytest_terminal_summary(terminalreporter):
    if FIGURES:
        terminalreporter.write_line("== figures")
        for name, value, target in FIGURES:
            terminalreporter.write_line(f"   {name:<60} {value:>14}   {target}")
