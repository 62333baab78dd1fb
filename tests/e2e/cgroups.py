"""The groups of processes that containers leave when all is killed: the only thing that is shared with this machine."""
import pathlib
import time

ROOT = pathlib.Path("/sys/fs/cgroup")
NAME = "k8s.io"  # containerd's, for a kubelet without groups of its own


def hierarchies():
    if (ROOT / "cgroup.controllers").exists():
        return [ROOT]
    if not ROOT.exists():
        return []
    return [path for path in ROOT.iterdir() if path.is_dir() and not path.is_symlink() and (path / "cgroup.procs").exists()]


def usable():
    """Whether groups can be made, in one hierarchy at least."""
    for hierarchy in hierarchies():
        try:
            (hierarchy / "gpushare-e2e").mkdir()
            (hierarchy / "gpushare-e2e").rmdir()
            return True
        except OSError:
            continue
    return False


def present():
    return any((hierarchy / NAME).exists() for hierarchy in hierarchies())


def remove():
    """Removes the groups that have no processes."""
    for _ in range(50):  # a group goes once the last of its processes has
        for hierarchy in hierarchies():
            top = hierarchy / NAME
            for path in [*sorted((path for path in top.rglob("*") if path.is_dir()), reverse=True), top]:
                try:
                    path.rmdir()
                except OSError:
                    pass
        if not present():
            return
        time.sleep(0.1)
