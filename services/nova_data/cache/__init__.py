"""Answers that are kept for a while, next to the code that needs them.

`ReadThrough` keeps what was loaded, in the process and optionally in Redis; `WriteBack` collects what was changed and
saves it together. How old an answer can be at most is always known. What is decided is decided in modules without a
clock, a loop or a connection: `freshness`, `memory`, `pending`.
"""
