"""Whole models in onnxruntime and OpenVINO, beside what their toolboxes predict."""

import numpy as np
import pytest

from mmeffvit.deploy import compare, export_model, made_up_images
from mmeffvit.runtime import OnnxModel

from . import small

KINDS = ("retinanet", "mask_rcnn", "upernet", "classifier")


@pytest.fixture(scope="module", params=KINDS)
def pair(request, tmp_path_factory):
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    model = getattr(small, request.param)()
    path = tmp_path_factory.mktemp(request.param) / "model.onnx"
    done = export_model(model, path, metadata={"classes": ["a", "b", "c"]})
    return model, path, done


@pytest.mark.slow
def test_results_are_those_of_the_toolbox(pair):
    model, path, done = pair
    assert done.varies == "batch and size", done.why
    agreement = compare(model, OnnxModel(path, threads=1), made_up_images(12, (64, 230)))
    print(agreement)
    assert agreement.images == 12
    assert agreement.compared > 80
    assert agreement.good, agreement


@pytest.mark.slow
def test_images_of_a_batch_do_not_meet(pair):
    _, path, _ = pair
    exported = OnnxModel(path, threads=1)
    images = np.stack([image.transpose(2, 0, 1) for image in made_up_images(3, (97, 97))])
    together = exported.run(images)
    for index, image in enumerate(images):
        for name, alone in exported.run(image[None]).items():
            np.testing.assert_allclose(together[name][index], alone[0], atol=1e-3, rtol=0)


@pytest.mark.slow
def test_openvino_agrees(pair):
    pytest.importorskip("openvino")
    model, path, _ = pair
    exported = OnnxModel(path, "openvino", threads=1)
    assert exported.classes == ["a", "b", "c"]
    agreement = compare(model, exported, made_up_images(4, (64, 230)))
    assert agreement.good, agreement
