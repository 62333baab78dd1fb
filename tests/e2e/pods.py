"""Pods with GPUs, and what is asked of them."""
import itertools
import json
import time

from cluster import NODE, wait_for

IMAGE = "localhost/e2e-workload:1"
SIM = "/run/gpushare-sim/node"
counter = itertools.count(1)


def manifest(name=None, gpus=1, resource="nvidia.com/gpu", arguments=(), env=None, host_pid=False, plain=False, image=IMAGE):
    """A pod whose container runs tests/e2e/programs/gpus.c on the simulated driver, which it is given here unless it is
    plain, as anybody's pod is. With host_pid its processes have the node's numbers, by which MPS tells clients apart."""
    limits = {resource: gpus} if gpus else {}
    variables = {"GPUSHARE_SIM": SIM, "LD_LIBRARY_PATH": f"{SIM}/root/usr/lib/x86_64-linux-gnu"} if not plain else {}
    variables.update(env or {})
    pod = {"apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": name or f"pod-{next(counter)}", "namespace": "default", "labels": {"e2e": "workload"}},
            "spec": {"restartPolicy": "Never", "terminationGracePeriodSeconds": 1, "automountServiceAccountToken": False, "hostPID": host_pid,
                     "containers": [{"name": "main", "image": image, "imagePullPolicy": "Never", "args": list(arguments),
                                     "resources": {"limits": limits},
                                     "env": [{"name": key, "value": value} for key, value in variables.items()],
                                     "volumeMounts": [{"name": "sim", "mountPath": SIM}]}],
                     "volumes": [{"name": "sim", "hostPath": {"path": SIM}}]}}
    if plain:
        del pod["spec"]["volumes"], pod["spec"]["containers"][0]["volumeMounts"]
    return pod


class Pods:
    """The pods of a test; all of them are gone after it."""

    def __init__(self, cluster):
        self.cluster = cluster

    def create(self, count=1, **how):
        """Names of new pods."""
        made = [manifest(**how) for _ in range(count)]
        self.cluster.apply(*made, how="create")
        return [each["metadata"]["name"] for each in made]

    def create_deployment(self, name, replicas, **how):
        """Pods that are replaced when they fail, and whose containers are started again when they end."""
        pod = manifest(**how)
        pod["spec"]["restartPolicy"] = "Always"
        pod["metadata"] = {"labels": {"e2e": "workload", "of": name}}
        self.cluster.apply({"apiVersion": "apps/v1", "kind": "Deployment",
                            "metadata": {"name": name, "namespace": "default", "labels": {"e2e": "workload"}},
                            "spec": {"replicas": replicas, "selector": {"matchLabels": {"of": name}},
                                     "template": {"metadata": pod["metadata"], "spec": pod["spec"]}}})

    def of_deployment(self, name, replicas):
        """Names of its pods, once all of them run."""
        def running():
            names = [pod["metadata"]["name"] for pod in self.list().values()
                     if pod["metadata"]["labels"].get("of") == name and pod["status"].get("phase") == "Running"
                     and "deletionTimestamp" not in pod["metadata"]
                     and all(status["ready"] for status in pod["status"].get("containerStatuses", ()))]
            return names if len(names) == replicas else None
        return wait_for(f"{replicas} pods of {name} to run", running)

    def list(self):
        return {each["metadata"]["name"]: each for each in self.cluster.get("pods", "-l", "e2e=workload")["items"]}

    def phase(self, name):
        return self.list()[name]["status"]["phase"]

    def wait_running(self, names, patience=180):
        names = list(names)

        def running():
            pods = self.list()
            phases = {name: pods[name]["status"].get("phase") if name in pods else "gone" for name in names}
            ended = {name: phase for name, phase in phases.items() if phase in ("Failed", "Succeeded", "gone")}
            if ended:
                raise AssertionError(f"not running any more: {ended}\n" + "\n".join(self.describe(name) for name in ended))
            return all(phase == "Running" and all(status["ready"] for status in pods[name]["status"].get("containerStatuses", ()))
                       for name, phase in phases.items())
        wait_for(f"{len(names)} pods to run" if len(names) > 1 else f"{names[0]} to run", running, patience)

    def wait_pending_unschedulable(self, name):
        def unschedulable():
            status = self.list()[name]["status"]
            return status["phase"] == "Pending" and any(
                each["type"] == "PodScheduled" and each["status"] == "False" and "Insufficient" in each.get("message", "")
                for each in status.get("conditions", ()))
        wait_for(f"the scheduler to find no room for {name}", unschedulable)

    def devices(self, name):
        """UUIDs of the devices that the program in the pod sees."""
        def answer():
            log = self.cluster.kubectl("logs", name, check=False).stdout
            return log if "ready" in log else None
        log = wait_for(f"what {name} sees", answer)
        return [device["uuid"] for device in json.loads(log.splitlines()[0])["devices"]]

    def see(self, name):
        """UUIDs that a program started in the pod just now sees."""
        def answer():
            done = self.cluster.kubectl("exec", name, "--", "/bin/gpus", "--once", check=False)
            # A kubelet that has just started does not know its pods yet.
            assert done.returncode == 0 or "pod does not exist" in done.stderr, done.stdout + done.stderr
            return done if done.returncode == 0 else None
        done = wait_for(f"the kubelet to run a program in {name}", answer)
        return [device["uuid"] for device in json.loads(done.stdout.splitlines()[0])["devices"]]

    def delete(self, *names):
        if names:
            self.cluster.kubectl("delete", "pod", *names, "--wait=true")

    def delete_all(self):
        self.cluster.kubectl("delete", "deployments,pods", "-l", "e2e=workload", "--wait=true", "--ignore-not-found")

    def describe(self, name):
        return self.cluster.kubectl("describe", "pod", name, check=False).stdout[-3000:] \
            + self.cluster.kubectl("logs", name, check=False).stdout[-1000:]

    def time_to_running(self, **how):
        """Seconds from the request to a pod's Running, by the watch of it."""
        began = time.monotonic()
        (name,) = self.create(**how)
        self.cluster.kubectl("wait", f"pod/{name}", "--for=jsonpath={.status.phase}=Running", "--timeout=120s")
        return time.monotonic() - began, name


def allocatable(cluster, resource="nvidia.com/gpu"):
    return int(cluster.node()["status"]["allocatable"].get(resource, "0"))


def wait_allocatable(cluster, count, resource="nvidia.com/gpu"):
    seen = []

    def reached():
        seen.append(allocatable(cluster, resource))
        return seen[-1] == count
    wait_for(f"{count} schedulable {resource} on {NODE}", reached)
