"""Which kernels and dilations a map gets, and attention with them; derived in README.md."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from mmeffvit.ops.neighbourhood_attention import neighbourhood_attention
from mmeffvit.ops.shapes import check_qkv


class ScanStep(NamedTuple):
    """One neighbourhood attention: (rows, columns) of the kernel and of the dilation."""

    kernel: tuple[int, int]
    dilation: tuple[int, int]


def _odd_at_least(size: int) -> int:
    return size // 2 * 2 + 1


def _odd_at_most(size: int) -> int:
    return (size + 1) // 2 * 2 - 1


def _steps_of_axis(
    length: int, window: int, reverse: bool, max_kernel: int | None
) -> list[tuple[int, int]]:
    """Kernel and dilation of the local step and of the anchor step on one axis.

    Without a limit it has no branches, so that a traced length may be symbolic.
    """
    other = length // window
    local, grid = (other, window) if reverse else (window, other)
    limit = _odd_at_most(length if max_kernel is None else torch.sym_min(length, max_kernel))
    local_kernel = torch.sym_min(_odd_at_least(local), limit)
    anchors = torch.sym_min(_odd_at_least(grid), _odd_at_most(length))
    if max_kernel is not None and anchors > limit:
        # fewer anchors than published, as far apart as the axis allows
        return [(local_kernel, 1), (limit, length // max_kernel)]
    dilation = torch.sym_max(1, torch.sym_min(local, length // anchors))
    return [(local_kernel, 1), (anchors, dilation)]


def sparse_scan_steps(
    height: int,
    width: int,
    window: int,
    reverse: bool = False,
    *,
    max_kernel: int | None = None,
    per_axis: bool = False,
) -> list[ScanStep]:
    """The neighbourhood attentions that sparse scan attention chains on a map, in their order.

    >>> sparse_scan_steps(56, 56, window=7)
    [ScanStep(kernel=(7, 7), dilation=(1, 1)), ScanStep(kernel=(9, 9), dilation=(6, 6))]

    Arguments are those of :func:`sparse_scan_attention`. Steps with a kernel of 1 do nothing and
    are left out (but while tracing): a map of one pixel has none.

    Raises:
        ValueError: `window` is not positive, or `max_kernel` is not a positive odd number.
    """
    if window < 1:
        raise ValueError(f"the window of sparse scan attention must be at least 1, got {window}")
    if max_kernel is not None and (max_kernel < 1 or max_kernel % 2 == 0):
        raise ValueError(f"max_kernel must be a positive odd number or None, got {max_kernel}")
    lengths = (height, width) if per_axis else (torch.sym_min(height, width),) * 2
    rows, columns = (_steps_of_axis(n, window, reverse, max_kernel) for n in lengths)
    steps = [ScanStep(*zip(row, column)) for row, column in zip(rows, columns)]
    if torch.compiler.is_compiling():
        # whether a step does nothing may not be known yet
        return steps
    return [_without_idle_axes(step) for step in steps if max(step.kernel) > 1]


def _without_idle_axes(step: ScanStep) -> ScanStep:
    """A distance of 1 where the kernel has no second key at that distance."""
    pairs = zip(step.kernel, step.dilation)
    return step._replace(dilation=tuple(1 if keys == 1 else gap for keys, gap in pairs))


def sparse_scan_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    window: int,
    reverse: bool = False,
    *,
    max_kernel: int | None = None,
    per_axis: bool = False,
    scale: float | None = None,
    implementation: str | None = None,
) -> Tensor:
    """Attention to a sparse lattice of anchors whose values were aggregated locally before.

    First every token attends to a local window, then, with the same queries and keys and the
    result as values, to anchors spread over the map. The shorter side of the map, n, sets the
    sizes: local windows of `window` and ``n // window`` anchors per axis, or the reverse. Even
    sizes are raised to the next odd one; anchors stand one local window apart, less if they would
    not fit.

    Kernels never exceed the map (the published code fails where n < `window`): there they are the
    largest odd number that fits, and steps with a kernel of 1 are left out.

    Args:
        q: (B, H, W, h, d) queries, already rotated.
        k: (B, H, W, h, d) keys, already rotated, not scaled.
        v: (B, H, W, h, d) values.
        window: Window size W; 7 in the published networks.
        reverse: Swap the sizes of the local windows and of the lattice.
        max_kernel: If given, an odd limit for kernels; a capped lattice keeps spanning the shorter
            side with larger distances. Not from the paper: another function on large maps.
        per_axis: Derive kernels and dilations of each axis from its own length. Not from the paper.
        scale: Factor of the logits of both steps; ``d ** -0.5`` if None.
        implementation: Of `mmeffvit.ops.neighbourhood_attention`.

    Returns:
        (B, H, W, h, d).

    Raises:
        ValueError: As :func:`sparse_scan_steps` and `mmeffvit.ops.neighbourhood_attention`.
    """
    check_qkv("sparse_scan_attention", q, k, v, "(B, H, W, h, d)")
    steps = sparse_scan_steps(
        q.shape[1], q.shape[2], window, reverse, max_kernel=max_kernel, per_axis=per_axis
    )
    for kernel, dilation in steps:
        v = neighbourhood_attention(
            q, k, v, kernel, dilation, scale=scale, implementation=implementation
        )
    return v
