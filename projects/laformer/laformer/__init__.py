"""Restoration of images by linear attention, with its data and scores; for custom_imports."""

from projects.laformer.laformer.data import Photographs, degraded
from projects.laformer.laformer.metrics import RestorationScores, luma
from projects.laformer.laformer.model import ImageRestorer
from projects.laformer.laformer.network import LAformer, LAformerSR
from projects.laformer.laformer.unet import PlainUNet

__all__ = [
    "ImageRestorer",
    "LAformer",
    "LAformerSR",
    "Photographs",
    "PlainUNet",
    "RestorationScores",
    "degraded",
    "luma",
]
