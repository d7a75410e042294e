"""What stops a swap."""

from mmeffvit.engine.errors import LaunchError


class SwapError(LaunchError, ValueError):
    """A config cannot take the backbone; the message says why, and what can be done."""
