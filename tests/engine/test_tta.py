"""Test-time augmentation: views of an image, and the model that merges what is predicted."""

import pytest
import torch
from mmengine.config import Config
from mmengine.model import BaseTTAModel

from mmeffvit.engine.errors import LaunchError
from mmeffvit.engine.evaluation import check_weights
from mmeffvit.engine.tta import enable_tta
from mmeffvit.engine.weights import fit_weights
from tests.engine import toy

PACK = {"type": "PackDetInputs", "meta_keys": ("img_id", "flip")}


def config(scope="mmdet", pack=None, **entries):
    steps = [{"type": "LoadImageFromFile"}, {"type": "LoadAnnotations"}, {"type": "Resize"}]
    dataset = {"type": "X", "pipeline": [*steps, pack or PACK]}
    loader = {"dataset": {"type": "RepeatDataset", "dataset": dataset}}
    model = {"type": "Net", "bbox_head": {"type": "Head"}}
    return Config({"default_scope": scope, "model": model, "test_dataloader": loader, **entries})


def test_the_mirror_image_where_the_config_says_nothing():
    cfg = config()
    enable_tta(cfg)
    assert cfg.model.type == "DetTTAModel"
    assert cfg.model.module == {"type": "Net", "bbox_head": {"type": "Head"}}
    *steps, views = cfg.test_dataloader.dataset.dataset.pipeline
    assert [step.type for step in steps] == ["LoadImageFromFile", "Resize"]
    flips, annotations, (pack,) = views.transforms
    assert [flip.prob for flip in flips] == [0.0, 1.0], "annotations are taken from the first view"
    assert annotations == [{"type": "LoadAnnotations"}]
    assert pack.meta_keys == ("img_id", "flip", "flip_direction")


@pytest.mark.parametrize(
    ("scope", "kind"),
    [("mmseg", "mmseg.SegTTAModel"), ("mmpretrain", "mmpretrain.AverageClsScoreTTA")],
)
def test_other_toolboxes(scope, kind):
    cfg = config(scope, {"type": "PackInputs"})
    enable_tta(cfg)
    assert cfg.model.type == kind
    assert "meta_keys" not in cfg.test_dataloader.dataset.dataset.pipeline[-1].transforms[-1][0]


def test_what_the_config_says_counts():
    pipeline = [{"type": "LoadImageFromFile"}, {"type": "TestTimeAug", "transforms": []}]
    cfg = config(tta_model={"type": "Mine", "a": 1}, tta_pipeline=pipeline)
    enable_tta(cfg)
    assert (cfg.model.type, cfg.model.a, cfg.model.module.type) == ("Mine", 1, "Net")
    assert cfg.test_dataloader.dataset.dataset.pipeline == pipeline


def test_what_cannot_be_merged():
    with pytest.raises(LaunchError, match=r"needs tta_model=dict\(type=...\).*'mmeffvit'"):
        enable_tta(config("mmeffvit"))
    with pytest.raises(LaunchError, match=r"ends with no step that packs .*'Resize'"):
        enable_tta(config(pack={"type": "Resize"}))
    cfg = config()
    cfg.model.roi_head = {"mask_head": {"type": "FCNMaskHead"}}
    with pytest.raises(LaunchError, match="merges boxes, and this model predicts masks"):
        enable_tta(cfg)


class Mean(BaseTTAModel):
    def merge_preds(self, data_samples_list):
        return data_samples_list


def test_weights_are_those_of_the_model_inside(tmp_path):
    model, source = Mean(toy.ToyModel()), toy.ToyModel()
    torch.save({"state_dict": source.state_dict()}, tmp_path / "a.pth")
    assert check_weights(model, str(tmp_path / "a.pth")) == len(list(source.parameters()))
    assert torch.equal(model.module.layers[0].weight, source.layers[0].weight)
    fit = fit_weights(model, {"state_dict": source.state_dict()})
    assert len(fit.fitting) == len(source.state_dict())
