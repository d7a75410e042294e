"""Token mixers: projections, a core that calls one operator of `mmeffvit.ops`, the way out."""

from mmeffvit.layers.mixers.base import QKVProjection, TokenMixer
from mmeffvit.layers.mixers.cross_scale import CrossScaleMixer, GroupAttention, PositionBias
from mmeffvit.layers.mixers.cross_shaped import CrossShapedAttention, CrossShapedMixer
from mmeffvit.layers.mixers.deformable import DeformableAttention, DeformableMixer
from mmeffvit.layers.mixers.factorization import FactorizationMixer
from mmeffvit.layers.mixers.fusion import FusionMixer
from mmeffvit.layers.mixers.gated_conv import GatedConvMixer
from mmeffvit.layers.mixers.group_latents import GroupLatentMixer
from mmeffvit.layers.mixers.grouped import GroupedAttention, GroupMixer
from mmeffvit.layers.mixers.local_conv import LocalConvMixer
from mmeffvit.layers.mixers.masa import ManhattanAttention, MaSAMixer
from mmeffvit.layers.mixers.msa_conv import MSAConvMixer
from mmeffvit.layers.mixers.neighbourhood import NeighbourhoodAttention, NeighbourhoodMixer
from mmeffvit.layers.mixers.polyline import PathSteps, PolylineAttention, PolylineMixer
from mmeffvit.layers.mixers.pooled import PooledAttention, PooledMixer
from mmeffvit.layers.mixers.rala import (
    GatedSoftmaxMixer,
    RALAMixer,
    RALAttention,
    RotarySoftmaxAttention,
)
from mmeffvit.layers.mixers.rela import LinearAttention, RELAMixer
from mmeffvit.layers.mixers.relative import (
    GaussianMixtureMixer,
    RelativeAttention,
    RelativeMixer,
    RelativePositions,
    URPEMixer,
)
from mmeffvit.layers.mixers.s3a import S3AMixer, SparseScanAttention
from mmeffvit.layers.mixers.scatter import ScatterMixer
from mmeffvit.layers.mixers.sec import SECAttention, SECMixer
from mmeffvit.layers.mixers.shared_lepe import SharedLePEMixer
from mmeffvit.layers.mixers.softmax import SoftmaxAttention, SoftmaxMixer

__all__ = [
    "CrossScaleMixer",
    "CrossShapedAttention",
    "CrossShapedMixer",
    "DeformableAttention",
    "DeformableMixer",
    "FactorizationMixer",
    "FusionMixer",
    "GatedConvMixer",
    "GatedSoftmaxMixer",
    "GaussianMixtureMixer",
    "GroupAttention",
    "GroupLatentMixer",
    "GroupMixer",
    "GroupedAttention",
    "LinearAttention",
    "LocalConvMixer",
    "MSAConvMixer",
    "MaSAMixer",
    "ManhattanAttention",
    "NeighbourhoodAttention",
    "NeighbourhoodMixer",
    "PathSteps",
    "PolylineAttention",
    "PolylineMixer",
    "PooledAttention",
    "PooledMixer",
    "PositionBias",
    "QKVProjection",
    "RALAMixer",
    "RALAttention",
    "RELAMixer",
    "RelativeAttention",
    "RelativeMixer",
    "RelativePositions",
    "RotarySoftmaxAttention",
    "S3AMixer",
    "SECAttention",
    "SECMixer",
    "ScatterMixer",
    "SharedLePEMixer",
    "SoftmaxAttention",
    "SoftmaxMixer",
    "SparseScanAttention",
    "TokenMixer",
    "URPEMixer",
]
