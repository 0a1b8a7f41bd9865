"""The namespaces that a node lives in: a network and a view of the file system of its own.

The network has no route to the outside. The file system is the machine's, except that /run, /var/lib and /var/log are
folders of the cluster: container runtimes and kubelets write to fixed places there, and everything they mount must go
with them. Namespaces vanish with their last process, and so does all that was mounted, routed or filtered in them, even
after a crash. A process that only sleeps, the holder, keeps them alive while others come and go.

Entered with nsenter: `ip netns exec` would remount /sys, hiding the cgroup trees, and leave files in /run.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence
from pathlib import Path

from nova_cli.cluster.process import run, wait_until
from nova_cli.errors import CommandError

HOLD = ["unshare", "--net", "--mount", "--propagation", "private", "--", "sleep", "infinity"]
OWN_FOLDERS = (Path("/run"), Path("/var/lib"), Path("/var/log"))
_FIRST_HANDLE = 9  # shells know file descriptors of one digit


class Namespaces:
    """The namespaces of the holder process."""

    def __init__(self, holder: int) -> None:
        self.holder = holder

    def wait(self) -> None:
        """Wait until the holder has made them; a moment after its start it is still in those of this machine."""
        ours = [os.readlink(f"/proc/self/ns/{kind}") for kind in ("net", "mnt")]

        def apart() -> bool:
            theirs = [os.readlink(f"/proc/{self.holder}/ns/{kind}") for kind in ("net", "mnt")]
            return all(one != other for one, other in zip(ours, theirs, strict=True))

        try:
            ready = wait_until(apart, 5)
        except OSError:
            ready = False
        if not ready:
            raise CommandError("this machine does not allow new namespaces, which the local cluster needs")

    @property
    def network(self) -> list[str]:
        """What to put before a command so that it runs in the network, on this machine's files."""
        return ["nsenter", f"--net=/proc/{self.holder}/ns/net", "--"]

    @property
    def all(self) -> list[str]:
        """What to put before a command so that it runs as the node does."""
        return ["nsenter", f"--net=/proc/{self.holder}/ns/net", f"--mount=/proc/{self.holder}/ns/mnt", "--"]

    def mount(self, folder: Path, keep: Path) -> None:
        """Put folders of `folder` in place of `OWN_FOLDERS`; `keep`, the cache, stays visible wherever it lies."""
        make_own_folders(folder)
        run([*self.all, "sh", "-eu", "-c", mount_script(folder, [keep])])

    def configure(self, script: str) -> None:
        """Run the `ip -batch` commands of `script`, one of network.py, and let packets through."""
        run([*self.network, "ip", "-batch", "-"], stdin=script)
        run([*self.network, "sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward"])


def join(cgroup_tasks: Path, inside: Sequence[str]) -> list[str]:
    """What to put before a command so that it runs `inside`, as a member of a cgroup. Ends in exec: the pid stays."""
    return [*inside, "sh", "-c", 'cd / && echo $$ > "$0" && exec "$@"', str(cgroup_tasks)]


def make_own_folders(folder: Path) -> None:
    """Make what `mount_script` puts in place of `OWN_FOLDERS`."""
    for own in OWN_FOLDERS:
        (folder / own.relative_to("/")).mkdir(parents=True, exist_ok=True)


def mount_script(folder: Path, keep: Sequence[Path]) -> str:
    """Shell commands that cover `OWN_FOLDERS` with folders of `folder`, for a mount namespace of one's own.

    What is in `keep`, one of which holds `folder`, is opened first and put back where the cover hides it.
    """
    home = next(number for number, kept in enumerate(keep) if folder.is_relative_to(kept))
    handles = [f"/proc/self/fd/{_FIRST_HANDLE - number}" for number in range(len(keep))]
    inside = folder.relative_to(keep[home])
    bind = "mount --no-canonicalize --bind"
    lines = [f"exec {_FIRST_HANDLE - number}< {shlex.quote(str(kept))}" for number, kept in enumerate(keep)]
    lines += [f"{bind} {handles[home]}/{shlex.quote(str(inside / own.relative_to('/')))} {own}" for own in OWN_FOLDERS]
    for handle, kept in zip(handles, keep, strict=True):
        if any(kept.is_relative_to(own) for own in OWN_FOLDERS):
            lines += [f"mkdir -p {shlex.quote(str(kept))}", f"{bind} {handle} {shlex.quote(str(kept))}"]
    # containers may ask for mount propagation; this shares mounts among ourselves, not with the machine
    lines.append("mount --make-rshared /")
    return "\n".join(lines)
