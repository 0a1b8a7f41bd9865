"""The errors a person at a terminal sees: one sentence that says what to do, and an exit code."""


class CommandError(Exception):
    """A command could not do what it was asked to. `str()` is shown as is, without a traceback."""

    exit_code = 1


class MissingRequirementError(CommandError):
    """This machine lacks something: nothing was tried, and the message says what is missing and what still works."""

    exit_code = 2
