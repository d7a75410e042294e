"""Pooling of regions of interest: ``roi_align_*`` and ``roi_pool_*`` of ``mmcv._ext``.

Regions are (R, 5): index of the image in the batch, x1, y1, x2, y2 in units of the input image.
Results are written into the tensors that the caller allocated.
"""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
import torchvision  # noqa: F401  (registers torch.ops.torchvision)
from torch import Tensor

from mmeffvit.compat.mmcv_ops.dtypes import compute_dtype

_MAX = 0  # pool_mode; 1 is the average
_CHUNK = 2**24  # most elements of a temporary tensor


def roi_align_forward(
    input: Tensor,
    rois: Tensor,
    output: Tensor,
    argmax_y: Tensor,
    argmax_x: Tensor,
    aligned_height: int,
    aligned_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    pool_mode: int,
    aligned: bool,
) -> None:
    """Average or maximum of bilinear samples in each bin of each region.

    He et al., Mask R-CNN, arXiv:1703.06870, section 3.

    Args:
        input: Features, (B, C, H, W).
        rois: (R, 5).
        output: (R, C, aligned_height, aligned_width).
        argmax_y: As ``output`` in maximum mode, else empty: row of the winning sample in its bin.
        argmax_x: Likewise, its column. Counts, unlike coordinates, are exact in half precision.
        aligned_height: Bins per column.
        aligned_width: Bins per row.
        spatial_scale: Size of the features divided by that of the image.
        sampling_ratio: Samples per side of a bin; 0 takes about one per feature cell.
        pool_mode: 0 for the maximum, 1 for the average.
        aligned: Shift by half a cell, so that samples and cell centres use one coordinate system.
    """
    dtype = compute_dtype(input, rois)
    features, rois = input.to(dtype), rois.to(dtype)
    size = (aligned_height, aligned_width)
    if pool_mode != _MAX:
        output.copy_(
            torch.ops.torchvision.roi_align(
                features, rois, spatial_scale, *size, sampling_ratio, aligned
            )
        )
        return
    for group, grid in _sampling_groups(rois, size, spatial_scale, sampling_ratio, aligned):
        grid_h, grid_w = grid
        fine = (aligned_height * grid_h, aligned_width * grid_w)
        for part in _chunks(group, input.size(1) * fine[0] * fine[1]):
            # One sample in each of grid_h x grid_w sub-bins: exactly the samples of the bin.
            samples = torch.ops.torchvision.roi_align(
                features, rois[part], spatial_scale, *fine, 1, aligned
            )
            best, where = F.max_pool2d(samples, grid, return_indices=True)
            output[part] = best.to(output.dtype)
            argmax_y[part] = (where // fine[1] % grid_h).to(argmax_y.dtype)
            argmax_x[part] = (where % fine[1] % grid_w).to(argmax_x.dtype)


def roi_align_backward(
    grad_output: Tensor,
    rois: Tensor,
    argmax_y: Tensor,
    argmax_x: Tensor,
    grad_input: Tensor,
    aligned_height: int,
    aligned_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    pool_mode: int,
    aligned: bool,
) -> None:
    """Gradient of :func:`roi_align_forward` for ``input``, written into ``grad_input``."""
    dtype = compute_dtype(grad_output, rois)
    grad, rois = grad_output.to(dtype), rois.to(dtype)
    shape, size = tuple(grad_input.shape), (aligned_height, aligned_width)
    if pool_mode != _MAX:
        grad_input.copy_(
            torch.ops.torchvision._roi_align_backward(
                grad, rois, spatial_scale, *size, *shape, sampling_ratio, aligned
            )
        )
        return
    total = grad_input.new_zeros(shape, dtype=dtype)
    bin_y = torch.arange(aligned_height, device=grad.device)[:, None]
    bin_x = torch.arange(aligned_width, device=grad.device)
    for group, (grid_h, grid_w) in _sampling_groups(
        rois, size, spatial_scale, sampling_ratio, aligned
    ):
        fine = (aligned_height * grid_h, aligned_width * grid_w)
        for part in _chunks(group, shape[1] * fine[0] * fine[1]):
            row = bin_y * grid_h + argmax_y[part].long()
            column = bin_x * grid_w + argmax_x[part].long()
            samples = grad.new_zeros(len(part), shape[1], fine[0] * fine[1])
            samples.scatter_(2, (row * fine[1] + column).flatten(2), grad[part].flatten(2))
            total += torch.ops.torchvision._roi_align_backward(
                samples.unflatten(2, fine), rois[part], spatial_scale, *fine, *shape, 1, aligned
            )
    grad_input.copy_(total)


def _sampling_groups(
    rois: Tensor, size: tuple[int, int], scale: float, sampling_ratio: int, aligned: bool
) -> Iterator[tuple[Tensor, tuple[int, int]]]:
    """Regions that take the same number of samples per bin: their indices and (rows, columns)."""
    if sampling_ratio > 0:
        yield torch.arange(len(rois), device=rois.device), (sampling_ratio, sampling_ratio)
        return
    # In torchvision's order of operations: rounding must not change how many samples there are.
    corners = rois[:, 1:] * scale - (0.5 if aligned else 0.0)
    extent = corners[:, [3, 2]] - corners[:, [1, 0]]  # height, width
    grids = torch.ceil(extent / extent.new_tensor(size)).long()
    # mmcv takes no sample from a region of no extent and answers -10000; here it is its one point.
    yield from _groups(grids.clamp(min=1))


def _groups(keys: Tensor) -> Iterator[tuple[Tensor, tuple[int, ...]]]:
    """Indices of the equal rows of ``keys``, and that row."""
    kinds, which = keys.unique(dim=0, return_inverse=True)
    for number, key in enumerate(kinds.tolist()):
        yield (which == number).nonzero().squeeze(1), tuple(key)


def _chunks(indices: Tensor, elements: int) -> Iterator[Tensor]:
    """``indices`` in parts whose temporary tensors of ``elements`` per index stay bounded."""
    return iter(indices.split(max(1, _CHUNK // max(1, elements))) if len(indices) else ())


def roi_pool_forward(
    input: Tensor,
    rois: Tensor,
    output: Tensor,
    argmax: Tensor,
    pooled_height: int,
    pooled_width: int,
    spatial_scale: float,
) -> None:
    """Maximum of the cells that each bin of each region touches.

    Girshick, Fast R-CNN, arXiv:1504.08083, section 2.1, in mmcv's reading: regions include their
    last pixel and are not rounded to cells, which torchvision's ``roi_pool`` does.

    Args:
        input: Features, (B, C, H, W).
        rois: (R, 5).
        output: (R, C, pooled_height, pooled_width); 0 where a bin touches no cell.
        argmax: As ``output``, int32: winning cell, row * W + column, or -1.
        pooled_height: Bins per column.
        pooled_width: Bins per row.
        spatial_scale: Size of the features divided by that of the image.
    """
    if not (len(rois) and input.size(1)):
        return
    dtype = compute_dtype(input, rois)
    rois = rois.to(dtype)
    height, width = input.shape[2:]
    cells = input.to(dtype).permute(0, 2, 3, 1).reshape(-1, input.size(1))  # (B H W, C)
    top, bottom = _bin_edges(rois[:, 2], rois[:, 4], height, pooled_height, spatial_scale)
    left, right = _bin_edges(rois[:, 1], rois[:, 3], width, pooled_width, spatial_scale)

    # Windows of equal size, a power of two, are pooled together; cells beyond the bin are masked.
    extent = torch.stack([(bottom - top).amax(1), (right - left).amax(1)], dim=1).clamp(min=1)
    windows = (2 ** extent.to(torch.float64).log2().ceil()).long()
    for group, (rows, columns) in _groups(windows):
        per_roi = input.size(1) * pooled_height * pooled_width * rows * columns
        for part in _chunks(group, per_roi):
            y = top[part][..., None] + torch.arange(rows, device=rois.device)
            x = left[part][..., None] + torch.arange(columns, device=rois.device)
            beyond = (y >= bottom[part][..., None])[:, :, None, :, None] | (
                x >= right[part][..., None]
            )[:, None, :, None, :]
            cell = y[:, :, None, :, None] * width + x[:, None, :, None, :]
            beyond, cell = beyond.flatten(3), cell.flatten(3).clamp(max=height * width - 1)
            first = rois[part, 0].long() * (height * width)
            values = cells[first[:, None, None, None] + cell]  # (n, ph, pw, rows columns, C)
            values = values.masked_fill(beyond[..., None], -torch.inf)
            best, where = values.max(dim=3)
            empty = beyond.all(dim=3)[..., None]
            winner = cell.gather(3, where).masked_fill(empty, -1)
            output[part] = best.masked_fill(empty, 0).permute(0, 3, 1, 2).to(output.dtype)
            argmax[part] = winner.permute(0, 3, 1, 2).to(argmax.dtype)


def roi_pool_backward(
    grad_output: Tensor,
    rois: Tensor,
    argmax: Tensor,
    grad_input: Tensor,
    pooled_height: int,
    pooled_width: int,
    spatial_scale: float,
) -> None:
    """Gradient of :func:`roi_pool_forward` for ``input``, written into ``grad_input``."""
    dtype = compute_dtype(grad_output)
    _, channels, height, width = grad_input.shape
    plane = rois[:, 0].long()[:, None] * channels + torch.arange(channels, device=rois.device)
    cell = plane[:, :, None, None] * (height * width) + argmax.long()
    touched = argmax >= 0
    total = grad_input.new_zeros(grad_input.numel(), dtype=dtype)
    total.index_add_(0, cell[touched], grad_output.to(dtype)[touched])
    grad_input.copy_(total.view_as(grad_input))


def _bin_edges(
    start: Tensor, end: Tensor, cells: int, bins: int, scale: float
) -> tuple[Tensor, Tensor]:
    """First cell of every bin and the one behind its last, (R, bins), clipped to the features."""
    first, last = start * scale, (end + 1) * scale
    extent = (last - first)[:, None]
    number = torch.arange(bins, device=start.device, dtype=start.dtype)
    low = torch.floor(number * (extent / bins) + first[:, None]).clamp(0, cells).long()
    high = torch.ceil((number + 1) * (extent / bins) + first[:, None]).clamp(0, cells).long()
    return low, torch.where(extent > 0, high, low)  # malformed regions have empty bins
