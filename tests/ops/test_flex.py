"""`flex_attention` against the formulas, by PyTorch's own unfused form of it, which runs here.

PyTorch refuses gradients on a CPU, where no kernel has them. The unfused form has them: the tests
of gradients switch the refusal off, in our code and in PyTorch's.
"""

import functools

import pytest
import torch
from torch._dynamo.testing import CompileCounterWithBackend
from torch.nn.attention import flex_attention as of_torch

from mmeffvit.ops import (
    ManhattanDecay,
    UnavailableImplementationError,
    decay_rates,
    dispatch,
    explain,
    flex,
    group_attention,
    manhattan_attention,
    neighbourhood_attention,
    polyline_attention,
    relative_attention,
    select,
)
from mmeffvit.ops.neighbourhood_attention.flex import _blocks
from mmeffvit.testing import relative_rms_error
from tests.models.backbones.checks import quick_tracing

HEADS, DIM = 2, 8
TOLERANCES = {torch.float32: 1e-5, torch.bfloat16: 1e-2, torch.float16: 2e-3}


def manhattan(q, k, v, **options):
    q, k, v = (t.flatten(1, 2) for t in (q, k, v))
    decay = ManhattanDecay(*SIZE_OF_TOKENS, decay_rates(HEADS))
    return manhattan_attention(q, k, v, decay, **options)


def polyline(q, k, v, table, **options):
    q, k, v = (t.flatten(1, 2) for t in (q, k, v))
    return polyline_attention(q, k, v, -table.exp(), **options)


def neighbours(kernel, dilation=1, key_size=None):
    def attend(q, k, v, bias=None, **options):
        if key_size is not None:
            missing = (0, 0, 0, 0, 0, key_size[1] - k.shape[2], 0, key_size[0] - k.shape[1])
            k, v = (torch.nn.functional.pad(t, missing, value=0.5) for t in (k, v))
        return neighbourhood_attention(q, k, v, kernel, dilation, bias=bias, **options)

    return attend


def relative(window, names):
    def attend(q, k, v, *tables, **options):
        return relative_attention(q, k, v, window, **dict(zip(names, tables)), **options)

    return attend


SIZE_OF_TOKENS = (5, 7)
#: operator, size of the map, shapes of tables
CASES = {
    "manhattan": (manhattan, SIZE_OF_TOKENS, []),
    "polyline": (polyline, SIZE_OF_TOKENS, [(2, *SIZE_OF_TOKENS, HEADS, 2)]),
    "distant groups": (
        functools.partial(group_attention, interval=3),
        (13, 7),
        [(HEADS, 2, 2, 2, 2)],
    ),
    "offsets": (relative(None, ("gain", "bias")), (4, 7), [(HEADS, 7, 13)] * 2),
    "offsets in windows": (relative((3, 4), ("bias",)), (7, 10), [(HEADS, 5, 7)]),
    "dilated": (neighbours((3, 5), (4, 3)), (14, 17), []),
    "few queries, bias": (neighbours(3, 2, (9, 13)), (6, 11), [(HEADS, 5, 5)]),
}


def run(case, implementation, dtype):
    """Output, then gradients, of tensors that are the same in every call."""
    attend, size, shapes = CASES[case]
    generator = torch.Generator().manual_seed(0)
    tokens = [torch.randn(2, *size, HEADS, DIM, generator=generator).to(dtype) for _ in range(3)]
    tables = [torch.randn(shape, generator=generator) for shape in shapes]
    if implementation == "reference":
        tokens = [t.float() for t in tokens]
    leaves = [t.requires_grad_() for t in (*tokens, *tables)]
    out = attend(*leaves, implementation=implementation)
    weight = torch.randn(out.shape, generator=generator)
    return [out, *torch.autograd.grad((out * weight).sum(), leaves)]


@pytest.fixture
def _gradients_on_a_cpu(monkeypatch):
    monkeypatch.setattr(flex, "_refuses_gradients", lambda *tensors: None)
    monkeypatch.setattr(of_torch, "_validate_device", lambda *tensors: None)
    with quick_tracing():
        yield


@pytest.mark.usefixtures("_gradients_on_a_cpu")
@pytest.mark.parametrize(
    ("case", "dtype"),
    [
        *((case, torch.float32) for case in CASES),
        ("manhattan", torch.float16),
        ("offsets", torch.bfloat16),
        ("few queries, bias", torch.bfloat16),
    ],
)
def test_equals_the_formula_with_gradients(case, dtype):
    """Those of q, k, v and of tables."""
    expected, actual = (run(case, name, dtype) for name in ("reference", "flex"))
    assert actual[0].dtype == dtype
    for a, b in zip(actual, expected, strict=True):
        assert relative_rms_error(a.float(), b) < 2 * TOLERANCES[dtype]


@pytest.mark.usefixtures("_gradients_on_a_cpu")
def test_steps_too_small_to_change_a_sum_have_gradients():
    results = []
    for dtype, implementation in ((torch.float64, "reference"), (torch.float32, "flex")):
        torch.manual_seed(0)
        q, k, v = torch.randn(3, 1, 20, HEADS, DIM).to(dtype)
        steps = torch.full((1, 4, 5, HEADS, 2), -1.0, dtype=dtype)
        steps[:, 1:, 1:] = -1e-9
        steps.requires_grad_()
        out = polyline_attention(q, k, v, steps, implementation=implementation)
        results.append(*torch.autograd.grad(out.square().sum(), steps))
    assert relative_rms_error(results[1].double(), results[0]) < 1e-4


def test_gradients_of_tables_are_tried_and_not_looked_up(monkeypatch):
    assert flex.differentiates_tables()

    def without(*args, **kwargs):
        raise NotImplementedError("captured buffers that require grad")

    monkeypatch.setattr(of_torch, "flex_attention", without)
    flex.differentiates_tables.cache_clear()
    assert not flex.differentiates_tables()
    flex.differentiates_tables.cache_clear()


def test_tables_stay_in_full_precision_under_autocast():
    q = torch.randn(1, 35, HEADS, DIM)
    decay = ManhattanDecay(5, 7, (-1e-3, -20.0))
    expected = manhattan_attention(q, q, q, decay, implementation="reference")
    with torch.autocast("cpu", torch.bfloat16):
        # as in networks: turned queries and keys are float32, values are not
        out = manhattan_attention(q, q, q.bfloat16(), decay, implementation="flex")
    assert out.dtype == torch.bfloat16
    assert relative_rms_error(out.float(), expected) < TOLERANCES[torch.bfloat16]


@pytest.mark.slow
@pytest.mark.usefixtures("_gradients_on_a_cpu")
def test_is_traced_once_for_all_sizes(monkeypatch):
    """As it is on a GPU, up to the code for one: sizes are symbols, and gradients are traced."""
    torch._dynamo.reset()
    counter = CompileCounterWithBackend("aot_eager")
    options = {"dynamic": True, "fullgraph": True, "backend": counter}
    monkeypatch.setattr(flex, "_call", torch.compile(of_torch.flex_attention, **options))
    graphs = []
    for size in ((11, 19), (15, 21), (13, 25)):  # of several blocks: one alone is a case of its own
        q, k, v = (torch.randn(2, *size, HEADS, DIM, requires_grad=True) for _ in range(3))
        bias = torch.randn(HEADS, 9, 9, requires_grad=True)
        results = []
        for implementation in ("reference", "flex"):
            out = neighbourhood_attention(q, k, v, 5, bias=bias, implementation=implementation)
            loss = out.square().sum()
            results.append([out, *torch.autograd.grad(loss, (q, k, v, bias))])
        for expected, actual in zip(*results):
            assert relative_rms_error(actual, expected) < 1e-5
        graphs.append(counter.frame_count)
    # the compiler may begin the first one anew
    assert len(set(graphs)) == 1


class TestBlocks:
    def test_hold_every_query_and_every_key_once(self):
        blocks = _blocks((21, 17), (23, 19), (5, 3), (4, 3), torch.device("cpu"))
        assert torch.equal(blocks.queries[blocks.back], torch.arange(21 * 17))
        assert len(blocks.queries) % 128 == len(blocks.keys) % 128 == 0
        assert set(blocks.keys.tolist()) == set(range(23 * 19))

    def test_no_pair_of_a_window_is_in_a_block_that_is_left_out(self):
        size, kernel, dilation = (33, 40), (7, 5), (2, 1)
        blocks = _blocks(size, size, kernel, dilation, torch.device("cpu"))
        inside = of_torch.create_mask(
            blocks.mask.mask_mod, 1, 1, len(blocks.queries), len(blocks.keys), "cpu"
        )[0, 0]
        # every query has as many keys as its kernel, in the blocks that are looked at
        assert set(inside.sum(1).tolist()) == {35}
        some = inside.unflatten(0, (-1, 128)).unflatten(2, (-1, 128)).any(3).any(1)
        assert torch.equal(blocks.mask.to_dense()[0, 0].bool(), some)
        assert some.float().mean() < 0.7

    def test_are_few_at_detection_size(self):
        blocks = _blocks((200, 336), (200, 336), (7, 7), (1, 1), torch.device("cpu"))
        # nine blocks of 128 keys for most queries, which have 49 neighbours, and not all 525
        assert blocks.mask.kv_num_blocks.float().mean() < 9
        assert blocks.mask.kv_num_blocks.shape[-1] == 525

    def test_are_made_once_for_a_size(self):
        arguments = (9, 9), (9, 9), (3, 3), (1, 1), torch.device("cpu")
        assert _blocks(*arguments) is _blocks(*arguments)


def tensors(size=(5, 7)):
    return [torch.randn(1, *size, HEADS, DIM) for _ in range(3)]


class TestChoice:
    @pytest.mark.parametrize(
        "op", [op for op in dispatch._IMPLEMENTATIONS if "flex" in dispatch.implementations(op)]
    )
    def test_is_for_those_who_ask(self, op):
        assert dispatch._IMPLEMENTATIONS[op]["flex"].by_name == flex.BY_NAME

    def test_is_explained(self):
        arguments = "neighbourhood_attention", *tensors(), (3, 3), (1, 1)
        lines = explain(*arguments).splitlines()
        assert lines[0] == "fused: runs, chosen by the order of preference"
        assert f"flex: can run when asked for by name: {flex.BY_NAME}" in lines
        asked = explain(
            "neighbourhood_attention", *tensors(), (3, 3), (1, 1), implementation="flex"
        )
        assert asked == "flex: runs, chosen by the argument"

    def test_by_the_environment(self, monkeypatch):
        monkeypatch.setenv(dispatch.ENVIRONMENT_VARIABLE, "manhattan_attention=flex")
        q, k, v = (t.flatten(1, 2) for t in tensors())
        decay = ManhattanDecay(5, 7, decay_rates(HEADS))
        assert select("manhattan_attention", None, q, k, v, decay).__name__.endswith("_flex")

    def test_what_it_cannot(self, monkeypatch):
        q, k, v = tensors()
        tokens = [t.flatten(1, 2) for t in (q, k, v)]
        decay = ManhattanDecay(5, 7, decay_rates(HEADS))
        with pytest.raises(UnavailableImplementationError, match="nothing is saved"):
            manhattan_attention(*tokens, decay, decomposed=True, implementation="flex")
        steps = -torch.ones(1, 5, 7, HEADS, 2)
        with pytest.raises(UnavailableImplementationError, match="nothing is saved"):
            polyline_attention(*tokens, steps, decomposed=True, implementation="flex")
        factor = torch.ones(HEADS, 9, 13)
        with pytest.raises(UnavailableImplementationError, match="of the weights after the softm"):
            relative_attention(q, k, v, factor=factor, implementation="flex")
        with pytest.raises(UnavailableImplementationError, match="no backward pass on a CPU"):
            neighbourhood_attention(q.requires_grad_(), k, v, 3, implementation="flex")
        assert "used on CUDA, and the tensors are on meta" in flex.refuses(*(q.to("meta"),) * 3)
        monkeypatch.setattr(flex.importlib.util, "find_spec", lambda name: None)
        assert "has no flex_attention" in flex.refuses(q, k, v)

    def test_what_its_kernels_cannot(self, monkeypatch):
        """Of a GPU there is a shape only, here."""

        class OnGPU:
            device, requires_grad = torch.device("cuda"), False

            def __init__(self, dim=32, dtype=torch.bfloat16):
                self.shape, self.dtype = (1, 5, 7, 2, dim), dtype

        found = {"triton", flex._MODULE}
        monkeypatch.setattr(flex.importlib.util, "find_spec", lambda name: name in found or None)
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (8, 0))
        q = OnGPU()
        assert flex.refuses(q, q, q) is None
        assert "no kernels for torch.float64" in flex.refuses(*[OnGPU(dtype=torch.float64)] * 3)
        assert "at least 16, got 8" in flex.refuses(q, q, OnGPU(8))
        table = torch.zeros(1, requires_grad=True)
        monkeypatch.setattr(flex, "differentiates_tables", lambda: True)
        assert flex.refuses(q, q, q, table) is None
        monkeypatch.setattr(flex, "differentiates_tables", lambda: False)
        assert "has no gradients of tables" in flex.refuses(q, q, q, table)
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (6, 1))
        assert "compute capability 7.0" in flex.refuses(q, q, q)
        found.remove("triton")
        assert "triton, which is not installed" in flex.refuses(q, q, q)
