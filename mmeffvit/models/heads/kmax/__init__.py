"""kMaX-DeepLab without any toolbox: network, losses, and what becomes of its predictions."""

from mmeffvit.models.heads.kmax.criterion import KMaXCriterion
from mmeffvit.models.heads.kmax.decoder import KMeansLayer, Prediction, Predictor
from mmeffvit.models.heads.kmax.keys import convert_head
from mmeffvit.models.heads.kmax.network import KMaX, KMaXOutput
from mmeffvit.models.heads.kmax.postprocess import PanopticRules, instances, panoptic, semantic
from mmeffvit.models.heads.kmax.targets import Segments, make_targets, match

__all__ = [
    "KMaX",
    "KMaXCriterion",
    "KMaXOutput",
    "KMeansLayer",
    "PanopticRules",
    "Prediction",
    "Predictor",
    "Segments",
    "convert_head",
    "instances",
    "make_targets",
    "match",
    "panoptic",
    "semantic",
]
