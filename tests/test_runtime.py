"""What surrounds an exported graph: resizing, pasting, steps of a pipeline, in numpy."""

import numpy as np
import pytest
import torch

from mmeffvit import runtime
from mmeffvit.deploy import ExportError, pipeline_steps

RANDOM = np.random.default_rng(0)


@pytest.mark.parametrize("size", [(40, 60), (13, 100), (77, 21)])
def test_bilinear_is_opencv_to_a_grey_level(size):
    cv2 = pytest.importorskip("cv2")
    image = RANDOM.integers(0, 256, (31, 47, 3), dtype=np.uint8)
    expected = cv2.resize(image, size[::-1], interpolation=cv2.INTER_LINEAR).astype(int)
    actual = runtime.bilinear(image, *size)
    assert actual.dtype == np.uint8
    assert np.abs(actual - expected).max() <= 1


@pytest.mark.parametrize("box", [(3.2, 5.1, 20.7, 30.4), (-4.0, 2.5, 90.0, 18.0), (5, 5, 5, 9)])
def test_paste_is_what_mmdet_does(box):
    from mmeffvit import compat

    compat.setup()
    from mmdet.models.roi_heads.mask_heads.fcn_mask_head import _do_paste_mask

    mask, size = RANDOM.random((14, 14), dtype=np.float32), (40, 50)
    actual = runtime.paste(mask, np.array(box), size)
    if box[0] == box[2]:
        assert not actual.any()
        return
    boxes = torch.tensor([box], dtype=torch.float32)
    expected, _ = _do_paste_mask(torch.from_numpy(mask)[None, None], boxes, *size, skip_empty=False)
    np.testing.assert_allclose(actual, expected[0].numpy(), atol=1e-4)


def test_nearest_keeps_labels():
    labels = np.arange(6).reshape(2, 3)
    assert (runtime.nearest(labels, (4, 6)) == labels.repeat(2, 0).repeat(2, 1)).all()
    assert runtime.nearest(labels, (2, 3)) is labels


def test_a_mask_of_the_whole_image_is_not_pasted():
    mask = np.eye(3, dtype=bool)
    twice = mask.repeat(2, 0).repeat(2, 1)
    assert (runtime.in_image(mask, np.zeros(4), (6, 6), 0.5) == twice).all()
    soft = runtime.in_image(mask.astype(np.float32), np.array([0, 0, 3, 3]), (3, 4), 0.5)
    assert (soft == np.eye(3, 4, dtype=bool)).all()


def test_a_resize_by_one_is_no_step_and_by_another_factor_is_refused():
    assert pipeline_steps([{"type": "Resize", "scale_factor": 1.0}]) == []
    with pytest.raises(ExportError, match="factor"):
        pipeline_steps([{"type": "Resize", "scale_factor": 0.5}])


def test_steps_are_those_of_the_pipeline():
    from mmeffvit import compat

    compat.setup()
    from mmcv.transforms import Resize

    pipeline = [
        {"type": "LoadImageFromFile"},
        {"type": "Resize", "scale": (90, 60), "keep_ratio": True},
        {"type": "PackDetInputs"},
    ]
    (step,) = pipeline_steps(pipeline)
    image = RANDOM.integers(0, 256, (50, 61, 3), dtype=np.uint8)
    expected = Resize(scale=(90, 60), keep_ratio=True)({"img": image})["img"]
    actual = runtime._STEPS[step["type"]](image, step)
    assert actual.shape == expected.shape
    assert np.abs(actual.astype(int) - expected).max() <= 1


@pytest.mark.parametrize("shape", [(50, 80), (80, 50)])
def test_classifiers_are_cropped_as_mmpretrain_does(shape):
    from mmeffvit import compat

    compat.setup()
    from mmpretrain.datasets.transforms import CenterCrop, ResizeEdge

    steps = pipeline_steps(
        [
            {"type": "ResizeEdge", "scale": 37, "edge": "short"},
            {"type": "CenterCrop", "crop_size": 32},
        ]
    )
    image = RANDOM.integers(0, 256, (*shape, 3), dtype=np.uint8)
    expected = CenterCrop(32)(ResizeEdge(37, edge="short")({"img": image}))["img"]
    actual = image
    for step in steps:
        actual = runtime._STEPS[step["type"]](actual, step)
    assert actual.shape == expected.shape
    assert np.abs(actual.astype(int) - expected).max() <= 1


def test_a_step_without_a_form_is_named():
    with pytest.raises(ExportError, match="the step Pad of the test pipeline"):
        pipeline_steps([{"type": "Pad", "size": (32, 32)}])


def test_an_unknown_backend_is_refused():
    with pytest.raises(ValueError, match="onnxruntime and openvino are known"):
        runtime.OnnxModel("x.onnx", backend="tensorrt")
