"""Checkpoints: safe reading, official weights to ours, and loading with a report."""

from mmeffvit.checkpoint.by_name import fetch
from mmeffvit.checkpoint.convert import Conversion, convert_official
from mmeffvit.checkpoint.download import FetchError
from mmeffvit.checkpoint.files import CheckpointError, read_checkpoint, write_checkpoint
from mmeffvit.checkpoint.load import LoadReport, load_weights, resized_weight
from mmeffvit.checkpoint.start import PretrainedInit, start_from
from mmeffvit.checkpoint.whole import WholeConversion, convert_whole

__all__ = [
    "CheckpointError",
    "Conversion",
    "FetchError",
    "LoadReport",
    "PretrainedInit",
    "WholeConversion",
    "convert_official",
    "convert_whole",
    "fetch",
    "load_weights",
    "read_checkpoint",
    "resized_weight",
    "start_from",
    "write_checkpoint",
]
