"""Separable filters as depth-wise convolutions, and gating that keeps its input alone.

Maps inside are (B, H, W, C); see README.md.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from mmeffvit.ops.dual_tree_wavelet.filters import filters, reflected
from mmeffvit.ops.precision import autocast_disabled, in_full


def _channels_last(x: Tensor) -> Tensor:
    return x.permute(0, 2, 3, 1).contiguous()


def _extended(x: Tensor, axis: int) -> Tensor:
    return x.index_select(axis, reflected(x.shape[axis], x.device))


def _filtered(longer: Tensor, taps: Tensor, axis: int) -> Tensor:
    """An axis of a map that was extended, filtered; one convolution per filter is fastest."""
    kernel = taps.view(1, 1, *((-1, 1) if axis == 1 else (1, -1)))
    channels = longer.shape[3]
    out = F.conv2d(longer.permute(0, 3, 1, 2), kernel.expand(channels, -1, -1, -1), groups=channels)
    return out.permute(0, 2, 3, 1)


def _split(x: Tensor, taps: Tensor) -> list[Tensor]:
    """A map, low along both axes, and high along rows, along columns, and along both."""
    longer = _extended(x, 2)
    parts = []
    for tap in taps:
        half = _extended(_filtered(longer, tap, 2), 1)
        parts += [_filtered(half, tap, 1) for tap in taps]
    return parts


def _joined(parts: Sequence[Tensor], taps: Tensor) -> Tensor:
    """The adjoint of :func:`_split` with the same filters."""
    low, lh, hl, hh = (_extended(part, 1) for part in parts)
    lo = _filtered(low, taps[0], 1) + _filtered(lh, taps[1], 1)
    hi = _filtered(hl, taps[0], 1) + _filtered(hh, taps[1], 1)
    return _filtered(_extended(lo, 2), taps[0], 2) + _filtered(_extended(hi, 2), taps[1], 2)


def _to_complex(parts: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Three maps to real and imaginary parts of bands, (6, B, H/2, W/2, C); orthogonal."""
    y = torch.stack(tuple(parts)) * math.sqrt(0.5)
    phases = y.unflatten(3, (-1, 2)).unflatten(2, (-1, 2))
    a, b, c, d = (phases[:, :, :, i, :, j] for i in (0, 1) for j in (0, 1))
    return torch.cat((a - d, a + d)), torch.cat((b + c, b - c))


def _to_map(real: Tensor, imaginary: Tensor) -> Tensor:
    """The inverse of :func:`_to_complex`, which is its adjoint: (3, B, H, W, C)."""
    (r1, r2), (i1, i2) = (z.chunk(2) for z in (real, imaginary))
    top = torch.stack((r1 + r2, i1 + i2), 4)
    bottom = torch.stack((i1 - i2, r2 - r1), 4)
    return torch.stack((top, bottom), 3).flatten(4, 5).flatten(2, 3) * math.sqrt(0.5)


def _analysis(x: Tensor, taps: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    low, *parts = _split(x, taps)
    return low, *_to_complex(parts)


def _synthesis(low: Tensor, real: Tensor, imaginary: Tensor, taps: Tensor) -> Tensor:
    return _joined((low, *_to_map(real, imaginary)), taps)


class _Analysis(torch.autograd.Function):
    """Linear: nothing is kept, and the gradient is the synthesis with the same filters."""

    @staticmethod
    def forward(ctx, x: Tensor, synthesis: bool):
        ctx.synthesis = synthesis
        return _analysis(x, filters(synthesis, x.dtype, x.device))

    @staticmethod
    def backward(ctx, *grads: Tensor):
        return _Synthesis.apply(*grads, ctx.synthesis), None


class _Synthesis(torch.autograd.Function):
    @staticmethod
    def forward(ctx, low: Tensor, real: Tensor, imaginary: Tensor, synthesis: bool):
        ctx.synthesis = synthesis
        return _synthesis(low, real, imaginary, filters(synthesis, low.dtype, low.device))

    @staticmethod
    def backward(ctx, grad: Tensor):
        return *_Analysis.apply(grad, ctx.synthesis), None


#: entries of the six bands, ordered by what they are made of, in the public order, and back
_PUBLIC = [0, 2, 1, 4, 5, 3]
_OWN = [0, 2, 1, 5, 3, 4]


def dual_tree_wavelet_fused(x: Tensor) -> tuple[Tensor, Tensor]:
    """See :func:`mmeffvit.ops.dual_tree_wavelet.dual_tree_wavelet`."""
    with autocast_disabled(x.device.type):
        full = _channels_last(in_full(x))
        if torch.compiler.is_compiling():
            low, *z = _analysis(full, filters(False, full.dtype, full.device))
        else:
            low, *z = _Analysis.apply(full, False)
        bands = torch.stack(z, -1)[_PUBLIC].permute(1, 4, 0, 2, 3, 5)
        return low.permute(0, 3, 1, 2).to(x.dtype), bands.to(x.dtype)


def inverse_dual_tree_wavelet_fused(low: Tensor, bands: Tensor) -> Tensor:
    """See :func:`mmeffvit.ops.dual_tree_wavelet.inverse_dual_tree_wavelet`."""
    with autocast_disabled(low.device.type):
        z = in_full(bands)[:, :, _OWN].permute(2, 0, 3, 4, 1, 5).unbind(-1)
        full = _channels_last(in_full(low))
        if torch.compiler.is_compiling():
            out = _synthesis(full, *z, filters(True, full.dtype, full.device))
        else:
            out = _Synthesis.apply(full, *z, True)
        return out.permute(0, 3, 1, 2).to(low.dtype)


def _real_matrix(weight: Tensor) -> Tensor:
    """(2, g, k, k) complex weights as (g, 2k, 2k), from and to [real | imaginary] parts."""
    real, imaginary = weight
    return torch.cat((torch.cat((real, imaginary), 2), torch.cat((-imaginary, real), 2)), 1)


def _complex_matrix_gradient(grad: Tensor) -> Tensor:
    """The adjoint of :func:`_real_matrix`."""
    (rr, ri), (ir, ii) = (half.chunk(2, 2) for half in grad.chunk(2, 1))
    return torch.stack((rr + ii, ri - ir))


def _stacked(real: Tensor, imaginary: Tensor, groups: int) -> Tensor:
    """(6, B, H, W, C) twice to (g, 6 B H W, 2k)."""
    parts = [z.flatten(0, 3).unflatten(1, (groups, -1)) for z in (real, imaginary)]
    return torch.cat(parts, 2).transpose(0, 1)


def _parts(z: Tensor, shape: torch.Size) -> list[Tensor]:
    """The inverse of :func:`_stacked`."""
    return [part.transpose(0, 1).reshape(shape) for part in z.chunk(2, 2)]


def _layer(z: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return torch.baddbmm(torch.cat(tuple(bias), 1).unsqueeze(1), z, _real_matrix(weight))


def _gated(
    x: Tensor, gate: Tensor, weight1: Tensor, bias1: Tensor, weight2: Tensor, bias2: Tensor
) -> Tensor:
    """On (B, H, W, C) and a gate (H, W, C)."""
    low, real, imaginary = _analysis(x, filters(False, x.dtype, x.device))
    u = _layer(_stacked(real, imaginary, weight1.shape[1]), weight1, bias1).relu()
    z = _parts(_layer(u, weight2, bias2), real.shape)
    return _synthesis(low * gate, *z, filters(True, x.dtype, x.device))


def _prepared(x: Tensor, gate: Tensor, *weights: Tensor) -> tuple[Tensor, ...]:
    return _channels_last(in_full(x)), in_full(gate).permute(1, 2, 0), *map(in_full, weights)


class _SpectralGating(torch.autograd.Function):
    """Keeps x, the gate and the weights; what lies between is made again."""

    @staticmethod
    def forward(ctx, x: Tensor, gate: Tensor, *weights: Tensor):
        ctx.save_for_backward(x, gate, *weights)
        return _gated(*_prepared(x, gate, *weights)).permute(0, 3, 1, 2).to(x.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor):
        saved = ctx.saved_tensors
        with autocast_disabled(grad.device.type):
            x, gate, weight1, bias1, weight2, _ = _prepared(*saved)
            low, real, imaginary = _analysis(x, filters(False, x.dtype, x.device))
            z = _stacked(real, imaginary, weight1.shape[1])
            u = _layer(z, weight1, bias1).relu_()
            # the adjoint of the synthesis is the analysis with its filters
            grad = _channels_last(in_full(grad))
            grad_low, *grad_z = _analysis(grad, filters(True, x.dtype, x.device))
            grad_out = _stacked(*grad_z, weight1.shape[1])
            grad_u = grad_out @ _real_matrix(weight2).transpose(1, 2)
            grad_u.masked_fill_(u == 0, 0)
            grad_z = _parts(grad_u @ _real_matrix(weight1).transpose(1, 2), real.shape)
            grad_x = _synthesis(grad_low * gate, *grad_z, filters(False, x.dtype, x.device))
            grads = (
                grad_x.permute(0, 3, 1, 2),
                (grad_low * low).sum(0).permute(2, 0, 1),
                *_layer_gradients(z, grad_u),
                *_layer_gradients(u, grad_out),
            )
            return tuple(g.to(t.dtype) for g, t in zip(grads, saved))


def _layer_gradients(z: Tensor, grad: Tensor) -> tuple[Tensor, Tensor]:
    """Gradients of a complex layer's weight and bias, of what it was given and its result's."""
    weight = _complex_matrix_gradient(z.transpose(1, 2) @ grad)
    return weight, torch.stack(grad.sum(1).chunk(2, 1))


def spectral_gating_fused(
    x: Tensor, gate: Tensor, weight1: Tensor, bias1: Tensor, weight2: Tensor, bias2: Tensor
) -> Tensor:
    """See :func:`mmeffvit.ops.dual_tree_wavelet.spectral_gating`."""
    arguments = (x, gate, weight1, bias1, weight2, bias2)
    with autocast_disabled(x.device.type):
        if torch.compiler.is_compiling():
            return _gated(*_prepared(*arguments)).permute(0, 3, 1, 2).to(x.dtype)
        return _SpectralGating.apply(*arguments)
