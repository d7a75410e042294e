import pytest
import torch
import torch.nn.functional as F

from mmeffvit.ops import linear_attention
from mmeffvit.testing import relative_rms_error

IMPLEMENTATIONS = ["reference", "fused"]


def inputs(tokens, heads=3, dim=8, batch=2, dtype=torch.float32):
    torch.manual_seed(tokens)
    return [torch.randn(batch, tokens, heads, dim, dtype=dtype) for _ in range(3)]


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize("tokens", [1, 7, 40])
def test_equals_weights_of_all_pairs(tokens, implementation):
    q, k, v = inputs(tokens, dtype=torch.float64)
    weights = torch.einsum("bihd,bjhd->bhij", F.elu(q) + 1, F.elu(k) + 1)
    # the eps is added to a mean over the tokens
    weights = weights / (weights.sum(-1, keepdim=True) + tokens * 1e-6)
    expected = torch.einsum("bhij,bjhd->bihd", weights, v)
    torch.testing.assert_close(linear_attention(q, k, v, implementation=implementation), expected)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 2e-2)])
@pytest.mark.parametrize("tokens", [1, 35, 117])
def test_implementations_agree(tokens, dtype, tolerance):
    given = [t.to(dtype).requires_grad_() for t in inputs(tokens)]
    weight = torch.randn(given[0].shape)
    results = []
    for implementation in IMPLEMENTATIONS:
        out = linear_attention(*given, implementation=implementation)
        assert out.dtype == dtype
        results.append((out, *torch.autograd.grad((out.float() * weight).sum(), given)))
    for actual, expected in zip(*results):
        # one token has no gradient for q and k
        assert relative_rms_error(actual + 1, expected + 1) < tolerance


def test_fused_gradients_against_differences():
    given = [t.requires_grad_() for t in inputs(5, heads=1, dim=3, dtype=torch.float64)]
    assert torch.autograd.gradcheck(
        lambda *tokens: linear_attention(*tokens, implementation="fused"), given
    )


def test_weights_sum_to_one_and_order_does_not_matter():
    q, k, v = inputs(30)
    same = v[:, :1].expand_as(v)
    torch.testing.assert_close(linear_attention(q, k, same), same, atol=1e-5, rtol=1e-5)
    order = torch.randperm(30)
    shuffled = linear_attention(*(t[:, order] for t in (q, k, v)))
    torch.testing.assert_close(shuffled, linear_attention(q, k, v)[:, order])


def test_many_tokens_in_float16():
    """Sums of keys over 2^18 tokens are beyond float16, means are not."""
    given = [(t + 1).half() for t in inputs(2**18, heads=1, dim=4, batch=1)]
    expected = linear_attention(*(t.double() for t in given), implementation="reference")
    assert relative_rms_error(linear_attention(*given), expected) < 1e-3


def test_shapes_that_do_not_fit():
    q, k, v = inputs(4)
    with pytest.raises(ValueError, match="linear_attention needs q, k and v of one shape"):
        linear_attention(q, k[:, 1:], v)
