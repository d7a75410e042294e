"""The config of FaViT for ImageNet-1K: the recipe of its code."""

import pytest
import torch
from mmengine.registry import MODELS, DefaultScope

from mmeffvit.models.classifier import create_classifier

from .common import ROOT, build_optim_wrapper, check_rest_builds, load


def test_recipe():
    (path,) = (ROOT / "configs/favit").glob("*.py")
    cfg = load(path.relative_to(ROOT).as_posix())
    with DefaultScope.overwrite_default_scope("mmpretrain"):
        check_rest_builds(cfg)
        with torch.device("meta"):
            model = MODELS.build(cfg.model)
        wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
    backbone = model.backbone
    assert (backbone.family, backbone.arch_name, backbone.drop_path_rate) == ("favit", "b0", 0.1)
    # converted weights of a classifier load as they are
    with torch.device("meta"):
        plain = create_classifier("favit-b0")
    assert model.state_dict().keys() == plain.state_dict().keys()
    assert {group["lr"] for group in wrapper.optimizer.param_groups} == {1e-3}
    for group in wrapper.optimizer.param_groups:
        for param in group["params"]:
            assert group["weight_decay"] == (0.05 if param.ndim > 1 else 0.0)
    assert wrapper.clip_grad_kwargs is None
    warm_up, cosine = cfg.param_scheduler
    assert warm_up.start_factor * 1e-3 == pytest.approx(1e-6)
    assert (warm_up.end, cosine.begin, cosine.end, cosine.eta_min) == (5, 5, 300, 1e-5)
    assert cfg.auto_scale_lr.base_batch_size == 8 * cfg.train_dataloader.batch_size == 1024
