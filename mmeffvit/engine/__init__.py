"""What training and testing need beyond mmengine: hooks, safe checkpoints, launching."""

from mmeffvit.engine.hooks import (
    CheckInvalidLossHook,
    ReproducibleResumeHook,
    SafeCheckpointHook,
)

__all__ = ["CheckInvalidLossHook", "ReproducibleResumeHook", "SafeCheckpointHook"]
