"""Attention operators as pure functions on tensors: torch only, no modules, no configs.

Shapes are written in one alphabet: B batch, C channels, H W map, L tokens, h heads, d head
dimension, K clusters.
"""

from mmeffvit.ops.dispatch import UnavailableImplementationError, explain, implementations, select
from mmeffvit.ops.rotary import apply_rotary, rotary_table_2d
from mmeffvit.ops.sec_attention import cluster_sizes, sec_attention, sec_cluster_ids

__all__ = [
    "UnavailableImplementationError",
    "apply_rotary",
    "cluster_sizes",
    "explain",
    "implementations",
    "rotary_table_2d",
    "sec_attention",
    "sec_cluster_ids",
    "select",
]
