"""The configs for ADE20K build, hold the papers' recipes, and train."""

import copy
import itertools
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import MODELS, DefaultScope
from mmengine.structures import PixelData

from mmeffvit.models.zoo import backbone_classes

from .common import ROOT, build_optim_wrapper, check_rest_builds, load

SIZES = {"t": "tiny", "s": "small", "b": "base", "l": "large"}
SCHEDULES = {"fpn": "80k", "upernet": "160k"}
FAMILIES = ("secvit", "ravlt", "ssvit", "rmt")

# Parameters in millions, rounded or cut off, as the papers' tables have them, of T, S, B and L;
# the auxiliary head counts.
PUBLISHED = {
    ("ravlt", "fpn"): (18, 28, 51, 98),
    ("ravlt", "upernet"): (None, 55, 77, 125),
    ("rmt", "fpn"): (17, 30, 57, 98),
    ("rmt", "upernet"): (None, 56, 83, 125),
}


@dataclass(frozen=True)
class Case:
    """A config, and what its recipe must be."""

    family: str
    size: str
    method: str

    @property
    def path(self):
        schedule = SCHEDULES[self.method]
        name = f"{self.method}_{self.family}-{self.size}_8xb2-{schedule}_ade20k-512x512.py"
        return f"configs/{self.family}/{name}"

    def of_size(self, values):
        return values[list(SIZES).index(self.size)]


CASES = [Case(*parts) for parts in itertools.product(FAMILIES, SIZES, SCHEDULES)]
# what has fewer configs, and rates of stochastic depth that are not those of the classifiers
DROP_PATH = {"t": 0.3, "s": 0.4, "b": 0.6}
CASES += [Case("cswin", size, "upernet") for size in DROP_PATH]
DEMO = "configs/demo/semseg_fpn_rmt_demo.py"


@pytest.fixture(autouse=True)
def _mmseg_scope():
    with DefaultScope.overwrite_default_scope("mmseg"):
        yield


def _check_builds(cfg):
    """Everything that training builds; the model and its optimizer wrapper."""
    with torch.device("meta"):  # shapes without weights: the large ones cost no more
        model = MODELS.build(cfg.model)
    channels = tuple(model.backbone.out_channels)
    if "neck" in cfg.model:
        assert tuple(cfg.model.neck.in_channels) == channels
    else:
        assert tuple(cfg.model.decode_head.in_channels) == channels
        assert cfg.model.auxiliary_head.in_channels == channels[2]
    wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
    optimized = [id(param) for group in wrapper.optimizer.param_groups for param in group["params"]]
    assert sorted(optimized) == sorted(id(param) for param in model.parameters())
    check_rest_builds(cfg)
    for scheduler in cfg.param_scheduler:
        assert scheduler.end <= cfg.train_cfg.max_iters
    return model, wrapper


def test_no_config_is_missing_or_unknown():
    there = {
        path.relative_to(ROOT).as_posix()
        for family in {case.family for case in CASES}
        for path in (ROOT / "configs" / family).glob("*_ade20k-*.py")
    }
    assert there == {case.path for case in CASES}


def test_demo_builds():
    cfg = load(DEMO)
    _check_builds(cfg)
    classes = cfg.train_dataloader.dataset.type
    assert classes == cfg.val_dataloader.dataset.type == "mmeffvit.DigitsSegDataset"
    assert cfg.model.decode_head.num_classes == 11
    assert cfg.param_scheduler[-1].end == cfg.train_cfg.max_iters


@pytest.mark.parametrize("case", CASES, ids=lambda case: Path(case.path).stem)
def test_holds_the_recipe(case):
    cfg = load(case.path)
    model, wrapper = _check_builds(cfg)
    upernet = case.method == "upernet"

    backbone = model.backbone
    assert (backbone.family, backbone.arch_name) == (case.family, SIZES[case.size])
    assert backbone.out_indices == (0, 1, 2, 3)
    rate = backbone.drop_path_rates[SIZES[case.size]]
    if case.family == "cswin":
        rate = DROP_PATH[case.size]
    assert backbone.drop_path_rate == rate > 0
    assert backbone.out_norm
    assert backbone.frozen_stages == -1
    assert not backbone.norm_eval

    published = case.of_size(PUBLISHED.get((case.family, case.method), (None,) * 4))
    if published is not None:
        millions = sum(param.numel() for param in model.parameters()) / 1e6
        assert published - 0.5 <= millions < published + 1

    head = cfg.model.decode_head
    assert (head.type, head.channels) == (("UPerHead", 512) if upernet else ("FPNHead", 128))
    assert (head.num_classes, head.dropout_ratio) == (150, 0.1)
    assert ("auxiliary_head" in cfg.model) == upernet
    if upernet:
        auxiliary = cfg.model.auxiliary_head
        assert (auxiliary.type, auxiliary.in_index, auxiliary.channels) == ("FCNHead", 2, 256)
        assert auxiliary.num_classes == 150
        assert auxiliary.loss_decode.loss_weight == 0.4
        assert tuple(head.pool_scales) == (1, 2, 3, 6)
    else:
        assert (cfg.model.neck.out_channels, cfg.model.neck.num_outs) == (256, 4)

    iterations = 160_000 if upernet else 80_000
    assert cfg.train_cfg.max_iters == cfg.param_scheduler[-1].end == iterations
    *warm_up, decay = cfg.param_scheduler
    assert decay.type == "PolyLR"
    assert not decay.by_epoch
    if upernet:
        assert (decay.power, decay.eta_min, decay.begin) == (1.0, 0.0, 1500)
        assert [(w.type, w.start_factor, w.end) for w in warm_up] == [("LinearLR", 1e-6, 1500)]
    else:
        assert (decay.power, decay.eta_min, decay.begin) == (0.9, 1e-6, 0)
        assert warm_up == []

    optimizer = wrapper.optimizer
    assert isinstance(optimizer, torch.optim.AdamW)
    assert wrapper.clip_grad_kwargs is None
    assert cfg.optim_wrapper.optimizer.betas == (0.9, 0.999)
    assert {group["lr"] for group in optimizer.param_groups} == {6e-5 if upernet else 1e-4}
    names = {id(param): name for name, param in model.named_parameters()}
    for group in optimizer.param_groups:
        for name in (names[id(param)] for param in group["params"]):
            expected = (0.0 if "norm" in name else 0.01) if upernet else 1e-4
            assert group["weight_decay"] == expected, name

    assert cfg.train_dataloader.batch_size == 2
    assert cfg.auto_scale_lr.base_batch_size == 16
    assert cfg.sync_bn == "torch"
    assert cfg.model.data_preprocessor.size == (512, 512)
    assert cfg.model.test_cfg.mode == "whole"
    assert cfg.default_hooks.checkpoint.type == "mmeffvit.SafeCheckpointHook"
    assert not cfg.default_hooks.checkpoint.by_epoch
    crop = next(t for t in cfg.train_dataloader.dataset.pipeline if t.type == "RandomCrop")
    assert (crop.crop_size, crop.cat_max_ratio) == ((512, 512), 0.75)
    resize = next(t for t in cfg.train_dataloader.dataset.pipeline if t.type == "RandomResize")
    assert (resize.scale, resize.ratio_range) == ((2048, 512), (0.5, 2.0))


def _batch(height, width):
    from mmseg.structures import SegDataSample

    labels = torch.randint(0, 150, (1, height, width))
    labels[:, :8] = 255
    sample = SegDataSample(
        gt_sem_seg=PixelData(data=labels),
        metainfo={"img_shape": (height, width), "ori_shape": (height, width)},
    )
    image = torch.randint(0, 256, (3, height, width), dtype=torch.uint8)
    return {"inputs": [image, image], "data_samples": [sample, copy.deepcopy(sample)]}


@pytest.mark.parametrize(
    ("family", "method"), [("rmt", "fpn"), ("ssvit", "upernet"), ("cswin", "upernet")]
)
def test_one_step(family, method):
    """The loss is finite, and no parameter is left without a gradient."""
    cfg = load(Case(family, "t", method).path)
    arch = copy.deepcopy(backbone_classes()[family].arch_zoo["tiny"])
    cfg.model.backbone.arch = arch | {"depths": (1, 1, 1, 1), "mlp_ratios": (1, 1, 1, 1)}
    cfg.model.data_preprocessor.size = (64, 64)
    if method == "upernet":
        cfg.model.decode_head.channels = cfg.model.auxiliary_head.channels = 16
    model = revert_sync_batchnorm(MODELS.build(cfg.model))  # as the runner does outside of DDP
    model.train()
    data = model.data_preprocessor(_batch(64, 64), training=True)
    loss, log = model.parse_losses(model(**data, mode="loss"))
    assert all(np.isfinite(value.item()) for value in log.values()), log
    loss.backward()
    without = [name for name, param in model.named_parameters() if param.grad is None]
    assert without == []
