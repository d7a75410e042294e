"""torch.export and ONNX with dynamic height and width, against eager mode."""

import pytest
import torch

from mmeffvit.testing import relative_rms_error

from .checks import quick_tracing
from .tiny import ARCHS, ATTENTION_STAGES, build_tiny

SIZES = [(64, 96), (65, 90), (131, 77)]


@pytest.fixture(scope="module", params=[name for name in ARCHS if name != "hybrid"])
def exported(request):
    stages = ATTENTION_STAGES.get(request.param, (0, 1))
    backbone = build_tiny(request.param, out_indices=stages).eval().requires_grad_(False)
    sides = {2: torch.export.Dim.DYNAMIC, 3: torch.export.Dim.DYNAMIC}
    x = torch.randn(1, 3, 96, 128)
    with quick_tracing():
        return backbone, torch.export.export(backbone, (x,), dynamic_shapes=(sides,))


@pytest.mark.slow
def test_exported_program(exported):
    backbone, program = exported
    module = program.module()
    for size in SIZES:
        x = torch.randn(1, 3, *size)
        for actual, expected in zip(module(x), backbone(x), strict=True):
            assert relative_rms_error(actual, expected) < 1e-4


@pytest.mark.slow
def test_onnx_runtime(exported, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    backbone, program = exported
    with quick_tracing():
        # onnxscript's optimizer takes as long as all else; whole models are exported with it
        model = torch.onnx.export(program, dynamo=True, verbose=False, optimize=False)
        model.save(tmp_path / "backbone.onnx")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        tmp_path / "backbone.onnx", options, providers=["CPUExecutionProvider"]
    )
    (name,) = (node.name for node in session.get_inputs())
    for size in SIZES:
        x = torch.randn(1, 3, *size)
        outs = session.run(None, {name: x.numpy()})
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
