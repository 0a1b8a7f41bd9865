"""The images, and what each is made of. Also the contract with the Dockerfiles:

* the build context is the root of the repository, `--build-arg BASE_IMAGE` names the base, `BUILD_IMAGE` one with a C
  compiler for an image that has something to compile (`compile.py` beside the Dockerfile);
* build/wheels/NAME/ holds nova, everything it depends on for this image, that script and what it needs, and pip itself:
  `python3 "$(ls build/wheels/NAME/pip-*.whl)/pip" install --no-index --find-links build/wheels/NAME ...`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from nova_cli.cluster.cache import content_key
from nova_cli.errors import CommandError

VERSION = "dev"


@dataclass(frozen=True)
class Image:
    """One image of nova."""

    name: str
    """Also the extra of the distribution that it installs."""
    sources: tuple[str, ...]
    """Folders of the repository whose content ends up in it."""

    @property
    def reference(self) -> str:
        """What a pod writes."""
        return f"nova/{self.name}:{VERSION}"

    @property
    def full_reference(self) -> str:
        """What a container runtime makes of it: names without a registry are Docker Hub's, by convention."""
        return f"docker.io/{self.reference}"

    @property
    def dockerfile(self) -> str:
        """Relative to the repository."""
        return f"{self.folder}/Dockerfile"

    @property
    def folder(self) -> str:
        """The folder of the repository that the image is named after."""
        return self.name

    def compiler(self, root: Path) -> Path:
        """The script that compiles it in its build stage, in the repository at `root`; not every image has one."""
        return root / self.folder / "compile.py"

    def key(self, root: Path, base: str) -> str:
        """A hash of everything that goes into it, `base` naming the base image."""
        files = [root / "pyproject.toml", root / self.dockerfile]
        files += [file for file in [self.compiler(root)] if file.exists()]
        for source in self.sources:
            files += [file for file in (root / source).rglob("*") if file.is_file() and "__pycache__" not in file.parts]
        return content_key(files, base, relative_to=root)


IMAGES = (
    Image("operator", ("crds/nova_api", "operator/nova_operator")),
    Image("sidecar", ("crds/nova_api", "sidecar/nova_sidecar")),
    Image("services", ("crds/nova_api", "services/nova_services", "services/nova_data", "services/protos/nova")),
)


def select(names: list[str]) -> list[Image]:
    """The images with these names; all of them for an empty list."""
    known = {image.name: image for image in IMAGES}
    if unknown := [name for name in names if name not in known]:
        raise CommandError(f"there is no image {unknown[0]}; there are {', '.join(known)}")
    return [known[name] for name in names] or list(IMAGES)
