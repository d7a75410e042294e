"""One level of the dual-tree complex wavelet transform, and gating of what it makes."""

from __future__ import annotations

import torch
from torch import Tensor

from mmeffvit.ops import dispatch
from mmeffvit.ops.dual_tree_wavelet.fused import (
    dual_tree_wavelet_fused,
    inverse_dual_tree_wavelet_fused,
    spectral_gating_fused,
)
from mmeffvit.ops.dual_tree_wavelet.reference import (
    dual_tree_wavelet_reference,
    inverse_dual_tree_wavelet_reference,
    spectral_gating_reference,
)

__all__ = ["dual_tree_wavelet", "inverse_dual_tree_wavelet", "spectral_gating"]

for _name, _fused, _reference in (
    ("dual_tree_wavelet", dual_tree_wavelet_fused, dual_tree_wavelet_reference),
    (
        "inverse_dual_tree_wavelet",
        inverse_dual_tree_wavelet_fused,
        inverse_dual_tree_wavelet_reference,
    ),
    ("spectral_gating", spectral_gating_fused, spectral_gating_reference),
):
    dispatch.register(_name, "fused", _fused)
    dispatch.register(_name, "reference", _reference)


def dual_tree_wavelet(x: Tensor, *, implementation: str | None = None) -> tuple[Tensor, Tensor]:
    """A low-pass map and six complex maps of half its size, one for each direction of edges.

    One level of the dual-tree complex wavelet transform with the near-symmetric biorthogonal
    filters of 13 and 19 taps; in float32 at least.

    Args:
        x: (B, C, H, W), H and W even; beyond its edges stand its mirror images.
        implementation: ``'fused'`` or ``'reference'``; see `mmeffvit.ops.dispatch`.

    Returns:
        The low-pass map (B, C, H, W), and bands (B, C, 6, H/2, W/2, 2), real and imaginary parts.

    Raises:
        ValueError: A side is odd.
    """
    _check(x)
    return dispatch.run("dual_tree_wavelet", implementation, x)


def inverse_dual_tree_wavelet(
    low: Tensor, bands: Tensor, *, implementation: str | None = None
) -> Tensor:
    """The inverse of :func:`dual_tree_wavelet`.

    Args:
        low: (B, C, H, W).
        bands: (B, C, 6, H/2, W/2, 2).
        implementation: ``'fused'`` or ``'reference'``; see `mmeffvit.ops.dispatch`.

    Returns:
        (B, C, H, W).

    Raises:
        ValueError: A side is odd, or the shapes do not fit each other.
    """
    _check(low)
    batch, channels, height, width = low.shape
    if tuple(bands.shape) != (batch, channels, 6, height // 2, width // 2, 2):
        raise ValueError(
            "inverse_dual_tree_wavelet needs bands (B, C, 6, H/2, W/2, 2) for a low-pass map "
            f"(B, C, H, W) = {tuple(low.shape)}, got {tuple(bands.shape)}"
        )
    return dispatch.run("inverse_dual_tree_wavelet", implementation, low, bands)


def spectral_gating(
    x: Tensor,
    gate: Tensor,
    weight1: Tensor,
    bias1: Tensor,
    weight2: Tensor,
    bias2: Tensor,
    *,
    implementation: str | None = None,
) -> Tensor:
    """A map, changed between the wavelet transform and its inverse (SVT, arXiv 2311.01310, 3).

    The low-pass map is multiplied by a gate; in the bands, g groups of k channels go through two
    complex linear layers, shared by all places and directions, with a ReLU of real and imaginary
    parts between. In float32 at least.

    Args:
        x: (B, C, H, W), H and W even.
        gate: (C, H, W).
        weight1: (2, g, k, k) real and imaginary parts of the first layer, g k = C; inputs are the
            third axis.
        bias1: (2, g, k).
        weight2: (2, g, k, k) of the second layer.
        bias2: (2, g, k).
        implementation: ``'fused'``, which has first derivatives and keeps `x` alone for them, or
            ``'reference'``; see `mmeffvit.ops.dispatch`.

    Returns:
        (B, C, H, W).

    Raises:
        ValueError: A side is odd, or the shapes do not fit each other.
    """
    _check(x)
    if tuple(gate.shape) != tuple(x.shape[1:]) or x.shape[1] != weight1[0, :, 0].numel():
        raise ValueError(
            "spectral_gating needs a gate (C, H, W), and weights of g groups of k channels with "
            f"g k = C, for a map (B, C, H, W) = {tuple(x.shape)}; got {tuple(gate.shape)} and "
            f"{tuple(weight1.shape)}"
        )
    return dispatch.run("spectral_gating", implementation, x, gate, weight1, bias1, weight2, bias2)


def _check(x: Tensor) -> None:
    # a symbol's remainder would be a condition on the graph
    if torch.compiler.is_compiling():
        return
    if x.shape[2] % 2 or x.shape[3] % 2:
        raise ValueError(
            "the wavelet transform needs maps with an even number of rows and columns, got "
            f"{tuple(x.shape[2:])}; repeat the last row or column, and cut it off afterwards"
        )
