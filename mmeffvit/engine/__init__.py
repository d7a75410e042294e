"""What training and testing need beyond mmengine: hooks, safe checkpoints, launching."""

from mmeffvit.engine.hooks import (
    CheckInvalidLossHook,
    ReproducibleResumeHook,
    SafeCheckpointHook,
)
from mmeffvit.engine.optim import LayerDecayOptimWrapperConstructor

__all__ = [
    "CheckInvalidLossHook",
    "LayerDecayOptimWrapperConstructor",
    "ReproducibleResumeHook",
    "SafeCheckpointHook",
]
