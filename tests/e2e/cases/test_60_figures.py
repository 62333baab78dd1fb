"""What it costs. Figures are printed at the end, beside what is aimed at, and not asserted: they depend on the machine."""
import statistics
import time

ROUNDS = 7
QUIET_SECONDS = 30


def test_pods_with_and_without_a_share_start_alike(cluster, gpushare, pods, figure):
    gpushare.ensure()
    seconds = {0: [], 1: []}
    for _ in range(ROUNDS):  # taking turns, so that what else the machine does falls on both
        for gpus, taken in seconds.items():
            took, name = pods.time_to_running(gpus=gpus, arguments=["--wait"])
            taken.append(took)
            pods.delete(name)
    without, with_share = statistics.median(seconds[0]), statistics.median(seconds[1])
    figure("pod without a GPU: created to Running", f"{without:.2f} s", "")
    figure("pod with a share: created to Running", f"{with_share:.2f} s", f"<= {without * 1.1:.2f} s (1.1x), is {with_share / without:.2f}x")
    assert len(seconds[1]) == ROUNDS


def test_the_daemon_is_small_and_quiet(cluster, gpushare, figure):
    gpushare.ensure()
    time.sleep(5)
    before = gpushare.status()["kubernetes"]
    time.sleep(QUIET_SECONDS)
    after = gpushare.status()["kubernetes"]
    rss = cluster.memory_bytes(gpushare.pid())
    figure("memory of the daemon in the cluster (RSS)", f"{rss / 2**20:.1f} MiB", "<= 20 MiB")
    sent = after["requests"] - before["requests"]
    figure(f"requests to the API server in {QUIET_SECONDS} s without changes", str(sent), "0")
    assert after["watches"] >= 1 and after["state"] == "Watching", after
