"""The formulas of the dual-tree wavelet transform and of spectral gating, tap by tap."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from mmeffvit.ops.dual_tree_wavelet.filters import filters, reflected
from mmeffvit.ops.precision import autocast_disabled, in_full


def filtered(x: Tensor, taps: Tensor, axis: int) -> Tensor:
    """One axis of a map, filtered; beyond its ends stand its mirror images."""
    count = x.shape[axis]
    longer = x.index_select(axis, reflected(count, x.device))
    return sum(tap * longer.narrow(axis, i, count) for i, tap in enumerate(taps))


def dual_tree_wavelet_reference(x: Tensor) -> tuple[Tensor, Tensor]:
    """See :func:`mmeffvit.ops.dual_tree_wavelet.dual_tree_wavelet`."""
    with autocast_disabled(x.device.type):
        dtype, x = x.dtype, in_full(x)
        h0, h1 = filters(False, x.dtype, x.device)
        lo, hi = filtered(x, h0, 3), filtered(x, h1, 3)
        low, lh, hl, hh = (filtered(t, h, 2) for t in (lo, hi) for h in (h0, h1))
        first, second = zip(*(_to_complex(y) for y in (lh, hl, hh)))
        ordered = (first[0], first[2], first[1], second[1], second[2], second[0])
        return low.to(dtype), torch.stack(ordered, 2).to(dtype)


def inverse_dual_tree_wavelet_reference(low: Tensor, bands: Tensor) -> Tensor:
    """See :func:`mmeffvit.ops.dual_tree_wavelet.inverse_dual_tree_wavelet`."""
    with autocast_disabled(low.device.type):
        dtype, low, bands = low.dtype, in_full(low), in_full(bands)
        g0, g1 = filters(True, low.dtype, low.device)
        z = bands.unbind(2)
        lh, hl, hh = (_to_map(z[i], z[j]) for i, j in ((0, 5), (2, 3), (1, 4)))
        hi = filtered(hh, g1, 2) + filtered(hl, g0, 2)
        lo = filtered(lh, g1, 2) + filtered(low, g0, 2)
        return (filtered(hi, g1, 3) + filtered(lo, g0, 3)).to(dtype)


def _to_complex(y: Tensor) -> tuple[Tensor, Tensor]:
    """(B, C, H, W) to two complex maps (B, C, H/2, W/2, 2) of its four phases."""
    a, b, c, d = (y[..., i::2, j::2] / math.sqrt(2) for i in (0, 1) for j in (0, 1))
    return torch.stack((a - d, b + c), -1), torch.stack((a + d, b - c), -1)


def _to_map(first: Tensor, second: Tensor) -> Tensor:
    """The inverse of :func:`_to_complex`."""
    (r1, i1), (r2, i2) = first.unbind(-1), second.unbind(-1)
    rows = [torch.stack(pair, -1).flatten(-2) for pair in ((r1 + r2, i1 + i2), (i1 - i2, r2 - r1))]
    return torch.stack(rows, -2).flatten(-3, -2) / math.sqrt(2)


def spectral_gating_reference(
    x: Tensor, gate: Tensor, weight1: Tensor, bias1: Tensor, weight2: Tensor, bias2: Tensor
) -> Tensor:
    """See :func:`mmeffvit.ops.dual_tree_wavelet.spectral_gating`."""
    dtype = x.dtype
    with autocast_disabled(x.device.type):
        x, gate, weight1, bias1, weight2, bias2 = map(
            in_full, (x, gate, weight1, bias1, weight2, bias2)
        )
        low, bands = dual_tree_wavelet_reference(x)
        # (B, g, k, 6, H/2, W/2), complex
        z = torch.view_as_complex(bands.contiguous()).unflatten(1, weight1.shape[1:3])
        u = _complex_layer(z, weight1, bias1)
        u = torch.complex(u.real.relu(), u.imag.relu())
        z = torch.view_as_real(_complex_layer(u, weight2, bias2)).flatten(1, 2)
        return inverse_dual_tree_wavelet_reference(low * gate, z).to(dtype)


def _complex_layer(z: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    w, b = torch.complex(*weight), torch.complex(*bias)
    return torch.einsum("bgirxy,gio->bgorxy", z, w) + b[..., None, None, None]
