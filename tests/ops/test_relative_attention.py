import math

import pytest
import torch

from mmeffvit.ops import chunked_attention, relative_attention
from mmeffvit.ops.relative_attention import by_query_and_key
from mmeffvit.ops.relative_attention.pieces import cut_queries
from mmeffvit.testing import relative_rms_error

IMPLEMENTATIONS = pytest.mark.parametrize("implementation", ["fused", "reference"])
TABLES = [("gain",), ("bias",), ("factor",), ("gain", "bias", "factor"), ()]
#: map and window: all of it, cut at one or both edges, larger than the map, one token
CASES = [
    ((5, 4), None),
    ((1, 6), None),
    ((7, 5), (3, 3)),
    ((6, 7), (4, 2)),
    ((3, 2), (5, 4)),
    ((1, 1), None),
]


def inputs(size, window, heads=3, dim=4, batch=2, dtype=torch.float64, names=TABLES[3]):
    tokens = [torch.randn(batch, *size, heads, dim, dtype=dtype) for _ in range(3)]
    rows, columns = window or size
    table_type = torch.promote_types(dtype, torch.float32)
    tables = {
        name: torch.randn(heads, 2 * rows - 1, 2 * columns - 1, dtype=table_type) for name in names
    }
    for t in (*tokens, *tables.values()):
        t.requires_grad_()
    return tokens, tables


def literal(q, k, v, window, gain, bias, factor):
    """One token at a time; tables are read at the key's place minus the query's."""
    _, height, width, heads, dim = q.shape
    rows, columns = window or (height, width)
    out = torch.zeros_like(v)
    places = [(y, x) for y in range(height) for x in range(width)]
    for y, x in places:
        others = [p for p in places if (p[0] // rows, p[1] // columns) == (y // rows, x // columns)]
        for h in range(heads):
            at = [(h, u - y + rows - 1, w - x + columns - 1) for u, w in others]
            logits = [
                (q[:, y, x, h] * k[:, u, w, h]).sum(-1) * dim**-0.5 * gain[i] + bias[i]
                for (u, w), i in zip(others, at)
            ]
            weights = torch.stack(logits, -1).softmax(-1)
            for n, ((u, w), i) in enumerate(zip(others, at)):
                out[:, y, x, h] += weights[:, n, None] * factor[i] * v[:, u, w, h]
    return out


@IMPLEMENTATIONS
@pytest.mark.parametrize(("size", "window"), [((3, 4), None), ((4, 5), (3, 2))])
def test_equals_the_formula_token_by_token(size, window, implementation):
    tokens, tables = inputs(size, window, heads=2, batch=1)
    with torch.no_grad():
        out = relative_attention(*tokens, window, **tables, implementation=implementation)
        torch.testing.assert_close(out, literal(*tokens, window, **tables))


def check_implementations_agree(size, window, names):
    tokens, tables = inputs(size, window, names=names)
    results = []
    for implementation in ("fused", "reference"):
        out = relative_attention(*tokens, window, **tables, implementation=implementation)
        loss = (out * out.detach().sin()).sum()
        results.append([out, *torch.autograd.grad(loss, [*tokens, *tables.values()])])
    for actual, expected in zip(*results, strict=True):
        torch.testing.assert_close(actual, expected)


@pytest.mark.parametrize("chunk", [None, 40, 0])
@pytest.mark.parametrize(("size", "window"), CASES)
def test_fused_against_reference_with_gradients(monkeypatch, size, window, chunk):
    if chunk is not None:  # parts of rows, rows, samples
        monkeypatch.setattr(chunked_attention, "_CHUNK", {"other": chunk})
        monkeypatch.setattr(chunked_attention, "_FEWEST_QUERIES", 2)
    check_implementations_agree(size, window, TABLES[3])


@pytest.mark.parametrize("names", TABLES, ids=["gain", "bias", "factor", "all", "none"])
def test_each_table_alone(names):
    check_implementations_agree((4, 5), (3, 3), names)


@pytest.mark.parametrize("window", [None, (2, 2)])
def test_numerical_gradients(window):
    tokens, tables = inputs((2, 3), window, heads=1, dim=2, batch=1)

    def attend(q, k, v, *tables):
        named = dict(zip(("gain", "bias", "factor"), tables, strict=True))
        return relative_attention(q, k, v, window, **named, scale=0.7)

    assert torch.autograd.gradcheck(attend, (*tokens, *tables.values()), fast_mode=True)


def test_tables_that_need_no_gradient():
    tokens, tables = inputs((3, 4), None)
    fixed = {name: table.detach() for name, table in tables.items()}
    grads = [
        torch.autograd.grad(relative_attention(*tokens, **t).square().sum(), tokens)
        for t in (tables, fixed)
    ]
    assert all(torch.equal(a, b) for a, b in zip(*grads))


@pytest.mark.parametrize("window", [None, (3, 4)])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@IMPLEMENTATIONS
def test_half_precision(dtype, implementation, window):
    """Values and logits of a thousand; the numbers are those of the rounded inputs."""
    tokens, tables = inputs((7, 5), window, dim=8, dtype=dtype)
    exact = [t.detach().double().requires_grad_() for t in tokens]
    double = {name: table.detach().double().requires_grad_() for name, table in tables.items()}
    large = [tokens[0], tokens[1], tokens[2] * 1e3]
    with torch.autocast("cpu", dtype=dtype):
        out = relative_attention(*large, window, **tables, implementation=implementation)
    expected = relative_attention(exact[0], exact[1], exact[2] * 1e3, window, **double)
    assert out.dtype == dtype
    assert relative_rms_error(out, expected) < 1e-2
    weight = torch.randn(out.shape) * 1e-3
    grads = torch.autograd.grad((out.float() * weight).sum(), [*tokens, *tables.values()])
    wanted = torch.autograd.grad((expected * weight).sum(), [*exact, *double.values()])
    for actual, reference in zip(grads, wanted, strict=True):
        assert relative_rms_error(actual, reference) < 2e-2


def test_without_tables_it_is_attention():
    tokens, _ = inputs((3, 4), None, names=())
    q, k, v = (t.flatten(1, 2).transpose(1, 2) for t in tokens)
    expected = torch.nn.functional.scaled_dot_product_attention(q, k, v).transpose(1, 2)
    torch.testing.assert_close(relative_attention(*tokens).flatten(1, 2), expected)


def test_offsets_are_those_of_the_key_minus_the_query():
    offsets = torch.stack(torch.meshgrid(torch.arange(-1, 2), torch.arange(-2, 3), indexing="ij"))
    table = by_query_and_key(offsets, (2, 3))
    assert table[:, 0].T.tolist() == [[0, 0], [0, 1], [0, 2], [1, 0], [1, 1], [1, 2]]
    assert table[:, 5, 0].tolist() == [-1, -2]


def test_pieces_are_of_a_size_on_maps_of_a_detector():
    """100 x 168 tokens: stride 8 of 800 x 1344 pixels. Every query is in one piece."""
    for size, batch in (((100, 168), 2), ((25, 42), 2), ((7, 7), 768)):
        tokens = size[0] * size[1]
        seen, largest = 0, 0
        for piece in cut_queries(8, batch, size, torch.device("cpu")):
            parts = [part.stop - part.start for part in piece]
            largest = max(largest, math.prod(parts) * tokens)
            seen += math.prod(parts)
        assert seen == 8 * batch * tokens
        assert largest <= max(2**18, 32 * tokens)


def test_nothing_is_kept_by_query_and_key():
    kept = {}
    with torch.autograd.graph.saved_tensors_hooks(
        lambda t: (kept.update({t.untyped_storage().data_ptr(): t}), t)[1], lambda t: t
    ):
        tokens, tables = inputs((12, 9), None, dtype=torch.float32)
        out = relative_attention(*tokens, **tables)
    largest = max(t.untyped_storage().nbytes() // t.element_size() for t in kept.values())
    assert largest <= max(out.numel(), tables["gain"].numel())


def test_impossible_arguments():
    tokens, tables = inputs((4, 5), None)
    with pytest.raises(ValueError, match=r"one shape \(B, H, W, h, d\)"):
        relative_attention(tokens[0], tokens[1][:, :3], tokens[2])
    with pytest.raises(ValueError, match="both positive, or None: \\(3, 0\\)"):
        relative_attention(*tokens, (3, 0))
    with pytest.raises(ValueError, match=r"gain must be .* r = 2 rows and c = 5 columns"):
        relative_attention(*tokens, (2, 5), **tables)
    with pytest.raises(ValueError, match=r"factor must be .* h = 3 heads .* got \(2, 7, 9\)"):
        relative_attention(*tokens, factor=tables["factor"][:2])
