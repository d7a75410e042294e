"""Rewrite a config of mmdet or mmseg so that it uses one of our backbones."""

from mmeffvit.swap.api import RECIPES, SwapPlan, plan_swap, swap_backbone
from mmeffvit.swap.changes import format_changes
from mmeffvit.swap.errors import SwapError

__all__ = ["RECIPES", "SwapError", "SwapPlan", "format_changes", "plan_swap", "swap_backbone"]
