"""What stops a run because of its inputs, not because of a defect; tools print a sentence."""


class LaunchError(RuntimeError):
    """A run cannot start as asked; the message says what was given, what is missing, what to do."""


class InvalidLossError(RuntimeError):
    """A loss became NaN or infinite during training."""
