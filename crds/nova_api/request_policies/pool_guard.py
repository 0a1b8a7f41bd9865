"""What the sidecar does while a database pool of the app is full."""

from typing import Annotated

from msgspec import Meta

from nova_api import patterns
from nova_api.model import Model, Rule
from nova_api.policies import Mode
from nova_api.units import Duration


class PoolGuardPolicy(Model, frozen=True, kw_only=True):
    """Refuses requests while the app reports that a database pool is nearly full. The app reports with `nova_data`."""

    mode: Mode = "Off"
    """Off, Shadow (counts what it would refuse) or Enforce."""

    threshold: Annotated[float, Meta(gt=0, le=1)] = 0.85
    """Utilization of a pool above which requests are refused; 1.0 switches early rejection off, here and in guards of
    the app that have no threshold of their own."""

    lifetime: Duration = Duration(3)
    """How long a report counts. An app that has ended, or hangs, refuses nobody after it."""

    paths: Annotated[tuple[Annotated[str, Meta(pattern=patterns.PATH, max_length=256)], ...], Meta(max_length=64)] = ()
    """Paths or gRPC methods (/package.Service/Method) that need the database; one that ends in * stands for all that
    begin so. Empty: all."""

    rules = (
        Rule(
            cel="duration(self.lifetime) >= duration('2s') && duration(self.lifetime) <= duration('60s')",
            message="lifetime must be from 2s to 60s: an app without news reports once a second",
            holds=lambda s: 2 <= s.lifetime <= 60,
        ),
    )
