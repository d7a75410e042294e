"""Whole models as ONNX files: pixels in, boxes, masks, label maps or class scores out."""

from mmeffvit.deploy.agreement import Agreement, compare, made_up_images
from mmeffvit.deploy.errors import ExportError
from mmeffvit.deploy.export import Exported, export_model
from mmeffvit.deploy.likeness import Likeness, liken
from mmeffvit.deploy.pipeline import pipeline_steps
from mmeffvit.deploy.quantization import quantize

__all__ = [
    "Agreement",
    "ExportError",
    "Exported",
    "Likeness",
    "compare",
    "export_model",
    "liken",
    "made_up_images",
    "pipeline_steps",
    "quantize",
]
