import math

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from mmeffvit.ops import points
from mmeffvit.ops.points.window_attention import fused
from mmeffvit.testing import relative_rms_error

# points, heads, window, bin, shift: one point, odd sizes, a bin that is no power of two
CASES = [
    (1, 1, 3, 0.25, 0.0),
    (2, 2, 3, 0.5, 1.5),
    (57, 2, 3, 0.25, 0.0),
    (131, 1, 4, 0.3, 2.0),
    (90, 3, 20, 1.0, 0.0),
]


def case(count, heads, side, quant, shift, dtype=torch.float64, dim=4):
    xyz = torch.rand(count, 3) * torch.tensor([9.0, 7.0, 3.0])
    batch = torch.arange(count) * 2 // max(count, 2)
    bins = math.ceil(side / quant - 1e-4)
    shifts = (shift, shift, 0.5 if shift else 0.0)
    windows = points.RelativeWindows.of(xyz, batch, (side, side, 1.0), quant, bins, shifts)
    tensors = [torch.randn(count, heads, dim, dtype=dtype) for _ in range(3)]
    tensors += [torch.randn(2 * bins - 1, 3, heads, dim, dtype=dtype) for _ in range(3)]
    return [t.requires_grad_() for t in tensors], windows, (xyz, batch, shifts)


def literal(tensors, windows):
    """One query after the other."""
    q, k, v, q_table, k_table, v_table = tensors
    out = []
    for i in range(len(q)):
        mates = (windows.window == windows.window[i]).nonzero().flatten()
        rows = windows.bins[i] - windows.bins[mates] + windows.num_bins - 1
        tq, tk, tv = (sum(t[rows[:, a], a] for a in range(3)) for t in (q_table, k_table, v_table))
        logits = (q[i] * k[mates]).sum(-1) + (q[i] * tq).sum(-1) + (k[mates] * tk).sum(-1)
        out.append((logits.softmax(0)[..., None] * (v[mates] + tv)).sum(0))
    return torch.stack(out)


@pytest.mark.parametrize("implementation", ["fused", "reference"])
@pytest.mark.parametrize("sizes", CASES)
def test_equals_the_formula_query_by_query(sizes, implementation):
    tensors, windows, _ = case(*sizes)
    out = points.window_attention(*tensors, windows, implementation=implementation)
    expected = literal(tensors, windows)
    torch.testing.assert_close(out, expected)
    g = torch.randn_like(out)
    grads = torch.autograd.grad(out, tensors, g)
    for actual, reference in zip(grads, torch.autograd.grad(expected, tensors, g)):
        torch.testing.assert_close(actual, reference)


@pytest.mark.parametrize("limit", [1, 200, 3000])
def test_chunks_of_windows_and_of_queries(monkeypatch, limit):
    monkeypatch.setitem(fused._CHUNK_NUMBERS, "cpu", limit)
    tensors, windows, _ = case(90, 3, 4, 0.5, 0.0, torch.float32)
    results = []
    for implementation in ("fused", "reference"):
        out = points.window_attention(*tensors, windows, implementation=implementation)
        results.append((out, *torch.autograd.grad(out.square().sum(), tensors)))
    for actual, expected in zip(*results):
        assert relative_rms_error(actual, expected) < 1e-5


@pytest.mark.parametrize(
    ("side", "quant", "shift"), [(4, 0.25, 0.0), (3, 0.25, 1.5), (4, 0.4, 0.0)]
)
def test_windows_and_bins_point_by_point(side, quant, shift):
    _, windows, (xyz, batch, shifts) = case(70, 1, side, quant, shift)
    low, sizes = xyz.double().amin(0), (side, side, 1)
    boxes = []
    for p, b in zip(xyz.double(), batch):
        moved = [float(p[a] - low[a] + shifts[a]) for a in range(3)]
        boxes.append((int(b), *(int(m // s) for m, s in zip(moved, sizes))))
        own = windows.bins[len(boxes) - 1].tolist()
        assert own == [int((m % s) // quant) for m, s in zip(moved, sizes)]
    for i in range(70):
        for j in range(70):
            assert (windows.window[i] == windows.window[j]) == (boxes[i] == boxes[j])
    pairs = {(i, j) for i in range(70) for j in range(70) if boxes[i] == boxes[j]}
    query, key = windows.pairs
    assert set(zip(query.tolist(), key.tolist())) == pairs
    assert len(query) == len(pairs)
    assert windows.counts.sum() == 70


def test_all_points_in_one_place():
    xyz, batch = torch.ones(40, 3), torch.zeros(40, dtype=torch.int64)
    windows = points.RelativeWindows.of(xyz, batch, (4.0, 4.0, 1.0), 0.25, 16)
    q, k, v = torch.randn(3, 40, 1, 16)
    tables = torch.randn(3, 31, 3, 1, 16)
    for implementation in ("fused", "reference"):
        out = points.window_attention(q, k, v, *tables, windows, implementation=implementation)
        centre = tables[:, 15].sum(1)  # (3, h, d)
        logits = (q[:, 0] @ (k[:, 0] + centre[0, 0]).T) + (k[:, 0] @ centre[1, 0])
        expected = logits.softmax(-1) @ (v[:, 0] + centre[2, 0])
        torch.testing.assert_close(out[:, 0], expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_computed_in_full(dtype):
    tensors, windows, _ = case(57, 2, 3, 0.25, 0.0, torch.float32)
    half = [(t.detach() * 30).to(dtype).requires_grad_() for t in tensors]
    full = [t.detach().float().requires_grad_() for t in half]
    out = points.window_attention(*half, windows)
    expected = points.window_attention(*full, windows, implementation="reference")
    assert out.dtype == dtype
    torch.testing.assert_close(out, expected.to(dtype))
    with torch.autocast("cpu", torch.bfloat16):
        under = points.window_attention(*full, windows)
    assert under.dtype == torch.float32
    torch.testing.assert_close(under, expected, rtol=1e-4, atol=1e-3)
    for grad in torch.autograd.grad(out.float().square().mean(), half):
        assert grad.isfinite().all()


class Largest(TorchDispatchMode):
    """Numbers in the largest tensor that any operation makes."""

    numel = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        for tensor in out if isinstance(out, tuple | list) else [out]:
            if isinstance(tensor, torch.Tensor) and tensor.untyped_storage().nbytes() > 0:
                # what is expanded or viewed takes no memory of its own
                owned = tensor.untyped_storage().nbytes() // tensor.element_size()
                self.numel = max(self.numel, min(tensor.numel(), owned))
        return out


def test_nothing_is_as_large_as_pairs_times_head_dim():
    sizes, kept = {}, []
    tensors, windows, _ = case(1500, 2, 4, 0.25, 0.0, torch.float32, dim=16)
    pairs = len(windows.pairs[0]) * 2
    assert pairs > 40_000
    for implementation in ("reference", "fused"):
        hooks = torch.autograd.graph.saved_tensors_hooks(
            lambda t: kept.append(t.numel()) or t, lambda t: t
        )
        kept.clear()
        with Largest() as largest, hooks:
            out = points.window_attention(*tensors, windows, implementation=implementation)
            torch.autograd.grad(out.sum(), tensors)
        sizes[implementation] = (largest.numel, max(kept))
    assert sizes["reference"][0] >= 16 * pairs
    assert sizes["fused"][0] < 8 * pairs
    # slots of q, k and v are kept, and nothing per pair
    assert sizes["fused"][1] <= 3 * len(windows.layout.slots) * 2 * 16


def test_bad_arguments():
    tensors, windows, _ = case(9, 2, 3, 0.25, 0.0)
    with pytest.raises(ValueError, match=r"for the 9 points of the windows"):
        points.window_attention(*(t[:8] for t in tensors[:3]), *tensors[3:], windows)
    with pytest.raises(ValueError, match=r"k_table must be \(23, 3, 2, 4\), got \(22, 3, 2, 4\)"):
        points.window_attention(*tensors[:4], tensors[4][:-1], tensors[5], windows)
    with pytest.raises(ValueError, match="tables are made for 8"):
        points.RelativeWindows.of(torch.rand(3, 3), torch.zeros(3).long(), (4.0, 4.0, 1.0), 0.25, 8)
