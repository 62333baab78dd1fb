"""The programs of a Kubernetes cluster: built from the Go modules in tools/, once, and kept in a cache."""
import hashlib
import os
import pathlib
import re
import shutil
import subprocess
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
REPOSITORY = HERE.parents[1]
CACHE = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache") / "gpushare-e2e"
# For where Go is older than 1.21 and cannot fetch this itself; not below what the modules ask for.
TOOLCHAIN = "go1.26.8"
MODULES = {
    "kubernetes": ["k8s.io/kubernetes/cmd/" + name
                   for name in ("kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubectl", "kubelet")],
    "containerd": ["github.com/containerd/containerd/v2/cmd/" + name for name in ("containerd", "containerd-shim-runc-v2", "ctr")]
                  + ["helm.sh/helm/v4/cmd/helm"],
}
# What their own build scripts say: the versions that the programs tell each other, and Helm compares charts with.
KUBERNETES_VERSION = "v1.36.3"
LINKING = {
    "kubernetes": f"-s -w -X k8s.io/component-base/version.gitVersion={KUBERNETES_VERSION}"
                  f" -X k8s.io/component-base/version.gitMajor=1 -X k8s.io/component-base/version.gitMinor=36",
    "containerd": "-s -w",
}


class Unavailable(Exception):
    """Why the test cannot run here."""


def say(text):
    print(f"e2e: {text}", flush=True)


def go_version(go):
    """(1, 26) of a Go, or None. Asked outside of a module, so that it does not fetch another."""
    done = subprocess.run([go, "version"], cwd="/", env={**os.environ, "GOTOOLCHAIN": "local"}, capture_output=True, text=True)
    found = re.search(r"go version go(\d+)\.(\d+)", done.stdout)
    return (int(found[1]), int(found[2])) if found else None


def find_go():
    """A Go and the environment that builds the modules with it."""
    wanted = tuple(int(part) for part in TOOLCHAIN.removeprefix("go").split(".")[:2])
    found = [path for path in (shutil.which("go"), "/usr/local/go/bin/go", "/usr/lib/go/bin/go") if path and os.path.exists(path)]
    if not found:
        subprocess.run([REPOSITORY / "scripts" / "install-deps", "go"], check=False)
        found = [path for path in (shutil.which("go"), "/usr/lib/go/bin/go") if path and os.path.exists(path)]
    if not found:
        raise Unavailable("there is no Go, and Debian's package golang-go could not be installed")
    go = max(found, key=lambda path: go_version(path) or (0, 0))
    version = go_version(go)
    if version and version >= wanted:
        return go, {"GOTOOLCHAIN": "local"}
    if version and version >= (1, 21):
        return go, {"GOTOOLCHAIN": TOOLCHAIN}  # fetches it through the module proxy, checked
    return fetch_toolchain(go), {"GOTOOLCHAIN": "local"}


def fetch_toolchain(old):
    """What newer ones do themselves: the toolchain is a module, and the module proxy has it."""
    machine = {"x86_64": "amd64", "aarch64": "arm64"}.get(os.uname().machine, os.uname().machine)
    module = f"golang.org/toolchain@v0.0.1-{TOOLCHAIN}.linux-{machine}"
    home = CACHE / f"{TOOLCHAIN}-{machine}"
    if not (home / "bin" / "go").exists():
        say(f"{old} is too old; fetching {TOOLCHAIN} through the Go module proxy")
        done = subprocess.run([old, "mod", "download", "-json", module], cwd="/", capture_output=True, text=True)
        folder = re.search(r'"Dir": "([^"]+)"', done.stdout)
        if done.returncode or not folder:
            raise Unavailable(f"{TOOLCHAIN} cannot be fetched: {(done.stderr or done.stdout).strip()[-500:]}")
        part = home.with_suffix(".part")
        shutil.rmtree(part, ignore_errors=True)
        shutil.copytree(folder[1], part, copy_function=shutil.copyfile)
        for path in [*(part / "bin").iterdir(), *(part / "pkg" / "tool").rglob("*")]:
            if path.is_file():
                path.chmod(0o755)  # a module's files cannot be run
        part.rename(home)
    return str(home / "bin" / "go")


def build(module, packages):
    """The folder with the programs of a module; builds what is not in the cache."""
    source = HERE / "tools" / module
    key = hashlib.sha256(b"".join((source / name).read_bytes() for name in ("go.mod", "go.sum"))
                         + repr((packages, LINKING[module])).encode()).hexdigest()
    folder = CACHE / f"{module}-{key[:16]}"
    if folder.exists():
        return folder
    go, environment = find_go()
    environment = {**os.environ, "GOFLAGS": "-mod=readonly -buildvcs=false", **environment}
    part = folder.with_suffix(f".part{os.getpid()}")
    part.mkdir(parents=True)
    jobs = str(max(1, min(os.cpu_count() or 1, 8)))
    log = CACHE / f"{module}.log"
    say(f"building {' '.join(package.rsplit('/', 1)[1] for package in packages)} with {go}; the first time takes minutes; log: {log}")
    began = time.monotonic()
    with open(log, "w", encoding="utf-8") as output:
        process = subprocess.Popen(["nice", "-n", "10", go, "build", "-p", jobs, "-trimpath", "-ldflags", LINKING[module], "-o", f"{part}/", *packages],
                                   cwd=source, env=environment, stdout=output, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL)
        while True:
            try:
                status = process.wait(60)
                break
            except subprocess.TimeoutExpired:
                done = sorted(path.name for path in part.iterdir())
                say(f"still building {module} after {time.monotonic() - began:.0f} s; done: {' '.join(done) or 'nothing yet'}")
    if status:
        shutil.rmtree(part, ignore_errors=True)
        tail = log.read_text(encoding="utf-8", errors="replace")[-2000:]
        raise SystemExit(f"e2e: building {module} failed:\n{tail}")
    part.rename(folder)
    for old in CACHE.glob(f"{module}-*"):
        if old != folder:
            shutil.rmtree(old, ignore_errors=True)  # of an earlier version, or of a build that was broken off
    say(f"{module} is built, in {time.monotonic() - began:.0f} s")
    return folder


def build_all():
    """The folders to look for programs in."""
    return [build(module, packages) for module, packages in MODULES.items()]


if __name__ == "__main__":
    try:
        for found in build_all():
            print(found)
    except Unavailable as reason:
        sys.exit(f"e2e: {reason}")
