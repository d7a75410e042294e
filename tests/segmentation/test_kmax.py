"""kMaX-DeepLab under mmdet's MaskFormer and mmseg's EncoderDecoder."""

import copy

import numpy as np
import pytest
import torch
from mmengine.config import ConfigDict
from mmengine.registry import MODELS, DefaultScope
from mmengine.structures import InstanceData, PixelData

from mmeffvit.models.heads.kmax import KMaXCriterion, Prediction, Segments, make_targets
from mmeffvit.segmentation.kmax_masks import at_stride, to_input

HEIGHT, WIDTH = 64, 90
HEAD = {
    "in_channels": [8, 8, 16, 16],
    "num_queries": 9,
    "pixel_decoder": {"depths": (1, 1, 1, 1), "widths": (8, 8, 8, 4)},
    "decoder": {"depths": (1, 1, 1), "embed_dims": 32, "mask_dims": 16, "ffn_dims": 24},
    "semantic_options": {"dim": 16, "skip_dims": (8, 4)},
    "criterion": {"num_samples": 32, "num_semantic_samples": 32},
}
OURS = {
    "type": "mmeffvit.RAVLT",
    "arch": {
        "embed_dims": (8, 8, 16, 16),
        "depths": (1, 1, 1, 1),
        "num_heads": (1, 1, 2, 2),
        "mlp_ratios": (2, 2, 2, 2),
        "attention": ("l", "l", "v", "v"),
        "layer_scale": (1, 1, 1, 1),
    },
}
UPSTREAM = {"type": "ResNet", "depth": 18, "base_channels": 8, "stem_channels": 8}


def detector(backbone=OURS, stuff=2, channels=None, **test_cfg):
    classes = {"num_things_classes": 3, "num_stuff_classes": stuff}
    head = {"type": "mmeffvit.KMaXHead", **HEAD, **classes}
    head["in_channels"] = channels or HEAD["in_channels"]
    config = ConfigDict(
        type="MaskFormer",
        data_preprocessor={
            "type": "DetDataPreprocessor",
            "mean": [127.5] * 3,
            "std": [127.5] * 3,
            "pad_mask": True,
            "pad_seg": True,
        },
        backbone=backbone,
        panoptic_head=head,
        panoptic_fusion_head={"type": "mmeffvit.KMaXFusionHead", **classes},
        train_cfg={},
        test_cfg={"instance_on": True, "thing_threshold": 0, "stuff_threshold": 0, **test_cfg},
    )
    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope("mmdet"):
        model = MODELS.build(config)
    model.init_weights()
    return model


def batch(with_stuff=True, crowd=False):
    """Two images of different sizes: two things, two kinds of stuff, a strip of nothing."""
    from mmdet.structures import DetDataSample
    from mmdet.structures.mask import BitmapMasks

    inputs, samples = [], []
    torch.manual_seed(0)
    for index, width in enumerate((WIDTH, WIDTH - 20)):
        masks = np.zeros((2, HEIGHT, width), np.uint8)
        masks[0, 4:40, 8:40] = masks[1, 20:60, 44:66] = 1
        labels = torch.full((1, HEIGHT, width), 3)
        labels[:, HEIGHT // 2 :] = 4
        labels[:, :, :4] = 255
        for mask, label in zip(masks, (0, 2)):
            labels[0, torch.from_numpy(mask).bool()] = label
        shape = {"img_shape": (HEIGHT, width), "ori_shape": (HEIGHT * 2, width * 2)}
        sample = DetDataSample(metainfo={**shape, "scale_factor": (0.5, 0.5), "img_id": index})
        boxes = torch.tensor([[8.0, 4, 40, 40], [44, 20, 66, 60]])
        kept = slice(0, 1) if crowd else slice(0, 2)
        sample.gt_instances = InstanceData(
            bboxes=boxes[kept],
            labels=torch.tensor([0, 2])[kept],
            masks=BitmapMasks(masks[kept], HEIGHT, width),
        )
        if crowd:
            sample.ignored_instances = InstanceData(
                bboxes=boxes[1:],
                labels=torch.tensor([2]),
                masks=BitmapMasks(masks[1:], HEIGHT, width),
            )
        if with_stuff:
            sample.gt_sem_seg = PixelData(sem_seg=labels)
        inputs.append(torch.randint(0, 256, (3, HEIGHT, width), dtype=torch.uint8))
        samples.append(sample)
    return {"inputs": inputs, "data_samples": samples}


@pytest.mark.parametrize(
    ("backbone", "channels"), [(OURS, None), (UPSTREAM, [8, 16, 32, 64])], ids=["ours", "mmdet"]
)
def test_trains_and_predicts(backbone, channels):
    model = detector(backbone, channels=channels)
    optimizer = torch.optim.AdamW(model.parameters(), 3e-3)
    values = []
    for _ in range(4):
        data = model.data_preprocessor(copy.deepcopy(batch()), training=True)
        losses = model.loss(data["inputs"], data["data_samples"])
        total = sum(losses.values())
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        values.append(float(total))
    assert values[-1] < values[0], values
    assert {"loss_ce", "loss_aux_semantic", "d0.loss_mask", "d2.loss_pixel_insdis"} <= losses.keys()

    model.eval()
    results = model.test_step(copy.deepcopy(batch()))
    for result, width in zip(results, (WIDTH, WIDTH - 20)):
        ids = result.pred_panoptic_seg.sem_seg
        assert ids.shape == (1, 2 * HEIGHT, 2 * width)
        labels = ids % 1000
        assert labels.max() <= 5
        assert ((ids < 1000) == (labels >= 3)).all(), "things have numbers, stuff has not"
        found = result.pred_instances
        assert found.masks.shape == (len(found), 2 * HEIGHT, 2 * width)
        assert (found.labels < 3).all()


def test_panoptic_ids_and_boxes():
    """Three queries with masks that are sure: two things of one class, and stuff."""
    fusion = detector().panoptic_fusion_head
    masks = torch.full((3, 4, 6), -30.0)
    masks[0, :2, :3], masks[1, :2, 4:], masks[2, 3] = 30, 30, 30
    classes = torch.full((3, 6), -5.0)
    classes[[0, 1, 2], [1, 1, 4]] = 5.0
    # by the score: of equal ones in any order
    ids = fusion.panoptic_postprocess(classes, masks).sem_seg[0]
    assert sorted({int(ids[0, 0]), int(ids[0, 5])}) == [1001, 2001]
    assert ids[3].tolist() == [4] * 6
    # nobody is there: the softmax shares it, and no share is large enough
    assert ids[2].tolist() == [5] * 6
    found = fusion.instance_postprocess(classes, masks)
    best = found.scores.argsort(descending=True)[:2]
    boxes = sorted(found.bboxes[best].int().tolist())
    assert boxes == [[0, 0, 3, 2], [4, 0, 6, 2]]


def test_losses_lead_to_the_truth():
    """Free logits, trained alone: matching, losses, thresholds and numbers mean the same."""
    from mmeffvit.segmentation.kmax import KMaXFusionHead

    fusion = KMaXFusionHead(3, 2)
    masks = torch.zeros(4, 12, 16, dtype=torch.bool)
    masks[2, :6], masks[3, 6:] = True, True  # stuff
    masks[0, 2:9, 2:6] = masks[1, 3:11, 9:14] = True  # two things of one class
    masks[2:] &= ~masks[:2].any(0)
    truth = Segments(torch.tensor([1, 1, 3, 4]), masks)
    classes = torch.zeros(1, 7, 6, requires_grad=True)
    logits = (0.1 * torch.randn(1, 7, 12, 16)).requires_grad_()
    criterion = KMaXCriterion()
    optimizer = torch.optim.Adam([classes, logits], 0.3)
    for _ in range(40):
        prediction = Prediction(classes, logits, torch.zeros(1, 2, 12, 16))
        targets = make_targets(prediction, [truth])
        losses = criterion.of_queries(prediction, targets)
        optimizer.zero_grad()
        sum(criterion.weights[name] * losses[name] for name in ("ce", "mask", "dice")).backward()
        optimizer.step()
    ids = fusion.panoptic_postprocess(classes[0].detach(), logits[0].detach()).sem_seg[0]
    expected = torch.full((12, 16), 5)
    for label, mask in zip(truth.labels, masks):
        expected[mask] = label
    assert (ids % 1000 == expected).all()
    numbers = [set(ids[mask].tolist()) for mask in masks[:2]]
    assert sorted(map(list, numbers)) == [[1001], [2001]]


def test_true_masks_are_where_logits_lie():
    masks = torch.zeros(1, 9, 13, dtype=torch.bool)
    masks[0, 4, 8] = True
    small = at_stride(masks, 4, (3, 4))
    assert small.nonzero().tolist() == [[0, 1, 2]]
    assert at_stride(masks, 4, (2, 3)).shape == (1, 2, 3)  # a backbone that rounds down


@pytest.mark.parametrize("side", [33, 32, 30])
def test_masks_come_back_to_their_place(side):
    """Squares at all offsets, to the size of logits and back: on average their middle stays."""
    masks = torch.zeros(4, side, side)
    for offset, mask in enumerate(masks):
        mask[8 + offset : 20 + offset, 4 + offset : 16 + offset] = 1
    small = at_stride(masks, 4, (-(-side // 4),) * 2)
    back = to_input(small[None].float() - 0.5, (side, side))[0] > 0
    middles = [mask.nonzero().float().mean(0) for mask in back]
    moved = torch.stack(middles).mean(0) - torch.tensor([15.0, 11.0])
    assert moved.abs().max() < 0.51, moved  # the pixel in the middle of four


def segments(with_stuff, stuff, crowd=False):
    model = detector(stuff=stuff)
    data = model.data_preprocessor(batch(with_stuff, crowd), training=True)
    size = (HEIGHT // 4, -(-WIDTH // 4))
    return [model.panoptic_head._segments(sample, size) for sample in data["data_samples"]]


def test_true_segments():
    first, second = segments(with_stuff=True, stuff=2)
    assert first.labels.tolist() == [0, 2, 3, 4]
    assert first.masks.sum(0).max() == 1
    assert not first.masks[:, :, 0].any()  # void
    assert not second.masks[:, :, (WIDTH - 20 + 3) // 4 :].any()  # padding
    for of_image in segments(with_stuff=False, stuff=0):
        assert of_image.labels.tolist() == [0, 2]
    first, second = segments(with_stuff=False, stuff=1)
    assert first.labels.tolist() == [0, 2, 3]
    assert (first.masks.sum(0) == 1).all(), "what is no thing is stuff"
    assert not second.masks[:, :, (WIDTH - 20 + 3) // 4 :].any()
    first, _ = segments(with_stuff=False, stuff=1, crowd=True)
    assert first.labels.tolist() == [0, 3]
    assert not first.masks[:, 6:14, 12:16].any(), "a crowd is neither"


def test_what_does_not_fit_is_a_sentence():
    with pytest.raises(ValueError, match="no 'thing_treshold'; did you mean 'thing_threshold'"):
        detector(thing_treshold=0.5)
    model = detector()
    data = model.data_preprocessor(batch(), training=True)
    for sample in data["data_samples"]:
        del sample.gt_instances.masks
    with pytest.raises(ValueError, match="with_mask=True"):
        model.loss(data["inputs"], data["data_samples"])


def test_semantic_head_under_mmseg():
    from mmseg.structures import SegDataSample

    config = {
        "type": "EncoderDecoder",
        "data_preprocessor": {
            "type": "SegDataPreProcessor",
            "mean": [127.5] * 3,
            "std": [127.5] * 3,
            "size": (HEIGHT, WIDTH),
        },
        "backbone": OURS,
        "decode_head": {"type": "mmeffvit.KMaXSegHead", **HEAD, "num_classes": 4},
        "test_cfg": {"mode": "whole"},
    }
    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope("mmseg"):
        model = MODELS.build(ConfigDict(config))
    labels = torch.full((1, HEIGHT, WIDTH), 2)
    labels[:, :30], labels[:, :, :6] = 1, 255
    shape = {"img_shape": (HEIGHT, WIDTH), "ori_shape": (HEIGHT * 2, WIDTH * 2)}
    samples = [SegDataSample(metainfo=shape) for _ in range(2)]
    for sample in samples:
        sample.gt_sem_seg = PixelData(data=labels)
    data = {"inputs": [torch.full((3, HEIGHT, WIDTH), 90, dtype=torch.uint8)] * 2}
    data = model.data_preprocessor({**data, "data_samples": samples}, training=True)
    optimizer = torch.optim.AdamW(model.parameters(), 3e-3)
    values = []
    for _ in range(4):
        total = sum(model.loss(data["inputs"], data["data_samples"]).values())
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        values.append(float(total))
    assert values[-1] < values[0], values
    model.eval()
    with torch.no_grad():
        (result, _) = model.predict(data["inputs"], data["data_samples"])
        scores = model.decode_head(model.extract_feat(data["inputs"]))
    assert result.pred_sem_seg.data.shape == (1, 2 * HEIGHT, 2 * WIDTH)
    assert result.seg_logits.data.shape[0] == 4
    assert scores.shape == (2, 4, 16, 23)
    assert (scores.sum(1) <= 1 + 1e-5).all()
