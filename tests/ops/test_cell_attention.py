import pytest
import torch
import torch.nn.functional as F

from mmeffvit.ops import cell_attention
from mmeffvit.testing import relative_rms_error


def tensors(candidates, dtype=torch.float32, batch=2, queries=7, heads=3, dim=4, channels=10):
    torch.manual_seed(candidates)
    shapes = {
        "q": (batch, queries, heads, dim),
        "x": (batch, queries, candidates, channels),
        "weight": (2 * heads * dim, channels),
        "bias": (2 * heads * dim,),
    }
    # projections keep the size of what they project
    scale = {"weight": channels**-0.5}
    return {
        name: (torch.randn(shape) * scale.get(name, 1)).to(dtype).requires_grad_()
        for name, shape in shapes.items()
    }


def valid_candidates(queries, candidates):
    """At least one of each, and not always the first."""
    valid = torch.rand(queries, candidates, generator=torch.Generator().manual_seed(0)) < 0.5
    valid[range(queries), [i % candidates for i in range(queries)]] = True
    return valid


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("candidates", [1, 2, 3, 4])
def test_each_query_attends_to_its_own_candidates(candidates, masked):
    given = tensors(candidates, torch.float64)
    valid = valid_candidates(7, candidates) if masked else None
    out = cell_attention(**given, valid=valid)
    k, v = F.linear(given["x"], given["weight"], given["bias"]).chunk(2, -1)
    for token in range(7):
        own = slice(None) if valid is None else valid[token]
        for head in range(3):
            part = slice(4 * head, 4 * head + 4)
            q = given["q"][:, token, head]
            keys, values = (t[:, token, own, part] for t in (k, v))
            weights = (torch.einsum("bd,bkd->bk", q, keys) / 2).softmax(-1)
            expected = torch.einsum("bk,bkd->bd", weights, values)
            torch.testing.assert_close(out[:, token, head], expected)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 2e-2)])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("candidates", [1, 2, 3, 4])
def test_implementations_agree(candidates, masked, dtype, tolerance):
    given = tensors(candidates, dtype)
    valid = valid_candidates(7, candidates) if masked else None
    results = []
    for implementation in ("fused", "reference"):
        out = cell_attention(**given, valid=valid, implementation=implementation)
        assert out.dtype == dtype
        loss = (out * out.detach().sin()).sum()
        results.append([out, *torch.autograd.grad(loss, list(given.values()))])
    for actual, expected in zip(*results):
        # an absolute error where one candidate leaves no gradient
        assert relative_rms_error(actual + 1, expected + 1) < tolerance


@pytest.mark.parametrize("candidates", [2, 4])
def test_logits_beyond_float16(candidates):
    given = tensors(candidates)
    given["q"] = given["q"] * 3e3
    given["x"] = given["x"] * 30
    with torch.autocast("cpu", dtype=torch.float16):
        out = cell_attention(**given)
    expected = cell_attention(**given, implementation="reference")
    assert relative_rms_error(out, expected) < 1e-2


def test_keys_have_a_gradient_of_zero_where_there_is_no_choice():
    given = tensors(1)
    cell_attention(**given).sum().backward()
    assert given["q"].grad.abs().max() < 1e-6
    assert given["bias"].grad[:12].abs().max() < 1e-6
    assert given["bias"].grad[12:].eq(14).all()


def test_shapes_that_do_not_fit():
    given = tensors(3)
    with pytest.raises(ValueError, match=r"valid \(L, K\) or None, got .*\(7, 4\)"):
        cell_attention(**given, valid=torch.ones(7, 4, dtype=torch.bool))
    with pytest.raises(ValueError, match=r"weight \(2 \* h \* d, C\)"):
        cell_attention(**{**given, "weight": given["weight"][:, 1:]})
