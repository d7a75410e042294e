"""Whole models as ONNX files: pixels in, boxes, masks, label maps or class scores out."""

from mmeffvit.deploy.agreement import Agreement, compare, made_up_images
from mmeffvit.deploy.errors import ExportError
from mmeffvit.deploy.export import Exported, export_model
from mmeffvit.deploy.pipeline import pipeline_steps

__all__ = [
    "Agreement",
    "ExportError",
    "Exported",
    "compare",
    "export_model",
    "made_up_images",
    "pipeline_steps",
]
