"""Which models have a form for export, by the class of their toolbox that they derive from."""

from __future__ import annotations

import importlib
from typing import NamedTuple

from torch import nn

from mmeffvit.deploy.errors import ExportError


class Kind(NamedTuple):
    """A form, and what it stands for.

    Attributes:
        form: Module and class, imported when it is needed.
        finds: What comes out: ``'boxes'``, ``'label map'`` or ``'classes'``.
        such_as: For people.
    """

    form: str
    finds: str
    such_as: str


#: class of a toolbox (or ours) -> its form
KINDS = {
    "Classifier": Kind("classifiers.ClassScores", "classes", "classifiers of this package"),
    "ImageClassifier": Kind("classifiers.ClassScores", "classes", "mmpretrain's ImageClassifier"),
    "EncoderDecoder": Kind(
        "segmentors.LabelMap",
        "label map",
        "mmseg's EncoderDecoder (Semantic FPN, UPerNet ...)",
    ),
    "SingleStageDetector": Kind(
        "one_stage.OneStage", "boxes", "mmdet's one-stage detectors (RetinaNet, FCOS, ATSS ...)"
    ),
    "TwoStageDetector": Kind(
        "two_stage.TwoStage", "boxes", "mmdet's Faster, Mask and Cascade R-CNN"
    ),
    "DetectionTransformer": Kind("queries.Queries", "boxes", "mmdet's Deformable DETR and DINO"),
    "MaskFormer": Kind("masks.Instances", "boxes", "instances of mmdet's Mask2Former"),
}


def find_form(model: nn.Module) -> tuple[Kind, nn.Module]:
    """The form of a model for export, which shares its modules.

    Args:
        model: Of mmdet, mmseg, mmpretrain, or a classifier of ours.

    Raises:
        ExportError: There is none; the message says why, and what is served.
    """
    for ancestor in type(model).__mro__:
        if ancestor.__name__ not in KINDS:
            continue
        method = getattr(ancestor, "predict", None)
        if getattr(type(model), "predict", None) is not method:
            raise ExportError(
                f"{type(model).__name__} predicts in its own way, not as {ancestor.__name__}; "
                f"{_served()}"
            )
        kind = KINDS[ancestor.__name__]
        module, name = kind.form.split(".")
        form = getattr(importlib.import_module(f"mmeffvit.deploy.{module}"), name)
        return kind, form(model)
    raise ExportError(f"{type(model).__name__} has no form for export; {_served()}")


def _served() -> str:
    return "served are " + "; ".join(dict.fromkeys(kind.such_as for kind in KINDS.values()))
