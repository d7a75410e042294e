"""Hooks for mmengine's Runner."""

from mmeffvit.engine.hooks.checkpoint import SafeCheckpointHook
from mmeffvit.engine.hooks.compile_backbone import CompileBackboneHook
from mmeffvit.engine.hooks.invalid_loss import CheckInvalidLossHook
from mmeffvit.engine.hooks.merge_adapters import MergeAdaptersHook
from mmeffvit.engine.hooks.reproducible_resume import ReproducibleResumeHook

__all__ = [
    "CheckInvalidLossHook",
    "CompileBackboneHook",
    "MergeAdaptersHook",
    "ReproducibleResumeHook",
    "SafeCheckpointHook",
]
