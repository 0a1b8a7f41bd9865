"""What the data tools do on one core, beside what the bare libraries do in the same run.

Each module of the package has `measured()`, which returns figures by name; `ROWS` in `__main__` lists them.
"""
