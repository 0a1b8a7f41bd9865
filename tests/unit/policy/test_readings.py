import pytest
from hypothesis import given
from hypothesis import strategies as st

from nova_sidecar.policy.readings import PathMatcher, segment


@pytest.mark.parametrize(
    "path",
    [
        "/login", "/login/", "//login", "/Login", "/LOGIN", "/%6cogin", "/%6Cogin", "/%256cogin", "/./login",
        "/x/../login", "/x/%2e%2e/login", "/%2e/login", "/login;a=b", "/login;", "/;x/login", "/login%3Bx",
        "\\login", "/%5Clogin",
        "/login%2f", "/%2flogin", "/login%00.png", "/login%20", "/x/..;/login", "///login//", "/login/.", "/login/x/..",
    ],
)  # fmt: skip
def test_every_spelling_is_the_same_path(path: str) -> None:
    assert PathMatcher(["/login"]).matches(path)
    assert PathMatcher(["/login*"]).matches(path)


@pytest.mark.parametrize("path", ["/", "/logins", "/log", "/x/login", "/login/x", "/user/login", "/login.html"])
def test_others_are_not(path: str) -> None:
    assert not PathMatcher(["/login"]).matches(path)


@pytest.mark.parametrize(
    "path", ["/api", "/api/", "/api/x", "//API//x", "/%61pi/x", "/api/../x", "/x/../api/y", "/api;a/x", "/api%2fx"]
)
def test_a_prefix_covers_all_below_it(path: str) -> None:
    assert PathMatcher(["/api/*"]).matches(path)


def test_a_grpc_method() -> None:
    matcher = PathMatcher(["/shop.Catalog/*", "/shop.Cart/Add"])
    assert matcher.matches("/shop.Catalog/List")
    assert matcher.matches("/shop.Cart/Add")
    assert not matcher.matches("/shop.Cart/Remove")
    assert not matcher.matches("/shop.Catalogue/List")


def test_the_root_is_itself_alone() -> None:
    assert PathMatcher(["/"]).matches("/")
    assert not PathMatcher(["/"]).matches("/x")
    assert PathMatcher(["/*"]).matches("/x")


@given(st.text(alphabet="/.;%25eEfFlLoOgGiInN\\ax\0", max_size=24))
def test_nothing_fails_it_and_the_answer_stays(path: str) -> None:
    matcher = PathMatcher(["/login", "/a*"])
    assert matcher.matches(f"/{path}") == matcher.matches(f"/{path}")


@pytest.mark.parametrize(
    ("path", "number", "expected"),
    [
        ("/acme/orders", 1, "acme"), ("/Acme", 1, "acme"), ("//acme/orders", 1, "acme"), ("/acme;x/orders", 1, "acme"),
        ("/%61cme/orders", 1, "acme"), ("/api/acme", 2, "acme"), ("/api", 2, ""), ("/", 1, ""), ("/./acme", 1, "acme"),
    ],
)  # fmt: skip
def test_a_segment_by_its_number(path: str, number: int, expected: str) -> None:
    assert segment(path, number) == expected
