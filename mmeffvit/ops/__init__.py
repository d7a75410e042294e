"""Attention operators as pure functions on tensors: torch only, no modules, no configs.

Shapes are written in one alphabet: B batch, C channels, H W map, L tokens, h heads, d head
dimension, K clusters.
"""

from mmeffvit.ops.cell_attention import cell_attention
from mmeffvit.ops.deformable_attention import deformable_attention
from mmeffvit.ops.depthwise_conv import depthwise_conv2d
from mmeffvit.ops.dilated_summaries import dilated_summaries, summary_attention
from mmeffvit.ops.dispatch import UnavailableImplementationError, explain, implementations, select
from mmeffvit.ops.dual_tree_wavelet import (
    dual_tree_wavelet,
    inverse_dual_tree_wavelet,
    spectral_gating,
)
from mmeffvit.ops.group_attention import group_attention
from mmeffvit.ops.grouped_attention import cluster_sizes, grouped_attention
from mmeffvit.ops.manhattan_attention import ManhattanDecay, decay_rates, manhattan_attention
from mmeffvit.ops.map_window_attention import map_window_attention
from mmeffvit.ops.maps import layer_norm_2d, map_layout
from mmeffvit.ops.neighbourhood_attention import (
    neighbour_positions,
    neighbour_tokens,
    neighbourhood_attention,
)
from mmeffvit.ops.polyline_attention import polyline_attention
from mmeffvit.ops.rala import (
    linear_attention,
    rala_token_weights,
    rank_augmented_linear_attention,
    rotary_softmax_attention,
)
from mmeffvit.ops.region_attention import region_attention
from mmeffvit.ops.relative_attention import relative_attention
from mmeffvit.ops.rotary import (
    apply_rotary,
    rotary_table_1d,
    rotary_table_2d,
    rotary_table_of_positions,
)
from mmeffvit.ops.sec_attention import sec_attention, sec_cluster_ids
from mmeffvit.ops.sparse_scan import ScanStep, sparse_scan_attention, sparse_scan_steps
from mmeffvit.ops.strided_conv import strided_conv2d

__all__ = [
    "ManhattanDecay",
    "ScanStep",
    "UnavailableImplementationError",
    "apply_rotary",
    "cell_attention",
    "cluster_sizes",
    "decay_rates",
    "deformable_attention",
    "depthwise_conv2d",
    "dilated_summaries",
    "dual_tree_wavelet",
    "explain",
    "group_attention",
    "grouped_attention",
    "implementations",
    "inverse_dual_tree_wavelet",
    "layer_norm_2d",
    "linear_attention",
    "manhattan_attention",
    "map_layout",
    "map_window_attention",
    "neighbour_positions",
    "neighbour_tokens",
    "neighbourhood_attention",
    "polyline_attention",
    "rala_token_weights",
    "rank_augmented_linear_attention",
    "region_attention",
    "relative_attention",
    "rotary_softmax_attention",
    "rotary_table_1d",
    "rotary_table_2d",
    "rotary_table_of_positions",
    "sec_attention",
    "sec_cluster_ids",
    "select",
    "sparse_scan_attention",
    "sparse_scan_steps",
    "spectral_gating",
    "strided_conv2d",
    "summary_attention",
]
