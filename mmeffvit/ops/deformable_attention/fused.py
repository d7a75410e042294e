"""Weighted sums of rows of a table, computed again in the backward pass; see README.md."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from mmeffvit.ops.deformable_attention.reference import deformable_attention_reference, split_levels


def _corners(locations: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
    """The 2 x 2 pixels around every location of one level, and their bilinear shares.

    Args:
        locations: (..., 2) x, y in units of the level's size.
        height: Rows of the level.
        width: Columns of the level.

    Returns:
        Token and share, (..., 2, 2) each; both are 0 for pixels outside of the map.
    """
    column, of_column, in_columns = _neighbours(locations[..., 0], width)
    row, of_row, in_rows = _neighbours(locations[..., 1], height)
    inside = in_rows.unsqueeze(-1) & in_columns.unsqueeze(-2)
    # also of locations that are no number: an index must never leave the table
    token = torch.where(inside, row.unsqueeze(-1) * width + column.unsqueeze(-2), 0).int()
    return token, torch.where(inside, of_row.unsqueeze(-1) * of_column.unsqueeze(-2), 0)


def _neighbours(location: Tensor, length: int) -> tuple[Tensor, Tensor, Tensor]:
    """The two pixels beside a place on an axis, (..., 2) each: where, their shares, existence."""
    place = location * length - 0.5  # pixel centres lie at halves
    first = place.detach().floor()
    pixel = torch.stack((first, first + 1), -1)
    after = place - first
    return pixel, torch.stack((1 - after, after), -1), (pixel >= 0) & (pixel < length)


def _attend_level(
    value: Tensor, shape: tuple[int, int], locations: Tensor, weights: Tensor
) -> Tensor:
    """What one level adds to the output.

    Args:
        value: (B, H W, h, d).
        shape: H and W.
        locations: (B, Q, h, P, 2).
        weights: (B, Q, h, P).

    Returns:
        (B Q h, d).
    """
    batch, tokens, heads, dim = value.shape
    token, share = _corners(locations, *shape)
    image, head = (torch.arange(n, dtype=torch.int32, device=value.device) for n in (batch, heads))
    # row of the table (B H W h, d)
    row = (image.view(-1, 1, 1, 1, 1, 1) * tokens + token) * heads + head.view(-1, 1, 1, 1)
    return F.embedding_bag(
        row.flatten(3).flatten(0, 2),
        value.reshape(-1, dim),
        mode="sum",
        per_sample_weights=(weights[..., None, None] * share).flatten(3).flatten(0, 2),
    )


class _DeformableAttention(torch.autograd.Function):
    """Keeps its inputs alone: neither samples nor rows nor shares."""

    @staticmethod
    def forward(
        ctx, values: Tensor, locations: Tensor, weights: Tensor, shapes: Sequence[tuple[int, int]]
    ) -> Tensor:
        ctx.save_for_backward(values, locations, weights)
        ctx.shapes = shapes
        batch, queries, heads = weights.shape[:3]
        out = sum(
            _attend_level(value, shape, locations[:, :, :, level], weights[:, :, :, level])
            for level, (value, shape) in enumerate(zip(split_levels(values, shapes), shapes))
        )
        return out.view(batch, queries, heads, values.shape[-1])

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor):
        values, locations, weights = ctx.saved_tensors
        grads = [torch.empty_like(t) for t in (values, locations, weights)]
        grad = grad.flatten(0, 2)
        levels = zip(
            split_levels(values, ctx.shapes),
            locations.unbind(3),
            weights.unbind(3),
            split_levels(grads[0], ctx.shapes),
            grads[1].unbind(3),
            grads[2].unbind(3),
        )
        for shape, (value, location, weight, *targets) in zip(ctx.shapes, levels):
            inputs = [t.detach().requires_grad_() for t in (value, location, weight)]
            with torch.enable_grad():
                out = _attend_level(inputs[0], shape, *inputs[1:])
            for target, result in zip(targets, torch.autograd.grad(out, inputs, grad)):
                target.copy_(result)
        return *grads, None


def deformable_attention_fused(
    values: Tensor, shapes: Sequence[tuple[int, int]], locations: Tensor, weights: Tensor
) -> Tensor:
    """See :func:`mmeffvit.ops.deformable_attention`."""
    if torch.compiler.is_compiling():
        # what exporters know, and what the compiler may keep or compute again as it likes
        return deformable_attention_reference(values, shapes, locations, weights)
    return _DeformableAttention.apply(values, locations, weights, shapes)
