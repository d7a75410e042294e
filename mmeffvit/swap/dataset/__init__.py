"""Rewrite a config of mmdet, mmseg or mmpretrain so that it trains on another data set."""

from mmeffvit.swap.dataset.api import DATASET_RECIPES, DatasetPlan, plan_dataset, set_dataset

__all__ = ["DATASET_RECIPES", "DatasetPlan", "plan_dataset", "set_dataset"]
