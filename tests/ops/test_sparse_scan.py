import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from mmeffvit.ops import neighbourhood_attention, sparse_scan_attention, sparse_scan_steps
from mmeffvit.testing import relative_rms_error

# side of the map -> (kernel, dilation) of the chained steps, not reversed and reversed, as the
# authors' code computes them with a window of 7
PUBLISHED = {
    (56, 56): ([(7, 1), (9, 6)], [(9, 1), (7, 8)]),
    (28, 28): ([(7, 1), (5, 5)], [(5, 1), (7, 4)]),
    (14, 14): ([(7, 1), (3, 4)], [(3, 1), (7, 2)]),
    (7, 7): ([(7, 1)], [(7, 1)]),
    (128, 128): ([(7, 1), (19, 6)], [(19, 1), (7, 18)]),
    (64, 64): ([(7, 1), (9, 7)], [(9, 1), (7, 9)]),
    (32, 32): ([(7, 1), (5, 6)], [(5, 1), (7, 4)]),
    (16, 16): ([(7, 1), (3, 5)], [(3, 1), (7, 2)]),
    (200, 336): ([(7, 1), (29, 6)], [(29, 1), (7, 28)]),
    (100, 168): ([(7, 1), (15, 6)], [(15, 1), (7, 14)]),
    (50, 84): ([(7, 1), (7, 7)], [(7, 1), (7, 7)]),
    (42, 25): ([(7, 1), (3, 7)], [(3, 1), (7, 3)]),
}
CAPPED = {
    (200, 336): ([(7, 1), (13, 15)], [(13, 1), (7, 28)]),
    (100, 168): ([(7, 1), (13, 7)], [(13, 1), (7, 14)]),
    (128, 128): ([(7, 1), (13, 9)], [(13, 1), (7, 18)]),
    (56, 56): ([(7, 1), (9, 6)], [(9, 1), (7, 8)]),
}
# smaller than the window, which the authors' code refuses
SMALL = {
    (6, 9): ([(5, 1)], [(5, 1)]),
    (3, 3): ([(3, 1)], [(3, 1)]),
    (2, 40): ([], []),
    (1, 1): ([], []),
}


def inputs(height, width, heads=2, dim=8, batch=2, dtype=torch.float32):
    return [torch.randn(batch, height, width, heads, dim, dtype=dtype) for _ in range(3)]


def steps_of(height, width, window, **kwargs):
    found = []
    for reverse in (False, True):
        steps = sparse_scan_steps(height, width, window, reverse, **kwargs)
        assert all(s.kernel[0] == s.kernel[1] and s.dilation[0] == s.dilation[1] for s in steps)
        found.append([(step.kernel[0], step.dilation[0]) for step in steps])
    return tuple(found)


@pytest.mark.parametrize("size", PUBLISHED)
def test_published_sizes(size):
    assert steps_of(*size, 7) == PUBLISHED[size]


@pytest.mark.parametrize("size", SMALL)
def test_maps_smaller_than_the_window(size):
    assert steps_of(*size, 7) == SMALL[size]


@pytest.mark.parametrize("size", CAPPED)
def test_capped_kernels_keep_spanning_the_shorter_side(size):
    assert steps_of(*size, 7, max_kernel=13) == CAPPED[size]


def test_other_windows():
    assert steps_of(24, 24, 3) == ([(3, 1), (9, 2)], [(9, 1), (3, 8)])
    # even sizes become odd, while distances start from the even one
    assert steps_of(20, 20, 4) == ([(5, 1), (5, 4)], [(5, 1), (5, 4)])
    # a lattice of every pixel needs an odd number of them
    assert steps_of(8, 8, 1) == ([(7, 1)], [(7, 1)])


def test_each_axis_by_its_own_length():
    local, anchors = sparse_scan_steps(14, 56, 7, per_axis=True)
    assert (local.kernel, local.dilation) == ((7, 7), (1, 1))
    assert (anchors.kernel, anchors.dilation) == ((3, 9), (4, 6))
    # a line is scanned along its length, and left alone by the shorter side's rule
    local, anchors = sparse_scan_steps(1, 56, 7, per_axis=True)
    assert (local.kernel, anchors.kernel, anchors.dilation) == ((1, 7), (1, 9), (1, 6))
    assert sparse_scan_steps(1, 56, 7) == []


@pytest.mark.parametrize("max_kernel", [None, 1, 5, 13])
@pytest.mark.parametrize("window", [1, 2, 3, 7, 10])
def test_every_step_fits_every_map(window, max_kernel):
    for length in range(1, 70):
        for reverse in (False, True):
            for kernel, dilation in sparse_scan_steps(
                length, length + 5, window, reverse, max_kernel=max_kernel
            ):
                assert kernel[0] % 2 == 1
                assert dilation[0] >= 1
                assert 1 < kernel[0] * dilation[0] <= length
                assert max_kernel is None or kernel[0] <= max_kernel


@pytest.mark.parametrize("reverse", [False, True])
def test_chains_both_steps_with_the_same_queries_and_keys(reverse):
    q, k, v = inputs(14, 17)
    local, anchors = ((3, 1), (7, 2)) if reverse else ((7, 1), (3, 4))
    expected = neighbourhood_attention(q, k, v, *local, implementation="reference")
    expected = neighbourhood_attention(q, k, expected, *anchors, implementation="reference")
    for implementation in ("fused", "reference"):
        out = sparse_scan_attention(q, k, v, 7, reverse, implementation=implementation)
        torch.testing.assert_close(out, expected)


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize(
    ("height", "width", "options"),
    [
        (16, 21, {}),
        (25, 17, {}),
        (22, 27, {"max_kernel": 3}),
        (9, 31, {"per_axis": True}),
        (1, 5, {}),
    ],
)
def test_fused_against_reference_with_gradients(height, width, options, reverse):
    tensors = [t.requires_grad_() for t in inputs(height, width, dim=16)]
    weight = torch.randn_like(tensors[0])
    results = []
    for implementation in ("reference", "fused"):
        out = sparse_scan_attention(
            *tensors, 4, reverse, scale=0.3, implementation=implementation, **options
        )
        grads = torch.autograd.grad((out * weight).sum(), tensors, allow_unused=True)
        results.append((out, *grads))
    for expected, actual in zip(*results):
        if expected is None:  # no step on a map of one row: the values as they are
            assert actual is None
        else:
            assert relative_rms_error(actual, expected) < 1e-5


def test_maps_of_one_row_keep_their_values():
    q, k, v = inputs(1, 9)
    assert torch.equal(sparse_scan_attention(q, k, v, 7), v)


def test_impossible_arguments():
    q, k, v = inputs(9, 9)
    with pytest.raises(ValueError, match=r"one shape \(B, H, W, h, d\)"):
        sparse_scan_attention(q[:, 0], k[:, 0], v[:, 0], 7)
    with pytest.raises(ValueError, match=r"window .* at least 1, got 0"):
        sparse_scan_attention(q, k, v, 0)
    with pytest.raises(ValueError, match="positive odd number or None, got 4"):
        sparse_scan_attention(q, k, v, 7, max_kernel=4)


class Calls(TorchDispatchMode):
    """Counts what PyTorch is asked to do, views included."""

    count = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.count += 1
        return function(*args, **(kwargs or {}))


def test_calls_do_not_grow_with_the_map():
    counts = []
    for size in ((25, 42), (75, 126)):
        tensors = inputs(*size, heads=1, dim=4, batch=1)
        sparse_scan_attention(*tensors, 5)  # makes the tables of this size
        with Calls() as calls:
            sparse_scan_attention(*tensors, 5)
        counts.append(calls.count)
    assert max(counts) < 160
