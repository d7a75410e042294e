"""Checkpoints: safe reading, official weights to ours, and loading with a report."""

from mmeffvit.checkpoint.convert import Conversion, convert_official
from mmeffvit.checkpoint.files import CheckpointError, read_checkpoint, write_checkpoint
from mmeffvit.checkpoint.load import LoadReport, PretrainedInit, load_weights

__all__ = [
    "CheckpointError",
    "Conversion",
    "LoadReport",
    "PretrainedInit",
    "convert_official",
    "load_weights",
    "read_checkpoint",
    "write_checkpoint",
]
