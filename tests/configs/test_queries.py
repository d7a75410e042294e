"""Detectors and segmentors that answer queries build, train for a few steps and predict."""

import copy

import numpy as np
import pytest
import torch
from mmengine.config import ConfigDict
from mmengine.registry import MODELS, DefaultScope
from mmengine.structures import InstanceData, PixelData

from mmeffvit.models import RAVLT

from .common import build_optim_wrapper, load

CONFIGS = {
    "mask2former_ravlt-t_8xb2-lsj-50e_coco-panoptic": "Mask2Former",
    "mask2former_ravlt-t_8xb2-lsj-50e_coco": "Mask2Former",
    "dino-4scale_ravlt-t_8xb2-12e_coco": "DINO",
    "sparse-rcnn_ravlt-t_fpn_1x_coco": "SparseRCNN",
}
HEIGHT, WIDTH = 64, 96

# sizes of mmdet's configs -> for tests
WIDTHS = {2048: 64, 1024: 64, 256: 32, 128: 16}
WIDTH_KEYS = {
    "embed_dims",
    "feat_channels",
    "feedforward_channels",
    "in_channels",
    "num_feats",
    "out_channels",
    "proposal_feature_channel",
}
NUMBERS = {
    "num_queries": 12,
    "num_matching_queries": 12,
    "num_dn_queries": 4,
    "num_proposals": 12,
    "num_points": 64,
    "num_stages": 2,
    "num_layers": 2,
    "num_groups": 4,
    "max_per_image": 6,
    "max_per_img": 6,
}
ARCH = {
    "embed_dims": (8, 8, 16, 16),
    "depths": (1, 1, 1, 1),
    "num_heads": (1, 1, 2, 2),
    "mlp_ratios": (2, 2, 2, 2),
    "attention": ("l", "l", "v", "v"),
    "layer_scale": (1, 1, 1, 1),
}


@pytest.fixture(autouse=True)
def _mmdet_scope():
    with DefaultScope.overwrite_default_scope("mmdet"):
        yield


def _load(name):
    return load(f"configs/ravlt/{name}.py")


def _shrunk(value, widths, key=None):
    if isinstance(value, dict):
        return ConfigDict({name: _shrunk(item, widths, name) for name, item in value.items()})
    if isinstance(value, list):
        # one head or assigner for each stage
        stages = value[:2] if len(value) == 6 else value
        return [_shrunk(item, widths) for item in stages]
    if key in NUMBERS and isinstance(value, int):
        return NUMBERS[key]
    return widths.get(value, value) if key in WIDTH_KEYS else value


def _tiny(name):
    cfg = _load(name)
    # mmdet 3.3's DINO encodes positions in 256 channels, whatever its config says
    cfg.model = _shrunk(cfg.model, {} if cfg.model.type == "DINO" else WIDTHS)
    model = cfg.model
    model.backbone.arch = ARCH
    reader = model.get("neck") or model.panoptic_head
    reader.in_channels = [
        ARCH["embed_dims"][i] for i in model.backbone.get("out_indices", range(4))
    ]
    for augment in model.data_preprocessor.get("batch_augments") or []:
        augment.size = (HEIGHT, WIDTH)
    return cfg


def _batch(with_stuff):
    """Two images of two things each, and two regions of stuff around them."""
    from mmdet.structures import DetDataSample
    from mmdet.structures.mask import BitmapMasks

    inputs, samples = [], []
    for shift in (0, 16):
        boxes = torch.tensor([[8.0, 8.0, 40.0, 40.0], [32.0 + shift, 8.0, 80.0 + shift, 60.0]])
        masks = np.zeros((2, HEIGHT, WIDTH), np.uint8)
        labels = torch.full((1, HEIGHT, WIDTH), 80)
        labels[:, HEIGHT // 2 :] = 100
        for index, (left, top, right, bottom) in enumerate(boxes.int().tolist()):
            masks[index, top:bottom, left:right] = 1
            labels[:, top:bottom, left:right] = index
        sample = DetDataSample(
            metainfo={
                "img_shape": (HEIGHT, WIDTH),
                "ori_shape": (HEIGHT, WIDTH),
                "batch_input_shape": (HEIGHT, WIDTH),
                "scale_factor": (1.0, 1.0),
                "img_id": shift,
            }
        )
        sample.gt_instances = InstanceData(
            bboxes=boxes, labels=torch.tensor([0, 1]), masks=BitmapMasks(masks, HEIGHT, WIDTH)
        )
        if with_stuff:
            sample.gt_sem_seg = PixelData(sem_seg=labels)
        inputs.append(torch.randint(0, 256, (3, HEIGHT, WIDTH), dtype=torch.uint8))
        samples.append(sample)
    return {"inputs": inputs, "data_samples": samples}


@pytest.mark.parametrize("name", CONFIGS)
def test_builds_and_every_parameter_is_optimized(name):
    cfg = _load(name)
    with torch.device("meta"):
        model = MODELS.build(cfg.model)
    assert type(model).__name__ == CONFIGS[name]
    assert type(model.backbone) is RAVLT
    assert model.backbone.arch_name == "tiny"
    groups = build_optim_wrapper(model, cfg.optim_wrapper).optimizer.param_groups
    optimized = {id(param) for group in groups for param in group["params"]}
    assert optimized == {id(param) for param in model.parameters()}


def test_rules_of_mask2former():
    """The backbone learns at a tenth; norms, biases and queries are not decayed."""
    cfg = _load("mask2former_ravlt-t_8xb2-lsj-50e_coco")
    with torch.device("meta"):
        model = MODELS.build(cfg.model)
    groups = build_optim_wrapper(model, cfg.optim_wrapper).optimizer.param_groups
    found = {
        name: (group["lr"], group["weight_decay"])
        for group in groups
        for name in group["param_names"]
    }
    assert found["backbone.stages.2.blocks.0.ffn.fc1.weight"] == pytest.approx((1e-5, 0.05))
    assert found["backbone.stem.1.weight"] == pytest.approx((1e-5, 0))
    assert found["panoptic_head.query_feat.weight"] == pytest.approx((1e-4, 0))
    assert found["panoptic_head.cls_embed.weight"] == pytest.approx((1e-4, 0.05))
    assert found["panoptic_head.cls_embed.bias"] == pytest.approx((1e-4, 0))


@pytest.mark.parametrize("name", CONFIGS)
def test_trains_and_predicts(name):
    cfg = _tiny(name)
    cfg.optim_wrapper.optimizer.lr = 1e-3
    model = MODELS.build(cfg.model)
    model.init_weights()
    wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
    panoptic = name.endswith("panoptic")
    batch = _batch(with_stuff=panoptic)
    before = {key: param.clone() for key, param in model.backbone.named_parameters()}
    losses = []
    model.train()
    for _ in range(6):
        log = model.train_step(copy.deepcopy(batch), wrapper)
        assert all(value.isfinite().all() for value in log.values()), log
        losses.append(log["loss"].item())
    assert min(losses[3:]) < losses[0], losses
    still = [
        key for key, value in model.backbone.named_parameters() if torch.equal(value, before[key])
    ]
    assert still == []

    model.eval()
    results = model.test_step(copy.deepcopy(batch))
    assert len(results) == 2
    for result in results:
        if panoptic:
            assert result.pred_panoptic_seg.sem_seg.shape == (1, HEIGHT, WIDTH)
            continue
        found = result.pred_instances
        assert 0 < len(found) <= 12
        assert found.bboxes.isfinite().all()
        assert ((found.scores >= 0) & (found.scores <= 1)).all()
        assert found.labels.max() < 80
        if "mask2former" in name:
            assert found.masks.shape == (len(found), HEIGHT, WIDTH)
