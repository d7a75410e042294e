import pytest
import torch

from mmeffvit.ops import grouped_attention
from mmeffvit.ops.grouped_attention.traced import grouped_attention_traced
from mmeffvit.testing import relative_rms_error


def orders(kind, batch, tokens, heads):
    if kind == "none":
        return None
    if kind == "shared":
        return torch.randperm(tokens)
    return torch.stack([torch.randperm(tokens) for _ in range(batch * heads)]).view(
        batch, heads, tokens
    )


@pytest.mark.parametrize("kind", ["none", "shared", "own"])
@pytest.mark.parametrize(("tokens", "groups"), [(12, 4), (11, 3), (5, 9), (7, 1)])
def test_implementations_agree(tokens, groups, kind):
    torch.manual_seed(0)
    qkv = [torch.randn(2, tokens, 3, 4, requires_grad=True) for _ in range(3)]
    order = orders(kind, 2, tokens, 3)
    outs = [grouped_attention(*qkv, groups, order, implementation="reference")]
    outs.append(grouped_attention(*qkv, groups, order, implementation="fused"))
    # what compiled graphs hold
    outs.append(grouped_attention_traced(*qkv, groups, order))
    results = [[out, *torch.autograd.grad((out * out.detach().sin()).sum(), qkv)] for out in outs]
    for other in results[1:]:
        for actual, expected in zip(other, results[0], strict=True):
            # an absolute error where a group of one token has no gradient
            assert relative_rms_error(actual + 1, expected + 1) < 1e-5


def test_tokens_attend_inside_their_group():
    torch.manual_seed(0)
    q, k, v = torch.randn(3, 1, 5, 1, 4)
    order = torch.tensor([3, 0, 4, 1, 2])
    out = grouped_attention(q, k, v, 2, order)
    for group in ([3, 0, 4], [1, 2]):
        weights = (q[0, group, 0] @ k[0, group, 0].T / 2).softmax(-1)
        torch.testing.assert_close(out[0, group, 0], weights @ v[0, group, 0])
