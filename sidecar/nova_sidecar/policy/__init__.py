"""Ring 1: what to do, decided without doing it.

Plain synchronous classes with ``__slots__``. No asyncio, no logging, no clock: ``now`` is an argument (monotonic
seconds, any origin), and chance is an injected `random.Random` or source of bytes, so that every behaviour is
tested without sleeping. The verbs are shared: ``admit(now)`` answers None (go on) or a `Reject`, ``record`` takes
what came of it, ``configure`` takes over a new policy and keeps the state, ``snapshot`` shows it.
"""
