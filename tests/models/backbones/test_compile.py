"""torch.compile with sizes that stay dynamic: one graph, and the results of eager mode.

Rows and columns of the image are symbols in both graphs, that of the network and that of its
gradients, as the compiler makes them: where one of them becomes a number, compilation fails and
says so. Batches are numbers, which takes half of the time.
"""

import shutil

import pytest
import torch
from torch._dynamo.testing import CompileCounterWithBackend

from mmeffvit.testing import relative_rms_error

from .checks import quick_tracing
from .tiny import ARCHS, ATTENTION_STAGES, GRADIENT_STAGES, build_tiny

# the first one is not square, as a compiler takes equal sides for sides that are always equal
SIZES = [(64, 96), (65, 90), (127, 77)]


def outputs_and_gradients(backbone, forward, x):
    x = x.clone().requires_grad_()
    # an error if a graph holds for one size alone
    torch._dynamo.mark_dynamic(x, (2, 3))
    torch.manual_seed(1)
    outs = forward(x)
    loss = sum((out * out.detach().sin()).sum() for out in outs)
    parameters = [p for p in backbone.parameters() if p.requires_grad]
    return [out.detach() for out in outs], torch.autograd.grad(loss, [x, *parameters])


def check(name, backend, out_indices, sizes=SIZES, **arch):
    backbone = build_tiny(name, arch, out_indices=out_indices, norm_eval=True).train()
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    counter = CompileCounterWithBackend(backend)
    compiled = torch.compile(backbone, backend=counter)
    compilations = []
    for size in sizes:
        # torch itself picks the algorithm of a convolution of one small image by its size
        x = torch.randn(2, 3, *size)
        with quick_tracing():
            outs, grads = outputs_and_gradients(backbone, compiled, x)
        expected_outs, expected_grads = outputs_and_gradients(backbone, backbone, x)
        for actual, expected in zip(outs, expected_outs, strict=True):
            assert relative_rms_error(actual, expected) < 1e-4
        # all in one vector: some gradients are nearly zero
        actual, expected = (torch.cat([g.flatten() for g in gs]) for gs in (grads, expected_grads))
        assert relative_rms_error(actual, expected) < 1e-3
        compilations.append(counter.frame_count)
    assert len(set(compilations)) == 1
    assert not torch._dynamo.utils.counters["graph_break"]


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in ARCHS if name != "hybrid"])
def test_one_graph_and_one_of_gradients_for_all_sizes(name):
    stages = ATTENTION_STAGES.get(name, (0, 1))
    check(name, "aot_eager", GRADIENT_STAGES.get(name, stages))


#: stages whose gradients would take too long, and what a first stage takes from a later one
OTHER_STAGES = {
    "secvit": ((0,), {"num_clusters": (-1, 4, 2, -1)}),
    "crossformer": ((0, 1), {"depths": (1, 1, 1, 1)}),
    "cswin": ((0,), {"stripe_widths": (None, 2, 7, None)}),
    "dinat-s": ((0, 1), {}),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", OTHER_STAGES)
def test_one_graph_for_all_sizes(name):
    stages, arch = OTHER_STAGES[name]
    check(name, "eager", stages, **arch)


#: of inductor: half of its time is vector code and the search for its instructions, in processes
#: of their own; what is compiled here is the same graph of loops, in scalar code
SCALAR_CODE = {"compile_threads": 1, "cpp.simdlen": 1, "cpp.vec_isa_ok": False}


@pytest.mark.slow
@pytest.mark.skipif(
    not any(shutil.which(name) for name in ("g++", "c++", "clang++")),
    reason="inductor needs a C++ compiler and none is on the PATH",
)
def test_inductor():
    with torch._inductor.config.patch(SCALAR_CODE):
        check("resformer", "inductor", out_indices=(0,), sizes=SIZES[:2])
