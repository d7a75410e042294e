"""Deformable attention: the formula one sample at a time, its implementations, their gradients."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.checkpoint import checkpoint

from mmeffvit.compat.mmcv_ops import kernels
from mmeffvit.ops import deformable_attention, dispatch
from mmeffvit.testing import relative_rms_error

GOLDEN = Path(__file__).parents[1] / "data" / "golden" / "mmcv_ops.npz"
IMPLEMENTATIONS = ["reference", "fused"]
# levels that are odd, not square, one pixel wide, one pixel
LEVELS = [((5, 7), (3, 4), (1, 2)), ((4, 1),), ((1, 1), (9, 3))]


def inputs(shapes, queries=6, heads=3, dim=4, points=2, batch=2, dtype=torch.float64):
    tokens = sum(height * width for height, width in shapes)
    values = torch.randn(batch, tokens, heads, dim, dtype=dtype)
    # some outside, some far outside
    locations = torch.randn(batch, queries, heads, len(shapes), points, 2, dtype=dtype) * 0.5 + 0.5
    weights = torch.randn(batch, queries, heads, len(shapes), points, dtype=dtype)
    return values, locations, weights


def literal(values, shapes, locations, weights):
    """One image, query, head, level and point after the other."""
    batch, queries, heads, levels, points = weights.shape
    out = torch.zeros(batch, queries, heads, values.shape[-1], dtype=values.dtype)
    for b, q, h, level, p in np.ndindex(batch, queries, heads, levels, points):
        height, width = shapes[level]
        start = sum(rows * columns for rows, columns in shapes[:level])
        x, y = locations[b, q, h, level, p].tolist()
        for row, column in np.ndindex(height, width):
            share = max(0, 1 - abs(x * width - 0.5 - column)) * max(
                0, 1 - abs(y * height - 0.5 - row)
            )
            pixel = values[b, start + row * width + column, h]
            out[b, q, h] += weights[b, q, h, level, p] * share * pixel
    return out


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize("shapes", LEVELS)
def test_equals_the_formula_sample_by_sample(shapes, implementation):
    values, locations, weights = inputs(shapes)
    out = deformable_attention(values, shapes, locations, weights, implementation=implementation)
    torch.testing.assert_close(out, literal(values, shapes, locations, weights))


@pytest.mark.parametrize("shapes", LEVELS)
def test_fused_against_reference_with_gradients(shapes):
    tensors = [t.float().requires_grad_() for t in inputs(shapes, queries=40, dim=16)]
    results = []
    for implementation in IMPLEMENTATIONS:
        values, locations, weights = tensors
        out = deformable_attention(
            values, shapes, locations, weights, implementation=implementation
        )
        direction = torch.linspace(-1, 1, out.numel()).view_as(out)
        results.append((out, *torch.autograd.grad((out * direction).sum(), tensors)))
    for expected, actual in zip(*results):
        assert relative_rms_error(actual, expected) < 1e-5


@pytest.mark.parametrize("shapes", LEVELS)
def test_fused_gradients_against_differences(shapes):
    tensors = [
        t.requires_grad_() for t in inputs(shapes, queries=2, heads=1, dim=2, points=1, batch=1)
    ]
    assert torch.autograd.gradcheck(
        lambda values, *rest: deformable_attention(values, shapes, *rest, implementation="fused"),
        tensors,
    )


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_x_comes_before_y(implementation):
    shapes = ((2, 5),)
    values = torch.arange(10.0).view(1, 10, 1, 1)
    location = torch.tensor([(3 + 0.5) / 5, (1 + 0.5) / 2]).view(1, 1, 1, 1, 1, 2)
    out = deformable_attention(
        values, shapes, location, torch.ones(1, 1, 1, 1, 1), implementation=implementation
    )
    assert out.item() == pytest.approx(1 * 5 + 3)


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_equals_mmcvs_compiled_operator(implementation):
    with np.load(GOLDEN) as arrays:
        golden = {key: torch.from_numpy(arrays[key]) for key in arrays.files if "msda/" in key}
    out = deformable_attention(
        golden["msda/in/value"],
        golden["msda/in/shapes"].tolist(),
        golden["msda/in/loc"],
        golden["msda/in/weights"],
        implementation=implementation,
    )
    torch.testing.assert_close(out.flatten(2), golden["msda/out"], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_and_autocast(dtype):
    shapes = LEVELS[0]
    half = [t.to(dtype).requires_grad_() for t in inputs(shapes)]
    full = [t.detach().float().requires_grad_() for t in half]
    with torch.autocast("cpu", dtype=dtype):
        out = deformable_attention(half[0], shapes, *half[1:])
    expected = deformable_attention(full[0], shapes, *full[1:])
    assert out.dtype == dtype
    assert torch.equal(out, expected.to(dtype))
    grads = torch.autograd.grad(out.float().sum(), half)
    for actual, exact in zip(grads, torch.autograd.grad(expected.sum(), full)):
        assert torch.equal(actual, exact.to(dtype))


@pytest.mark.parametrize("location", [float("nan"), float("inf"), -float("inf"), 1e30])
def test_locations_far_out_read_nothing_and_no_foreign_memory(location):
    values, locations, weights = (t.float() for t in inputs(LEVELS[0]))
    locations[:, 0] = location
    locations.requires_grad_()
    out = deformable_attention(values, LEVELS[0], locations, weights, implementation="fused")
    (grad,) = torch.autograd.grad(out[:, 1:].sum(), locations)
    assert out[:, 0].eq(0).all()
    assert out.isfinite().all()
    assert grad[:, 1:].isfinite().all()
    assert grad[:, 1:].abs().sum() > 0


def test_keeps_its_inputs_alone():
    """Numbers kept for the backward pass: of the fused one, not a copy of any sample."""
    shapes = ((12, 10), (6, 5))
    tensors = [t.requires_grad_() for t in inputs(shapes, 150, 2, 16, 4, dtype=torch.float32)]
    kept = {}
    for implementation in IMPLEMENTATIONS:
        saved = {}

        def pack(tensor, saved=saved):
            saved[tensor.data_ptr()] = tensor.numel()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            values, locations, weights = tensors
            deformable_attention(values, shapes, locations, weights, implementation=implementation)
        kept[implementation] = sum(saved.values())
    assert kept["fused"] == sum(t.numel() for t in tensors)
    assert kept["reference"] > 2 * 150 * 2 * 16 * 4 * len(shapes)


def test_under_checkpointing():
    tensors = [t.requires_grad_() for t in inputs(LEVELS[0])]

    def attend(values, locations, weights):
        return deformable_attention(values, LEVELS[0], locations, weights)

    out = attend(*tensors)
    again = checkpoint(attend, *tensors, use_reentrant=False)
    weight = torch.randn_like(out)
    for actual, expected in zip(
        torch.autograd.grad(again, tensors, weight), torch.autograd.grad(out, tensors, weight)
    ):
        assert torch.equal(actual, expected)


def test_no_queries():
    values, locations, weights = inputs(LEVELS[0], queries=0)
    for implementation in IMPLEMENTATIONS:
        out = deformable_attention(
            values, LEVELS[0], locations, weights, implementation=implementation
        )
        assert out.shape == (2, 0, 3, 4)


def test_gradient_is_not_differentiated_again():
    values, locations, weights = inputs(LEVELS[0])
    values.requires_grad_()
    out = deformable_attention(values, LEVELS[0], locations, weights.requires_grad_())
    (grad,) = torch.autograd.grad(out.square().sum(), values, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        grad.sum().backward()


def test_shapes_that_do_not_fit():
    values, locations, weights = inputs(LEVELS[0])
    with pytest.raises(ValueError, match=r"S = 47.*levels of 5 x 7, 3 x 4; got \(2, 49, 3, 4\)"):
        deformable_attention(values, LEVELS[0][:2], locations, weights)
    with pytest.raises(ValueError, match=r"B = 2, h = 3 and V = 3; got \(2, 6, 3, 3, 1\)"):
        deformable_attention(values, LEVELS[0], locations, weights[..., :1])


def test_mmcvs_kernels_are_offered_by_name(monkeypatch):
    """The call is mmcv's own function, here with the stand-ins behind it."""
    monkeypatch.setattr(dispatch, "register", lambda *args: offered.append(args))
    offered = []
    kernels.offer()
    ((op, name, function, refuses),) = offered
    assert (op, name) == ("deformable_attention", "mmcv")
    values, locations, weights = inputs(LEVELS[0])
    assert "the tensors are on cpu" in refuses(values, LEVELS[0], locations, weights)
    assert refuses(torch.empty(0, device="meta"), ()) is not None
    out = function(values, LEVELS[0], locations, weights)
    expected = deformable_attention(values, LEVELS[0], locations, weights)
    torch.testing.assert_close(out, expected)


def test_traced_it_is_the_formula_that_exporters_know():
    class Attend(torch.nn.Module):
        def forward(self, values, locations, weights):
            return deformable_attention(values, LEVELS[0], locations, weights)

    tensors = inputs(LEVELS[0], dtype=torch.float32)
    program = torch.export.export(Attend(), tensors)
    nodes = [node for part in program.graph_module.modules() for node in part.graph.nodes]
    assert sum("grid_sampler" in str(node.target) for node in nodes) == len(LEVELS[0])
    torch.testing.assert_close(program.module()(*tensors), Attend()(*tensors))
