import math

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from mmeffvit.ops import rotary_table_2d
from mmeffvit.ops.rala import (
    rala_token_weights,
    rank_augmented_linear_attention,
    rotary_softmax_attention,
)
from mmeffvit.testing import relative_rms_error
from tests.ops.agreement import assert_agree

# maps that are odd, not square, one pixel wide, one pixel
MAPS = [(5, 7), (6, 4), (1, 9), (9, 1), (1, 1), (11, 13)]
OPERATORS = [rank_augmented_linear_attention, rotary_softmax_attention]
IMPLEMENTATIONS = ["reference", "fused"]


def inputs(size, heads=3, dim=8, batch=2, dtype=torch.float32):
    tokens = [torch.randn(batch, size[0] * size[1], heads, dim, dtype=dtype) for _ in range(3)]
    return tokens, rotary_table_2d(*size, dim)


def rotated(x, table):
    """Channel pairs of one token as points of the plane, turned."""
    return torch.view_as_real(torch.view_as_complex(x.view(-1, 2)) * table).flatten()


def literal_linear(q, k, v, table):
    """One sample, one head, one token at a time, after the sheet's numbered steps."""
    table = torch.view_as_complex(table.double())
    out = torch.empty_like(q)
    batch, tokens, heads, dim = q.shape
    for b in range(batch):
        for h in range(heads):
            positive_q, positive_k = (
                torch.where(x > 0, x + 1, x.exp()) for x in (q[b, :, h], k[b, :, h])
            )
            mean_query = positive_q.mean(0)
            alpha = (dim**-0.5 * positive_k @ mean_query).softmax(0)
            keys = positive_k * alpha[:, None] * tokens
            state = sum(
                torch.outer(rotated(keys[j], table[j]), v[b, j, h]) / tokens for j in range(tokens)
            )
            for i in range(tokens):
                normaliser = positive_q[i] @ keys.mean(0) + 1e-6
                out[b, i, h] = rotated(positive_q[i], table[i]) @ state / normaliser
    return out


def literal_softmax(q, k, v, table):
    table = torch.view_as_complex(table.double())
    out = torch.empty_like(q)
    batch, tokens, heads, dim = q.shape
    for b in range(batch):
        for h in range(heads):
            keys = torch.stack([rotated(k[b, j, h], table[j]) for j in range(tokens)])
            for i in range(tokens):
                logits = dim**-0.5 * keys @ rotated(q[b, i, h], table[i])
                out[b, i, h] = logits.softmax(0) @ v[b, :, h]
    return out


LITERAL = dict(zip(OPERATORS, (literal_linear, literal_softmax)))


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize("size", MAPS)
@pytest.mark.parametrize("operator", OPERATORS)
def test_equals_the_formula_token_by_token(operator, size, implementation):
    tensors, table = inputs(size, dtype=torch.float64)
    out = operator(*tensors, table, implementation=implementation)
    torch.testing.assert_close(out, LITERAL[operator](*tensors, table))


@pytest.mark.parametrize("size", MAPS)
@pytest.mark.parametrize("operator", OPERATORS)
def test_fused_against_reference_with_gradients(operator, size):
    tensors, table = inputs(size, dim=16)
    tensors = [t.requires_grad_() for t in tensors]
    weight = torch.randn_like(tensors[0])
    results = []
    for implementation in IMPLEMENTATIONS:
        out = operator(*tensors, table, implementation=implementation)
        results.append((out, *torch.autograd.grad((out * weight).sum(), tensors)))
    assert_agree(*results)


@pytest.mark.parametrize("size", [(2, 2), (1, 3), (1, 1)])
def test_fused_gradients_against_differences(size):
    tensors, table = inputs(size, heads=1, dim=4, dtype=torch.float64)
    tensors = [t.requires_grad_() for t in tensors]
    assert torch.autograd.gradcheck(
        lambda q, k, v: rank_augmented_linear_attention(
            q, k, v, table.double(), implementation="fused"
        ),
        tensors,
    )


def test_fused_gradient_is_not_differentiated_again():
    tensors, table = inputs((2, 3))
    q, k, v = (t.requires_grad_() for t in tensors)
    out = rank_augmented_linear_attention(q, k, v, table, implementation="fused")
    (grad,) = torch.autograd.grad(out.square().sum(), q, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        grad.sum().backward()


def test_inputs_are_left_as_they_are():
    tensors, table = inputs((5, 4), heads=1, batch=1)
    before = [t.clone() for t in tensors]
    out = rank_augmented_linear_attention(*(t.requires_grad_() for t in tensors), table)
    grad = torch.ones_like(out)
    out.backward(grad)
    assert all(torch.equal(t, b) for t, b in zip(tensors, before))
    assert grad.eq(1).all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("size", [(5, 7), (1, 9), (16, 16)])
@pytest.mark.parametrize("operator", OPERATORS)
def test_half_precision(operator, size, dtype):
    tensors, table = inputs(size, dim=16)
    tensors = [t.to(dtype).requires_grad_() for t in tensors]
    weight = torch.randn(tensors[0].shape)
    exact = [t.detach().double().requires_grad_() for t in tensors]
    out = operator(*tensors, table, implementation="fused")
    expected = operator(*exact, table, implementation="reference")
    assert out.dtype == dtype
    tolerance = 2e-2 if dtype == torch.bfloat16 else 3e-3
    assert relative_rms_error(out, expected) < tolerance
    grads = torch.autograd.grad((out.float() * weight).sum(), tensors)
    expected_grads = torch.autograd.grad((expected * weight).sum(), exact)
    for actual, reference in zip(grads, expected_grads):
        assert actual.dtype == dtype
        assert relative_rms_error(actual, reference) < tolerance


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("sign", [1, -1, 0])
@pytest.mark.parametrize("operator", OPERATORS)
def test_activations_of_a_thousand(operator, dtype, sign):
    """Positive ones make products of 1e7; negative ones make nearly all positive queries zero."""
    tensors, table = inputs((20, 33), dim=64, batch=1)
    tensors = [(1e3 * (t.abs() * sign if sign else t)).to(dtype).requires_grad_() for t in tensors]
    out = operator(*tensors, table, implementation="fused")
    assert out.isfinite().all()
    if operator is rank_augmented_linear_attention:
        expected = operator(*(t.double() for t in tensors), table, implementation="reference")
        assert relative_rms_error(out, expected) < 1e-2
    else:  # one weight is nearly one, and rounding may decide which
        assert out.abs().max() <= 1.01 * tensors[2].abs().max()
    for grad in torch.autograd.grad(out.float().mean(), tensors):
        assert grad.isfinite().all()


def test_no_division_by_zero():
    """All positive queries and keys are zero in float32: the eps is all there is to divide by."""
    tensors, table = inputs((3, 5), dim=4)
    tensors = [(-1e3 - t.abs()).requires_grad_() for t in tensors]
    out = rank_augmented_linear_attention(*tensors, table, implementation="fused")
    assert out.eq(0).all()
    assert all(g.isfinite().all() for g in torch.autograd.grad(out.sum(), tensors))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_very_negative_queries_keep_their_share(dtype):
    """ELU(x) + 1 in the type of x is zero from -8 on; exp(x) is not."""
    (q, k, v), table = inputs((4, 5), heads=1)
    q, k, v = (q * 0.5 - 10).to(dtype), k.to(dtype), v.to(dtype)
    exact = literal_linear(q.double(), k.double(), v.double(), table)
    out = rank_augmented_linear_attention(q, k, v, table, implementation="fused")
    assert exact.abs().mean() > 0.1
    assert relative_rms_error(out, exact) < 1e-2


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_leaves_the_linear_attention_in_float32(dtype):
    tensors, table = inputs((6, 7))
    tensors = [t.requires_grad_() for t in tensors]
    results = []
    for enabled in (False, True):
        with torch.autocast("cpu", dtype=dtype, enabled=enabled):
            out = rank_augmented_linear_attention(*tensors, table, implementation="fused")
            # also a backward pass inside of autocast
            results.append((out, *torch.autograd.grad(out.square().sum(), tensors)))
    for actual, expected in zip(*results):
        assert torch.equal(actual, expected)


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_token_weights_are_those_of_the_attention(implementation):
    (q, k, _), _ = inputs((4, 6), dtype=torch.float64)
    weights = rala_token_weights(q, k)
    assert weights.shape == (2, 3, 24)
    torch.testing.assert_close(weights.sum(-1), torch.ones(2, 3, dtype=torch.float64))
    # with keys of one direction, no rotation and values that name their tokens, the output holds
    # the weights, each times the length of its key
    k = k[..., :1].expand_as(k)
    value = torch.eye(24, dtype=torch.float64)[None, :, None].expand(2, -1, 3, -1)
    q, k = (torch.nn.functional.pad(t, (0, 16), value=-1e4) for t in (q, k))
    table = torch.tensor([1.0, 0.0]).expand(24, 12, 2).contiguous()
    positive_k = torch.where(k > 0, k + 1, k.exp())[..., 0].transpose(1, 2)
    out = rank_augmented_linear_attention(q, k, value, table, implementation=implementation)
    shares = rala_token_weights(q, k) * positive_k
    shares = shares / shares.sum(-1, keepdim=True)
    expected = shares.transpose(1, 2)[:, None].transpose(2, 3).expand(-1, 24, -1, -1)
    torch.testing.assert_close(out, expected, atol=1e-4, rtol=1e-4)


def test_token_weights_prefer_keys_along_the_mean_query():
    q, k = torch.zeros(1, 6, 1, 4), torch.zeros(1, 6, 1, 4)
    k[0, 2] = 3.0
    weights = rala_token_weights(q.bfloat16(), k.bfloat16())
    assert weights.dtype == torch.float32
    # the mean query is all ones: scores are 4 * 1 / 2 and, for the third token, 4 * 4 / 2
    expected = math.exp(6) / (math.exp(6) + 5)
    assert weights[0, 0, 2].item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("operator", OPERATORS)
def test_permuting_tokens_with_their_positions_permutes_outputs(operator):
    (q, k, v), table = inputs((5, 7))
    p = torch.randperm(35)
    out = operator(q[:, p], k[:, p], v[:, p], table[p].contiguous())
    torch.testing.assert_close(out, operator(q, k, v, table)[:, p], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("operator", OPERATORS)
@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_nan_stays_visible_and_in_its_head(operator, implementation):
    (q, k, v), table = inputs((4, 4))
    k[0, 3, 1, 2] = float("nan")
    out = operator(q, k, v, table, implementation=implementation)
    assert out[0, :, 1].isnan().any()
    assert not out[1].isnan().any()
    assert not out[0, :, [0, 2]].isnan().any()


@pytest.mark.parametrize("operator", OPERATORS)
def test_shapes_must_agree(operator):
    (q, k, v), table = inputs((2, 4))
    with pytest.raises(ValueError, match=r"one shape \(B, L, h, d\)"):
        operator(q, k[:, :4], v, table)
    with pytest.raises(ValueError, match="one shape"):
        operator(q[0], k[0], v[0], table)
    with pytest.raises(ValueError, match=r"table of shape \(8, 4, 2\).*got \(6, 4, 2\)"):
        operator(q, k, v, table[:6])


def saved_sizes(function):
    sizes = []
    with torch.autograd.graph.saved_tensors_hooks(
        lambda t: (sizes.append(t.numel()), t)[1], lambda t: t
    ):
        function()
    return sizes


def test_linear_attention_keeps_its_inputs_and_little_more():
    tensors, table = inputs((32, 32), heads=2, dim=8, batch=1)
    tensors = [t.requires_grad_() for t in tensors]
    inputs_and_table = 3 * 1024 * 2 * 8 + 1024 * 8
    sums = {
        name: sum(
            saved_sizes(
                lambda: rank_augmented_linear_attention(*tensors, table, implementation=name)  # noqa: B023
            )
        )
        for name in IMPLEMENTATIONS
    }
    # weights of the tokens, the state, two means, for two heads
    assert sums["fused"] - inputs_and_table == 2 * (1024 + 8 * 8 + 2 * 8)
    assert sums["reference"] > 3 * sums["fused"]


def test_softmax_attention_holds_no_weights():
    tensors, table = inputs((32, 32), heads=1, dim=8, batch=1)
    tensors = [t.requires_grad_() for t in tensors]
    largest = {
        name: max(
            saved_sizes(lambda: rotary_softmax_attention(*tensors, table, implementation=name))  # noqa: B023
        )
        for name in IMPLEMENTATIONS
    }
    assert largest["fused"] <= 1024 * 8
    assert largest["reference"] >= 1024 * 1024


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_cost_grows_linearly(implementation):
    flops = []
    for side in (8, 16):
        tensors, table = inputs((side, side))
        tensors = [t.requires_grad_() for t in tensors]
        with FlopCounterMode(display=False) as counter:
            out = rank_augmented_linear_attention(*tensors, table, implementation=implementation)
            out.sum().backward()
        flops.append(counter.get_total_flops())
    assert flops[1] == 4 * flops[0] > 0


@pytest.mark.parametrize("operator", OPERATORS)
def test_traced_path_agrees(monkeypatch, operator):
    tensors, table = inputs((5, 6))
    tensors = [t.requires_grad_() for t in tensors]
    results = []
    for _ in range(2):
        out = operator(*tensors, table, implementation="fused")
        results.append((out, *torch.autograd.grad(out.square().sum(), tensors)))
        monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    for actual, expected in zip(*results):
        torch.testing.assert_close(actual, expected, atol=1e-5, rtol=1e-4)
