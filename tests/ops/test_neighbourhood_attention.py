import importlib.machinery
import itertools
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from mmeffvit.ops import (
    UnavailableImplementationError,
    explain,
    neighbour_positions,
    neighbour_tokens,
    neighbourhood_attention,
)
from mmeffvit.ops.neighbourhood_attention import fused, natten
from mmeffvit.ops.neighbourhood_attention.strips import cut_map
from mmeffvit.ops.neighbourhood_attention.tiles import axis_phases
from mmeffvit.testing import relative_rms_error
from tests.ops.agreement import assert_agree

GOLDEN = Path(__file__).parents[1] / "data/golden/dinat.npz"

# height, width, kernel, dilation: whole map, ragged tiles, phases of two lengths, one-wide maps,
# both axes unlike, windows longer and shorter than a tile
CASES = [
    (7, 7, 7, 1),
    (5, 9, 3, 1),
    (12, 29, 7, 1),
    (11, 14, 3, 3),
    (26, 23, 5, 4),
    (1, 9, (1, 5), 1),
    (13, 1, (3, 1), (4, 1)),
    (1, 1, 1, 1),
    (9, 17, (3, 5), (2, 3)),
    (30, 6, (11, 1), (2, 3)),
]


def inputs(height, width, heads=2, dim=8, batch=2, dtype=torch.float32):
    return [torch.randn(batch, height, width, heads, dim, dtype=dtype) for _ in range(3)]


def pair(value):
    return (value, value) if isinstance(value, int) else value


def neighbours(i, length, kernel, dilation):
    """Neighbours of one index, by the definition."""
    phase, rank = i % dilation, i // dilation
    same_phase = [j for j in range(length) if j % dilation == phase]
    first = min(max(rank - (kernel - 1) // 2, 0), len(same_phase) - kernel)
    return same_phase[first : first + kernel]


def literal(q, k, v, kernel, dilation, bias=None):
    """One query at a time."""
    kernel, dilation = pair(kernel), pair(dilation)
    _, height, width, _, dim = q.shape
    out = torch.empty_like(q)
    for y in range(height):
        rows = neighbours(y, k.shape[1], kernel[0], dilation[0])
        for x in range(width):
            columns = neighbours(x, k.shape[2], kernel[1], dilation[1])
            keys, values = (t[:, rows][:, :, columns].flatten(1, 2) for t in (k, v))
            logits = (q[:, None, y, x] * keys).sum(-1) * dim**-0.5
            if bias is not None:
                down = [j // dilation[0] - y // dilation[0] + kernel[0] - 1 for j in rows]
                right = [j // dilation[1] - x // dilation[1] + kernel[1] - 1 for j in columns]
                logits = logits + bias[:, down][:, :, right].flatten(1).t()
            weights = logits.softmax(1)
            out[:, y, x] = (weights[..., None] * values).sum(1)
    return out


@pytest.mark.parametrize(
    ("length", "kernel", "dilation"), [(7, 7, 1), (8, 3, 1), (14, 3, 4), (13, 3, 4), (23, 5, 4)]
)
def test_positions_follow_the_definition(length, kernel, dilation):
    expected = [neighbours(i, length, kernel, dilation) for i in range(length)]
    assert neighbour_positions(length, kernel, dilation).tolist() == expected


def test_windows_are_shifted_at_borders_and_centred_elsewhere():
    assert neighbour_positions(7, 5, 1).tolist() == [
        *[[0, 1, 2, 3, 4]] * 3,
        [1, 2, 3, 4, 5],
        *[[2, 3, 4, 5, 6]] * 3,
    ]
    # two phases of unequal length
    assert neighbour_positions(7, 3, 2)[:, 0].tolist() == [0, 1, 0, 1, 2, 1, 2]


def test_tokens_are_row_major_with_rows_slowest():
    tokens = neighbour_tokens(4, 5, (3, 1), (1, 1))
    assert tokens[7].tolist() == [2, 7, 12]
    assert neighbour_tokens(4, 5, (3, 3), (1, 1))[0].tolist() == [0, 1, 2, 5, 6, 7, 10, 11, 12]


@pytest.mark.parametrize(("height", "width", "kernel", "dilation"), CASES)
def test_equals_the_formula_query_by_query(height, width, kernel, dilation):
    q, k, v = inputs(height, width, dtype=torch.float64)
    expected = literal(q, k, v, kernel, dilation)
    for implementation in ("reference", "fused"):
        out = neighbourhood_attention(q, k, v, kernel, dilation, implementation=implementation)
        torch.testing.assert_close(out, expected)


def check_gradients(tensors, kernel, dilation, tolerance=1e-5, bias=None):
    weight = torch.randn_like(tensors[0])
    results = []
    leaves = tensors if bias is None else [*tensors, bias]
    for implementation in ("reference", "fused"):
        out = neighbourhood_attention(
            *tensors, kernel, dilation, bias=bias, implementation=implementation
        )
        results.append((out, *torch.autograd.grad((out * weight).sum(), leaves)))
    assert_agree(*results, tolerance)


@pytest.mark.parametrize(("height", "width", "kernel", "dilation"), CASES)
def test_fused_against_reference_with_gradients(height, width, kernel, dilation):
    check_gradients([t.requires_grad_() for t in inputs(height, width, dim=16)], kernel, dilation)


@pytest.mark.parametrize(
    ("height", "width", "kernel", "dilation"), [(29, 33, 19, 1), (58, 61, 29, 2), (50, 42, 5, 1)]
)
def test_large_kernels(height, width, kernel, dilation):
    tensors = inputs(height, width, heads=1, dim=4, batch=1)
    check_gradients([t.requires_grad_() for t in tensors], kernel, dilation)


def few_at_a_time(monkeypatch, limit):
    for numbers in (fused._LOGITS_AT_A_TIME, fused._NUMBERS_AT_A_TIME):
        monkeypatch.setitem(numbers, "cpu", limit)


@pytest.mark.parametrize("limit", [1, 700, 5000])
def test_any_number_of_tiles_and_heads_at_a_time(monkeypatch, limit):
    few_at_a_time(monkeypatch, limit)
    tensors = [t.requires_grad_() for t in inputs(18, 41, heads=3)]
    check_gradients(tensors, 5, (1, 2))


@pytest.mark.parametrize(("height", "width", "kernel", "dilation"), CASES)
def test_gradients_through_the_kernels_of_a_device(monkeypatch, height, width, kernel, dilation):
    """What runs on a GPU, run here."""
    monkeypatch.setattr(fused, "_gradients_for", lambda *_: fused._recomputed_gradients)
    check_gradients([t.requires_grad_() for t in inputs(height, width)], kernel, dilation)


def relative_bias(kernel, heads=2, dtype=torch.float32):
    rows, columns = pair(kernel)
    return torch.randn(heads, 2 * rows - 1, 2 * columns - 1, dtype=dtype).requires_grad_()


def inputs_on_a_larger_map(size, key_size, heads=2, dim=8, dtype=torch.float32):
    sizes = (size, key_size, key_size)
    return [torch.randn(2, *s, heads, dim, dtype=dtype).requires_grad_() for s in sizes]


# size of the map of queries and of that of keys, kernel, dilation: as after padding at the bottom,
# on the right, on both; fewer queries than phases
LARGER_MAPS = [
    ((5, 9), (9, 9), 3, 3),
    ((9, 4), (9, 21), 7, (1, 3)),
    ((6, 8), (21, 35), 7, (3, 5)),
    ((3, 2), (20, 15), 5, (4, 3)),
]
# every odd kernel from 3 to 13; phases of two lengths; unlike axes; SSViT's large kernels
BIASED = [
    *CASES[1:],
    (19, 26, 9, 2),
    (23, 31, 11, 2),
    (29, 44, 13, 1),
    (30, 57, 13, 2),
    (41, 38, (13, 3), (3, 4)),
    (33, 31, 29, 1),
]


class TestBias:
    @pytest.mark.parametrize(("height", "width", "kernel", "dilation"), BIASED[:9:2])
    def test_equals_the_formula_query_by_query(self, height, width, kernel, dilation):
        tensors = inputs(height, width, dtype=torch.float64)
        bias = relative_bias(kernel, dtype=torch.float64)
        expected = literal(*tensors, kernel, dilation, bias)
        for implementation in ("reference", "fused"):
            out = neighbourhood_attention(
                *tensors, kernel, dilation, bias=bias, implementation=implementation
            )
            torch.testing.assert_close(out, expected)

    @pytest.mark.parametrize(("height", "width", "kernel", "dilation"), BIASED)
    def test_fused_against_reference_with_gradients(self, height, width, kernel, dilation):
        tensors = [t.requires_grad_() for t in inputs(height, width, dim=2, batch=1)]
        check_gradients(tensors, kernel, dilation, bias=relative_bias(kernel))

    @pytest.mark.parametrize(("height", "width", "kernel", "dilation"), BIASED[::3])
    def test_through_the_kernels_of_a_device(self, monkeypatch, height, width, kernel, dilation):
        monkeypatch.setattr(fused, "_gradients_for", lambda *_: fused._recomputed_gradients)
        tensors = [t.requires_grad_() for t in inputs(height, width, dim=2, batch=1)]
        check_gradients(tensors, kernel, dilation, bias=relative_bias(kernel))

    @pytest.mark.parametrize("limit", [1, 700, 5000])
    def test_any_number_of_tiles_and_heads_at_a_time(self, monkeypatch, limit):
        few_at_a_time(monkeypatch, limit)
        tensors = [t.requires_grad_() for t in inputs(18, 41, heads=3)]
        check_gradients(tensors, 5, (1, 2), bias=relative_bias(5, heads=3))

    def test_gradient_of_the_bias_alone(self):
        q, k, v = inputs(9, 12)
        bias = relative_bias(3)
        for implementation in ("reference", "fused"):
            out = neighbourhood_attention(q, k, v, 3, 2, bias=bias, implementation=implementation)
            out[..., 0].sum().backward()
        assert bias.grad.abs().max() > 0
        # every logit's gradient counts against those of the same query
        torch.testing.assert_close(bias.grad.sum((1, 2)), torch.zeros(2), atol=1e-4, rtol=0)

    @pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
    def test_half_precision_of_queries_alone(self, dtype):
        """As under autocast: the bias is a parameter in float32, and so is its gradient."""
        tensors = [t.to(dtype).requires_grad_() for t in inputs(12, 29, dim=16)]
        bias = relative_bias(7)
        weight = torch.randn(tensors[0].shape)
        grads = []
        for implementation in ("reference", "fused"):
            out = neighbourhood_attention(*tensors, 7, bias=bias, implementation=implementation)
            assert out.dtype == dtype
            grads.append(torch.autograd.grad((out.float() * weight).sum(), [*tensors, bias]))
        for expected, actual in zip(*grads):
            assert actual.dtype == expected.dtype
            tolerance = 2e-2 if dtype == torch.bfloat16 else 3e-3
            assert relative_rms_error(actual.float(), expected.float()) < tolerance

    @pytest.mark.parametrize("implementation", ["reference", "fused"])
    @pytest.mark.parametrize("name", ["na_d1", "na_d3", "na_pad"])
    def test_equals_the_authors_module(self, name, implementation):
        """Numbers of NATTEN's module, whose padding is made of keys and values that are biases."""
        with np.load(GOLDEN) as file:
            prefix = f"op/{name}/"
            data = {
                key.removeprefix(prefix): torch.from_numpy(file[key])
                for key in file.files
                if key.startswith(prefix)
            }
        kernel, dilation = data["in/kernel_dilation"].tolist()
        x = data["in/x"]
        pad = [max(0, kernel * dilation - side) for side in x.shape[1:3]]
        x = torch.nn.functional.pad(x, (0, 0, 0, pad[1], 0, pad[0]))
        qkv = torch.nn.functional.linear(x, data["state/qkv.weight"], data["state/qkv.bias"])
        q, k, v = qkv.unflatten(-1, (3, 2, 4)).unbind(3)
        height, width = data["in/x"].shape[1:3]
        out = neighbourhood_attention(
            q[:, :height, :width], k, v, kernel, dilation,
            bias=data["state/rpb"], implementation=implementation,
        )  # fmt: skip
        out = torch.nn.functional.linear(
            out.flatten(3), data["state/proj.weight"], data["state/proj.bias"]
        )
        torch.testing.assert_close(out, data["out"], atol=2e-6, rtol=0)

    def test_compiled(self):
        tensors = inputs_on_a_larger_map((7, 5), (9, 6))
        leaves = [*tensors, relative_bias(3)]
        weight = torch.randn_like(tensors[0])

        def attend(q, k, v, bias):
            return neighbourhood_attention(q, k, v, 3, (3, 2), bias=bias)

        results = []
        for function in (attend, torch.compile(attend, backend="aot_eager", fullgraph=True)):
            out = function(*leaves)
            results.append((out, *torch.autograd.grad((out * weight).sum(), leaves)))
        for expected, actual in zip(*results):
            torch.testing.assert_close(actual, expected)


class TestLargerMapOfKeys:
    @pytest.mark.parametrize(("size", "key_size", "kernel", "dilation"), LARGER_MAPS)
    def test_equals_the_formula_query_by_query(self, size, key_size, kernel, dilation):
        tensors = inputs_on_a_larger_map(size, key_size, dtype=torch.float64)
        bias = relative_bias(kernel, dtype=torch.float64)
        expected = literal(*tensors, kernel, dilation, bias)
        for implementation in ("reference", "fused"):
            out = neighbourhood_attention(
                *tensors, kernel, dilation, bias=bias, implementation=implementation
            )
            torch.testing.assert_close(out, expected)

    @pytest.mark.parametrize("bias", [False, True])
    @pytest.mark.parametrize(("size", "key_size", "kernel", "dilation"), LARGER_MAPS)
    def test_gradients(self, size, key_size, kernel, dilation, bias):
        tensors = inputs_on_a_larger_map(size, key_size)
        check_gradients(tensors, kernel, dilation, bias=relative_bias(kernel) if bias else None)

    def test_only_the_queries_cost(self):
        """An image of 32 pixels at a dilation of 28: 64 queries, not 196 x 196."""
        queries, logits = 0, 0
        for tiles in tiles_of((8, 8), (196, 196), 7, 28):
            count = tiles.down.count * math.prod(tiles.strips.lead)
            queries += count * tiles.num_queries
            logits += count * tiles.num_queries * tiles.num_keys
        assert (queries, logits) == (64, 64 * 49)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize(("height", "width", "kernel", "dilation"), [CASES[2], CASES[4]])
def test_half_precision(height, width, kernel, dilation, dtype):
    tensors = [t.to(dtype).requires_grad_() for t in inputs(height, width, dim=16)]
    weight = torch.randn(tensors[0].shape)
    exact = [t.detach().float().requires_grad_() for t in tensors]
    out = neighbourhood_attention(*tensors, kernel, dilation, implementation="fused")
    expected = neighbourhood_attention(*exact, kernel, dilation, implementation="reference")
    assert out.dtype == dtype
    tolerance = 2e-2 if dtype == torch.bfloat16 else 3e-3
    assert relative_rms_error(out.float(), expected) < tolerance
    grads = torch.autograd.grad((out.float() * weight).sum(), tensors)
    expected_grads = torch.autograd.grad((expected * weight).sum(), exact)
    for actual, reference in zip(grads, expected_grads):
        assert actual.dtype == dtype
        assert relative_rms_error(actual.float(), reference) < tolerance


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("implementation", ["reference", "fused"])
def test_large_activations(dtype, implementation):
    """Logits of 1e6, far beyond half precision, are not infinite."""
    tensors = [(1e3 * t).to(dtype).requires_grad_() for t in inputs(12, 15)]
    out = neighbourhood_attention(*tensors, 5, 2, implementation=implementation)
    assert out.isfinite().all()
    # softmax chooses one neighbour: the gradient of the values is a count
    for grad in torch.autograd.grad(out.float().sum(), tensors)[2:]:
        assert grad.isfinite().all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_under_autocast(dtype):
    tensors = [t.requires_grad_() for t in inputs(9, 12)]
    expected = neighbourhood_attention(*tensors, 3, 2, implementation="reference")
    with torch.autocast("cpu", dtype=dtype):
        out = neighbourhood_attention(*tensors, 3, 2, implementation="fused")
        grads = torch.autograd.grad(out.sum(), tensors)
    torch.testing.assert_close(out, expected)
    for actual, reference in zip(grads, torch.autograd.grad(expected.sum(), tensors)):
        torch.testing.assert_close(actual, reference, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("implementation", ["reference", "fused"])
def test_scale(implementation):
    q, k, v = inputs(8, 9, dtype=torch.float64)
    out = neighbourhood_attention(q, k, v, 3, scale=0.5, implementation=implementation)
    torch.testing.assert_close(out, literal(q * 0.5 * q.shape[-1] ** 0.5, k, v, 3, 1))


def test_gradient_of_values_alone():
    """As in a network whose first projection is partly frozen."""
    q, k, v = inputs(9, 12)
    weight = torch.randn_like(v.requires_grad_())
    grads = []
    for implementation in ("reference", "fused"):
        out = neighbourhood_attention(q, k, v, 3, 2, implementation=implementation)
        grads.append(torch.autograd.grad((out * weight).sum(), v)[0])
    torch.testing.assert_close(*grads)


def test_same_result_with_and_without_gradients():
    tensors = inputs(19, 13)
    with torch.inference_mode():
        expected = neighbourhood_attention(*tensors, 5)
    # tables cached under inference mode serve training
    tensors = [t.requires_grad_() for t in tensors]
    out = neighbourhood_attention(*tensors, 5)
    assert torch.equal(out, expected)
    out.sum().backward()


def test_a_token_out_of_every_window_has_no_influence():
    q, k, v = inputs(6, 30, batch=1)
    before = neighbourhood_attention(q, k, v, 3)
    k[:, 2, 20], v[:, 2, 20] = 7.0, -5.0
    changed = (neighbourhood_attention(q, k, v, 3) != before).flatten(3).any(-1)[0].nonzero()
    # the window of the first row is shifted down to rows 0 to 2
    assert changed.tolist() == [[y, x] for y in range(4) for x in range(19, 22)]


def test_nan_stays_in_its_image_and_head():
    q, k, v = inputs(9, 9)
    k[0, 3, 1, 1, 2] = float("nan")
    out = neighbourhood_attention(q, k, v, 3)
    assert out[0, :, :, 1].isnan().any()
    assert not out[1].isnan().any()
    assert not out[0, :, :, 0].isnan().any()


@pytest.mark.parametrize("kernel", range(1, 31, 2))
@pytest.mark.parametrize(
    ("length", "dilation", "queries"),
    [(200, 6, 200), (336, 1, 336), (65, 2, 65), (93, 3, 40), (31, 1, 31), (66, 2, 61), (41, 1, 9)],
)
def test_tiles_cover_an_axis_once_and_see_all_neighbours(length, kernel, dilation, queries):
    positions = neighbour_positions(length, kernel, dilation)
    seen = []
    for phases in axis_phases(length, kernel, dilation, queries, tile=4):
        for tiles in phases.tiles:
            allowed, relative = tiles.allowed("cpu"), tiles.relative("cpu")
            for phase, tile in itertools.product(range(phases.count), range(tiles.count)):
                keys = tiles.key + tile * tiles.key_step + torch.arange(tiles.window)
                for i in range(tiles.size - (tiles.beyond if tile == tiles.count - 1 else 0)):
                    rank = tiles.query + tile * tiles.query_step + i
                    query = phases.first + phase + rank * dilation
                    neighbours = keys[allowed[i]]
                    at = phases.first + phase + neighbours * dilation
                    assert at.tolist() == positions[query].tolist()
                    places = relative[min(tile, len(relative) - 1), i][allowed[i]]
                    assert places.tolist() == (neighbours - rank + kernel - 1).tolist()
                    seen.append(query)
    assert sorted(seen) == list(range(queries))


def tiles_of(size, key_size, kernel, dilation):
    """All tiles of a map, in strips of one kind."""
    cut = cut_map(size, key_size, (kernel,) * 2, (dilation,) * 2)
    return [tiles for strips in cut.strips(lambda strip: 1, 10**9) for tiles in strips.tiles()]


def test_windows_stay_near_the_size_of_kernels():
    """Multiply-accumulates of all tiles over those of the formula, at 800 x 1344 and 512 x 512."""
    for size, kernel, dilation in [
        ((200, 336), 29, 1),
        ((200, 336), 29, 6),
        ((200, 336), 7, 28),
        ((128, 128), 19, 1),
        ((128, 128), 19, 6),
    ]:
        groups = tiles_of(size, size, kernel, dilation)
        logits = sum(
            t.down.count * math.prod(t.strips.lead) * t.num_queries * t.num_keys for t in groups
        )
        assert logits < 2 * size[0] * size[1] * kernel**2
        # few groups, so that few calls
        assert len(groups) <= 9


class TestErrors:
    def test_shapes_must_agree(self):
        q, k, v = inputs(8, 8)
        with pytest.raises(ValueError, match=r"one shape \(B, H, W, h, d\)"):
            neighbourhood_attention(q, k[:, :4], v, 3)
        with pytest.raises(ValueError, match="one shape"):
            neighbourhood_attention(q[0], k[0], v[0], 3)

    def test_keys_of_a_smaller_map(self):
        q, k, v = inputs(8, 8)
        with pytest.raises(ValueError, match=r"keys of 4 rows for queries of 8.* one shape"):
            neighbourhood_attention(q, k[:, :4], v[:, :4], 3)

    def test_bias_has_the_heads_and_the_kernel(self):
        message = r"bias of 2 heads and a kernel \(3, 3\) must be \(2, 5, 5\), got \(2, 5, 7\)"
        with pytest.raises(ValueError, match=message):
            neighbourhood_attention(*inputs(8, 8), 3, bias=torch.zeros(2, 5, 7))

    @pytest.mark.parametrize(("kernel", "dilation"), [(4, 1), (0, 1), (-1, 1), ((3, 2), 1), (3, 0)])
    def test_kernels_are_odd_and_dilations_positive(self, kernel, dilation):
        with pytest.raises(ValueError, match="needs odd kernels and dilations of at least 1"):
            neighbourhood_attention(*inputs(8, 8), kernel, dilation)

    def test_window_must_fit(self):
        with pytest.raises(ValueError, match=r"kernel of 3 at dilation 3 needs 9 columns.* has 8"):
            neighbourhood_attention(*inputs(9, 8), 3, 3)

    def test_two_axes(self):
        with pytest.raises(ValueError, match="kernel must be one number, or one for rows"):
            neighbourhood_attention(*inputs(9, 8), (3, 3, 3))


class TestNatten:
    """Only what it refuses: its kernels need a GPU."""

    def test_not_installed(self, monkeypatch):
        monkeypatch.setattr(natten.importlib.util, "find_spec", lambda name: None)
        tensors = inputs(8, 8)
        with pytest.raises(UnavailableImplementationError, match="natten: natten is not installed"):
            neighbourhood_attention(*tensors, 3, implementation="natten")
        # and without being asked for by name it is not in the way
        assert "fused: runs" in explain("neighbourhood_attention", *tensors, (3, 3), (1, 1))

    def installed(self, monkeypatch, version):
        spec = importlib.machinery.ModuleSpec("natten", None)
        monkeypatch.setattr(natten.importlib.util, "find_spec", lambda name: spec)
        monkeypatch.setattr(natten, "version", lambda name: version)

    @pytest.mark.parametrize("version", ["0.14.6", "0.17.5", "0.19.0+cu121"])
    def test_old_releases(self, monkeypatch, version):
        self.installed(monkeypatch, version)
        reason = natten.refuses(*inputs(8, 8), (3, 3), (1, 1))
        assert reason == f"natten {version} is installed; 0.20 or later is needed"

    def test_what_its_kernels_cannot(self, monkeypatch):
        self.installed(monkeypatch, "0.21.0+torch280cu128")
        assert "run on CUDA" in natten.refuses(*inputs(8, 8), (3, 3), (1, 1))

        class OnCuda:
            device = torch.device("cuda")

            def __init__(self, dtype=torch.float32, dim=32):
                self.dtype, self.shape = dtype, (1, 8, 8, 2, dim)

        def refuses(q, kernel=(3, 3), bias=None):
            return natten.refuses(q, q, q, kernel, (1, 1), bias=bias)

        assert refuses(OnCuda()) is None
        assert "float64" in refuses(OnCuda(torch.float64))
        assert "multiple of 8, got 12" in refuses(OnCuda(dim=12))
        assert "at least 2" in refuses(OnCuda(), (1, 3))
        assert "takes no relative bias" in refuses(OnCuda(), bias=torch.zeros(2, 5, 5))
        smaller = OnCuda()
        smaller.shape = (1, 7, 8, 2, 32)
        reason = natten.refuses(smaller, OnCuda(), OnCuda(), (3, 3), (1, 1))
        assert reason == "natten takes queries and keys of one map"


def test_forward_holds_no_weights_of_a_window():
    """What autograd keeps is as large as the map: no L x k x k weights, no gathered keys."""
    tensors = [t.requires_grad_() for t in inputs(24, 24, heads=1, dim=8, batch=1)]
    tokens, saved = 24 * 24, {}
    for implementation in ("reference", "fused"):
        storages = {}
        with torch.autograd.graph.saved_tensors_hooks(
            lambda t, kept=storages: (kept.update({t.untyped_storage().data_ptr(): t}), t)[1],
            lambda t: t,
        ):
            neighbourhood_attention(*tensors, 11, implementation=implementation)
        saved[implementation] = sum(t.untyped_storage().nbytes() // 4 for t in storages.values())
    assert saved["fused"] <= 4 * tokens * 8 + tokens  # and a normaliser of each query
    assert saved["reference"] >= tokens * 121 * 8  # so that the measurement is shown to see it


@pytest.mark.slow
def test_kernel_of_29_at_detection_size():
    """The first stage at 800 x 1344, forward and backward, against the formula at some queries."""
    q, k, v = (t.requires_grad_() for t in inputs(200, 336, heads=1, dim=4, batch=1))
    out = neighbourhood_attention(q, k, v, 29)
    out.sum().backward()
    assert all(t.grad.isfinite().all() for t in (q, k, v))
    # weights sum to 1, so that the values' gradients sum to the number of outputs
    assert v.grad.sum().item() == pytest.approx(out.numel(), rel=1e-4)
    tokens = neighbour_tokens(200, 336, (29, 29), (1, 1))
    queries, keys, values = (t.detach()[0, :, :, 0].flatten(0, 1) for t in (q, k, v))
    for token in (0, 335, 67199, 336 * 77 + 140):
        weights = (keys[tokens[token]] @ queries[token] * 0.5).softmax(0)
        torch.testing.assert_close(
            out[0, :, :, 0].flatten(0, 1)[token], weights @ values[tokens[token]]
        )


@pytest.mark.parametrize("implementation", ["fused", "reference"])
@pytest.mark.parametrize(
    ("size", "kernel", "dilation"),
    [((5, 8), (3, 3), 1), ((4, 11), (3, 5), 2), ((1, 1), (3, 3), 1), ((2, 3), (3, 3), 4)],
)
def test_zeros_beyond_the_map_are_keys(size, kernel, dilation, implementation):
    """Windows that stay centred, of which a place beyond the map has a logit of zero."""
    torch.manual_seed(0)
    q, k, v = (torch.randn(2, *size, 3, 4, dtype=torch.float64) for _ in range(3))
    options = {"border": "zeros", "implementation": implementation}
    out = neighbourhood_attention(q, k, v, kernel, dilation, **options)
    for y in range(size[0]):
        for x in range(size[1]):
            logits, values = [], []
            for i in range(-(kernel[0] // 2), kernel[0] // 2 + 1):
                for j in range(-(kernel[1] // 2), kernel[1] // 2 + 1):
                    row, column = y + dilation * i, x + dilation * j
                    inside = 0 <= row < size[0] and 0 <= column < size[1]
                    key, value = (
                        t[:, row, column] * 1 if inside else 0 * t[:, 0, 0] for t in (k, v)
                    )
                    logits.append((q[:, y, x] * key).sum(-1) / 2)
                    values.append(value)
            weights = torch.stack(logits, -1).softmax(-1)
            expected = (weights[..., None] * torch.stack(values, -2)).sum(-2)
            torch.testing.assert_close(out[:, y, x], expected)


def test_borders_are_known():
    q = torch.randn(1, 3, 3, 1, 2)
    with pytest.raises(ValueError, match="border must be 'shift' or 'zeros', got 'clamp'"):
        neighbourhood_attention(q, q, q, 3, border="clamp")
