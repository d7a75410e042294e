"""Test-time augmentation: views of an image, and the model that merges what is predicted."""

import pytest
import torch
from mmdet.structures import DetDataSample
from mmengine.config import Config, ConfigDict
from mmengine.model import BaseTTAModel
from mmengine.structures import InstanceData

from mmeffvit.engine.errors import LaunchError
from mmeffvit.engine.evaluation import check_weights
from mmeffvit.engine.tta import enable_tta
from mmeffvit.engine.weights import fit_weights
from mmeffvit.registry import MODELS
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
    cfg.model = {"type": "SOLO", "mask_head": {"type": "SOLOHead"}}
    with pytest.raises(
        LaunchError, match=r"by their boxes, and this model \(SOLO\) predicts masks"
    ):
        enable_tta(cfg)
    cfg.model = {"type": "M2F", "panoptic_head": {"loss_mask": {"type": "CrossEntropyLoss"}}}
    cfg.model.test_cfg = {"panoptic_on": True}
    with pytest.raises(LaunchError, match="predicts masks without any"):
        enable_tta(cfg)


def test_masks_are_merged_by_ours():
    cfg = config(tta_model={"type": "DetTTAModel", "tta_cfg": {"max_per_img": 7}})
    cfg.model.roi_head = {"mask_head": {"type": "FCNMaskHead"}}
    enable_tta(cfg)
    assert cfg.model.type == "mmeffvit.MaskTTAModel"
    assert cfg.model.tta_cfg == {"max_per_img": 7}


def view(direction, boxes, scores, labels, shape=(8, 12)):
    """What a detector finds in an image that was mirrored: masks as large as their boxes."""
    masks = torch.zeros(len(boxes), *shape, dtype=torch.bool)
    for mask, (x0, y0, x1, y1) in zip(masks, boxes):
        mask[y0:y1, x0:x1] = True
    meta = {"flip": direction is not None, "flip_direction": direction, "ori_shape": shape}
    sample = DetDataSample(metainfo={**meta, "img_shape": shape})
    sample.pred_instances = InstanceData(
        bboxes=torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
        scores=torch.tensor(scores),
        labels=torch.tensor(labels, dtype=torch.long),
        masks=masks,
    )
    return sample


def merge(*views):
    nms = {"type": "nms", "iou_threshold": 0.5}
    options = ConfigDict(nms=nms, max_per_img=3)
    merging = {"type": "mmeffvit.MaskTTAModel", "tta_cfg": options, "module": toy.ToyModel()}
    model = MODELS.build(merging)
    return model.merge_preds([list(views)])[0].pred_instances


@pytest.mark.parametrize(
    ("direction", "box"),
    [
        ("horizontal", (9, 1, 11, 4)),
        ("vertical", (1, 4, 3, 7)),
        ("diagonal", (9, 4, 11, 7)),
        (None, (1, 1, 3, 4)),
    ],
)
def test_an_object_keeps_the_mask_of_its_view_mirrored_back(direction, box):
    plain = view(None, [(1, 1, 3, 5), (6, 2, 10, 6)], [0.5, 0.7], [0, 1])
    found = merge(plain, view(direction, [box], [0.9], [0]))
    assert found.scores.tolist() == pytest.approx([0.9, 0.7])
    assert found.labels.tolist() == [0, 1]
    assert found.bboxes.tolist() == [[1, 1, 3, 4], [6, 2, 10, 6]]
    for mask, (x0, y0, x1, y1) in zip(found.masks, found.bboxes.int()):
        assert mask.sum() == (x1 - x0) * (y1 - y0)
        assert mask[y0:y1, x0:x1].all()


def test_masks_of_nothing_and_of_many():
    assert len(merge(view(None, [], [], []), view("horizontal", [], [], []))) == 0
    boxes = [(x, 0, x + 2, 3) for x in range(0, 10, 2)]
    found = merge(view(None, boxes, [0.1, 0.2, 0.3, 0.4, 0.5], [0] * 5))
    assert found.masks.shape == (3, 8, 12)
    assert found.bboxes[:, 0].tolist() == [8, 6, 4]


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
