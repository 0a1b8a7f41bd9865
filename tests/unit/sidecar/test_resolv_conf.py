from pathlib import Path

import pytest

from nova_sidecar.transport.resolver import ResolvConf

IN_A_POD = """\
# written by the kubelet
search shop.svc.cluster.local svc.cluster.local cluster.local
nameserver 10.96.0.10
options ndots:5 timeout:2
"""


def test_as_the_kubelet_writes_it() -> None:
    assert ResolvConf.parse(IN_A_POD) == ResolvConf(
        ("10.96.0.10",), ("shop.svc.cluster.local", "svc.cluster.local", "cluster.local"), 5
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ResolvConf((), (), 1)),
        ("nameserver ::1\nnameserver 10.0.0.1 trailing", ResolvConf(("::1", "10.0.0.1"), (), 1)),
        ("nameserver a\nnameserver b\nnameserver c\nnameserver d", ResolvConf(("a", "b", "c"), (), 1)),
        ("nameserver", ResolvConf((), (), 1)),
        ("search a b\nsearch c.", ResolvConf((), ("c",), 1)),
        ("domain a.example", ResolvConf((), ("a.example",), 1)),
        ("search .", ResolvConf((), (), 1)),
        ("options ndots:2 ndots:3", ResolvConf((), (), 3)),
        ("options ndots:99", ResolvConf((), (), 15)),
        ("options ndots:x rotate", ResolvConf((), (), 1)),
        ("; comment\nnonsense line\n\tnameserver 10.0.0.1", ResolvConf(("10.0.0.1",), (), 1)),
    ],
)
def test_odd_files(text: str, expected: ResolvConf) -> None:
    assert ResolvConf.parse(text) == expected


def test_without_a_file_this_machine_is_asked(tmp_path: Path) -> None:
    assert ResolvConf.read(tmp_path / "none").servers == ("127.0.0.1",)


@pytest.mark.parametrize(
    ("host", "candidates"),
    [
        ("auth", ["auth.a", "auth.b", "auth"]),
        ("auth.identity", ["auth.identity.a", "auth.identity.b", "auth.identity"]),
        ("auth.identity.svc", ["auth.identity.svc", "auth.identity.svc.a", "auth.identity.svc.b"]),
        ("auth.", ["auth"]),
    ],
)
def test_which_names_are_asked_for(host: str, candidates: list[str]) -> None:
    assert ResolvConf(("10.0.0.1",), ("a", "b"), 2).candidates(host) == candidates
