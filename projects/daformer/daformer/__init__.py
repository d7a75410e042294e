"""Adaptation of a segmentor to images without labels, with its data; for custom_imports."""

from projects.daformer.daformer.feature_distance import (
    downscaled_labels,
    feature_distance,
    thing_cells,
)
from projects.daformer.daformer.model import DAFormer, DomainPreprocessor
from projects.daformer.daformer.rare_classes import (
    DomainPairs,
    RareClassSampling,
    class_probabilities,
    count_pixels,
    kept_counts,
)
from projects.daformer.daformer.scenes import DomainDigitsDataset, ensure_domain
from projects.daformer.daformer.self_training import (
    Augmentation,
    blur_size,
    choose_classes,
    class_mask,
    pseudo_labels,
)

__all__ = [
    "Augmentation",
    "DAFormer",
    "DomainDigitsDataset",
    "DomainPairs",
    "DomainPreprocessor",
    "RareClassSampling",
    "blur_size",
    "choose_classes",
    "class_mask",
    "class_probabilities",
    "count_pixels",
    "downscaled_labels",
    "ensure_domain",
    "feature_distance",
    "kept_counts",
    "pseudo_labels",
    "thing_cells",
]
