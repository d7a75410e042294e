"""SSD of mmdet 3 cannot predict as it is: its head has no loss to ask about channels."""

import pytest
import torch
from mmengine.registry import DefaultScope


def test_ssd_predicts():
    pytest.importorskip("mmdet")
    from mmdet.models.dense_heads import SSDHead
    from mmengine.config import ConfigDict

    with DefaultScope.overwrite_default_scope("mmdet"):
        head = SSDHead(
            num_classes=3,
            in_channels=(4, 4, 4),
            anchor_generator={
                "type": "SSDAnchorGenerator",
                "scale_major": False,
                "input_size": 64,
                "min_sizes": [10, 20, 40],
                "max_sizes": [20, 40, 60],
                "strides": [16, 32, 64],
                "ratios": [[2], [2, 3], [2]],
            },
            test_cfg=ConfigDict(
                nms_pre=100,
                nms={"type": "nms", "iou_threshold": 0.45},
                score_thr=0.2,
                max_per_img=5,
            ),
        )
    maps = tuple(torch.randn(1, 4, side, side) for side in (4, 2, 1))
    with torch.no_grad():
        scores, deltas = head(maps)
        meta = {"img_shape": (64, 64), "scale_factor": (1.0, 1.0)}
        (found,) = head.predict_by_feat(scores, deltas, batch_img_metas=[meta])
    assert 0 < len(found.bboxes) <= 5
    # softmax over classes and background, as SSD is trained
    every = torch.cat([s.permute(0, 2, 3, 1).reshape(-1, 4).softmax(-1)[:, :-1] for s in scores])
    torch.testing.assert_close(found.scores[0], every.max())
