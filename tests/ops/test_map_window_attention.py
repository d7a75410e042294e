import pytest
import torch
import torch.nn.functional as F

from mmeffvit.ops import map_window_attention
from mmeffvit.ops.map_window_attention import from_windows, to_windows
from mmeffvit.testing import relative_rms_error

# map, window: dividing, ragged on one axis and on both, stripes, wider than the map, whole
CASES = [
    ((6, 8), (3, 4)),
    ((7, 9), (3, 4)),
    ((9, 5), (None, 1)),
    ((9, 5), (None, 3)),
    ((5, 9), (4, None)),
    ((4, 6), (None, 12)),
    ((3, 2), (7, 7)),
    ((5, 7), (None, None)),
    ((1, 1), (2, 5)),
]


def inputs(size, heads=3, dim=8, batch=2, dtype=torch.float32):
    return [torch.randn(batch, *size, heads, dim, dtype=dtype) for _ in range(3)]


def literal(q, k, v, window, padding):
    """One sample, one head, one token at a time, with zeros that are counted and not made."""
    batch, *size, heads, dim = q.shape
    axes = []
    for length, side in zip(size, window):
        side = side or length
        missing = (side - length % side) % side
        before = missing // 2 if padding == "even" else 0
        of = [(i + before) // side for i in range(length)]
        axes.append((of, side))
    (row_of, rows), (column_of, columns) = axes
    out = torch.empty_like(q)
    for y in range(size[0]):
        for x in range(size[1]):
            same_row = [i for i, w in enumerate(row_of) if w == row_of[y]]
            same_column = [i for i, w in enumerate(column_of) if w == column_of[x]]
            zeros = rows * columns - len(same_row) * len(same_column)
            for b in range(batch):
                for h in range(heads):
                    keys, values = (t[b, same_row][:, same_column, h].flatten(0, 1) for t in (k, v))
                    exponentials = (keys @ q[b, y, x, h] * dim**-0.5).exp()
                    total = exponentials.sum() + zeros
                    out[b, y, x, h] = (exponentials / total) @ values
    return out


@pytest.mark.parametrize("implementation", ["reference", "fused"])
@pytest.mark.parametrize("padding", ["even", "end"])
@pytest.mark.parametrize(("size", "window"), CASES)
def test_equals_the_formula_token_by_token(size, window, padding, implementation):
    q, k, v = inputs(size, heads=2, dim=4, dtype=torch.float64)
    out = map_window_attention(q, k, v, window, padding, implementation=implementation)
    torch.testing.assert_close(out, literal(q, k, v, window, padding))


def results(tensors, window, padding, implementation):
    """Output and the gradients of all inputs."""
    out = map_window_attention(*tensors, window, padding, implementation=implementation)
    weight = torch.randn(out.shape, generator=torch.Generator().manual_seed(0))
    return [out, *torch.autograd.grad((out.float() * weight).sum(), tensors)]


@pytest.mark.parametrize("padding", ["even", "end"])
@pytest.mark.parametrize(("size", "window"), [*CASES[:-1], ((20, 31), (14, 14))])
def test_fused_against_reference_with_gradients(size, window, padding):
    tensors = [t.requires_grad_() for t in inputs(size, dim=16)]
    actual, expected = (results(tensors, window, padding, name) for name in ("fused", "reference"))
    for ours, reference in zip(actual, expected):
        assert relative_rms_error(ours, reference) < 1e-5


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.bfloat16, 2e-2), (torch.float16, 3e-3)])
@pytest.mark.parametrize(("size", "window"), [((7, 9), (3, 4)), ((9, 5), (None, 3))])
def test_half_precision(size, window, dtype, tolerance):
    tensors = [t.to(dtype).requires_grad_() for t in inputs(size, dim=16)]
    exact = [t.detach().float().requires_grad_() for t in tensors]
    actual = results(tensors, window, "even", "fused")
    for ours, reference in zip(actual, results(exact, window, "even", "reference")):
        assert ours.dtype == dtype
        assert relative_rms_error(ours.float(), reference) < tolerance


@pytest.mark.parametrize("implementation", ["reference", "fused"])
def test_scale(implementation):
    q, k, v = inputs((5, 6), dtype=torch.float64)
    out = map_window_attention(q, k, v, (2, 3), scale=0.5, implementation=implementation)
    torch.testing.assert_close(out, literal(q * 0.5 * 8**0.5, k, v, (2, 3), "even"))


def test_zeros_are_not_masked_and_their_split_decides_who_meets():
    """Four tokens in windows of three: even padding puts one zero on each end."""
    q = torch.zeros(1, 4, 1, 1, 1)
    v = torch.tensor([1.0, 2.0, 4.0, 8.0]).view_as(q)
    even, end = (map_window_attention(q, q, v, (3, None), padding) for padding in ("even", "end"))
    assert even.flatten().tolist() == pytest.approx([1.0, 1.0, 4.0, 4.0])
    assert end.flatten().tolist() == pytest.approx([7 / 3, 7 / 3, 7 / 3, 8 / 3])
    # two zeros of five: one before, one after; three of six: one before, two after
    index = torch.arange(1.0, 4).view(1, 3, 1)
    assert to_windows(index, (5, None)).flatten().tolist() == [0, 1, 2, 3, 0]
    assert to_windows(index, (6, None)).flatten().tolist() == [0, 1, 2, 3, 0, 0]
    assert to_windows(index, (6, None), "end").flatten().tolist() == [1, 2, 3, 0, 0, 0]


def test_a_window_wider_than_the_map_is_not_cut_to_it():
    q, k, v = inputs((4, 3))
    whole = map_window_attention(q, k, v, (None, None))
    torch.testing.assert_close(map_window_attention(q, k, v, (None, 3)), whole)
    wider = map_window_attention(q, k, v, (None, 7))
    assert relative_rms_error(wider, whole) > 0.1
    # so many zeros take part that nothing is left of the values
    assert map_window_attention(q, k, v, (None, 400)).abs().max() < 0.1


@pytest.mark.parametrize("padding", ["even", "end"])
@pytest.mark.parametrize(("size", "window"), CASES)
def test_windows_go_back_to_the_map(size, window, padding):
    x = torch.randn(2, *size, 3)
    windows = to_windows(x, window, padding)
    assert windows.shape[1:3] == tuple(side or length for side, length in zip(window, size))
    assert torch.equal(from_windows(windows, size, window, padding), x)
    assert windows.sum() == pytest.approx(x.sum().item(), abs=1e-4)


@pytest.mark.parametrize("window", [(2, None), (None, None)])
def test_windows_as_wide_as_the_map_are_views(window):
    """Also of a slice of a projection's channels."""
    v = torch.randn(2, 6, 5, 3, 4, 8)[:, :, :, 2]
    windows = to_windows(v, window)
    assert windows.data_ptr() == v.data_ptr()
    assert from_windows(windows, (6, 5), window).data_ptr() == v.data_ptr()


def test_nan_stays_in_its_window():
    q, k, v = inputs((4, 6))
    k[0, 0, 5, 1, 2] = float("nan")
    for implementation in ("reference", "fused"):
        out = map_window_attention(q, k, v, (None, 2), implementation=implementation)
        assert out[0, :, 4:, 1].isnan().all()
        out[0, :, 4:, 1] = 0
        assert not out.isnan().any()


def test_no_weights_are_kept_for_the_backward_pass():
    tensors = [t.requires_grad_() for t in inputs((64, 32), heads=1, dim=8, batch=1)]
    largest = {}
    for implementation in ("reference", "fused"):
        saved = []
        with torch.autograd.graph.saved_tensors_hooks(
            lambda t, saved=saved: (saved.append(t.numel()), t)[1], lambda t: t
        ):
            map_window_attention(*tensors, (None, 4), implementation=implementation)
        largest[implementation] = max(saved)
    assert largest["fused"] <= 64 * 32 * 8
    assert largest["reference"] >= 64 * 32 * 64 * 4  # so that the measurement is shown to see it


@pytest.mark.slow
@pytest.mark.parametrize("window", [(3, 4), (None, 2), (3, None)])
def test_one_graph_for_maps_of_any_size(window):
    """Sizes that divide and sizes that do not, in one exported program."""

    class Attention(torch.nn.Module):
        def forward(self, q, k, v):
            return map_window_attention(q, k, v, window)

    sides = {1: torch.export.Dim.DYNAMIC, 2: torch.export.Dim.DYNAMIC}
    program = torch.export.export(
        Attention(), tuple(inputs((7, 10))), dynamic_shapes=(sides, sides, sides)
    )
    for size in [(7, 10), (6, 8), (5, 6), (12, 12)]:
        tensors = inputs(size)
        expected = map_window_attention(*tensors, window)
        torch.testing.assert_close(program.module()(*tensors), expected)


def test_impossible_arguments():
    q, k, v = inputs((4, 4))
    with pytest.raises(ValueError, match=r"one shape \(B, H, W, h, d\)"):
        map_window_attention(q, k[:, :2], v, (2, 2))
    with pytest.raises(ValueError, match="one shape"):
        map_window_attention(q[0], k[0], v[0], (2, 2))
    with pytest.raises(ValueError, match=r"each positive or None for the whole axis: \(0, None\)"):
        map_window_attention(q, k, v, (0, None))
    with pytest.raises(ValueError, match="padding must be 'even' or 'end', got 'start'"):
        map_window_attention(q, k, v, (2, 2), "start")


def test_zeros_of_the_whole_map_are_those_of_a_padded_map():
    """UniFormer and ViT-CoMer put zeros at the end: the same as padding q, k and v by hand."""
    q, k, v = inputs((5, 6))
    padded = [F.pad(t, (0, 0, 0, 0, 0, 1, 0, 1)) for t in (q, k, v)]
    expected = map_window_attention(*padded, (3, 7))[:, :5, :6]
    torch.testing.assert_close(map_window_attention(q, k, v, (3, 7), "end"), expected)
