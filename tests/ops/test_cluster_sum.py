import pytest
import torch

from mmeffvit.ops.cluster_sum import cluster_sum
from mmeffvit.testing import relative_rms_error


@pytest.mark.parametrize(("clusters", "pixels"), [(5, 21), (1, 7), (9, 4)])
def test_implementations_agree(clusters, pixels):
    torch.manual_seed(0)
    logits = torch.randn(2, clusters, pixels)
    values = torch.randn(2, 3, pixels, requires_grad=True)
    results = []
    for name in ("fused", "reference"):
        out = cluster_sum(logits, values, implementation=name)
        results.append([out, *torch.autograd.grad((out * out.detach().sin()).sum(), [values])])
    for actual, expected in zip(*results, strict=True):
        assert actual.shape == expected.shape
        assert relative_rms_error(actual + 1, expected + 1) < 1e-6


@pytest.mark.parametrize("implementation", ["fused", "reference"])
def test_by_hand(implementation):
    """Of equal logits the first wins; an empty cluster has 0; sums, not means."""
    logits = torch.tensor([[[1.0, 0, 2, 3], [1, 5, 0, 3], [0, 0, 0, 0]]])
    values = torch.tensor([[[1.0, 2, 4, 8]]])
    out = cluster_sum(logits, values, implementation=implementation)
    assert out.tolist() == [[[13.0, 2.0, 0.0]]]
    half = cluster_sum(logits.half(), values.half(), implementation=implementation)
    assert half.dtype == torch.float32


def test_shapes_that_do_not_belong_together():
    with pytest.raises(ValueError, match=r"logits \(B, K, L\) and values \(B, C, L\)"):
        cluster_sum(torch.zeros(1, 2, 3), torch.zeros(1, 2, 4))
