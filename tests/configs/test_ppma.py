"""The configs of PPMA hold the authors' recipes and build."""

import pytest
import torch
from mmengine.registry import MODELS, DefaultScope

from .common import ROOT, build_optim_wrapper, check_rest_builds, load

SIZES = {"t": "tiny", "s": "small", "b": "base"}
RATES = {"tiny": 0.1, "small": 0.15, "base": 0.4}
DETECTORS = [("t", "1x"), ("s", "1x"), ("b", "1x"), ("b", "ms-3x")]


def detector_of(size, schedule):
    return f"configs/ppma/mask-rcnn_ppma-{size}_fpn_{schedule}_coco.py"


def segmentor_of(size):
    return f"configs/ppma/upernet_ppma-{size}_8xb2-160k_ade20k-512x512.py"


def classifier_of(size):
    return f"configs/ppma/ppma-{SIZES[size]}_8xb128_in1k.py"


def build(cfg, scope):
    """The model, its backbone and its optimizer, without memory for weights."""
    with DefaultScope.overwrite_default_scope(scope):
        check_rest_builds(cfg)
        with torch.device("meta"):
            model = MODELS.build(cfg.model)
        return model, build_optim_wrapper(model, cfg.optim_wrapper)


def check_backbone(backbone, size):
    assert (backbone.family, backbone.arch_name) == ("ppma", SIZES[size])
    assert backbone.drop_path_rate == RATES[SIZES[size]]
    assert not backbone.norm_eval
    assert backbone.frozen_stages == -1


def check_decay(model, wrapper, lr):
    """0.05, and none for names with norm."""
    names = {id(param): name for name, param in model.named_parameters()}
    assert isinstance(wrapper.optimizer, torch.optim.AdamW)
    assert wrapper.clip_grad_kwargs is None
    for group in wrapper.optimizer.param_groups:
        assert group["lr"] == lr
        for param in group["params"]:
            expected = 0.0 if "norm" in names[id(param)] else 0.05
            assert group["weight_decay"] == expected, names[id(param)]


def test_no_config_is_missing_or_unknown():
    there = {p.relative_to(ROOT).as_posix() for p in (ROOT / "configs/ppma").glob("*.py")}
    expected = {detector_of(*case) for case in DETECTORS}
    expected |= {path(size) for size in SIZES for path in (segmentor_of, classifier_of)}
    assert there == expected


@pytest.mark.parametrize(("size", "schedule"), DETECTORS)
def test_detectors(size, schedule):
    cfg = load(detector_of(size, schedule))
    model, wrapper = build(cfg, "mmdet")
    check_backbone(model.backbone, size)
    assert model.backbone.out_channels == tuple(cfg.model.neck.in_channels)
    check_decay(model, wrapper, 1e-4)
    epochs, steps = (12, [8, 11]) if schedule == "1x" else (36, [27, 33])
    warm_up, decay = cfg.param_scheduler
    assert (warm_up.start_factor, warm_up.end) == (0.001, 500)
    assert (cfg.train_cfg.max_epochs, decay.milestones) == (epochs, steps)
    assert ("RandomCrop" in repr(cfg.train_dataloader.dataset.pipeline)) == (schedule != "1x")
    assert cfg.train_dataloader.batch_size == 2
    assert cfg.auto_scale_lr.base_batch_size == 16
    assert cfg.sync_bn is None


@pytest.mark.parametrize("size", SIZES)
def test_segmentors(size):
    cfg = load(segmentor_of(size))
    model, wrapper = build(cfg, "mmseg")
    check_backbone(model.backbone, size)
    channels = model.backbone.out_channels
    assert channels == tuple(cfg.model.decode_head.in_channels)
    assert (cfg.model.auxiliary_head.in_channels, cfg.model.auxiliary_head.in_index) == (
        channels[2],
        2,
    )
    check_decay(model, wrapper, 6e-5)
    warm_up, decay = cfg.param_scheduler
    assert (warm_up.start_factor, warm_up.end) == (1e-6, 1500)
    assert (decay.type, decay.power, decay.end) == ("PolyLR", 1.0, 160_000)
    assert cfg.model.test_cfg == {"mode": "slide", "crop_size": (512, 512), "stride": (341, 341)}
    assert cfg.model.data_preprocessor.size == (512, 512)
    assert cfg.model.decode_head.norm_cfg.type == "SyncBN"
    assert cfg.train_dataloader.batch_size == 2
    assert cfg.sync_bn is None


@pytest.mark.parametrize("size", SIZES)
def test_classifiers(size):
    cfg = load(classifier_of(size))
    model, wrapper = build(cfg, "mmpretrain")
    check_backbone(model.backbone, size)
    assert model.backbone.out_channels == (cfg.model.head.in_channels,)
    assert isinstance(wrapper.optimizer, torch.optim.AdamW)
    assert wrapper.clip_grad_kwargs is None
    for group in wrapper.optimizer.param_groups:
        assert group["lr"] == 1e-3
        vectors = {param.ndim == 1 for param in group["params"]}
        assert vectors == {group["weight_decay"] == 0}
        assert group["weight_decay"] in (0, 0.05)
    warm_up, cosine = cfg.param_scheduler
    assert warm_up.start_factor * 1e-3 == pytest.approx(1e-6)
    assert (warm_up.end, cosine.begin, cosine.end, cosine.eta_min) == (5, 5, 300, 1e-5)
    assert cfg.train_cfg.max_epochs == 310
    assert cfg.train_dataloader.batch_size == 128
    assert cfg.train_dataloader.sampler.type == "DefaultSampler"
    assert cfg.auto_scale_lr.base_batch_size == 1024
    averages = [hook for hook in cfg.custom_hooks if hook.type == "EMAHook"]
    assert [hook.momentum for hook in averages] == pytest.approx([1 - 0.99996])
