import pytest
import torch

from mmeffvit.ops import chunked_attention
from mmeffvit.ops.group_attention import (
    axis_groups,
    from_groups,
    group_attention,
    map_groups,
    to_groups,
)
from mmeffvit.testing import relative_rms_error

# of the interval 2 and groups of 3: whole regions, a rest shorter than the interval, none
SIZES = [(7, 5), (12, 6), (1, 9), (13, 8), (2, 2)]
IMPLEMENTATIONS = pytest.mark.parametrize("implementation", ["fused", "reference"])
HALF = pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])


def inputs(size, group=(3, 3), heads=2, dim=4, batch=2, dtype=torch.float32):
    tokens = [torch.randn(batch, *size, heads, dim, dtype=dtype) for _ in range(3)]
    return [
        *tokens,
        torch.randn(heads, *group, *group, dtype=torch.promote_types(dtype, torch.float32)),
    ]


def group_of(y, x, group, interval):
    """The group that a token is in, and its place there, as the paper counts them."""
    region = y // (group[0] * interval), x // (group[1] * interval)
    inside = y % (group[0] * interval), x % (group[1] * interval)
    return (*region, inside[0] % interval, inside[1] % interval), tuple(
        i // interval for i in inside
    )


def literal(q, k, v, bias, interval):
    """One token at a time."""
    height, width, heads, dim = q.shape[1:]
    out = torch.zeros_like(v)
    places = [(y, x) for y in range(height) for x in range(width)]
    found = {place: group_of(*place, bias.shape[1:3], interval) for place in places}
    for (qy, qx), (own, (y, x)) in found.items():
        others = [(key, at) for key, (theirs, at) in found.items() if theirs == own]
        for h in range(heads):
            logits = torch.stack(
                [
                    (q[:, qy, qx, h] * k[:, ky, kx, h]).sum(-1) * dim**-0.5 + bias[h, y, x, u, w]
                    for (ky, kx), (u, w) in others
                ],
                -1,
            )
            values = torch.stack([v[:, ky, kx, h] for (ky, kx), _ in others], 1)
            out[:, qy, qx, h] = torch.einsum("bn,bnd->bd", logits.softmax(-1), values)
    return out


@IMPLEMENTATIONS
@pytest.mark.parametrize("interval", [1, 2])
@pytest.mark.parametrize("size", [(7, 5), (1, 4), (6, 3)])
def test_equals_the_formula_token_by_token(size, interval, implementation):
    q, k, v, bias = inputs(size, batch=1, dtype=torch.float64)
    out = group_attention(q, k, v, bias, interval, implementation=implementation)
    torch.testing.assert_close(out, literal(q, k, v, bias, interval))


@pytest.mark.parametrize("interval", [1, 2, 3])
@pytest.mark.parametrize("size", SIZES)
def test_groups_are_those_of_the_padded_map(size, interval):
    """Every token once, and the kinds are what is left of groups when padding is taken away."""
    groups = map_groups(size, (3, 2), interval, torch.device("cpu"))
    tokens = size[0] * size[1]
    assert sorted(groups.order.tolist()) == list(range(tokens))
    assert torch.equal(groups.order[groups.back], torch.arange(tokens))
    assert len(groups.kinds) <= (4 if interval == 1 else 9)
    numbers = torch.arange(1, tokens + 1).view(1, *size)
    padded = to_groups(numbers, (3, 2), interval)[0]
    expected = sorted(tuple(int(n) - 1 for n in group if n) for group in padded if group.any())
    parts = groups.order.split([kind.tokens for kind in groups.kinds])
    found = [tuple(g) for p, k in zip(parts, groups.kinds) for g in p.view(k.count, -1).tolist()]
    assert sorted(found) == expected
    assert torch.equal(from_groups(padded[None], size, (3, 2), interval), numbers)


def test_groups_of_an_axis_by_hand():
    kinds = {kind.tokens: kind.positions for kind in axis_groups(7, group=3, interval=2)}
    # one whole region, then a rest of one token: of its second group nothing is there
    assert kinds == {3: ((0, 2, 4), (1, 3, 5)), 1: ((6,),)}
    kinds = {kind.tokens: kind.positions for kind in axis_groups(5, group=3, interval=2)}
    assert kinds == {3: ((0, 2, 4),), 2: ((1, 3),)}


def check_implementations_agree(size, interval, group=(3, 3), **options):
    tensors = [t.requires_grad_() for t in inputs(size, group, heads=3, dim=8)]
    weight = torch.randn_like(tensors[0])
    results = []
    for implementation in ("reference", "fused"):
        out = group_attention(*tensors, interval, implementation=implementation, **options)
        results.append((out, *torch.autograd.grad((out * weight).sum(), tensors)))
    for expected, actual in zip(*results):
        assert relative_rms_error(actual + 1, expected + 1) < 1e-5


@pytest.mark.parametrize("interval", [1, 2, 3])
@pytest.mark.parametrize("size", SIZES)
def test_fused_against_reference_with_gradients(size, interval):
    check_implementations_agree(size, interval)
    check_implementations_agree(size, interval, group=(2, 4), scale=0.7)


def test_chunks_against_reference_with_gradients(monkeypatch):
    monkeypatch.setattr(chunked_attention, "_CHUNK", {"other": 0})
    monkeypatch.setattr(chunked_attention, "_FEWEST_QUERIES", 2)
    check_implementations_agree((7, 5), 2)


@pytest.mark.parametrize("interval", [1, 2])
@pytest.mark.parametrize("size", [(7, 5), (1, 9)])
def test_traced_against_reference_with_gradients(monkeypatch, size, interval):
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    check_implementations_agree(size, interval)


@HALF
@pytest.mark.parametrize("interval", [1, 2])
def test_half_precision(dtype, interval):
    tensors = [t.requires_grad_() for t in inputs((7, 5), dim=16, dtype=dtype)]
    weight = torch.randn(tensors[0].shape)
    exact = [t.detach().float().requires_grad_() for t in tensors]
    out = group_attention(*tensors, interval, implementation="fused")
    expected = group_attention(*exact, interval, implementation="reference")
    assert out.dtype == dtype
    tolerance = 2e-2 if dtype == torch.bfloat16 else 3e-3
    assert relative_rms_error(out.float(), expected) < tolerance
    grads = torch.autograd.grad((out.float() * weight).sum(), tensors)
    for actual, reference in zip(grads, torch.autograd.grad((expected * weight).sum(), exact)):
        assert relative_rms_error(actual.float(), reference) < tolerance


@HALF
@IMPLEMENTATIONS
def test_groups_of_padding_alone_make_no_nan(dtype, implementation):
    """Seven rows in regions of six: of the second region only every other group has a token.

    Masked by -1e6, which float16 does not hold, such a group is NaN, and so are gradients.
    """
    tensors = [t.requires_grad_() for t in inputs((7, 7), dtype=dtype)]
    out = group_attention(*tensors, 2, implementation=implementation)
    assert out.isfinite().all()
    grads = torch.autograd.grad(out.float().sum(), tensors)
    assert all(grad.isfinite().all() for grad in grads)


@IMPLEMENTATIONS
def test_nan_stays_in_its_group(implementation):
    q, k, v, bias = inputs((6, 6))
    k[0, 0, 0, 1, 2] = float("nan")
    out = group_attention(q, k, v, bias, 2, implementation=implementation)
    assert out[0, ::2, ::2, 1].isnan().all()
    assert not out[0, 1::2].isnan().any()
    assert not out[0, :, :, 0].isnan().any()
    assert not out[1].isnan().any()


def test_weights_are_not_kept():
    kept = {}
    with torch.autograd.graph.saved_tensors_hooks(
        lambda t: (kept.update({t.untyped_storage().data_ptr(): t}), t)[1], lambda t: t
    ):
        tensors = [t.requires_grad_() for t in inputs((30, 30), (7, 7), heads=2, batch=1)]
        out = group_attention(*tensors, 4)
    largest = max(t.untyped_storage().nbytes() // t.element_size() for t in kept.values())
    assert largest <= max(out.numel(), tensors[3].numel())


def test_impossible_arguments():
    q, k, v, bias = inputs((4, 5))
    with pytest.raises(ValueError, match=r"one shape \(B, H, W, h, d\)"):
        group_attention(q, k[:, :3], v, bias)
    for wrong in (bias[:1], bias[:, :2], bias[0]):
        with pytest.raises(ValueError, match=r"\(h, r, c, r, c\) with h = 2 heads"):
            group_attention(q, k, v, wrong)
    with pytest.raises(ValueError, match="interval must be at least 1, got 0"):
        group_attention(q, k, v, bias, 0)
