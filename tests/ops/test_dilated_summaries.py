import pytest
import torch

from mmeffvit.ops import dilated_summaries, summary_attention
from mmeffvit.ops.dilated_summaries.places import axis_places, point_places, span_runs
from mmeffvit.testing import relative_rms_error

# map, k, dilation: more spans than channels, fewer, one, a map smaller than its reflection
CASES = [
    ((9, 14), 2, 1),
    ((7, 5), 3, 2),
    ((4, 4), 3, 3),
    ((1, 6), 3, 2),
    ((2, 1), 7, 4),
    ((24, 33), 3, 1),
]


def reflected(place, length):
    """A walk to and fro, one place at a time."""
    position, step = 0, 1
    for _ in range(place):
        if length == 1:
            break
        if not 0 <= position + step < length:
            step = -step
        position += step
    return position


def literal(x, heads, k, dilation):
    """One number at a time, as the authors' code puts them in a row and averages them."""
    batch, channels, height, width = x.shape
    dim, span = channels // heads, dilation * (k - 1) + 1
    rows, columns = -(-height // span), -(-width // span)
    out = x.new_zeros(batch, heads, k * k, dim)
    for head in range(heads):
        for point in range(k * k):
            row = []
            for window in range(rows * columns):
                y = reflected(window // columns * span + point // k * dilation, height)
                z = reflected(window % columns * span + point % k * dilation, width)
                row += [x[:, head * dim + c, y, z] for c in range(dim)]
            for r in range(dim):
                run = row[r * rows * columns : (r + 1) * rows * columns]
                out[:, head, point, r] = torch.stack(run).mean(0)
    return out


@pytest.mark.parametrize("implementation", ["fused", "reference"])
@pytest.mark.parametrize(("size", "k", "dilation"), CASES[:5])
def test_equals_the_formula_number_by_number(size, k, dilation, implementation):
    x = torch.randn(2, 6, *size, dtype=torch.float64)
    out = dilated_summaries(x, 2, k, dilation, implementation=implementation)
    torch.testing.assert_close(out, literal(x, 2, k, dilation))


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 2e-2)])
@pytest.mark.parametrize(("size", "k", "dilation"), CASES)
def test_implementations_agree(size, k, dilation, dtype, tolerance, channels_last):
    x = torch.randn(2, 15, *size, dtype=dtype)
    if channels_last:
        x = x.contiguous(memory_format=torch.channels_last)
    results = []
    for implementation in ("fused", "reference"):
        inputs = x.clone().requires_grad_()
        out = dilated_summaries(inputs, 3, k, dilation, implementation=implementation)
        (out * out.detach().sin()).sum().backward()
        results.append((out, inputs.grad))
    for actual, expected in zip(*results):
        assert actual.dtype == dtype
        assert relative_rms_error(actual, expected) < tolerance


def test_graphs_of_any_number_of_spans():
    def summaries(x):
        return dilated_summaries(x, 2, 3, 2)

    torch._dynamo.reset()
    compiled = torch.compile(summaries, backend="eager", dynamic=True, fullgraph=True)
    for size in ((9, 14), (7, 5), (24, 33)):
        x = torch.randn(1, 8, *size)
        torch.testing.assert_close(compiled(x), summaries(x))


def test_places_walk_to_and_fro():
    for length in (1, 2, 3, 7):
        places = axis_places(length, 20, torch.device("cpu")).tolist()
        assert places == [reflected(i, length) for i in range(20)]


def test_points_of_two_spans():
    places = point_places((3, 8), 2, 2, torch.device("cpu"))
    # spans of 3 x 3 at columns 0, 3 and 6; column 8 is column 6 again
    assert places.tolist() == [[0, 3, 6], [2, 5, 6], [16, 19, 22], [18, 21, 22]]


def test_whole_spans_are_never_read_number_by_number():
    runs = span_runs((70, 70), 7, 1, 14, torch.device("cpu"))
    # 100 spans in 14 runs, which end inside of 12 spans: 100 / 14 is whole at one half
    assert runs.places.shape == (49, 88)
    assert runs.cut_places.shape == (49, 12)
    assert runs.run.sum() * 14 + runs.cut_run.sum() == 100 * 14
    few = span_runs((70, 70), 7, 8, 14, torch.device("cpu"))
    assert few.places.shape == (49, 0)
    assert few.cut_places.shape == (49, 4)


def test_large_numbers_stay_in_range_of_float16():
    x = torch.full((1, 4, 20, 20), 3e4, dtype=torch.float16)
    for implementation in ("fused", "reference"):
        out = dilated_summaries(x, 1, 2, 1, implementation=implementation)
        torch.testing.assert_close(out, torch.full_like(out, 3e4))


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 2e-2)])
@pytest.mark.parametrize("dim", [3, 8])
def test_attention(dim, dtype, tolerance):
    tokens = [torch.randn(2, 3, n, dim, dtype=dtype, requires_grad=True) for n in (11, 5, 5)]
    results = []
    for implementation in ("fused", "reference"):
        out = summary_attention(*tokens, implementation=implementation)
        grads = torch.autograd.grad((out * out.detach().sin()).sum(), tokens)
        results.append([out, *grads])
    for actual, expected in zip(*results):
        assert relative_rms_error(actual, expected) < tolerance
    q, k, v = (t.detach().double() for t in tokens)
    weights = torch.einsum("bhld,bhmd->bhlm", q, k).div(dim**0.5).softmax(-1)
    assert relative_rms_error(results[1][0].double(), weights @ v) < tolerance


def test_impossible_arguments():
    x = torch.randn(1, 6, 5, 5)
    for heads in (4, 0):
        with pytest.raises(ValueError, match=r"multiple of num_heads, got \(1, 6, 5, 5\) and"):
            dilated_summaries(x, heads, 3, 1)
    with pytest.raises(ValueError, match="must be positive, got 3 and 0"):
        dilated_summaries(x, 2, 3, 0)
    q, k = torch.randn(1, 2, 5, 4), torch.randn(1, 2, 5, 3)
    with pytest.raises(ValueError, match=r"q \(B, h, L, D\) and k, v"):
        summary_attention(q, k, k)
