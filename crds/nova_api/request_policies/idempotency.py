"""What the sidecar does with requests that carry an Idempotency-Key."""

from typing import Annotated, Literal

from msgspec import Meta

from nova_api import patterns
from nova_api.model import Model, Rule
from nova_api.policies import HeaderName, Mode
from nova_api.units import Duration

UnsafeMethod = Literal["POST", "PATCH", "PUT", "DELETE"]


class IdempotencyPolicy(Model, frozen=True, kw_only=True):
    """Lets a request that carries an Idempotency-Key take effect once: whoever repeats it gets the first answer. For
    HTTP/1.1 only. Pods share answers through redis; without one each knows its own."""

    mode: Mode = "Off"
    """Off, Shadow (counts what it would refuse or repeat) or Enforce."""

    methods: Annotated[tuple[UnsafeMethod, ...], Meta(min_length=1, max_length=4)] = ("POST", "PATCH")
    """Methods whose keys count; others pass as they are."""

    required_paths: Annotated[
        tuple[Annotated[str, Meta(pattern=patterns.PATH, max_length=256)], ...], Meta(max_length=64)
    ] = ()
    """Paths on which a request by one of the methods must have a key, else it is refused (400); one that ends in *
    stands for all that begin so. Case, encoding, doubled slashes, dots and parameters make no difference."""

    identity_headers: Annotated[tuple[HeaderName, ...], Meta(max_length=8)] = ("authorization", "cookie")
    """Headers that tell callers apart where no token was verified (jwt), or it has no subject, in lower case; what
    jwt.source names is always among them. A key counts among the requests of one caller; nobody gets another one's
    answer."""

    keep_for: Duration = Duration(24 * 3600)
    """How long the first answer is repeated."""

    max_request_bytes: Annotated[int, Meta(ge=0, le=1_048_576)] = 65_536
    """Bodies up to this size are compared with the first one's; of larger ones only the length is."""

    max_response_bytes: Annotated[int, Meta(ge=0, le=1_048_576)] = 65_536
    """Answers up to this size are kept. Of a larger one only that it was given is, and a repetition gets 409."""

    wait: Duration = Duration(10)
    """How long a repetition waits while the first request is under way, before it gets 409; 0s: not at all."""

    on_store_loss: Literal["Allow", "Refuse"] = "Allow"
    """What happens to requests with a key while the Redis is lost. Allow: each pod knows its own answers. Refuse: they
    get 503."""

    on_lost_answer: Literal["Repeat", "Refuse"] = "Repeat"
    """What a repetition gets where the app was asked and nothing came back. Repeat: the app is asked again, so it may
    act twice. Refuse: 409, so it never does, but may not have acted at all."""

    rules = (
        Rule(
            cel="duration(self.keepFor) >= duration('1m')",
            message="keepFor must be at least 1m: a repetition comes after the caller's own patience",
            holds=lambda s: s.keep_for >= 60,
        ),
    )
