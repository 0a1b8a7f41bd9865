"""Reads go to replicas, writes to the primary, and who has written reads what it wrote.

`SplitDatabase` (`nova_data.split.database`) puts one primary and its replicas behind `read` and `write`. Which of them
serves a read is decided in modules without a clock or a connection: `position` (where in the write-ahead log), `lag`
(how far behind), `choice` (which one).
"""
