"""buildah, kept to itself.

Left alone it writes to /var/lib/containers, /run and /etc/cni, and leaves a mount behind. Here it works on a storage of
ours, in a mount namespace where the folders it writes to unasked are covered by folders of that storage.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from nova_cli.cluster.cache import cache_root
from nova_cli.cluster.namespaces import make_own_folders, mount_script
from nova_cli.cluster.process import run


class Buildah:
    """buildah on the storage in the folder `storage`, which must lie in the cache."""

    def __init__(self, storage: Path, *, base: Path | None = None) -> None:
        """`base` is another storage whose images can be used, but not changed."""
        self.storage = storage
        self._options = ["--root", str(storage / "root"), "--runroot", str(storage / "run")]
        if base is not None:
            self._options += ["--storage-opt", f"overlay.imagestore={base / 'root'}"]
        make_own_folders(storage / "hidden")
        (storage / "containers.conf").write_text(f'[network]\nnetwork_config_dir = "{storage}/networks"\n')

    def __repr__(self) -> str:
        return f"<Buildah {self.storage}>"

    def run(self, verb: str, *arguments: str, keep: Path) -> None:
        """Run a buildah command; `keep` is a folder outside of the cache that it needs to see."""
        settings = {
            "BUILDAH_ISOLATION": "chroot",
            "STORAGE_DRIVER": "overlay",
            "TMPDIR": str(self.storage),
            "CONTAINERS_CONF": str(self.storage / "containers.conf"),
        }
        run([*self._apart(keep), "buildah", *self._options, verb, *arguments], env=settings)

    def _apart(self, keep: Path) -> Sequence[str]:
        script = mount_script(self.storage / "hidden", keep=[cache_root(), keep]) + '\nexec "$@"'
        return ["unshare", "--mount", "--propagation", "private", "--", "sh", "-eu", "-c", script, "sh"]
