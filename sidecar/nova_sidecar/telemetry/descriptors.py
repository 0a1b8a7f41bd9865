"""Standard descriptors that the process was started without.

A shell's ``>&-``, some supervisors and cron jobs start a process with descriptor 1 closed. The next socket it opens
would get that number, and log lines would go to whoever is at its other end: a client, or an upstream.
"""

import os
import sys


def fill_standard_descriptors() -> None:
    """Put the null device where standard input, output or error is missing. To be called before anything is opened."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            null = os.open(os.devnull, os.O_RDWR)
            if null != number:
                os.dup2(null, number)
                os.close(null)
        if getattr(sys, name) is None:
            stream = open(number, "r" if number == 0 else "w", encoding="utf-8", closefd=False)  # noqa: SIM115 - for good
            setattr(sys, name, stream)
