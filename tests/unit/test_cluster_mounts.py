"""Reading mountinfo and the cgroup trees in it, of both generations."""

import os
from pathlib import Path

import pytest

from nova_cli.cluster.cgroups import trees, weigh
from nova_cli.cluster.mounts import below, holding, parse

V1 = r"""
24 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw,discard
30 24 0:26 / /sys/fs/cgroup rw shared:9 - tmpfs tmpfs rw,mode=755
31 30 0:27 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu
32 30 0:28 / /sys/fs/cgroup/pids rw master:3 propagate_from:2 - cgroup cgroup rw,pids
33 30 0:29 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw
40 24 0:40 / /data/my\040cache rw - ext4 /dev/vdb rw
41 40 0:41 / /data/my\040cache/clusters/nova/fs rw - tmpfs none rw
42 40 0:42 / /data/my\040cache-not rw - tmpfs none rw
""".strip()

V2 = "30 24 0:26 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate"


def test_names_are_unescaped_and_optional_fields_skipped() -> None:
    found = parse(V1)
    assert [mount.kind for mount in found][:4] == ["ext4", "tmpfs", "cgroup", "cgroup"]
    assert found[3].options == ("rw", "pids")
    assert found[5].target == Path("/data/my cache")


def test_mounts_below_a_folder_come_innermost_first() -> None:
    assert below(Path("/data/my cache"), parse(V1)) == [
        Path("/data/my cache/clusters/nova/fs"),
        Path("/data/my cache"),
    ]


def test_the_mount_that_holds_a_path_is_the_nearest() -> None:
    assert holding(Path("/data/my cache/bin"), parse(V1)).target == Path("/data/my cache")
    assert holding(Path("/home"), parse(V1)).target == Path("/")


def test_one_tree_with_v2_and_one_per_controller_with_v1() -> None:
    assert trees(parse(V2)) == [Path("/sys/fs/cgroup")]
    assert [tree.name for tree in trees(parse(V1))] == ["cpu", "pids", "unified"]


@pytest.mark.parametrize(("file", "value"), [("cpu.shares", "8192"), ("cpu.weight", "313")])
def test_a_cluster_weighs_more_than_one_process(
    file: str, value: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of either generation; what a tree does not have is not written."""
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    (tmp_path / file).touch()
    weigh(tmp_path, as_heavy_as=4)
    assert {each.name: each.read_text() for each in tmp_path.iterdir()} == {file: value}
