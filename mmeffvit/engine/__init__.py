"""What training and testing need beyond mmengine: hooks, metrics, safe checkpoints, launching."""

from mmeffvit.engine.hooks import (
    CheckInvalidLossHook,
    CompileBackboneHook,
    ReproducibleResumeHook,
    SafeCheckpointHook,
)
from mmeffvit.engine.optim import LayerDecayOptimWrapperConstructor
from mmeffvit.engine.panoptic_metric import PanopticMetric
from mmeffvit.engine.point_metrics import PointDetMetric, PointSegMetric

__all__ = [
    "CheckInvalidLossHook",
    "CompileBackboneHook",
    "LayerDecayOptimWrapperConstructor",
    "PanopticMetric",
    "PointDetMetric",
    "PointSegMetric",
    "ReproducibleResumeHook",
    "SafeCheckpointHook",
]
