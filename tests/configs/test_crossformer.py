"""The configs of CrossFormer and CrossFormer++ hold the authors' recipes and build."""

import pytest
import torch
from mmengine.registry import MODELS, DefaultScope

from .common import ROOT, build_optim_wrapper, check_rest_builds, load

# variant, channels of the first stage, stochastic depth
SIZES = {
    "s": ("small", 96, 0.2),
    "b": ("base", 96, 0.3),
    "l": ("large", 128, 0.5),
    "plus-s": ("plus-small", 64, 0.2),
    "plus-b": ("plus-base", 96, 0.3),
}
CLASSIFIERS = {variant: (dim, rate) for variant, dim, rate in SIZES.values()} | {
    "tiny": (64, 0.1),
    "plus-large": (128, 0.5),
    "plus-huge": (128, 0.5),
}
DETECTORS = [
    (method, size) for method in ("retinanet", "mask-rcnn") for size in SIZES if size != "l"
]
SEGMENTORS = [(method, size) for method in ("fpn", "upernet") for size in SIZES]


def path_of(method, size):
    schedule = {"fpn": "8xb4-80k_ade20k-512x512", "upernet": "8xb2-160k_ade20k-512x512"}
    rest = schedule.get(method, "fpn_1x_coco")
    return f"configs/crossformer/{method}_crossformer-{size}_{rest}.py"


def classifier_of(variant):
    return f"configs/crossformer/crossformer-{variant}_8xb128_in1k.py"


def build(cfg, scope):
    with DefaultScope.overwrite_default_scope(scope):
        check_rest_builds(cfg)
        with torch.device("meta"):
            model = MODELS.build(cfg.model)
        return model, build_optim_wrapper(model, cfg.optim_wrapper)


def check_backbone(backbone, size, channels):
    variant, dim, rate = SIZES[size]
    assert (backbone.family, backbone.arch_name) == ("crossformer", variant)
    assert backbone.drop_path_rate == rate
    assert not backbone.out_norm
    dims = [dim * 2**i for i in range(4)]
    assert list(channels) == list(backbone.out_channels) == dims[4 - len(channels) :]
    for stage, interval in zip(backbone.stages, (8, 4, 2, 1)):
        mixers = [block.block.mixer for block in stage.blocks]
        assert {m.group_size for m in mixers} == {7}
        assert [m.interval for m in mixers[:2]] == [None, interval]


def check_decay(model, wrapper, lr, decay, exempt):
    names = {id(param): name for name, param in model.named_parameters()}
    assert isinstance(wrapper.optimizer, torch.optim.AdamW)
    for group in wrapper.optimizer.param_groups:
        assert group["lr"] == lr
        for param in group["params"]:
            expected = 0.0 if exempt(names[id(param)]) else decay
            assert group["weight_decay"] == expected, names[id(param)]


def test_no_config_is_missing_or_unknown():
    there = {p.relative_to(ROOT).as_posix() for p in (ROOT / "configs/crossformer").glob("*.py")}
    expected = {path_of(*case) for case in DETECTORS + SEGMENTORS}
    assert there == expected | {classifier_of(variant) for variant in CLASSIFIERS}


@pytest.mark.parametrize(("method", "size"), DETECTORS)
def test_detectors(method, size):
    cfg = load(path_of(method, size))
    model, wrapper = build(cfg, "mmdet")
    check_backbone(model.backbone, size, cfg.model.neck.in_channels)
    check_decay(model, wrapper, 1e-4, 1e-4, lambda name: False)
    assert wrapper.clip_grad_kwargs is None
    assert (cfg.train_cfg.max_epochs, cfg.param_scheduler[1].milestones) == (12, [8, 11])
    assert cfg.train_dataloader.batch_size == 2
    assert cfg.auto_scale_lr.base_batch_size == 16
    if method == "retinanet":
        assert model.backbone.out_indices == (1, 2, 3)
        assert cfg.model.neck.add_extra_convs == "on_input"


@pytest.mark.parametrize(("method", "size"), SEGMENTORS)
def test_segmentors(method, size):
    cfg = load(path_of(method, size))
    model, wrapper = build(cfg, "mmseg")
    assert wrapper.clip_grad_kwargs is None
    decay = cfg.param_scheduler[-1]
    if method == "fpn":
        check_backbone(model.backbone, size, cfg.model.neck.in_channels)
        check_decay(model, wrapper, 1e-4, 1e-4, lambda name: False)
        assert (decay.power, decay.end) == (0.9, 80_000)
        assert cfg.train_dataloader.batch_size == 4
        assert cfg.auto_scale_lr.base_batch_size == 32
    else:
        check_backbone(model.backbone, size, cfg.model.decode_head.in_channels)
        assert cfg.model.auxiliary_head.in_channels == model.backbone.out_channels[2]
        check_decay(model, wrapper, 6e-5, 0.01, lambda name: "norm" in name)
        assert (decay.power, decay.end) == (1.0, 160_000)
        assert cfg.train_dataloader.batch_size == 2
    assert cfg.model.test_cfg.mode == "whole"


@pytest.mark.parametrize("variant", CLASSIFIERS)
def test_classifiers(variant):
    cfg = load(classifier_of(variant))
    model, wrapper = build(cfg, "mmpretrain")
    dim, rate = CLASSIFIERS[variant]
    assert model.backbone.arch_name == variant
    assert model.backbone.drop_path_rate == rate
    assert model.backbone.out_channels == (8 * dim,) == (cfg.model.head.in_channels,)
    assert isinstance(wrapper.optimizer, torch.optim.AdamW)
    assert wrapper.clip_grad_kwargs == {"max_norm": 5.0}
    for group in wrapper.optimizer.param_groups:
        assert group["lr"] == 1e-3
        vectors = {param.ndim == 1 for param in group["params"]}
        assert vectors == {group["weight_decay"] == 0}
        assert group["weight_decay"] in (0, 0.05)
    warm_up, cosine = cfg.param_scheduler
    assert warm_up.start_factor * 1e-3 == pytest.approx(1e-6)
    assert (warm_up.end, cosine.begin, cosine.eta_min) == (20, 20, 1e-5)
    assert cfg.train_cfg.max_epochs == 300
    assert cfg.train_dataloader.batch_size == 128
    assert cfg.auto_scale_lr.base_batch_size == 1024
