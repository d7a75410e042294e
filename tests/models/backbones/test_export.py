"""torch.export and ONNX with dynamic height and width, against eager mode."""

import functools

import pytest
import torch
from torch.fx import GraphModule

from mmeffvit.testing import relative_rms_error

from .checks import quick_tracing
from .tiny import ARCHS, ATTENTION_STAGES, build_tiny

SIZES = [(64, 96), (65, 90), (131, 77)]


NETWORKS = [name for name in ARCHS if name != "hybrid"]
#: those that are converted; every operator of the others is in one of them, which a test sees to
CONVERTED = (
    "crossformer",
    "dinat",
    "favit",
    "ppma",
    "ravlt",
    "resformer",
    "secvit",
    "svt",
    "vitar",
)


@functools.cache
def export(name):
    stages = ATTENTION_STAGES.get(name, (0, 1))
    backbone = build_tiny(name, out_indices=stages).eval().requires_grad_(False)
    sides = {2: torch.export.Dim.DYNAMIC, 3: torch.export.Dim.DYNAMIC}
    x = torch.randn(1, 3, 96, 128)
    with quick_tracing():
        return backbone, torch.export.export(backbone, (x,), dynamic_shapes=(sides,))


@pytest.fixture(scope="module", autouse=True)
def _programs_go():
    yield
    export.cache_clear()


def operators(name):
    """Of an exported network, also in its branches."""
    _, program = export(name)
    graphs = [m.graph for m in program.graph_module.modules() if isinstance(m, GraphModule)]
    targets = {node.target for graph in graphs for node in graph.nodes}
    return {str(target) for target in targets if isinstance(target, torch._ops.OpOverload)}


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
def test_exported_program(name):
    backbone, program = export(name)
    module = program.module()
    for size in SIZES:
        x = torch.randn(1, 3, *size)
        for actual, expected in zip(module(x), backbone(x), strict=True):
            assert relative_rms_error(actual, expected) < 1e-4


@pytest.mark.slow
def test_every_operator_is_converted():
    """A converter goes from operator to operator, so that one network of each is enough."""
    converted = set().union(*map(operators, CONVERTED))
    assert "aten.conv2d.default" in converted
    left = {name: sorted(operators(name) - converted) for name in NETWORKS}
    left = {name: names for name, names in left.items() if names}
    assert not left, f"CONVERTED lacks a network with these operators: {left}"


@pytest.mark.slow
@pytest.mark.usefixtures("quick_onnx")
@pytest.mark.parametrize("name", CONVERTED)
def test_onnx_runtime(name, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    backbone, program = export(name)
    with quick_tracing():
        # onnxscript's optimizer takes as long as all else; whole models are exported with it
        model = torch.onnx.export(program, dynamo=True, verbose=False, optimize=False)
        model.save(tmp_path / "backbone.onnx")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        tmp_path / "backbone.onnx", options, providers=["CPUExecutionProvider"]
    )
    (node,) = session.get_inputs()
    for size in SIZES:
        x = torch.randn(1, 3, *size)
        outs = session.run(None, {node.name: x.numpy()})
        for actual, expected in zip(outs, backbone(x), strict=True):
            assert relative_rms_error(torch.from_numpy(actual), expected) < 1e-4


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
@pytest.mark.parametrize("name", ARCHS)
def test_jit_trace_works_or_says_what_to_use(name):
    backbone = build_tiny(name).eval().requires_grad_(False)
    x = torch.randn(1, 3, 64, 96)
    try:
        traced = torch.jit.trace(backbone, x, check_trace=False)
    except RuntimeError as error:
        assert "use torch.export.export(network, (image,))" in str(error)  # noqa: PT017
        assert name not in ("cswin", "vit")
    else:
        for actual, expected in zip(traced(x), backbone(x), strict=True):
            assert relative_rms_error(actual, expected) < 1e-4
