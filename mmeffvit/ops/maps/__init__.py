"""How maps lie in memory, and the norm over their channels; see README.md."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from mmeffvit.ops import dispatch

__all__ = ["layer_norm_2d", "map_layout"]


def _channels_last(x: Tensor) -> Tensor:
    return x.contiguous(memory_format=torch.channels_last)


def _layer_norm_of_views(x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
    x = F.layer_norm(x.permute(0, 2, 3, 1), weight.shape, weight, bias, eps)
    return x.permute(0, 3, 1, 2)


def _layer_norm_of_copies(x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
    x = F.layer_norm(x.permute(0, 2, 3, 1).contiguous(), weight.shape, weight, bias, eps)
    return x.permute(0, 3, 1, 2).contiguous()


dispatch.register("map_layout", "fused", _channels_last)
dispatch.register("map_layout", "reference", Tensor.contiguous)
dispatch.register("layer_norm_2d", "fused", _layer_norm_of_views)
dispatch.register("layer_norm_2d", "reference", _layer_norm_of_copies)


def map_layout(x: Tensor, *, implementation: str | None = None) -> Tensor:
    """A map in the memory layout that a network works in.

    Args:
        x: (B, C, H, W).
        implementation: ``'fused'``, channels last, or ``'reference'``, PyTorch's default; see
            `mmeffvit.ops.dispatch`.

    Returns:
        The same numbers, (B, C, H, W); a copy only if the layout differs.
    """
    return dispatch.run("map_layout", implementation, x)


def layer_norm_2d(
    x: Tensor, weight: Tensor, bias: Tensor, eps: float, *, implementation: str | None = None
) -> Tensor:
    """LayerNorm over the channels of every pixel.

    Args:
        x: (B, C, H, W).
        weight: (C,).
        bias: (C,).
        eps: Added to the variance.
        implementation: ``'fused'``, which copies nothing when the map is channels last, or
            ``'reference'``; see `mmeffvit.ops.dispatch`.

    Returns:
        (B, C, H, W); channels last if fused.
    """
    return dispatch.run("layer_norm_2d", implementation, x, weight, bias, eps)
