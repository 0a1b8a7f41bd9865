"""What the process finds out about its limits, from files as kernels write them."""

import os
import resource
from pathlib import Path

import pytest

from nova_sidecar.transport.resources import Memory, descriptor_limit, descriptors_open

V2 = "sys/fs/cgroup"
V1 = "sys/fs/cgroup/memory"


def tree(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def v2(limit: str, usage: int = 600, cache: int = 100, group: str = "") -> dict[str, str]:
    base = f"{V2}{group}"
    return {
        "proc/self/cgroup": f"0::{group or '/'}\n",
        f"{base}/memory.max": f"{limit}\n",
        f"{base}/memory.current": f"{usage}\n",
        f"{base}/memory.stat": f"anon 400\ninactive_file {cache}\nactive_file 7\n",
    }


def v1(limit: int, group: str = "") -> dict[str, str]:
    return {
        "proc/self/cgroup": f"9:name=systemd:/\n4:memory,hugetlb:{group or '/'}\n0::/\n",
        f"{V1}{group}/memory.limit_in_bytes": f"{limit}\n",
        f"{V1}{group}/memory.usage_in_bytes": "800\n",
        f"{V1}{group}/memory.stat": "cache 300\ntotal_inactive_file 300\n",
    }


@pytest.mark.parametrize(
    ("files", "share"),
    [
        pytest.param(v2("1000"), 0.5, id="version 2, in a container"),
        pytest.param(v2("1000", group="/kubepods/pod1/c"), 0.5, id="version 2, on the host"),
        pytest.param(v1(1000), 0.5, id="version 1, in a container"),
        pytest.param(v1(1000, "/docker/1"), 0.5, id="version 1, on the host"),
    ],
)
def test_memory_is_what_cannot_be_dropped(tmp_path: Path, files: dict[str, str], share: float) -> None:
    memory = Memory.find(tree(tmp_path, files))
    assert memory is not None
    assert memory.share() == share


@pytest.mark.parametrize(
    "files",
    [
        pytest.param({}, id="no control groups"),
        pytest.param(v2("max"), id="version 2 without a limit"),
        pytest.param(v1(0x7FFFFFFFFFFFF000), id="version 1 without a limit"),
        pytest.param({"proc/self/cgroup": "0::/gone\n"}, id="a group that is not mounted"),
    ],
)
def test_without_a_limit_there_is_nothing_to_watch(tmp_path: Path, files: dict[str, str]) -> None:
    assert Memory.find(tree(tmp_path, files)) is None


def test_a_limit_that_goes_away_or_cannot_be_read_is_none(tmp_path: Path) -> None:
    memory = Memory.find(tree(tmp_path, v2("1000")))
    assert memory is not None
    tree(tmp_path, {f"{V2}/memory.max": "max\n"})
    assert memory.share() == 0
    tree(tmp_path, {f"{V2}/memory.max": "1000\n", f"{V2}/memory.current": ""})
    assert memory.share() == 0
    (tmp_path / V2 / "memory.current").unlink()
    assert memory.share() == 0


def test_descriptors_are_counted_by_the_kernel_where_it_does_so() -> None:
    before = descriptors_open(-1)
    with open(os.devnull, "rb"):
        during = descriptors_open(-1)
    assert during == before + 1 or before == during == -1


def test_the_limit_of_descriptors_is_the_one_that_holds() -> None:
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert descriptor_limit() == (0 if soft == resource.RLIM_INFINITY else soft)
