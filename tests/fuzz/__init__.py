"""Slightly broken messages against everything that reads bytes of others.

Charter: one module per target, one driver for all. A target makes a case from a seed (a valid message with a few
accidents) and says what must hold for any bytes whatever: only the declared kinds of errors; the same reading however
the bytes are cut; the same reading with and without what was remembered; what was taken, another implementation takes
too and reads alike; what goes on is read as it was; what is kept is bounded. A case is bytes, so it can be shrunk,
printed, and kept as a test beside the code that it broke.

`make test` runs each target for a few seconds, ``python -m tests.fuzz TARGET --seconds 600`` for as long as one likes.
"""
