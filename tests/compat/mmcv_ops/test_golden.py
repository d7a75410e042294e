"""The stand-ins against outputs and gradients of mmcv's compiled operators, float32, same inputs.

Everything is called through mmcv's own wrappers, as the toolboxes do.
"""

import itertools
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from mmcv import ops
from mmcv.ops.multi_scale_deform_attn import MultiScaleDeformableAttnFunction

GOLDEN = Path(__file__).parents[2] / "data" / "golden" / "mmcv_ops.npz"


@pytest.fixture(scope="module")
def golden():
    with np.load(GOLDEN) as arrays:
        return {name: arrays[name] for name in arrays.files}


@pytest.fixture
def tensor(golden, device):
    return lambda name: torch.from_numpy(golden[name]).to(device)


@pytest.fixture
def assert_dets(tensor):
    def check(actual, name):
        dets, keep = actual
        assert keep.tolist() == tensor(f"{name}/keep").tolist()
        torch.testing.assert_close(dets, tensor(f"{name}/dets"), rtol=0, atol=1e-6)

    return check


def assert_close(actual, expected):
    torch.testing.assert_close(actual, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("iou_threshold", [0.3, 0.5, 0.7])
@pytest.mark.parametrize(
    ("suffix", "options"),
    [
        ("", {}),
        ("_score0.4_max20", {"score_threshold": 0.4, "max_num": 20}),
        ("_offset1", {"offset": 1}),
    ],
)
def test_nms(tensor, assert_dets, iou_threshold, suffix, options):
    actual = ops.nms(tensor("nms/in/boxes"), tensor("nms/in/scores"), iou_threshold, **options)
    assert_dets(actual, f"nms/iou{iou_threshold}{suffix}")


@pytest.mark.parametrize("method", ["naive", "linear", "gaussian"])
def test_soft_nms(tensor, assert_dets, method):
    boxes, scores = tensor("nms/in/boxes"), tensor("nms/in/scores")
    actual = ops.soft_nms(boxes, scores, 0.3, sigma=0.5, min_score=1e-3, method=method)
    assert_dets(actual, f"soft_nms/{method}")


@pytest.mark.parametrize(
    ("name", "nms_cfg", "class_agnostic"),
    [
        ("batched_nms", {"type": "nms"}, False),
        ("batched_nms_agnostic", {"type": "nms"}, True),
        ("batched_soft_nms", {"type": "soft_nms", "min_score": 0.05}, False),
    ],
)
def test_batched_nms(tensor, assert_dets, name, nms_cfg, class_agnostic):
    inputs = [tensor(f"nms/in/{key}") for key in ("boxes", "scores", "labels")]
    nms_cfg = {**nms_cfg, "iou_threshold": 0.5}
    assert_dets(ops.batched_nms(*inputs, nms_cfg, class_agnostic=class_agnostic), name)


def test_nms_match(golden, tensor):
    dets = torch.cat([tensor("nms/in/boxes"), tensor("nms/in/scores")[:, None]], dim=1)
    groups = [group.tolist() for group in ops.nms_match(dets, 0.5)]
    assert groups == json.loads(str(golden["nms_match/json"]))


@pytest.mark.parametrize(
    ("aligned", "sampling_ratio", "pool_mode"),
    itertools.product((True, False), (0, 2), ("avg", "max")),
)
def test_roi_align(tensor, aligned, sampling_ratio, pool_mode):
    name = f"roi_align/aligned{int(aligned)}_sr{sampling_ratio}_{pool_mode}"
    features = tensor("roi/in/feat").requires_grad_()
    out = ops.roi_align(
        features, tensor("roi/in/rois"), (7, 5), 0.25, sampling_ratio, pool_mode, aligned
    )
    out.backward(tensor(f"{name}/grad_out"))
    assert_close(out, tensor(f"{name}/out"))
    assert_close(features.grad, tensor(f"{name}/grad_feat"))


@pytest.mark.parametrize("version", ["dcn", "dcnv2"])
@pytest.mark.parametrize("case", ["a", "b"])
def test_deform_conv(golden, tensor, version, case):
    name = f"{version}/{case}"
    cfg = json.loads(str(golden[f"{name}/cfg"]))
    geometry = [cfg[key] for key in ("stride", "padding", "dilation", "groups", "deform_groups")]
    keys = (
        ("x", "offset", "weight") if version == "dcn" else ("x", "offset", "mask", "weight", "bias")
    )
    inputs = {key: tensor(f"{name}/in/{key}").requires_grad_() for key in keys}
    operator = ops.deform_conv2d if version == "dcn" else ops.modulated_deform_conv2d
    out = operator(*inputs.values(), *geometry)
    out.backward(tensor(f"{name}/grad_out"))
    assert_close(out, tensor(f"{name}/out"))
    for key, value in inputs.items():
        assert_close(value.grad, tensor(f"{name}/grad/{key}"))


def test_multi_scale_deformable_attention(tensor):
    shapes = tensor("msda/in/shapes")
    starts = torch.cat([shapes.new_zeros(1), shapes.prod(1).cumsum(0)[:-1]])
    out = MultiScaleDeformableAttnFunction.apply(
        tensor("msda/in/value"),
        shapes,
        starts,
        tensor("msda/in/loc"),
        tensor("msda/in/weights"),
        64,
    )
    assert_close(out, tensor("msda/out"))
