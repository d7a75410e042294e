"""Neighbourhood attention in ONNX files: its tiles beside the operator, and within a detector."""

import numpy as np
import pytest
import torch
from torch import nn

from mmeffvit.deploy import compare, export_model, made_up_images, neighbourhoods
from mmeffvit.deploy.operators import translations
from mmeffvit.ops import neighbourhood_attention
from mmeffvit.ops.neighbourhood_attention.compiled import kept_as_node
from mmeffvit.runtime import OnnxModel

from . import small

# rows, columns, kernel, dilation: whole map, ragged tiles, phases of two lengths, one-wide maps
CASES = [
    (7, 7, (7, 7), (1, 1)),
    (12, 29, (7, 7), (1, 1)),
    (26, 23, (5, 5), (4, 4)),
    (1, 9, (1, 5), (1, 1)),
    (9, 17, (3, 5), (2, 3)),
    (30, 6, (11, 1), (2, 3)),
]


@pytest.fixture(scope="module", params=[False, True], ids=["plain", "biased"])
def session(request):
    """A file with one attention, whose kernel, dilation and size are inputs."""
    onnx, runtime = pytest.importorskip("onnx"), pytest.importorskip("onnxruntime")
    text = """
        <ir_version: 9, opset_import: ["" : 18, "mmeffvit" : 1]>
        attend (float[B, H, W, h, d] q, float[B, I, J, h, d] k, float[B, I, J, h, d] v,
                int64[2] kernel, int64[2] dilation%s) => (float[B, H, W, h, d] out) {
            out = mmeffvit.%s (q, k, v, kernel, dilation%s)
        }"""
    biased = request.param
    inserted = (", float[h, m, n] bias", "BiasedAttention", ", bias")
    text %= inserted if biased else ("", "Attention", "")
    model = neighbourhoods.expand(onnx.parser.parse_model(text))
    onnx.checker.check_model(model)
    assert {entry.domain for entry in model.opset_import} == {""}  # plain operators
    return runtime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    ), biased


def check(session, size, key_size, kernel, dilation):
    session, biased = session
    q, k, v = (torch.randn(2, *side, 2, 4) for side in (size, key_size, key_size))
    feed = {"q": q.numpy(), "k": k.numpy(), "v": v.numpy()}
    feed |= {"kernel": np.array(kernel), "dilation": np.array(dilation)}
    bias = torch.randn(2, *(2 * side - 1 for side in kernel)) if biased else None
    if biased:
        feed["bias"] = bias.numpy()
    expected = neighbourhood_attention(
        q, k, v, kernel, dilation, bias=bias, scale=1.0, implementation="reference"
    )
    (out,) = session.run(None, feed)
    np.testing.assert_allclose(out, expected.numpy(), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("height", "width", "kernel", "dilation"), CASES)
def test_tiles_of_a_file_give_what_the_operator_gives(session, height, width, kernel, dilation):
    check(session, (height, width), (height, width), kernel, dilation)


def test_queries_may_be_the_top_left_of_a_larger_map(session):
    check(session, (6, 8), (21, 35), (7, 7), (3, 5))


def test_a_file_without_neighbourhoods_stays_as_it_is():
    onnx = pytest.importorskip("onnx")
    model = onnx.parser.parse_model(
        '<ir_version: 9, opset_import: ["" : 18]> g (float[N] x) => (float[N] y) { y = Relu (x) }'
    )
    assert neighbourhoods.expand(model) is model


class Attend(nn.Module):
    def forward(self, q, k, v, bias):
        kernel = bias.shape[1] // 2 + 1
        dilation = torch.sym_max(1, q.shape[1] // 9)
        return neighbourhood_attention(q, k, v, (kernel, 3), (dilation, 1), bias=bias)


def test_kernels_and_dilations_that_follow_from_sizes():
    """A traced program has them as symbols; its node is translated with a bias."""
    runtime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    free = torch.export.Dim.DYNAMIC

    def inputs(height, width, kernel):
        q, k, v = (torch.randn(1, height, width, 2, 4) for _ in range(3))
        return q, k, v, torch.randn(2, 2 * kernel - 1, 5)

    with torch.no_grad(), kept_as_node():
        sides = {1: free, 2: free}
        program = torch.export.export(
            Attend(), inputs(27, 12, 5), dynamic_shapes=(sides, sides, sides, {1: free})
        )
    model = torch.onnx.export(
        program,
        dynamo=True,
        verbose=False,
        opset_version=18,
        custom_translation_table=translations(),
    ).model_proto
    session = runtime.InferenceSession(
        neighbourhoods.expand(model).SerializeToString(), providers=["CPUExecutionProvider"]
    )
    names = [node.name for node in session.get_inputs()]
    for size in ((27, 12, 5), (40, 9, 3), (13, 31, 7)):
        tensors = inputs(*size)
        (out,) = session.run(None, {n: t.numpy() for n, t in zip(names, tensors, strict=True)})
        torch.testing.assert_close(torch.from_numpy(out), Attend()(*tensors))


@pytest.mark.slow
def test_a_detector_with_ssvit(tmp_path):
    """Kernels and dilations follow from the size of the image, in one file for all sizes."""
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    arch = {
        "embed_dims": (8, 16, 16, 32),
        "depths": (1, 1, 1, 1),
        "num_heads": (2, 2, 2, 2),
        "mlp_ratios": (1, 1, 1, 1),
        "window_sizes": (7, 7, 7, 7),
        "reverse": ((False,), (True,), (False,), (True,)),
        "layer_scale": (None,) * 4,
    }
    # a third level of the pyramid is made of the second
    backbone = {"type": "mmeffvit.SSViT", "arch": arch, "out_indices": (1, 2)}
    model = small.retinanet(backbone, channels=(16, 16))
    path = tmp_path / "model.onnx"
    done = export_model(model, path)
    assert done.varies == "batch and size", done.why
    agreement = compare(model, OnnxModel(path, threads=1), made_up_images(12, (64, 230)))
    assert agreement.images == 12
    assert agreement.compared > 80
    assert agreement.good, agreement
