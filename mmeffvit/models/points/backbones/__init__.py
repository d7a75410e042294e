"""Networks of points, and the convolutions on the maps that they make."""

from mmeffvit.models.points.backbones.base import BasePointBackbone
from mmeffvit.models.points.backbones.condaformer import ConDaFormer
from mmeffvit.models.points.backbones.flatformer import FlatFormer
from mmeffvit.models.points.backbones.second import SECOND

__all__ = ["SECOND", "BasePointBackbone", "ConDaFormer", "FlatFormer"]
