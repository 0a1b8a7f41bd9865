"""Secrets and personal data as tests push them through whatever logs: a table of examples, and random ones."""

import string
from dataclasses import dataclass
from typing import Final

from hypothesis import strategies as st

_WORD = string.ascii_letters + string.digits
TOKEN: Final = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiIxMjMifQ.c2lnbmF0dXJl"


@dataclass(frozen=True)
class Secret:
    """`text` is what is sent; `hidden` are the parts of which none may be found anywhere."""

    kind: str
    text: str
    hidden: tuple[str, ...]

    def found_in(self, output: str) -> list[str]:
        """The parts that are there though they should not be."""
        return [part for part in self.hidden if part in output]


def _secret(kind: str, text: str, *hidden: str) -> Secret:
    return Secret(kind, text, hidden or (text,))


def _built(least: int, most: int, alphabet: str = _WORD) -> st.SearchStrategy[str]:
    return st.text(alphabet, min_size=least, max_size=most)


def luhn_complete(digits: str) -> str:
    """The number, with its check digit."""
    total = 0
    for at, digit in enumerate(reversed(digits)):
        value = int(digit) * (2 if at % 2 == 0 else 1)
        total += value - 9 if value > 9 else value
    return digits + str(-total % 10)


def _grouped(digits: str, separator: str) -> str:
    return separator.join(digits[at : at + 4] for at in range(0, len(digits), 4))


EMAILS = st.builds(
    lambda name, host, top, at: _secret("email", f"q{name}{at}z{host}.{top}", f"q{name}", f"z{host}.{top}"),
    st.from_regex(r"[a-z0-9]{4,10}([._+-][a-z0-9]{2,8})?", fullmatch=True),
    _built(4, 12, string.ascii_lowercase),
    st.sampled_from(("com", "org", "de", "co.uk", "museum")),
    st.sampled_from(("@", "@", "%40", "%2540")),
)
PHONES = st.builds(
    lambda form, digits: _secret("phone", form.format(*digits), form.format(*digits)),
    st.sampled_from(
        (
            "+{}{}{}{}{}{}{}{}{}{}{}", "+{} {}{}{} {}{}{} {}{}{}{}", "({}{}{}) {}{}{}-{}{}{}{}",
            "{}{}{}-{}{}{}-{}{}{}{}", "{}{}{}.{}{}{}.{}{}{}{}", "{}{}{}{}{}{}{}{}{}{}{}",
            "00{}{}{}{}{}{}{}{}{}{}{}", "+{}{}-{}{}{}{}-{}{}{}{}{}",
        )
    ),
    st.lists(st.integers(1, 9), min_size=12, max_size=12),
)  # fmt: skip
CARDS = st.builds(
    lambda first, rest, form: _secret("card", form(luhn_complete(first + rest)), form(luhn_complete(first + rest))),
    st.sampled_from("23456"),
    st.one_of(_built(14, 14, string.digits), _built(15, 15, string.digits), _built(17, 17, string.digits)),
    st.sampled_from((str, lambda digits: _grouped(digits, "-"), lambda digits: _grouped(digits, " "))),
)
JWTS = st.builds(
    lambda header, claims, signature: _secret(
        "jwt", f"eyJ{header}.eyJ{claims}.{signature}", f"eyJ{header}", f"eyJ{claims}", signature
    ),
    _built(16, 40),
    _built(16, 60, _WORD + "-_"),
    _built(20, 60, _WORD + "-_"),
)
KEYS = st.builds(
    lambda prefix, rest: _secret("key", prefix + rest, rest),
    st.sampled_from(("sk_live_", "ghp_", "github_pat_", "glpat-", "whsec_", "npm_", "pk_test_")),
    _built(36, 40),
)
BEARERS = st.builds(
    lambda scheme, value: _secret("bearer", f"{scheme} {value}", value),
    st.sampled_from(("Bearer", "bearer", "Basic")),
    _built(20, 60, _WORD + "-._~+/").filter(lambda value: "//" not in value),
)
PASSWORDS = st.builds(
    lambda name, value, form: _secret("password", form.format(name, value), value),
    st.sampled_from(("password", "db_passwd", "client_secret", "accessToken", "api_key", "X-Api-Key", "passphrase")),
    _built(8, 30, _WORD + "!#$*+-._~/").filter(lambda value: value[0] in _WORD),
    st.sampled_from(("{}={}", "{}: {}", '"{}":"{}"', "'{}': '{}'", '\\"{}\\": \\"{}\\"', "{} = {}")),
)
COOKIES = st.builds(
    lambda name, first, second: _secret("cookie", f"{name}: a={first}; b={second}", first, second),
    st.sampled_from(("Cookie", "Set-Cookie", "cookie")),
    _built(12, 30),
    _built(12, 30),
)
USERS = st.builds(
    lambda scheme, name, password: _secret("url", f"{scheme}://{name}:{password}@redis:6379/0", password),
    st.sampled_from(("redis", "rediss", "postgres", "https", "amqp")),
    _built(0, 10),
    _built(8, 24, _WORD + "!$*+-._~"),
)
ANY: Final = st.one_of(EMAILS, PHONES, CARDS, JWTS, KEYS, BEARERS, PASSWORDS, COOKIES, USERS)

TABLE: Final = (
    _secret("email", "alice@example.com"),
    _secret("email", "o'hara.b+tag@mail.example.co.uk", "hara.b", "mail.example"),
    _secret("email", "ali%63e%40example.com", "example.com"),
    _secret("email", "zbobq%2540mail.example.org", "zbobq", "mail.example.org"),
    _secret("email", "jürgen@müller.de"),
    _secret("email", '"john doe"@example.com', "john doe", "example.com"),
    _secret("email", "root@[10.0.0.1]"),
    _secret("phone", "+15551234567"),
    _secret("phone", "+49 (170) 123-45 67"),
    _secret("phone", "%2B15551234567", "5551234567"),
    _secret("phone", "(555) 123-4567"),
    _secret("phone", "555.123.4567"),
    _secret("phone", "06 12 34 56 78"),
    _secret("phone", "00441632960961"),
    _secret("card", "4111111111111111"),
    _secret("card", "5555-5555-5555-4444"),
    _secret("card", "3782 822463 10005"),
    _secret("card", "6304000000000000000"),
    _secret("jwt", TOKEN),
    _secret("jwt", TOKEN + ".e30.c2Vj", "c2Vj"),
    _secret("bearer", "Authorization: Bearer abc.def-123", "abc.def-123"),
    _secret("bearer", "Bearer correcthorsebatterystaple", "correcthorse"),
    _secret("basic", "sent basic dXNlcjpwYXNzd29yZA==", "dXNlcjpwYXNzd29yZA"),
    _secret("key", "sk_live_51H8abcdEFGHijklMNOP"),
    _secret("key", "AKIAIOSFODNN7EXAMPLE"),
    _secret("key", "xoxb-123456789012-abcdefABCDEF"),
    _secret("key", "https://hooks.example/reset-password/Zk3f9aXbT0qLw81mNcdE", "Zk3f9aXbT0qLw81mNcdE"),
    _secret("key", "-----BEGIN RSA PRIVATE KEY-----\nMIIEow\n-----END RSA PRIVATE KEY-----", "MIIEow"),
    _secret("key", "tls.key: LS0tLS1CRUdJTiBQUklWQVRF", "LS0tLS1CRUdJTi"),
    _secret("cookie", "Cookie: sid=qabc123z; theme=zdarkq", "qabc123z", "zdarkq"),
    _secret("cookie", "{'Set-Cookie': 'sid=qabc123z; HttpOnly'}", "qabc123z"),
    _secret("password", "password=hunter2 rejected", "hunter2"),
    _secret("password", '{"password": "hunter two\\" and zmoreq"}', "hunter", "zmoreq"),
    _secret("password", "'client_secret': 'hunter2'", "hunter2"),
    _secret("password", "API-Key: hunter2", "hunter2"),
    _secret("password", "EnvVar{Name:DB_PASSWORD,Value:hunter2,ValueFrom:nil,}", "hunter2"),
    _secret("password", '{"name":"API_TOKEN","value":"hunter2"}', "hunter2"),
    _secret("url", "postgres://nova:s3cr%40et@db:5432/shop", "s3cr%40et", "s3cr@et"),
    _secret("url", "redis://:p/ss?word@redis:6379/0", "ss?word"),
    _secret("url", "https://user@shop.internal/", "user@"),
    _secret("query", "GET /login?user=zannq&code=q4711z HTTP/1.1", "q4711z", "zannq"),
    _secret("query", "http://shop/items?q=zshoesq", "zshoesq"),
)
