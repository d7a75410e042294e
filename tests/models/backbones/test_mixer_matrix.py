"""Every registered token mixer in every stage of a pyramid, on a map of odd sides.

Stage s of pyramid i holds mixer i + s: as many pyramids as mixers put each into each stage.
Compilers are slow: `test_compile` and `test_export` have the mixers of the networks there, and here
they see the others, with sides that are no numbers.
"""

import pytest
import torch
from torch._dynamo.backends.debugging import aot_eager

from mmeffvit.layers import MapContext
from mmeffvit.models import PyramidViT
from mmeffvit.registry import MODELS
from mmeffvit.testing import relative_rms_error
from mmeffvit.testing.mixers import mixer_configs

from .checks import quick_tracing
from .tiny import ARCHS, build_tiny

CONFIGS = mixer_configs()
NAMES = list(CONFIGS)
#: sides of the stages: 10 x 14, 5 x 7, 3 x 4, 2 x 2
SIZE = (37, 54)
FFNS = [{"type": f"mmeffvit.{name}"} for name in ("MLP", "ConvFFN", "MixFFN", "GatedConvFFN")]


def not_in_networks():
    """Mixers that no network of `test_compile` and `test_export` has."""
    networks = [build_tiny(name) for name in ARCHS if name != "hybrid"]
    there = {type(module).__name__ for network in networks for module in network.modules()}
    return [name for name in NAMES if name.partition("(")[0] not in there]


def build(names):
    torch.manual_seed(0)
    arch = {
        "embed_dims": (16, 16, 32, 32),
        "depths": (1, 1, 1, 1),
        "num_heads": (2, 2, 4, 4),
        "mlp_ratios": (1, 1, 1, 1),
        "layer_scale": (0.5,) * 4,
        "mixers": [CONFIGS[name] for name in names],
    }
    backbone = PyramidViT(arch, ffns=FFNS, norm_eval=True)
    for module in backbone.modules():
        if isinstance(module, torch.nn.Conv2d):
            # of a size at which half precision and the content of attention matter
            torch.nn.init.normal_(module.weight, std=module.weight[0].numel() ** -0.5)
    return backbone


@pytest.mark.parametrize("first", range(len(NAMES)), ids=NAMES)
def test_in_every_stage_and_precision(first):
    names = [NAMES[(first + stage) % len(NAMES)] for stage in range(4)]
    backbone = build(names)
    # a token close to the border of a cluster may change sides in half precision: not in all images
    pick = min if any("num_clusters" in name for name in names) else max
    image = torch.randn(3, 3, *SIZE)
    outs = backbone(image)
    assert [out.shape[2:] for out in outs] == [(10, 14), (5, 7), (3, 4), (2, 2)]
    sum((out * torch.randn_like(out)).sum() for out in outs).backward()
    assert [name for name, p in backbone.named_parameters() if p.grad is None] == []
    assert all(p.grad.isfinite().all() for p in backbone.parameters())
    for dtype, tolerance in ((torch.bfloat16, 0.1), (torch.float16, 0.02)):
        with torch.no_grad(), torch.autocast("cpu", dtype=dtype):
            halves = backbone(image)
        for out, half in zip(outs, halves, strict=True):
            difference = (half.float() - out).abs().flatten(1).mean(1)
            difference = pick(difference / out.abs().flatten(1).mean(1))
            assert difference < tolerance, (dtype, difference)


class Chain(torch.nn.Module):
    """Mixers that are in no network one after the other, so that a compiler runs once."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        configs = [{**CONFIGS[n], "embed_dims": 16, "num_heads": 2} for n in not_in_networks()]
        self.mixers = torch.nn.ModuleList(MODELS.build(config) for config in configs)
        self.eval().requires_grad_(False)

    def forward(self, x):
        context = MapContext.of(x)
        for mixer in self.mixers:
            x = x + mixer(x, context)
        return x


@pytest.mark.slow
def test_captured_once_for_all_sides_and_differentiated_by_the_compiler():
    """Differentiated with sides that are numbers: symbols take four times as long."""
    chain = Chain()
    for name, parameter in chain.named_parameters():
        if ".sampling." in name:  # in the middle of a pixel a sample has two gradients
            torch.nn.init.normal_(parameter, std=0.1)
    chain.requires_grad_()
    graphs = []
    # at the first size the graph is taken apart for its gradients, at the second it runs as it is
    compilers = [aot_eager, lambda graph, _: graph]

    def backend(graph, _):
        graphs.append(graph)
        return lambda *inputs: compilers.pop(0)(graph, inputs)(*inputs)

    torch._dynamo.reset()
    compiled = torch.compile(chain, backend=backend, fullgraph=True)
    for size in ((9, 14), (7, 11)):
        x = torch.randn(2, 16, *size, requires_grad=True)
        torch._dynamo.mark_dynamic(x, (2, 3))
        weight = torch.randn_like(x)
        with quick_tracing():
            outs = [forward(x) for forward in (compiled, chain)]
        assert relative_rms_error(*outs) < 1e-4
        gradients = [
            torch.autograd.grad((out * weight).sum(), [x, *chain.parameters()]) for out in outs
        ]
        # all in one vector: some are nearly zero
        actual, expected = (torch.cat([g.flatten() for g in gs]) for gs in gradients)
        assert relative_rms_error(actual, expected) < 1e-3
    assert len(graphs) == 1


@pytest.mark.slow
def test_exported_with_dynamic_sides():
    chain = Chain()
    sides = {2: torch.export.Dim.DYNAMIC, 3: torch.export.Dim.DYNAMIC}
    x = torch.randn(2, 16, 9, 14)
    with quick_tracing():
        program = torch.export.export(chain, (x,), dynamic_shapes=(sides,))
    # a graph holds from four tokens a side on
    x = torch.randn(2, 16, 7, 11)
    assert relative_rms_error(program.module()(x), chain(x)) < 1e-4
