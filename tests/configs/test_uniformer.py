"""The configs of UniFormer hold the authors' recipes and build."""

import pytest
import torch
from mmengine.registry import MODELS, DefaultScope

from .common import ROOT, build_optim_wrapper, check_rest_builds, load

# detector and schedule -> stochastic depth of S and B
DETECTORS = {
    ("mask-rcnn", "1x"): (0.2, 0.3),
    ("mask-rcnn", "ms-3x"): (0.1, 0.3),
    ("cascade-mask-rcnn", "ms-3x"): (0.2, 0.4),
}
SEGMENTORS = {("fpn", "8xb4-80k"): (0.1, 0.2), ("upernet", "8xb2-160k"): (0.25, 0.4)}
VARIANTS = {"s": "small", "b": "base"}


def detector_path(method, schedule, size):
    return f"configs/uniformer/{method}_uniformer-{size}-h14_fpn_{schedule}_coco.py"


def segmentor_path(method, schedule, size, windows=""):
    name = f"{method}_uniformer-{size}{windows}_{schedule}_ade20k-512x512.py"
    return f"configs/uniformer/{name}"


def classifier_path(size):
    return f"configs/uniformer/uniformer-{VARIANTS[size]}_8xb128_in1k.py"


def built(cfg, scope):
    with DefaultScope.overwrite_default_scope(scope):
        check_rest_builds(cfg)
        with torch.device("meta"):
            model = MODELS.build(cfg.model)
        return model, build_optim_wrapper(model, cfg.optim_wrapper)


def windows(backbone):
    return [block.mixer.core.window_size for block in backbone.stages[2].blocks]


def check_backbone(backbone, size, drop_path):
    assert (backbone.family, backbone.arch_name) == ("uniformer", VARIANTS[size])
    assert backbone.out_channels == (64, 128, 320, 512)
    assert backbone.drop_path_rate == drop_path
    assert backbone.out_norm
    assert not backbone.norm_eval


def check_decay(model, wrapper, decay, without=()):
    assert isinstance(wrapper.optimizer, torch.optim.AdamW)
    assert wrapper.clip_grad_kwargs is None
    names = {id(param): name for name, param in model.backbone.named_parameters()}
    for group in wrapper.optimizer.param_groups:
        for name in (names[id(p)] for p in group["params"] if id(p) in names):
            exempt = any(word in name for word in without)
            assert group["weight_decay"] == (0.0 if exempt else decay), name


def test_no_config_is_missing_or_unknown():
    there = {p.relative_to(ROOT).as_posix() for p in (ROOT / "configs/uniformer").glob("*.py")}
    expected = {detector_path(*case, size) for case in DETECTORS for size in VARIANTS}
    expected |= {
        segmentor_path(*case, size, kind)
        for case in SEGMENTORS
        for size in VARIANTS
        for kind in ("", "-h14")
    }
    assert there == expected | {classifier_path(size) for size in VARIANTS}


@pytest.mark.parametrize("size", VARIANTS)
@pytest.mark.parametrize(("method", "schedule"), DETECTORS)
def test_detectors(method, schedule, size):
    cfg = load(detector_path(method, schedule, size))
    model, wrapper = built(cfg, "mmdet")
    check_backbone(model.backbone, size, DETECTORS[method, schedule][size == "b"])
    assert windows(model.backbone)[:4] == [14, 14, 14, None]
    assert tuple(cfg.model.neck.in_channels) == model.backbone.out_channels
    epochs, steps = (12, [8, 11]) if schedule == "1x" else (36, [27, 33])
    assert cfg.train_cfg.max_epochs == epochs
    assert cfg.param_scheduler[1].milestones == steps
    assert {group["lr"] for group in wrapper.optimizer.param_groups} == {1e-4}
    check_decay(model, wrapper, 0.05, without=["norm"])
    assert cfg.auto_scale_lr.base_batch_size == 8 * cfg.train_dataloader.batch_size == 16


@pytest.mark.parametrize("size", VARIANTS)
@pytest.mark.parametrize("kind", ["", "-h14"])
@pytest.mark.parametrize(("method", "schedule"), SEGMENTORS)
def test_segmentors(method, schedule, size, kind):
    cfg = load(segmentor_path(method, schedule, size, kind))
    model, wrapper = built(cfg, "mmseg")
    check_backbone(model.backbone, size, SEGMENTORS[method, schedule][size == "b"])
    expected = [14, 14, 14, None] if kind else [None] * 4
    assert windows(model.backbone)[:4] == expected
    warm_up, fall = cfg.param_scheduler
    rates = {group["lr"] for group in wrapper.optimizer.param_groups}
    if method == "fpn":
        assert tuple(cfg.model.neck.in_channels) == model.backbone.out_channels
        assert rates == {2e-4}
        check_decay(model, wrapper, 1e-4)
        assert (warm_up.start_factor, warm_up.end) == (0.1, 1000)
        assert (fall.type, fall.begin, fall.end) == ("CosineAnnealingLR", 1000, 80_000)
    else:
        assert tuple(cfg.model.decode_head.in_channels) == model.backbone.out_channels
        assert cfg.model.auxiliary_head.in_channels == 320
        assert rates == {6e-5}
        check_decay(model, wrapper, 0.01, without=["norm"])
        assert (warm_up.start_factor, warm_up.end) == (1e-6, 1500)
        assert (fall.type, fall.power, fall.end) == ("PolyLR", 1.0, 160_000)
    assert cfg.train_cfg.max_iters == fall.end
    assert cfg.auto_scale_lr.base_batch_size == 8 * cfg.train_dataloader.batch_size


@pytest.mark.parametrize(
    ("size", "drop_path", "lr", "parameters"),
    [("s", 0.1, 1e-3, 21_545_256), ("b", 0.3, 8e-4, 49_776_552)],
)
def test_classifiers(size, drop_path, lr, parameters):
    cfg = load(classifier_path(size))
    model, wrapper = built(cfg, "mmpretrain")
    assert sum(param.numel() for param in model.parameters()) == parameters
    assert model.backbone.drop_path_rate == drop_path
    assert set(windows(model.backbone)) == {None}
    assert {group["lr"] for group in wrapper.optimizer.param_groups} == {lr}
    for group in wrapper.optimizer.param_groups:
        for param in group["params"]:
            assert group["weight_decay"] == (0.05 if param.ndim > 1 else 0.0)
    warm_up, cosine = cfg.param_scheduler
    assert warm_up.start_factor * lr == pytest.approx(1e-6)
    assert (warm_up.end, cosine.begin, cosine.end, cosine.eta_min) == (5, 5, 300, 1e-5)
    assert cfg.auto_scale_lr.base_batch_size == 8 * cfg.train_dataloader.batch_size == 1024
