"""Focal losses against the cross-entropies that they modulate, and autograd."""

import pytest
import torch
import torch.nn.functional as F
from mmcv import ops
from torch.autograd import gradcheck

CLASSES = 4


def make(device, rows=7, dtype=torch.float64):
    scores = torch.randn(rows, CLASSES, dtype=dtype, device=device) * 3
    target = torch.arange(rows, device=device) % (CLASSES + 1)  # the last one is background
    return scores, target


def sigmoid_formula(scores, target, gamma, alpha, weight=None):
    """Paper, equation 5: -alpha_t (1 - p_t)^gamma log(p_t), p_t the probability of what is true."""
    one_hot = F.one_hot(target, CLASSES + 1)[:, :CLASSES].to(scores)
    cross_entropy = F.binary_cross_entropy_with_logits(scores, one_hot, reduction="none")
    p_t = torch.exp(-cross_entropy)
    alpha_t = alpha * one_hot + (1 - alpha) * (1 - one_hot)
    loss = alpha_t * (1 - p_t) ** gamma * cross_entropy
    if weight is not None:
        loss = loss * torch.cat([weight, weight.new_ones(1)])[target][:, None]
    return loss


def softmax_formula(scores, target, gamma, alpha, weight=None):
    foreground = target < CLASSES
    cross_entropy = F.cross_entropy(scores, target.clamp(max=CLASSES - 1), reduction="none")
    loss = alpha * (1 - torch.exp(-cross_entropy)) ** gamma * cross_entropy
    if weight is not None:
        loss = loss * weight[target.clamp(max=CLASSES - 1)]
    return torch.where(foreground, loss, torch.zeros_like(loss))


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(("gamma", "alpha"), [(2.0, 0.25), (0.0, 0.5), (1.5, 0.9)])
@pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
def test_sigmoid_focal_loss(device, weighted, gamma, alpha, reduction):
    scores, target = make(device)
    weight = torch.rand(CLASSES, dtype=scores.dtype, device=device) if weighted else None
    mine, theirs = (scores.clone().requires_grad_() for _ in range(2))
    loss = ops.sigmoid_focal_loss(mine, target, gamma, alpha, weight, reduction)
    expected = sigmoid_formula(theirs, target, gamma, alpha, weight)
    if reduction != "none":
        expected = expected.sum() / (len(scores) if reduction == "mean" else 1)
    torch.testing.assert_close(loss, expected)
    loss.sum().backward()
    expected.sum().backward()
    torch.testing.assert_close(mine.grad, theirs.grad)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(("gamma", "alpha"), [(2.0, 0.25), (0.5, 1.0), (1.0, 0.5)])
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_softmax_focal_loss(device, weighted, gamma, alpha, reduction):
    scores, target = make(device)
    weight = torch.rand(CLASSES, dtype=scores.dtype, device=device) if weighted else None
    mine, theirs = (scores.clone().requires_grad_() for _ in range(2))
    loss = ops.softmax_focal_loss(mine, target, gamma, alpha, weight, reduction)
    expected = softmax_formula(theirs, target, gamma, alpha, weight)
    expected = expected.sum() / (len(scores) if reduction == "mean" else 1)
    torch.testing.assert_close(loss, expected)
    loss.backward()
    expected.backward()
    torch.testing.assert_close(mine.grad, theirs.grad)


def test_gradients(device):
    scores, target = make(device, rows=5)
    scores.requires_grad_()
    gradcheck(lambda x: ops.sigmoid_focal_loss(x, target, 2.0, 0.25, None, "none"), scores)
    gradcheck(lambda x: ops.softmax_focal_loss(x, target, 2.0, 0.25, None, "sum"), scores)


@pytest.mark.parametrize("loss", [ops.sigmoid_focal_loss, ops.softmax_focal_loss])
def test_saturated_scores_stay_finite(device, loss):
    scores = torch.tensor([[90.0, -90, 0, 0], [-200, 200, 0, 0]], device=device, requires_grad=True)
    for gamma in (0.5, 2.0):
        out = loss(scores, torch.tensor([1, 1], device=device), gamma, 0.25, None, "sum")
        (grad,) = torch.autograd.grad(out, scores)
        assert out.isfinite()
        assert grad.isfinite().all()


@pytest.mark.parametrize("loss", [ops.sigmoid_focal_loss, ops.softmax_focal_loss])
def test_no_rows(device, loss):
    scores, target = make(device, rows=0)
    out = loss(scores.requires_grad_(), target, 2.0, 0.25, None, "sum")
    out.backward()
    assert out == 0
    assert scores.grad.shape == (0, CLASSES)


@pytest.mark.parametrize("loss", [ops.sigmoid_focal_loss, ops.softmax_focal_loss])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_types(device, loss, dtype):
    scores, target = make(device, dtype=torch.float32)
    half = scores.to(dtype).requires_grad_()
    full = half.detach().float().requires_grad_()
    out, expected = (loss(x, target, 2.0, 0.25, None, "sum") for x in (half, full))
    out.backward()
    expected.backward()
    assert out.dtype == half.grad.dtype == dtype
    tolerance = {"rtol": 4 * torch.finfo(dtype).eps, "atol": torch.finfo(dtype).eps}
    torch.testing.assert_close(out.float(), expected, **tolerance)
    torch.testing.assert_close(half.grad.float(), full.grad, **tolerance)


def test_modules(device):
    scores, target = make(device, dtype=torch.float32)
    scores.requires_grad_()
    loss = ops.SigmoidFocalLoss(2.0, 0.25)(scores, target)
    loss = loss + ops.SoftmaxFocalLoss(2.0, 0.25)(scores, target)
    loss.backward()
    assert scores.grad.abs().sum() > 0
