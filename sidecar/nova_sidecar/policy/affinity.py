"""Session affinity: whose request is it, this pod's or a sibling's?

A client's first response sets a cookie that names the pod it came from; every later request belongs to that pod, and
a sidecar that gets another pod's request hands it over. Neither an ingress nor the Service knows anything of it.

    v1 "." pod "." session "." issued "." signature

* pod: a keyed hash of the pod's address. It tells nothing to whoever has no key, and each sidecar finds the address by
  looking it up among those of the pods there are now: what is not among them cannot be called, so that a cookie never
  leads out of the service, whatever has become of an address since.
* session: empty, or the name of a session whose pod stands in a store.
* issued: seconds since the epoch, hexadecimal. A cookie is valid for the policy's timeout from then on, and issued
  anew when half of that is over.

What can be said of a pod that is not among those there are:

* It was there before, or the cookie is older than `YOUNG`, or by as much ahead of this pod's clock, which tells nothing
  of its age: it is gone, and this pod takes the session over.
* The cookie is young and the pod was never seen: most likely it is too new for this sidecar's name server. The request
  is served here, since it must be, but the cookie stays as it is.
* This sidecar does not know its siblings at all yet: the same.

A request that was handed over is never handed over again, wherever its cookie points: two sidecars that see different
pods for a moment must not send it to and fro. That is all the mark is believed for, so nobody gains by forging it.
"""

import re
from enum import StrEnum
from typing import Final, NamedTuple

from nova_sidecar.policy.signing import Signer, derive, mac

MARK: Final = b"x-nova-handed-over"
"""Field of a request that a sibling has handed over; taken out before the app sees it."""
YOUNG: Final = 15.0
"""Seconds within which a pod may be in a cookie and not yet among those that the name server knows: a headless
Service's answer may be kept for the time to live of the cluster's DNS (5 s by default) at two places on the way."""
LONGEST: Final = 128
"""Bytes of a cookie that is looked at."""
MOST: Final = 4
"""Cookies of the name that are looked at in one request."""

_VERSION: Final = b"v1"
_POD_BYTES: Final = 12
_REMEMBERED: Final = 1024
_LONGEST_REMEMBERED: Final = 1024
"""Cookie fields that are remembered, so that a client's next request costs no hash; and bytes of the longest one."""
_MOST_ADDRESSES: Final = 8
"""Addresses at which this pod has been reached: one, or one of each family."""
_FORMER: Final = 1024
"""Pods that are gone and still known as such."""


class Result(StrEnum):
    """What became of a request; the value is what people see in metrics and log."""

    NEW = "new"  # no cookie: it gets one that names this pod
    LOCAL = "local"  # its cookie names this pod
    RECEIVED = "received"  # a sibling has handed it over
    HANDED_OVER = "handed_over"
    REISSUED = "reissued"  # its pod is gone: this one takes over
    FAILED = "failed"  # its pod could not be reached: this one takes over
    UNSURE = "unsure"  # its pod is not known here, and may be there all the same: served here, the cookie stays
    INVALID = "invalid"  # a cookie that no key of this service has signed
    EXPIRED = "expired"


class Cookie(NamedTuple):
    """What a valid cookie says."""

    pod: bytes
    session: bytes
    issued: int


class Decision(NamedTuple):
    """What to do with a request."""

    result: Result
    address: str = ""
    """Of the sibling it is for."""
    issue: bool = False
    """Whether the response carries a new cookie."""
    cookie: Cookie | None = None


NEW: Final = Decision(Result.NEW, issue=True)
LOCAL: Final = Decision(Result.LOCAL)
RECEIVED: Final = Decision(Result.RECEIVED)
UNSURE: Final = Decision(Result.UNSURE)
_INVALID: Final = Decision(Result.INVALID, issue=True)
_EXPIRED: Final = Decision(Result.EXPIRED, issue=True)


class CookieForm(NamedTuple):
    """How the cookie is written."""

    name: str
    timeout: float
    """Seconds for which it is valid."""
    attributes: str = "Path=/; HttpOnly; SameSite=Lax"


class Affinity:
    """The decisions of one sidecar. `purpose` names the service: cookies of another one mean nothing here.

    Until there are `secrets` every request is new and gets no cookie. Times are seconds since the epoch. A local hit
    whose cookie was seen before costs 0.3 µs, one that was not 3 µs.
    """

    __slots__ = (
        "_addresses", "_form", "_former", "_half", "_here", "_keys", "_own", "_pattern", "_pods", "_purpose",
        "_read_before", "_signer", "_timeout", "_tokens",
    )  # fmt: skip

    def __init__(self, form: CookieForm, purpose: str, before: "Affinity | None" = None) -> None:
        # until the next configuration
        self._form = form
        self._purpose = purpose
        self._timeout = form.timeout
        self._half = form.timeout / 2
        self._pattern = re.compile(rb"(?:^|[;,])[ \t]*%b=([^;, \t]*)" % re.escape(form.name.encode()))
        # until the keys change
        self._signer: Signer | None = None
        self._keys: list[bytes] = []
        self._read_before: dict[bytes, Cookie] = {}
        # until the pods change
        self._addresses: tuple[str, ...] | None = before._addresses if before else None
        self._here: list[str] = list(before._here) if before else []
        self._pods: dict[bytes, str] = {}
        self._own: dict[bytes, None] = {}
        self._former: dict[bytes, None] = {}
        self._tokens: dict[str, bytes] = {}

    # --- what it knows

    def rekey(self, secrets: tuple[bytes, ...]) -> None:
        """Take over secrets: the first one signs, each one verifies."""
        self._signer = Signer(secrets, f"affinity/cookie/{self._purpose}")
        self._keys = [derive(secret, f"affinity/pod/{self._purpose}") for secret in secrets]
        self._read_before = {}
        self._former = {}
        self._name_pods()

    def replace(self, addresses: tuple[str, ...]) -> None:
        """The pods there are now, by IP address; this one may be among them."""
        self._addresses = addresses
        before = self._pods
        self._name_pods()
        for token in before.keys() - self._pods.keys():
            self._former[token] = None
        while len(self._former) > _FORMER:
            del self._former[next(iter(self._former))]

    def here(self, address: str) -> None:
        """A client has reached this pod at this address. Called for each connection."""
        if address not in self._here and len(self._here) < _MOST_ADDRESSES:
            self._here.append(address)
            self._name_pods()

    def _name_pods(self) -> None:
        keys = self._keys
        self._tokens = {address: mac(keys[0], address.encode(), _POD_BYTES) for address in self._here if keys}
        self._own = {mac(key, address.encode(), _POD_BYTES): None for key in keys for address in self._here}
        self._pods = {
            mac(key, address.encode(), _POD_BYTES): address for key in keys for address in self._addresses or ()
        }

    @property
    def own(self) -> bytes | None:
        """By what name this pod goes into cookies: that of an address its siblings know, where it has one."""
        known = self._addresses or ()
        address = next((one for one in self._here if one in known), self._here[0] if self._here else "")
        return self._tokens.get(address)

    @property
    def siblings(self) -> int:
        """Other pods that are known."""
        return sum(address not in self._here for address in self._addresses or ())

    # --- deciding

    def decide(self, header: bytes | None, received: bool, now: float) -> Decision:
        """What to do with a request that has this Cookie field; `received` says that a sibling has handed it over."""
        cookie = self._read_before.get(header) if header is not None else None
        if cookie is None or now - cookie.issued > self._timeout:
            found = self.recall(header, received, now)
            if isinstance(found, Decision):
                return found
            cookie = found
        if cookie.pod in self._own and now - cookie.issued < self._half:
            return RECEIVED if received else LOCAL
        return self.route(cookie, cookie.pod, received, now)

    def recall(self, header: bytes | None, received: bool, now: float) -> Cookie | Decision:
        """The valid cookie in this field, or what to do without one."""
        decision = NEW
        if header is not None:
            cookie = self._read_before.get(header)
            if cookie is None:
                decision = self._read(header)
                cookie = decision.cookie
            if cookie is not None:
                if now - cookie.issued <= self._timeout:
                    return cookie
                decision = _EXPIRED
        return RECEIVED if received else decision

    def route(self, cookie: Cookie, pod: bytes, received: bool, now: float) -> Decision:
        """What to do with a request that belongs to `pod`, which a store may know better than its cookie."""
        age = now - cookie.issued
        if pod in self._own:
            result = Result.RECEIVED if received else Result.LOCAL
            return Decision(result, issue=age >= self._half or pod != cookie.pod, cookie=cookie)
        if received:
            return RECEIVED
        address = self._pods.get(pod)
        if address is not None:
            return Decision(Result.HANDED_OVER, address, cookie=cookie)
        if self._addresses is None or (abs(age) < YOUNG and pod not in self._former):
            return UNSURE
        return Decision(Result.REISSUED, issue=True, cookie=cookie)

    def gone(self, cookie: Cookie, pod: bytes, now: float) -> bool:
        """Whether a session's pod is gone for good, so that another one is to take it over."""
        return self.route(cookie, pod, False, now).result is Result.REISSUED

    def knows(self, address: str) -> bool:
        """Whether another pod of the service has this address."""
        return address not in self._here and address in (self._addresses or ())

    def lives(self, pod: bytes) -> bool:
        """Whether a pod of that name is known, this one included."""
        return pod in self._own or pod in self._pods

    def _read(self, header: bytes) -> Decision:
        """The cookie in a Cookie field that was not seen before."""
        if self._signer is None:
            return UNSURE
        found: list[bytes] = self._pattern.findall(header)
        for value in found[:MOST]:
            text = self._signer.verify(value) if len(value) <= LONGEST else None
            parts = text.split(b".") if text is not None else []
            if len(parts) == 4 and parts[0] == _VERSION:
                cookie = Cookie(parts[1], parts[2], int(parts[3], 16))
                self._remember(header, cookie)
                return Decision(Result.LOCAL, cookie=cookie)
        return _INVALID if found else NEW

    def _remember(self, header: bytes, cookie: Cookie) -> None:
        if len(header) <= _LONGEST_REMEMBERED:
            if len(self._read_before) >= _REMEMBERED:
                self._read_before.clear()
            self._read_before[header] = cookie

    # --- issuing

    def issue(self, session: bytes, now: float) -> bytes:
        """The line that sets a cookie naming this pod; nothing while no name or no secret is known."""
        pod, signer = self.own, self._signer
        if pod is None or signer is None:
            return b""
        value = signer.sign(b"%b.%b.%b.%x" % (_VERSION, pod, session, int(now)))
        form = self._form
        text = f"set-cookie: {form.name}={value.decode()}; Max-Age={int(form.timeout)}; {form.attributes}\r\n"
        return text.encode()

    def __repr__(self) -> str:
        known = "unknown" if self._addresses is None else len(self._addresses)
        return f"<Affinity pods={known} keys={len(self._keys)}>"


class Reach:
    """Whether a sibling can be reached: after a failure it is left alone for a while, then one request tries.

    A pod that fails takes its sessions with it; what matters is that requests do not wait for it one after the other.
    """

    __slots__ = ("_failures", "_until")

    FIRST: Final = 1.0
    LAST: Final = 30.0
    """Seconds it is left alone after the first failure, doubled with each further one, and at most."""

    def __init__(self) -> None:
        self._failures = 0
        self._until = 0.0

    def may_try(self, now: float) -> bool:
        """Whether a request may go there. After a failure only one at a time may."""
        if not self._failures:
            return True
        if now < self._until:
            return False
        self._until = now + self._pause()
        return True

    def failed(self, now: float) -> None:
        """It could not be reached."""
        self._failures += 1
        self._until = now + self._pause()

    def reached(self) -> None:
        """It has answered."""
        self._failures = 0

    def _pause(self) -> float:
        return min(self.FIRST * 2.0 ** min(self._failures - 1, 10), self.LAST)

    def __repr__(self) -> str:
        return f"<Reach failures={self._failures}>"
