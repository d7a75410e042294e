"""Pooling of regions against formulas written as loops, and its gradients."""

import math

import pytest
import torch
from mmcv import ops
from torch.autograd import gradcheck

ROIS = [
    [0, 1.0, 2.0, 9.3, 8.1],
    [1, -6.0, -3.0, 5.0, 4.0],  # partly outside
    [1, 3.0, 3.0, 3.2, 3.1],  # smaller than a cell
    [0, 40.0, 40.0, 60.0, 60.0],  # outside
    [0, 0.0, 0.0, 26.0, 21.0],  # everything
]


@pytest.fixture
def rois(device):
    return torch.tensor(ROIS, dtype=torch.float64, device=device)


@pytest.fixture
def features(device):
    return torch.randn(2, 3, 11, 13, dtype=torch.float64, device=device)


def bilinear(plane, y, x):
    """Value of (C, H, W) features at a point; 0 more than one cell outside."""
    height, width = plane.shape[1:]
    if not (-1 <= y <= height and -1 <= x <= width):
        return torch.zeros_like(plane[:, 0, 0])
    y, x = min(max(y, 0.0), height - 1.0), min(max(x, 0.0), width - 1.0)
    top, left = math.floor(y), math.floor(x)
    bottom, right = min(top + 1, height - 1), min(left + 1, width - 1)
    v, u = y - top, x - left
    return (
        plane[:, top, left] * (1 - v) * (1 - u)
        + plane[:, top, right] * (1 - v) * u
        + plane[:, bottom, left] * v * (1 - u)
        + plane[:, bottom, right] * v * u
    )


def naive_roi_align(features, rois, size, scale, sampling_ratio, mode, aligned):
    out = features.new_zeros(len(rois), features.size(1), *size)
    for n, (image, *corners) in enumerate(rois.tolist()):
        x1, y1, x2, y2 = (corner * scale - 0.5 * aligned for corner in corners)
        height, width = y2 - y1, x2 - x1
        if not aligned:
            height, width = max(height, 1), max(width, 1)
        bin_h, bin_w = height / size[0], width / size[1]
        grid_h = sampling_ratio or max(1, math.ceil(bin_h))
        grid_w = sampling_ratio or max(1, math.ceil(bin_w))
        for i in range(size[0]):
            for j in range(size[1]):
                samples = torch.stack(
                    [
                        bilinear(
                            features[int(image)],
                            y1 + bin_h * (i + (k + 0.5) / grid_h),
                            x1 + bin_w * (j + (m + 0.5) / grid_w),
                        )
                        for k in range(grid_h)
                        for m in range(grid_w)
                    ]
                )
                out[n, :, i, j] = samples.mean(0) if mode == "avg" else samples.amax(0)
    return out


def naive_roi_pool(features, rois, size, scale):
    out = features.new_zeros(len(rois), features.size(1), *size)
    rows, columns = features.shape[2:]
    for n, (image, *corners) in enumerate(rois.tolist()):
        x1, y1 = (corner * scale for corner in corners[:2])
        x2, y2 = ((corner + 1) * scale for corner in corners[2:])
        bin_h, bin_w = (y2 - y1) / size[0], (x2 - x1) / size[1]
        for i in range(size[0]):
            for j in range(size[1]):
                top, left = max(0, math.floor(y1 + i * bin_h)), max(0, math.floor(x1 + j * bin_w))
                bottom = min(rows, math.ceil(y1 + (i + 1) * bin_h))
                right = min(columns, math.ceil(x1 + (j + 1) * bin_w))
                if top < bottom and left < right:
                    out[n, :, i, j] = features[int(image), :, top:bottom, left:right].amax((1, 2))
    return out


@pytest.mark.parametrize("mode", ["avg", "max"])
@pytest.mark.parametrize("aligned", [True, False])
@pytest.mark.parametrize("sampling_ratio", [0, 1, 3])
def test_roi_align_is_its_formula(features, rois, mode, aligned, sampling_ratio):
    options = ((3, 2), 0.5, sampling_ratio, mode, aligned)
    out = ops.roi_align(features, rois, *options)
    torch.testing.assert_close(out, naive_roi_align(features, rois, *options))


@pytest.mark.parametrize("mode", ["avg", "max"])
@pytest.mark.parametrize("sampling_ratio", [0, 2])
def test_roi_align_gradient(features, rois, mode, sampling_ratio):
    features = features[..., :6, :7].contiguous().requires_grad_()
    gradcheck(
        lambda x: ops.roi_align(x, rois[:4], (2, 3), 0.5, sampling_ratio, mode, True),
        features,
        fast_mode=True,
    )


def test_roi_pool_is_its_formula(features, rois):
    options = ((3, 2), 0.5)
    out = ops.roi_pool(features, rois, *options)
    torch.testing.assert_close(out, naive_roi_pool(features, rois, *options))
    malformed = torch.tensor([[0, 9.0, 9, 2, 2], [0, 9, 9, 7.5, 7.5]], device=rois.device)
    assert not ops.roi_pool(features, malformed, *options).any()


def test_roi_pool_gradient(features, rois):
    features = features[..., :6, :7].contiguous().requires_grad_()
    gradcheck(lambda x: ops.roi_pool(x, rois, (2, 3), 0.5), features, fast_mode=True)


@pytest.mark.parametrize("layer", ["RoIAlign", "MaxRoIAlign", "RoIPool"])
def test_modules_run_forward_and_backward(layer, device):
    build = {
        "RoIAlign": lambda: ops.RoIAlign(7, 0.25, 2),
        "MaxRoIAlign": lambda: ops.RoIAlign(7, 0.25, 0, pool_mode="max"),
        "RoIPool": lambda: ops.RoIPool(7, 0.25),
    }
    x = torch.randn(2, 4, 16, 16, device=device, requires_grad=True)
    rois = torch.tensor([[0, 2.0, 2, 40, 50], [1, 0, 0, 63, 63]], device=device)
    out = build[layer]()(x, rois)
    out.sum().backward()
    assert out.shape == (2, 4, 7, 7)
    # every bin passes exactly its share of the gradient on
    torch.testing.assert_close(x.grad.sum(), torch.tensor(2.0 * 4 * 7 * 7, device=device))


@pytest.mark.parametrize(
    "layer", [ops.RoIAlign(3, 1.0, 0), ops.RoIAlign(3, 1.0, 0, "max"), ops.RoIPool(3)]
)
def test_no_regions(layer, device):
    x = torch.randn(1, 2, 8, 8, device=device, requires_grad=True)
    out = layer(x, torch.zeros(0, 5, device=device))
    assert out.shape == (0, 2, 3, 3)
    out.sum().backward()
    assert not x.grad.any()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("mode", ["avg", "max", "pool"])
def test_half_types_compute_in_float32(device, dtype, mode):
    def pool(x, rois):
        if mode == "pool":
            return ops.roi_pool(x, rois, 3, 0.5)
        return ops.roi_align(x, rois, 3, 0.5, 0, mode, True)

    x = torch.randn(2, 3, 11, 13, device=device).to(dtype)
    rois = torch.tensor(ROIS, device=device).to(dtype)
    half, full = x.clone().requires_grad_(), x.float().requires_grad_()
    out = pool(half, rois)
    expected = pool(full, rois.float())
    out.float().sum().backward()
    expected.sum().backward()
    assert out.dtype == half.grad.dtype == dtype
    torch.testing.assert_close(out, expected.to(dtype), rtol=0, atol=0)
    torch.testing.assert_close(half.grad, full.grad.to(dtype), rtol=0, atol=0)


def test_long_work_is_split(monkeypatch, features, rois):
    """The bound on temporary memory changes nothing in the result."""
    from mmeffvit.compat.mmcv_ops import roi

    whole = [ops.roi_align(features, rois, 3, 0.5, 0, "max"), ops.roi_pool(features, rois, 3, 0.5)]
    monkeypatch.setattr(roi, "_CHUNK", 1)
    split = [ops.roi_align(features, rois, 3, 0.5, 0, "max"), ops.roi_pool(features, rois, 3, 0.5)]
    for one, other in zip(whole, split):
        assert torch.equal(one, other)
