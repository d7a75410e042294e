"""Sparse scan self-attention (SSViT, arXiv 2405.13335): two chained neighbourhood attentions."""

from mmeffvit.ops.sparse_scan.attention import ScanStep, sparse_scan_attention, sparse_scan_steps

__all__ = ["ScanStep", "sparse_scan_attention", "sparse_scan_steps"]
