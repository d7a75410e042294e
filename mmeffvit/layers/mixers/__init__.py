"""Token mixers: modules that own projections and call one operator of `mmeffvit.ops`."""

from mmeffvit.layers.mixers.base import LePEAttention, RotaryLePEAttention, TokenMixer
from mmeffvit.layers.mixers.masa import MaSAMixer
from mmeffvit.layers.mixers.rala import GatedSoftmaxMixer, RALAMixer
from mmeffvit.layers.mixers.s3a import S3AMixer
from mmeffvit.layers.mixers.sec import SECMixer

__all__ = [
    "GatedSoftmaxMixer",
    "LePEAttention",
    "MaSAMixer",
    "RALAMixer",
    "RotaryLePEAttention",
    "S3AMixer",
    "SECMixer",
    "TokenMixer",
]
