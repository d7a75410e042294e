"""Tuning few parameters of a backbone: LoRA, AdaptFormer's adapters, or none of them."""

from mmeffvit.models.tuning.backbone import tuned_backbone
from mmeffvit.models.tuning.weights import (
    adapted_layers,
    merged_state_dict,
    tuned_names,
    without_adapters,
)

__all__ = [
    "adapted_layers",
    "merged_state_dict",
    "tuned_backbone",
    "tuned_names",
    "without_adapters",
]
