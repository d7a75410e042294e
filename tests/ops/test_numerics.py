"""Half precision, activations of a thousand and maps of 200 x 336: nothing overflows.

Softmax attention among all 67,200 tokens of such a map is tested on a smaller one.
"""

import functools

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from mmeffvit.ops import (
    ManhattanDecay,
    apply_rotary,
    decay_rates,
    manhattan_attention,
    map_window_attention,
    neighbourhood_attention,
    rank_augmented_linear_attention,
    rotary_softmax_attention,
    rotary_table_1d,
    rotary_table_2d,
    sec_attention,
    sec_cluster_ids,
    sparse_scan_attention,
)
from mmeffvit.testing import relative_rms_error

LARGE, SMALL = (200, 336), (12, 21)
DTYPES = [torch.bfloat16, torch.float16]
# rounding of inputs' products and of the output
TOLERANCE = {torch.bfloat16: 1e-2, torch.float16: 2e-3}


def linear(q, k, v, size, implementation):
    table = rotary_table_2d(*size, q.shape[-1])
    return rank_augmented_linear_attention(q, k, v, table, implementation=implementation)


def softmax(q, k, v, size, implementation):
    table = rotary_table_2d(*size, q.shape[-1])
    return rotary_softmax_attention(q, k, v, table, implementation=implementation)


def clusters(q, k, v, size, implementation):
    return sec_attention(q, k, v, max(4, q.shape[1] // 263), implementation=implementation)


def plain(q, k, v, size, implementation):
    return sec_attention(q, k, v, 1, implementation=implementation)


def neighbours(q, k, v, size, implementation):
    maps = (t.unflatten(1, size) for t in (q, k, v))
    return neighbourhood_attention(*maps, 7, 1, implementation=implementation).flatten(1, 2)


def windows(q, k, v, size, implementation):
    # sides that divide the small map: zeros beside it would take their share of constants
    maps = (t.unflatten(1, size) for t in (q, k, v))
    return map_window_attention(*maps, (3, 7), implementation=implementation).flatten(1, 2)


def scan(q, k, v, size, implementation):
    maps = (t.unflatten(1, size) for t in (q, k, v))
    out = sparse_scan_attention(*maps, 7, max_kernel=7, implementation=implementation)
    return out.flatten(1, 2)


def decay(q, k, v, size, implementation, decomposed=False):
    masks = ManhattanDecay(*size, decay_rates(q.shape[2]))
    return manhattan_attention(q, k, v, masks, decomposed=decomposed, implementation=implementation)


decomposed = functools.partial(decay, decomposed=True)
decomposed.__name__ = "decomposed"

# operator, head dimension; the linear one has that of the published networks, as its normaliser
# is a product of vectors, half of whose channels are zero for inputs of a thousand
LINEAR_COST = [(linear, 64), (clusters, 8), (windows, 8), (scan, 8), (decomposed, 8)]
ALL = [*LINEAR_COST, (softmax, 8), (plain, 8), (neighbours, 8), (decay, 8)]
SMALL_CASES = [(op, dim, SMALL, name) for op, dim in ALL for name in ("fused", "reference")]
LARGE_CASES = [(op, dim, LARGE, "fused") for op, dim in LINEAR_COST]


def parametrise(cases):
    ids = [f"{op.__name__}-{size[0]}x{size[1]}-{name}" for op, _, size, name in cases]
    slow = {SMALL: (), LARGE: pytest.mark.slow}
    params = [pytest.param(*case, marks=slow[case[2]]) for case in cases]
    return pytest.mark.parametrize(("op", "dim", "size", "implementation"), params, ids=ids)


case, small_case = parametrise(SMALL_CASES + LARGE_CASES), parametrise(SMALL_CASES)


def on_map(size):
    """Types to test: bfloat16 has the range of float32, and the small map says the rest."""
    return DTYPES if size == SMALL else [torch.float16]


def inputs(size, dim, scales):
    """Queries, keys, values that bfloat16 and float16 hold exactly, so that they share results."""
    torch.manual_seed(0)
    shape = (1, size[0] * size[1], 1, dim)
    return [(torch.randn(shape) * scale).bfloat16().half() for scale in scales]


def run(op, tensors, size, implementation, dtype):
    """Output and gradients, of a loss whose gradients are within the range of float16."""
    leaves = [t.to(dtype).requires_grad_() for t in tensors]
    half = dtype in DTYPES
    with torch.autocast("cpu", dtype=dtype if half else None, enabled=half):
        out = op(*leaves, size, implementation)
    weight = torch.randn(out.shape, generator=torch.Generator().manual_seed(1))
    if op is not linear:  # there, each token has a small share in a state of all
        weight = weight * 1e-3
    grads = torch.autograd.grad((out * weight.to(out.dtype)).sum(), leaves)
    return out.detach(), grads


@functools.lru_cache(maxsize=2)
def exact(op, dim, size, scales):
    return run(op, inputs(size, dim, scales), size, "fused", torch.float64)


@functools.lru_cache(maxsize=2)
@torch.no_grad()
def exact_output(op, dim, size, scales):
    return op(*(t.double() for t in inputs(size, dim, scales)), size, "fused")


@case
def test_values_of_a_thousand(op, dim, size, implementation):
    """Weights are smooth, so outputs and all gradients can be compared."""
    scales = (1.0, 1.0, 1e3)
    expected, expected_grads = exact(op, dim, size, scales)
    for dtype in on_map(size):
        out, grads = run(op, inputs(size, dim, scales), size, implementation, dtype)
        assert out.dtype == dtype
        assert relative_rms_error(out, expected) < TOLERANCE[dtype]
        for actual, reference in zip(grads, expected_grads):
            assert actual.dtype == dtype
            assert relative_rms_error(actual, reference) < 2 * TOLERANCE[dtype]


@case
def test_all_of_a_thousand(op, dim, size, implementation):
    """Logits of 1e6: one weight is nearly one, and which one is decided in float32."""
    scales = (1e3, 1e3, 1e3)
    expected = exact_output(op, dim, size, scales)
    for dtype in on_map(size):
        out, grads = run(op, inputs(size, dim, scales), size, implementation, dtype)
        assert out.isfinite().all()
        assert all(grad.isfinite().all() for grad in grads)
        # two keys may be equally similar up to the digits that float32 has, or those of the type
        # where the operator rounds queries and keys after turning them
        differs = (out.double() - expected).abs().amax(-1) > 0.02 * expected.abs().max()
        assert differs.double().mean() < (0.1 if op is softmax else 1e-3)


@pytest.mark.parametrize("value", [0.0, 1e3, -1e3])
@small_case
def test_constant_inputs(op, dim, size, implementation, value):
    tensors = [torch.full((1, size[0] * size[1], 1, dim), value)] * 3
    for dtype in DTYPES:
        out, grads = run(op, tensors, size, implementation, dtype)
        assert all(grad.isfinite().all() for grad in grads)
        if op is linear:  # its numerator is rotated: no mean of values
            assert out.isfinite().all()
            assert out.abs().max() <= 1.01 * abs(value)
        else:
            torch.testing.assert_close(out, torch.full_like(out, value))


@pytest.mark.parametrize("implementation", ["fused", "reference"])
def test_linear_attention_beyond_float16_is_infinite_and_not_nan(implementation):
    """Positive queries and keys without a common channel: eps is all there is to divide by."""
    q, k = torch.full((1, 6, 1, 8), -1e3), torch.full((1, 6, 1, 8), -1e3)
    q[..., ::2], k[..., 1::2] = 1e3, 1e3
    v = torch.tensor([1e3, -1e3]).repeat(4).expand(1, 6, 1, 8)
    exact = linear(q.double(), k.double(), v.double(), (2, 3), "reference")
    out = linear(q.half(), k.half(), v.half(), (2, 3), implementation)
    assert (exact.abs() > 1e12).any()
    fits = exact.abs() < 65504
    assert torch.equal(out.isinf(), ~fits)
    assert torch.equal(out[~fits].sign(), exact[~fits].sign().half())
    # bfloat16 holds them all
    wide = linear(q.bfloat16(), k.bfloat16(), v.bfloat16(), (2, 3), implementation)
    assert relative_rms_error(wide, exact) < 1e-2


class RecordTypes(TorchDispatchMode):
    """Types of the floating-point operands of some operators of PyTorch."""

    def __init__(self, *names):
        super().__init__()
        self.names, self.types = names, {}

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.overloadpacket.__name__
        if name in self.names:
            tensors = (a for a in args if isinstance(a, torch.Tensor) and a.is_floating_point())
            self.types.setdefault(name, set()).update(t.dtype for t in tensors)
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("op", "names"),
    [(linear, {"div", "_softmax"}), (clusters, {"sort"})],
    ids=["normaliser", "similarity"],
)
def test_what_stays_in_float32(op, names, dtype):
    tensors = [t.to(dtype) for t in inputs(SMALL, 8, (1.0, 1.0, 1.0))]
    with torch.autocast("cpu", dtype=dtype), RecordTypes(*names) as record:
        op(*tensors, SMALL, "fused")
    assert record.types == {name: {torch.float32} for name in names}


@pytest.mark.parametrize("dtype", DTYPES)
def test_similarities_are_told_apart_beyond_half_precision(dtype):
    """Neighbouring cosines differ by 1e-5 of each other here, less than either type resolves."""
    angles = torch.linspace(0, 1, 4096)[torch.randperm(4096)]
    k = torch.stack((angles.cos(), angles.sin()), -1)[None, :, None]
    k = torch.nn.functional.pad(1e3 * k, (0, 2)).to(dtype)
    with torch.autocast("cpu", dtype=dtype):
        ids = sec_cluster_ids(k, 512)
    expected = sec_cluster_ids(k.double(), 512)
    assert (ids == expected).double().mean() > 0.99


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("build", [rotary_table_2d, lambda h, w, d: rotary_table_1d(h * w, d)])
def test_rotary_tables_stay_in_float32(build, dtype):
    """In half precision the last pixels of this map could not be told apart."""
    with torch.autocast("cpu", dtype=dtype):
        table = build(*LARGE, 8)
        x = torch.full((1, 67200, 1, 8), 1e3, dtype=dtype)
        rotated = apply_rotary(x, table)
    assert table.dtype == torch.float32
    assert rotated.dtype == dtype
    turned = torch.view_as_complex(x[0, :, 0].double().unflatten(-1, (-1, 2)))
    turned = torch.view_as_real(turned * torch.view_as_complex(table.double())).flatten(-2)
    assert relative_rms_error(rotated[0, :, 0], turned) < torch.finfo(dtype).eps
