#!/usr/bin/python3
"""The figures of calls again, with a gRPC client that is not ours: Python's grpcio, serial as the kubelet calls.
Run by `make bench` as: gpushare sim 8xA100-80GB -- bench_grpc.py

CPU is the daemon's, all threads, by the scheduler's own clock (schedstat). A preferred allocation's time is given beyond that of
an empty call. Each figure is that of the least disturbed round, with the median of all rounds and, for what HTTP/2, system
calls and waking the client cost, an empty call of the same rounds beside it. Nothing is pinned to a CPU. Targets are not asserted.
"""
import glob
import os
import random
import shutil
import statistics
import sys
import tempfile
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), os.pardir, "integration", "lib"))
try:
    import kubelet as peer
    import node as world
except (ImportError, FileNotFoundError) as error:
    print("with grpcio: not measured, %s; install python3-grpcio, python3-protobuf and protobuf-compiler" % error)
    sys.exit(0)

ROUNDS, CALLS, LARGE_CALLS = 30, 300, 50


def cpu_us(pid):
    total = 0
    for path in glob.glob("/proc/%d/task/*/schedstat" % pid):
        with open(path, encoding="ascii") as file:
            total += int(file.read().split()[0])
    return total / 1e3


class Figures:
    """Of one kind of call, round for round: CPU a call, and a call's median time, in microseconds."""

    def __init__(self):
        self.cpu, self.wall = [], []

    def measure(self, pid, calls, call):
        before, times = cpu_us(pid), []
        for i in range(calls):
            began = time.perf_counter()
            call(i)
            times.append(time.perf_counter() - began)
        self.cpu.append((cpu_us(pid) - before) / calls)
        self.wall.append(statistics.median(times) * 1e6)


def row(name, least, median, target, note):
    print("%-46s %9.2f us   target %8.2f us   %s; median %.1f; %s" % (name, least, target, "met" if least <= target else "MISSED", median, note),
          flush=True)


def stub(channel, method):
    """Bytes in, bytes out: what Python's messages cost is nobody's figure."""
    return channel.unary_unary("/v1beta1.DevicePlugin/" + method, request_serializer=bytes, response_deserializer=bytes)


def preferred_request(ids):
    request = peer.pb.PreferredAllocationRequest()
    request.container_requests.add(available_deviceIDs=ids, allocation_size=8)
    return request.SerializeToString()


def allocate_request(share):
    request = peer.pb.AllocateRequest()
    request.container_requests.add(devices_ids=[share])
    return request.SerializeToString()


def measure(plugin, pid, shares, preferred_target_us):
    ids = list(plugin.watch().wait(lambda devices: len(devices) == shares))
    empty, allocate, preferred = (stub(plugin.channel, method)
                                  for method in ("GetDevicePluginOptions", "Allocate", "GetPreferredAllocation"))
    requests = [allocate_request(share) for share in ids]
    random.Random(1).shuffle(ids)  # the kubelet's sets have no order
    wanted = preferred_request(ids)
    figures = {name: Figures() for name in ("empty", "allocate", "bytes", "preferred")}
    for _ in range(ROUNDS):
        figures["empty"].measure(pid, CALLS, lambda i: empty(b"", timeout=peer.WAIT))
        figures["allocate"].measure(pid, CALLS, lambda i: allocate(requests[i % shares], timeout=peer.WAIT))
        figures["bytes"].measure(pid, LARGE_CALLS, lambda i: empty(wanted, timeout=peer.WAIT))
        figures["preferred"].measure(pid, LARGE_CALLS, lambda i: preferred(wanted, timeout=peer.WAIT))

    def beyond(name, of):
        return of(figures[name].wall) - of(figures["empty"].wall)

    row("grpcio: GetPreferredAllocation, 8 of %d" % shares, beyond("preferred", min), beyond("preferred", statistics.median),
        preferred_target_us, "an empty call: %.0f us, %d bytes that are not looked at: %.0f us more" %
        (min(figures["empty"].wall), len(wanted), beyond("bytes", min)))
    row("grpcio: Allocate, CPU per call, %d shares" % shares, min(figures["allocate"].cpu), statistics.median(figures["allocate"].cpu),
        10, "an empty call: %.1f us, median %.1f" % (min(figures["empty"].cpu), statistics.median(figures["empty"].cpu)))


def main():
    for shares, preferred_target_us in ((32, 40), (800, 60), (8000, 300)):
        directory = tempfile.mkdtemp(prefix="gpushare-bench-")
        kubelet = peer.Kubelet(os.path.join(directory, "kubelet")).start()
        daemon = world.Node(directory, config=world.CONFIG_4.replace("replicas: 4", "replicas: %d" % (shares // 8)))
        try:
            daemon.start()
            world.wait_until(lambda: kubelet.plugins, "registration")
            plugin = next(iter(kubelet.plugins.values()))
            measure(plugin, daemon.process.pid, shares, preferred_target_us)
            plugin.close()
        finally:
            daemon.stop()
            kubelet.stop()
            shutil.rmtree(directory)


main()
