"""The configs of kMaX-DeepLab build, hold the authors' recipe, and the demo learns."""

import pytest
import torch
from mmengine.registry import MODELS, DefaultScope
from torch.nn.modules.batchnorm import _BatchNorm

from .common import build_optim_wrapper, check_rest_builds, load


@pytest.fixture(autouse=True)
def _mmdet_scope():
    with DefaultScope.overwrite_default_scope("mmdet"):
        yield


@pytest.mark.parametrize("backbone", ["r50", "ravlt-t"])
def test_recipe(backbone):
    cfg = load(f"configs/kmax/kmax_{backbone}_8xb8-150k_coco-panoptic.py")
    check_rest_builds(cfg)
    with torch.device("meta"):
        model = MODELS.build(cfg.model)
    expected = {"r50": 72_436_862, "ravlt-t": 49_971_262}[backbone]
    assert sum(p.numel() for p in model.parameters()) == expected
    groups = build_optim_wrapper(model, cfg.optim_wrapper).optimizer.param_groups
    found = {n: (g["lr"], g["weight_decay"]) for g in groups for n in g["param_names"]}
    assert found.keys() == dict(model.named_parameters()).keys()
    head = "panoptic_head.network"
    assert found[f"{head}.decoder.centres"] == (5e-4, 0)
    table = f"{head}.pixel_decoder.stages.0.0.mix.0.height.query_table.weight"
    assert found[table] == (5e-4, 0)
    assert found[f"{head}.decoder.layers.0.ffn.0.conv.weight"] == (5e-4, 0.05)
    assert found[f"{head}.decoder.layers.0.ffn.0.norm.weight"] == (5e-4, 0)
    rates = {lr for name, (lr, _) in found.items() if name.startswith("backbone")}
    assert list(rates) == [pytest.approx(5e-5)]
    assert cfg.train_dataloader.batch_size * 8 == cfg.auto_scale_lr.base_batch_size == 64


def test_demo_builds():
    cfg = load("configs/demo/kmax_digits_demo.py")
    check_rest_builds(cfg)
    model = MODELS.build(cfg.model)
    feats = model.extract_feat(torch.zeros(2, 3, 65, 65))
    # one more than what the strides divide: masks lie exactly at every fourth pixel
    assert [f.shape[-1] for f in feats] == [17, 9, 5, 3]
    classes, masks = model.panoptic_head(feats)
    assert [c.shape for c in classes] == [(2, 8, 15)] * 4
    assert masks[-1].shape == (2, 8, 17, 17)
    groups = build_optim_wrapper(model, cfg.optim_wrapper).optimizer.param_groups
    rates = {n: g["lr"] for g in groups for n in g["param_names"]}
    fast = {name for name, rate in rates.items() if rate > cfg.optim_wrapper.optimizer.lr}
    # all that start with a gain of 0.1 or 0, and cannot move by more than the rate in a step
    zero = {n for n, m in model.named_modules() if isinstance(m, _BatchNorm) and m.weight.max() < 1}
    assert {name.rpartition(".")[0] for name in fast} == zero
