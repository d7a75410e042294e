"""Heads that the toolboxes lack."""

import warnings

from mmeffvit.models.heads.classifiers import (
    BatchNormClassifier,
    BranchClassifier,
    ConvClassifier,
    LinearClassifier,
    NormClassifier,
    PooledNormClassifier,
)

__all__ = [
    "BatchNormClassifier",
    "BranchClassifier",
    "ConvClassifier",
    "LinearClassifier",
    "NormClassifier",
    "PooledNormClassifier",
]


def __getattr__(name: str):
    if name == "ConvClsHead":
        warnings.warn(
            "mmeffvit.models.heads.ConvClsHead is called ConvClassifier now; the name is left to "
            "mmpretrain's head",
            DeprecationWarning,
            stacklevel=2,
        )
        return ConvClassifier
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
