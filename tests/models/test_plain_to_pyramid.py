"""The neck against formulas in plain PyTorch, and under mmdet's Mask R-CNN on mmpretrain's ViT."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope
from mmengine.structures import InstanceData

from mmeffvit import compat
from mmeffvit.models import PlainToPyramid

SIZE = (5, 7)  # odd, not square


def randomised(neck):
    for parameter in neck.parameters():
        torch.nn.init.normal_(parameter)
    return neck.double()


def maps_of(channels):
    return [torch.randn(2, c, *SIZE, dtype=torch.float64) for c in channels]


def norm(x, layer):
    """LayerNorm over channels, written out."""
    x = x - x.mean(1, keepdim=True)
    x = x / (x.square().mean(1, keepdim=True) + 1e-6).sqrt()
    return x * layer.weight[:, None, None] + layer.bias[:, None, None]


def doubled(x, layer):
    """A 2x2 transposed convolution of stride 2: every pixel becomes four, none overlap."""
    out = torch.einsum("bchw,cdij->bdhiwj", x, layer.weight)
    return out.flatten(4, 5).flatten(2, 3) + layer.bias[:, None, None]


def halved(x):
    """The largest of up to 2x2 pixels; sides are rounded up."""
    rows, columns = (-(-side // 2) for side in x.shape[-2:])
    cells = [
        x[..., 2 * r : 2 * r + 2, 2 * c : 2 * c + 2].amax((-2, -1))
        for r in range(rows)
        for c in range(columns)
    ]
    return torch.stack(cells, -1).unflatten(-1, (rows, columns))


def test_simple_feature_pyramid_from_the_last_map():
    neck = randomised(PlainToPyramid(8, out_channels=6, num_outs=5))
    other, x = maps_of((3, 8))
    outs = neck([other, x])

    four, two, one, half = neck.levels
    fine = doubled(F.gelu(norm(doubled(x, four[0]), four[1])), four[3])
    resampled = [fine, doubled(x, two[0]), x, halved(x)]
    assert [r.shape[1] for r in resampled] == [2, 4, 8, 8]
    for level, out, expected in zip((four, two, one, half), outs, resampled):
        point, norm1, conv, norm2 = level[-4:]
        assert point.bias is None
        assert conv.bias is None
        expected = norm(torch.einsum("bchw,dc->bdhw", expected, point.weight[..., 0, 0]), norm1)
        expected = norm(F.conv2d(expected, conv.weight, padding=1), norm2)
        torch.testing.assert_close(out, expected)
    torch.testing.assert_close(outs[4], outs[3][..., ::2, ::2])
    assert [tuple(o.shape[-2:]) for o in outs] == [(20, 28), (10, 14), (5, 7), (3, 4), (2, 2)]
    sum(o.sum() for o in outs).backward()
    assert all(p.grad is not None for p in neck.parameters())


def test_a_map_for_each_level():
    channels = (4, 6, 8, 10)
    neck = randomised(PlainToPyramid(channels))
    maps = maps_of(channels)
    outs = neck(maps)
    four, two, _, _ = neck.levels
    expected = [
        doubled(F.gelu(norm(doubled(maps[0], four[0]), four[1])), four[3]),
        doubled(maps[1], two[0]),
        maps[2],
        halved(maps[3]),
    ]
    for out, value in zip(outs, expected, strict=True):
        torch.testing.assert_close(out, value)
    assert [out.shape[1] for out in outs] == list(channels)


@pytest.mark.parametrize("patch", [8, 14])
def test_other_patch_sizes(patch):
    neck = PlainToPyramid(8, in_stride=patch, out_strides=[patch * s for s in (0.5, 1, 2, 4)])
    outs = neck([torch.randn(1, 8, 10, 6)])
    assert [tuple(o.shape) for o in outs] == [
        (1, 8, 20, 12),
        (1, 8, 10, 6),
        (1, 8, 5, 3),
        (1, 8, 3, 2),
    ]


def test_errors_say_what_fits():
    with pytest.raises(ValueError, match="in_stride=16 times powers of two, got 12"):
        PlainToPyramid(8, out_strides=(4, 12))
    with pytest.raises(ValueError, match="or one for each of"):
        PlainToPyramid([8, 8])
    with pytest.raises(ValueError, match="num_outs=3 is less"):
        PlainToPyramid(8, num_outs=3)
    with pytest.raises(ValueError, match="made for 4 maps and got 1; fit out_indices"):
        PlainToPyramid([8] * 4)([torch.zeros(1, 8, 2, 2)])


def test_mask_rcnn_on_an_upstream_plain_vit(tmp_path):
    """From a config: builds, trains a step with a gradient everywhere, predicts."""
    from mmdet.structures import DetDataSample
    from mmdet.structures.mask import BitmapMasks

    compat.setup()
    path = tmp_path / "mask-rcnn_vit.py"
    path.write_text(
        """
_base_ = "mmdet::mask_rcnn/mask-rcnn_r50_fpn_1x_coco.py"
model = dict(
    backbone=dict(
        _delete_=True,
        type="mmpretrain.VisionTransformer",
        arch=dict(embed_dims=48, num_layers=4, num_heads=3, feedforward_channels=96),
        img_size=64,
        patch_size=16,
        out_type="featmap",
    ),
    neck=dict(
        _delete_=True,
        type="mmeffvit.PlainToPyramid",
        in_channels=48,
        out_channels=256,
        num_outs=5,
    ),
    train_cfg=dict(rpn_proposal=dict(max_per_img=50), rcnn=dict(sampler=dict(num=8))),
    test_cfg=dict(rcnn=dict(score_thr=0.0, max_per_img=3)),
)
"""
    )
    cfg = Config.fromfile(path)
    height, width = 64, 96
    boxes = torch.tensor([[8.0, 8.0, 40.0, 40.0], [32.0, 8.0, 96.0, 60.0]])
    masks = np.zeros((2, height, width), dtype=np.uint8)
    masks[:, 8:40, 32:40] = 1
    sample = DetDataSample(metainfo={"img_shape": (height, width), "ori_shape": (height, width)})
    sample.set_metainfo({"scale_factor": (1.0, 1.0)})
    sample.gt_instances = InstanceData(
        bboxes=boxes, labels=torch.tensor([0, 7]), masks=BitmapMasks(masks, height, width)
    )
    image = torch.randint(0, 256, (3, height, width), dtype=torch.uint8)
    with DefaultScope.overwrite_default_scope("mmdet"):
        model = MODELS.build(cfg.model)
        batch = {"inputs": [image], "data_samples": [sample]}
        data = model.data_preprocessor(batch, training=True)
        loss, log = model.parse_losses(model(**data, mode="loss"))
        assert all(np.isfinite(value.item()) for value in log.values())
        loss.backward()
        without = [
            name
            for name, parameter in model.named_parameters()
            if parameter.requires_grad and parameter.grad is None
        ]
        assert without == []
        model.eval()
        with torch.no_grad():
            (result,) = model.test_step({"inputs": [image], "data_samples": [sample]})
    assert len(result.pred_instances) == 3
    assert result.pred_instances.masks.shape == (3, height, width)


def test_maps_of_other_strides_are_joined():
    joined = randomised(PlainToPyramid((3, 8), in_stride=16, out_strides=(8, 16, 32), concat=True))
    single = PlainToPyramid(11, in_stride=16, out_strides=(8, 16, 32)).double()
    single.load_state_dict(joined.state_dict())
    fine, x = torch.randn(2, 3, 9, 13, dtype=torch.float64), maps_of((8,))[0]
    resized = F.interpolate(fine, SIZE, mode="bilinear", align_corners=False)
    expected = single([torch.cat((resized, x), 1)])
    for actual, other in zip(joined([fine, x]), expected, strict=True):
        torch.testing.assert_close(actual, other)
