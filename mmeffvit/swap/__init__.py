"""Rewrite a config of a toolbox: another backbone, by `swap_backbone`; your data, by `set_dataset`;
adapters, by `set_tuning`.

The second is in `mmeffvit.swap.dataset`.
"""

from mmeffvit.swap.api import RECIPES, SwapPlan, plan_swap, swap_backbone
from mmeffvit.swap.changes import format_changes
from mmeffvit.swap.dataset import DATASET_RECIPES, DatasetPlan, plan_dataset, set_dataset
from mmeffvit.swap.errors import SwapError
from mmeffvit.swap.tuning import set_tuning

__all__ = [
    "DATASET_RECIPES",
    "RECIPES",
    "DatasetPlan",
    "SwapError",
    "SwapPlan",
    "format_changes",
    "plan_dataset",
    "plan_swap",
    "set_dataset",
    "set_tuning",
    "swap_backbone",
]
