"""A detector of mmdet's own configs whose layers and post-processing need compiled operators."""

import pytest
import torch


@pytest.mark.slow
def test_centernet_with_deformable_convolutions():
    from mmdet.registry import MODELS
    from mmdet.testing import demo_mm_inputs
    from mmdet.utils import register_all_modules
    from mmengine.hub import get_config

    register_all_modules()
    config = get_config("mmdet::centernet/centernet_r18-dcnv2_8xb16-crop512-140e_coco.py").model
    config.backbone.init_cfg = None
    config.test_cfg.nms = {"type": "soft_nms", "iou_threshold": 0.5, "method": "gaussian"}
    config.test_cfg.with_nms = True
    model = MODELS.build(config)
    inputs = demo_mm_inputs(2, image_shapes=[(3, 64, 64)] * 2, num_classes=4)

    losses = model(**model.data_preprocessor(inputs, training=True), mode="loss")
    loss, _ = model.parse_losses(losses)
    loss.backward()
    offsets = [p.grad for name, p in model.named_parameters() if "conv_offset.weight" in name]
    assert loss.isfinite()
    assert offsets
    assert all(grad.abs().sum() > 0 for grad in offsets)

    model.eval()
    with torch.no_grad():
        results = model(**model.data_preprocessor(inputs, training=False), mode="predict")
    for result in results:
        scores = result.pred_instances.scores
        assert len(scores)
        assert (scores[:-1] >= scores[1:]).all()
