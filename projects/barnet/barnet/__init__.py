"""Forgery detection with bands of the cosine spectrum before RMT; imported by custom_imports."""

from projects.barnet.barnet.bands import BandAttentionModulation, dct2, idct2
from projects.barnet.barnet.metrics import BinaryAUC, equal_error_rate, roc_auc
from projects.barnet.barnet.network import BARNet

__all__ = [
    "BARNet",
    "BandAttentionModulation",
    "BinaryAUC",
    "dct2",
    "equal_error_rate",
    "idct2",
    "roc_auc",
]
