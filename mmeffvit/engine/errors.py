"""What goes wrong because of what was asked for, not because of a defect."""


class LaunchError(RuntimeError):
    """A run cannot start as asked; the message says what was given, what is missing and what to do.

    Tools print the message without a traceback and leave with status 2.
    """
