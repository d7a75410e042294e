import functools

import pytest
import torch

from mmeffvit.ops import chunked_attention
from mmeffvit.ops.polyline_attention import fused, joined, polyline_attention, polyline_mask
from mmeffvit.testing import relative_rms_error

SIZES = [(3, 5), (6, 4), (1, 7), (6, 1), (1, 1)]
FORMS = pytest.mark.parametrize("decomposed", [False, True], ids=["whole", "decomposed"])
IMPLEMENTATIONS = pytest.mark.parametrize("implementation", ["fused", "reference"])
HALF = pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])


def inputs(height, width, heads=3, dim=8, batch=2, dtype=torch.float32, step=0.5):
    tokens = [torch.randn(batch, height * width, heads, dim, dtype=dtype) for _ in range(3)]
    steps = -step * torch.rand(batch, height, width, heads, 2, dtype=max_float32(dtype)) - 0.01
    return [*tokens, steps]


def max_float32(dtype):
    return torch.promote_types(dtype, torch.float32)


def between(i, j):
    """Places of the steps between two places: the first is not one of them, the last is."""
    return range(min(i, j) + 1, max(i, j) + 1)


def literal_mask(steps, query, key, row_first=True):
    """What the path from a query to a key loses, step by step; steps are (H, W, 2)."""
    (y1, x1), (y2, x2) = query, key
    if row_first:  # along the row y1 to the column x2, then along that column
        row, column = y1, x2
    else:
        row, column = y2, x1
    return sum(steps[row, x, 0] for x in between(x1, x2)) + sum(
        steps[y, column, 1] for y in between(y1, y2)
    )


def literal(q, k, v, steps, decomposed):
    """One sample, one head, one token at a time."""
    batch, height, width, heads, _ = steps.shape
    places = [(y, x) for y in range(height) for x in range(width)]
    out = torch.zeros_like(v)
    for b in range(batch):
        for h in range(heads):
            rows = [t[b, :, h] for t in (q, k, v)]
            out[b, :, h] = literal_head(*rows, steps[b, :, :, h], places, decomposed)
    return out


def literal_head(q, k, v, steps, places, decomposed):
    def weights(n, others, row_first):
        logits = [
            q[n] @ k[m] * q.shape[-1] ** -0.5 + literal_mask(steps, places[n], places[m], row_first)
            for m in others
        ]
        return torch.stack(logits).softmax(0)

    tokens = range(len(places))
    if not decomposed:
        return torch.stack(
            [(weights(n, tokens, True) + weights(n, tokens, False)) / 2 @ v for n in tokens]
        )

    def inside(values, axis):
        out = []
        for n in tokens:
            others = [m for m in tokens if places[m][axis] == places[n][axis]]
            out.append(weights(n, others, True) @ values[others])
        return torch.stack(out)

    return (inside(inside(v, 0), 1) + inside(inside(v, 1), 0)) / 2


@pytest.fixture
def in_chunks(monkeypatch):
    """Make attention go through some heads, and through some queries of those, at a time."""
    monkeypatch.setattr(chunked_attention, "_CHUNK", {"other": 0})
    monkeypatch.setattr(chunked_attention, "_FEWEST_QUERIES", 2)


@pytest.mark.parametrize("size", [(3, 5), (4, 2)])
def test_mask_is_the_sum_of_the_steps_on_the_path(size):
    steps = -torch.rand(2, *size, 2, 2)
    mask = polyline_mask(steps)
    for n in range(size[0] * size[1]):
        for m in range(size[0] * size[1]):
            query, key = divmod(n, size[1]), divmod(m, size[1])
            for row_first, found in ((True, mask[1, 1, n, m]), (False, mask[1, 1, m, n])):
                expected = literal_mask(steps[1, :, :, 1], query, key, row_first)
                assert found.item() == pytest.approx(float(expected), abs=1e-6)


@FORMS
@IMPLEMENTATIONS
@pytest.mark.parametrize("size", SIZES)
def test_equals_the_formula_token_by_token(size, implementation, decomposed):
    q, k, v, steps = inputs(*size, heads=2, dtype=torch.float64)
    out = polyline_attention(q, k, v, steps, decomposed=decomposed, implementation=implementation)
    torch.testing.assert_close(out, literal(q, k, v, steps, decomposed))


def check_implementations_agree(size, decomposed, **options):
    tensors = [t.requires_grad_() for t in inputs(*size, heads=4, dim=16)]
    weight = torch.randn_like(tensors[0])
    results = []
    for implementation in ("reference", "fused"):
        out = polyline_attention(
            *tensors, decomposed=decomposed, implementation=implementation, **options
        )
        results.append((out, *torch.autograd.grad((out * weight).sum(), tensors)))
    for expected, actual in zip(*results):
        if expected.abs().max() < 5e-6:  # one token attends to itself
            assert actual.abs().max() < 5e-6
        else:
            assert relative_rms_error(actual, expected) < 1e-5


@FORMS
@pytest.mark.parametrize("size", [*SIZES, (13, 9)])
def test_fused_against_reference_with_gradients(size, decomposed):
    check_implementations_agree(size, decomposed)
    check_implementations_agree(size, decomposed, scale=0.5)


@FORMS
@pytest.mark.usefixtures("in_chunks")
@pytest.mark.parametrize("size", [*SIZES, (13, 9)])
def test_chunks_against_reference_with_gradients(size, decomposed):
    check_implementations_agree(size, decomposed)


@pytest.mark.usefixtures("in_chunks")
@pytest.mark.parametrize("size", [(3, 5), (1, 7), (6, 1)])
def test_parts_of_rows_against_reference_with_gradients(monkeypatch, size):
    """As of maps so large that the weights of one row of queries are too many."""
    monkeypatch.setattr(joined, "_LARGEST_ROW", 0)
    check_implementations_agree(size, decomposed=False)


@pytest.mark.usefixtures("in_chunks")
@pytest.mark.parametrize("size", [*SIZES, (13, 9)])
def test_each_polyline_on_its_own_against_reference_with_gradients(monkeypatch, size):
    """As in low precision and on other devices."""
    monkeypatch.setattr(fused, "products_are_plain", lambda q: False)
    check_implementations_agree(size, decomposed=False)


@FORMS
@pytest.mark.parametrize("budget", [2 * 28 * 28, 2 * 3 * 28 * 28, 2 * 5 * 28, 2 * 14 * 28])
def test_several_heads_or_rows_in_a_chunk(monkeypatch, budget, decomposed):
    monkeypatch.setattr(chunked_attention, "_CHUNK", {"other": budget})
    monkeypatch.setattr(chunked_attention, "_FEWEST_QUERIES", 1)
    check_implementations_agree((4, 7), decomposed)


@FORMS
@pytest.mark.parametrize("size", [(3, 5), (1, 7), (6, 1)])
def test_traced_against_reference_with_gradients(monkeypatch, size, decomposed):
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    check_implementations_agree(size, decomposed)


@FORMS
@pytest.mark.usefixtures("in_chunks")
def test_gradients_by_finite_differences(decomposed):
    tensors = inputs(2, 3, heads=1, dim=2, batch=1, dtype=torch.float64)
    tensors = [t.requires_grad_() for t in tensors]
    attention = functools.partial(polyline_attention, decomposed=decomposed)
    assert torch.autograd.gradcheck(attention, tensors)


@FORMS
def test_second_derivatives_are_refused(decomposed):
    tensors = [t.requires_grad_() for t in inputs(3, 4)]
    out = polyline_attention(*tensors, decomposed=decomposed)
    (grad,) = torch.autograd.grad(out.square().sum(), tensors[-1:], create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        grad.sum().backward()


@HALF
@FORMS
def test_half_precision(dtype, decomposed):
    tensors = [t.requires_grad_() for t in inputs(7, 9, dim=16, dtype=dtype)]
    assert tensors[-1].dtype == torch.float32
    weight = torch.randn(tensors[0].shape)
    exact = [t.detach().float().requires_grad_() for t in tensors]
    out = polyline_attention(*tensors, decomposed=decomposed, implementation="fused")
    expected = polyline_attention(*exact, decomposed=decomposed, implementation="reference")
    assert out.dtype == dtype
    tolerance = 2e-2 if dtype == torch.bfloat16 else 3e-3
    assert relative_rms_error(out.float(), expected) < tolerance
    grads = torch.autograd.grad((out.float() * weight).sum(), tensors)
    for actual, reference in zip(grads, torch.autograd.grad((expected * weight).sum(), exact)):
        assert relative_rms_error(actual.float(), reference) < tolerance


@FORMS
def test_sums_of_long_lines_keep_their_precision_in_half_precision(decomposed):
    """A line of 1500 tokens loses 150; bfloat16 tells neighbours there apart by 1 at best."""
    q, k, v, steps = inputs(1, 1500, heads=1, batch=1, dtype=torch.bfloat16)
    steps = torch.full_like(steps, -0.1)
    results = [
        polyline_attention(*t, decomposed=decomposed, implementation=i)
        for t, i in (([q, k, v, steps], "fused"), ([q.float(), k.float(), v.float(), steps], None))
    ]
    error = (results[0].float() - results[1])[0, 1400:].abs().mean()
    assert error < 1e-2 * results[1][0, 1400:].abs().mean()


@HALF
@pytest.mark.parametrize(("size", "decomposed"), [((20, 30), True), ((20, 30), False)])
def test_large_activations_do_not_overflow(size, decomposed, dtype):
    tensors = [(1e3 * t).to(dtype).requires_grad_() for t in inputs(*size, heads=1, batch=1)[:3]]
    steps = torch.full((1, *size, 1, 2), -30.0, requires_grad=True)
    out = polyline_attention(*tensors, steps, decomposed=decomposed)
    assert out.isfinite().all()
    assert out.abs().max() <= tensors[2].abs().max()
    grads = torch.autograd.grad(out.float().mean(), (*tensors, steps))
    assert all(grad.isfinite().all() for grad in grads)


@FORMS
@IMPLEMENTATIONS
def test_nan_stays_visible(implementation, decomposed):
    q, k, v, steps = inputs(4, 4)
    k[0, 3, 1, 2] = float("nan")
    out = polyline_attention(q, k, v, steps, decomposed=decomposed, implementation=implementation)
    assert out[0, :, 1].isnan().any()
    assert not out[1].isnan().any()
    assert not out[0, :, 0].isnan().any()


@FORMS
@IMPLEMENTATIONS
def test_turning_the_map_turns_the_result(implementation, decomposed):
    """Both orders of row and column are there: no axis comes first."""
    q, k, v, steps = inputs(4, 6)
    turned = [t.unflatten(1, (4, 6)).transpose(1, 2).flatten(1, 2) for t in (q, k, v)]
    options = {"decomposed": decomposed, "implementation": implementation}
    out = polyline_attention(*turned, steps.transpose(1, 2).flip(-1), **options)
    expected = polyline_attention(q, k, v, steps, **options)
    back = out.unflatten(1, (6, 4)).transpose(1, 2).flatten(1, 2)
    torch.testing.assert_close(back, expected, atol=1e-5, rtol=1e-4)


def test_shapes_must_agree():
    q, k, v, steps = inputs(2, 4)
    with pytest.raises(ValueError, match=r"one shape \(B, L, h, d\)"):
        polyline_attention(q, k[:, :4], v, steps)
    expected = r"\(B, H, W, h, 2\) with B = 2, H \* W = 8 and h = 3, got "
    for wrong in (steps[:, :, :3], steps[..., :2, :], steps[..., :1], steps[:1], steps.flatten(1)):
        with pytest.raises(ValueError, match=expected):
            polyline_attention(q, k, v, wrong)


@FORMS
@pytest.mark.usefixtures("in_chunks")
def test_no_mask_or_weight_is_whole(decomposed):
    """Of storages that autograd keeps, the largest is a few tensors of tokens; of those made too.

    On tensors that are made while the gradients are, a `TorchFunctionMode` has no eye: there, the
    buffers of the chunks are asked for.
    """
    kept, buffers = {}, []
    make = chunked_attention.buffer
    with (
        torch.autograd.graph.saved_tensors_hooks(
            lambda t: (kept.update({t.untyped_storage().data_ptr(): t}), t)[1], lambda t: t
        ),
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setattr(
            chunked_attention, "buffer", lambda *a: (buffers.append(a[0].numel()), make(*a))[1]
        )
        tensors = [t.requires_grad_() for t in inputs(40, 32, heads=2, batch=1)]
        out = polyline_attention(*tensors, decomposed=decomposed)
        out.sum().backward()
    mask = 2 * 40 * 32 * (40 + 32 if decomposed else 40 * 32)
    largest = max(t.untyped_storage().nbytes() // t.element_size() for t in kept.values())
    assert largest <= 2 * out.numel() < mask / 4
    assert len(buffers) > 20
    assert max(buffers) < mask / 4


@FORMS
def test_meta_device_counts_the_formula(decomposed):
    tensors = [t.to("meta") for t in inputs(90, 70)]
    assert polyline_attention(*tensors, decomposed=decomposed).shape == tensors[0].shape
