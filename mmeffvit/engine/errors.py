"""What stops a run because of its inputs, not because of a defect; tools print it as one sentence."""


class LaunchError(RuntimeError):
    """A run cannot start as asked; the message says what was given, what is missing, what to do."""

    exit_status = 2


class CheckpointError(LaunchError):
    """A checkpoint is truncated, corrupt, unsafe to load, or not of this model."""


class InvalidLossError(RuntimeError):
    """A loss became NaN or infinite during training."""

    exit_status = 1
