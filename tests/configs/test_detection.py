"""The configs for COCO build, hold the papers' recipes, and train."""

import copy
import functools
import itertools
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import MODELS, DefaultScope
from mmengine.structures import InstanceData
from torch.nn.modules.batchnorm import _BatchNorm

from mmeffvit.models.zoo import backbone_classes

from .common import ROOT, build_optim_wrapper, check_rest_builds, load

DETECTORS = {
    "mask-rcnn": "MaskRCNN",
    "cascade-mask-rcnn": "CascadeRCNN",
    "retinanet": "RetinaNet",
}
KINDS = ("mask-rcnn 1x", "mask-rcnn ms-3x", "cascade-mask-rcnn ms-3x", "retinanet 1x")
SIZES = {"t": "tiny", "s": "small", "b": "base", "l": "large"}

# Channels and stochastic depth of T, S, B and L, as the authors' codes have them.
WIDE = ((64, 128, 256, 512), (64, 128, 256, 512), (80, 160, 320, 512), (112, 224, 448, 640))
CHANNELS = {
    "secvit": WIDE,
    "ravlt": ((64, 128, 256, 512), (64, 128, 320, 512), (96, 192, 384, 512), (96, 192, 448, 640)),
    "ssvit": WIDE,
    "rmt": WIDE,
}
DROP_PATH = dict.fromkeys(CHANNELS, (0.1, 0.15, 0.4, 0.5)) | {"ravlt": (0.1, 0.15, 0.4, 0.55)}

# RMT's learning rates of T, S, B and L; RAVLT has one for all, which SecViT and SSViT borrow.
RMT_LEARNING_RATES = {
    "mask-rcnn 1x": (4e-4, 4e-4, 4e-4, 2e-4),
    "mask-rcnn ms-3x": (4e-4, 4e-4, 2e-4, 2e-4),
    "cascade-mask-rcnn ms-3x": (4e-4, 4e-4, 2e-4, 2e-4),
    "retinanet 1x": (4e-4, 4e-4, 4e-4, 2e-4),
}


@dataclass(frozen=True)
class Case:
    """A config, and what its recipe must be."""

    family: str
    size: str
    kind: str

    @property
    def path(self):
        detector, schedule = self.kind.split()
        name = f"{detector}_{self.family}-{self.size}_fpn_{schedule}_coco"
        return f"configs/{self.family}/{name}.py"

    def of_size(self, values):
        return values[list(SIZES).index(self.size)]

    @property
    def learning_rate(self):
        return self.of_size(RMT_LEARNING_RATES[self.kind]) if self.family == "rmt" else 1e-4

    @property
    def images_per_gpu(self):
        return 1 if (self.size, self.kind) == ("l", "mask-rcnn ms-3x") else 2


CASES = [Case(*parts) for parts in itertools.product(CHANNELS, SIZES, KINDS)]
OTHERS = (
    "configs/mask_rcnn_secvit.py",
    "configs/demo/mask_rcnn_secvit_demo.py",
    "configs/demo/mask_rcnn_hybrid_demo.py",
    "configs/demo/mask_rcnn_offsets_demo.py",
    "configs/demo/retinanet_five_bands_demo.py",
    "configs/hybrid/mask-rcnn_hybrid-t_fpn_1x_coco.py",
    "configs/hybrid/mask-rcnn_hybrid-offsets-t_fpn_1x_coco.py",
)


@pytest.fixture(autouse=True)
def _mmdet_scope():
    with DefaultScope.overwrite_default_scope("mmdet"):
        yield


def _build_model(cfg):
    with torch.device("meta"):  # shapes without weights: the large ones cost no more
        model = MODELS.build(cfg.model)
    assert tuple(model.backbone.out_channels) == tuple(cfg.model.neck.in_channels)
    return model


def _build_optimizer(cfg, model):
    """The wrapper, and the weight decay of every parameter by name."""
    wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
    names = {id(param): name for name, param in model.named_parameters()}
    decays = {
        names[id(param)]: group["weight_decay"]
        for group in wrapper.optimizer.param_groups
        for param in group["params"]
    }
    assert sorted(decays) == sorted(names.values())
    return wrapper, decays


@pytest.mark.parametrize("path", OTHERS)
def test_others_build(path):
    cfg = load(path)
    _build_optimizer(cfg, _build_model(cfg))
    check_rest_builds(cfg)


def test_no_config_is_missing_or_unknown():
    there = {
        path.relative_to(ROOT).as_posix()
        for family, detector in itertools.product(CHANNELS, DETECTORS)
        for path in (ROOT / "configs" / family).glob(f"{detector}_*_coco.py")
    }
    assert there == {case.path for case in CASES}


def test_front_door_is_its_sibling():
    sibling = Case("secvit", "t", "mask-rcnn 1x").path
    assert load("configs/mask_rcnn_secvit.py").to_dict() == load(sibling).to_dict()


def _named(cases):
    return pytest.mark.parametrize("case", cases, ids=lambda case: Path(case.path).stem)


@functools.cache
def _backbone(**cfg):
    """Shared by the detectors of one size; nothing is changed in it."""
    with torch.device("meta"):
        return MODELS.build(cfg)


@_named(CASES)
def test_what_a_size_changes(case):
    """Whole models are built of the tiny ones, whose configs the others equal in all else."""
    cfg, tiny = load(case.path), load(replace(case, size="t").path)
    backbone = _backbone(**cfg.model.backbone)
    assert tuple(backbone.out_channels) == tuple(cfg.model.neck.in_channels)
    assert (backbone.family, backbone.arch_name) == (case.family, SIZES[case.size])
    assert backbone.out_indices == ((1, 2, 3) if case.kind.startswith("retina") else (0, 1, 2, 3))
    assert backbone.out_channels == case.of_size(CHANNELS[case.family])[backbone.out_indices[0] :]
    assert backbone.drop_path_rate == case.of_size(DROP_PATH[case.family])
    assert cfg.optim_wrapper.optimizer.lr == case.learning_rate
    assert cfg.train_dataloader.batch_size == case.images_per_gpu
    assert cfg.auto_scale_lr.base_batch_size == 8 * case.images_per_gpu

    for path in (
        "model.backbone.arch",
        "model.neck.in_channels",
        "optim_wrapper.optimizer.lr",
        "train_dataloader.batch_size",
        "auto_scale_lr.base_batch_size",
    ):
        cfg.merge_from_dict({path: None})
        tiny.merge_from_dict({path: None})
    assert cfg.to_dict() == tiny.to_dict()


@_named([case for case in CASES if case.size == "t"])
def test_recipe(case):
    """Of the tiny networks; what the others change is tested above."""
    cfg = load(case.path)
    check_rest_builds(cfg)
    model = _build_model(cfg)
    wrapper, weight_decays = _build_optimizer(cfg, model)
    detector, schedule = case.kind.split()

    assert cfg.model.type == DETECTORS[detector]
    assert model.backbone.out_norm
    assert model.backbone.frozen_stages == -1
    assert not model.backbone.norm_eval

    epochs, steps = (12, [8, 11]) if schedule == "1x" else (36, [27, 33])
    warm_up, decay = cfg.param_scheduler
    assert cfg.train_cfg.max_epochs == epochs
    assert (decay.type, decay.milestones, decay.end) == ("MultiStepLR", steps, epochs)
    assert (warm_up.type, warm_up.start_factor, warm_up.end) == ("LinearLR", 0.001, 500)
    assert not warm_up.by_epoch

    pipeline = repr(cfg.train_dataloader.dataset.pipeline)
    assert ("RandomChoiceResize" in pipeline) == ("RandomCrop" in pipeline) == ("ms" in schedule)

    assert isinstance(wrapper.optimizer, torch.optim.AdamW)
    assert cfg.optim_wrapper.optimizer.betas == (0.9, 0.999)
    assert wrapper.clip_grad_kwargs is None
    if detector == "retinanet":
        assert set(weight_decays.values()) == {1e-4}
    else:
        exempt = {name for name in weight_decays if "norm" in name}
        if detector == "cascade-mask-rcnn":
            exempt |= _parameters_of_batch_norms(model)
        assert weight_decays == {name: 0.05 * (name not in exempt) for name in weight_decays}


def _parameters_of_batch_norms(model):
    return {
        f"{path}.{name}"
        for path, module in model.named_modules()
        if isinstance(module, _BatchNorm)
        for name, _ in module.named_parameters(recurse=False)
    }


def _shallow(family, variant):
    """The arch of a variant with one block per stage, narrow inside, as wide outside."""
    arch = copy.deepcopy(backbone_classes()[family].arch_zoo[variant])
    return arch | {"depths": (1, 1, 1, 1), "mlp_ratios": (1, 1, 1, 1)}


# Parameters by name, and whether their weights decay in Mask R-CNN: the authors' rule goes by the
# name, and so it misses the batch norms of the stem, biases and layer scales.
DECAYED = {
    "backbone.stem.0.weight": True,
    "backbone.stem.1.weight": True,
    "backbone.stages.0.blocks.0.norm1.weight": False,
    "backbone.stages.0.blocks.0.norm2.bias": False,
    "backbone.stages.0.blocks.0.mixer.qkv.weight": True,
    "backbone.stages.0.blocks.0.mixer.qkv.bias": True,
    "backbone.stages.2.blocks.0.layer_scale1.gamma": True,
    "backbone.stages.1.downsample.conv.weight": True,
    "backbone.stages.1.downsample.norm.weight": False,
    "backbone.out_norms.0.weight": False,
    "neck.lateral_convs.0.conv.weight": True,
    "roi_head.mask_head.conv_logits.weight": True,
}


@pytest.mark.parametrize("family", CHANNELS)
def test_which_weights_decay(family):
    """The rules of `test_recipe` spelt out, parameter by parameter."""
    decays = {}
    for kind in KINDS[1:3]:
        cfg = load(Case(family, "b", kind).path)
        cfg.model.backbone.arch = _shallow(family, "base")
        decays[kind] = _build_optimizer(cfg, _build_model(cfg))[1]
    mask, cascade = decays.values()
    assert {name: mask[name] > 0 for name in DECAYED} == DECAYED
    batch_norms = [name for name in cascade if "bbox_head" in name and ".bn." in name]
    assert len(batch_norms) == 3 * 4 * 2  # stages, convolutions, weight and bias
    assert {cascade[name] for name in batch_norms} == {0.0}
    assert cascade["backbone.stem.1.weight"] == 0.0
    assert cascade["backbone.stages.2.blocks.0.layer_scale1.gamma"] == 0.05


def _batch(with_masks):
    from mmdet.structures import DetDataSample
    from mmdet.structures.mask import BitmapMasks

    height, width = 64, 96
    boxes = torch.tensor([[8.0, 8.0, 40.0, 40.0], [32.0, 8.0, 96.0, 60.0]])
    masks = np.zeros((len(boxes), height, width), dtype=np.uint8)
    for mask, (left, top, right, bottom) in zip(masks, boxes.int().tolist(), strict=True):
        mask[top:bottom, left:right] = 1
    sample = DetDataSample(metainfo={"img_shape": (height, width), "ori_shape": (height, width)})
    sample.gt_instances = InstanceData(bboxes=boxes, labels=torch.tensor([0, 7]))
    if with_masks:
        sample.gt_instances.masks = BitmapMasks(masks, height, width)
    image = torch.randint(0, 256, (3, height, width), dtype=torch.uint8)
    return {"inputs": [image], "data_samples": [sample]}


@pytest.mark.parametrize(
    ("family", "kind"),
    [("secvit", KINDS[0]), ("ssvit", KINDS[0]), ("ravlt", KINDS[2]), ("rmt", KINDS[3])],
)
def test_one_step(family, kind):
    """The loss is finite, and no parameter is left without a gradient."""
    cfg = load(Case(family, "t", kind).path)
    cfg.model.backbone.arch = _shallow(family, "tiny")
    if "rpn_proposal" in cfg.model.train_cfg:  # a few regions, for speed
        stages = cfg.model.train_cfg.rcnn
        for stage in stages if isinstance(stages, list) else [stages]:
            stage.sampler.num = 8
        cfg.model.train_cfg.rpn_proposal.max_per_img = 50
    model = revert_sync_batchnorm(MODELS.build(cfg.model))  # as the runner does outside of DDP
    model.train()
    data = model.data_preprocessor(_batch("retinanet" not in kind), training=True)
    losses = model(**data, mode="loss")
    loss, log = model.parse_losses(losses)
    assert all(np.isfinite(value.item()) for value in log.values()), log
    loss.backward()
    without = [name for name, param in model.named_parameters() if param.grad is None]
    assert without == []
