"""Pictures of the clusters of a k-means head."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmengine.structures import BaseDataElement
from PIL import Image
from torch import nn

from mmeffvit.models.heads.kmax import KMaX
from mmeffvit.visualization.clusters import (
    ClusterPicturesHook,
    ClusterRecorder,
    cluster_palette,
    draw_clusters,
)


def test_a_colour_for_each_cluster():
    palette = cluster_palette(40)
    assert len(set(palette)) == 40
    image = np.zeros((20, 30, 3), np.uint8)
    maps = {"layer 1": np.array([[0, 1]]), "masks": np.zeros((5, 6), int)}
    picture = draw_clusters(image, maps, 4)
    assert picture.size == (3 * 240 + 2 * 8, 26 + 160)
    panel = np.asarray(picture)[26:, 248:488]
    assert (panel[:, 20] != panel[:, 220]).any(), "left and right have two owners"


def test_hook_draws_who_owns_each_pixel(tmp_path):
    torch.manual_seed(0)
    head = KMaX(
        (8, 8, 8, 8),
        num_classes=3,
        num_queries=5,
        pixel_decoder={"depths": (1,) * 4, "widths": (8,) * 4},
        decoder={"depths": (1, 2, 0), "embed_dims": 16, "mask_dims": 8, "ffn_dims": 8},
        semantic=None,
    ).eval()
    model = nn.Sequential(head)
    recorder = ClusterRecorder(model)
    feats = [torch.randn(1, 8, 16 // 2**i, 24 // 2**i) for i in range(4)]
    with torch.no_grad():
        output = head(feats, with_layers=False)
    assert list(recorder.maps) == ["layer 1", "layer 3", "masks"]
    assert [m.shape for m in recorder.maps.values()] == [(1, 2, 3), (1, 4, 6), (1, 16, 24)]
    expected = output.final.mask_logits.argmax(1).numpy()
    assert (recorder.maps["masks"] == expected).all()
    recorder.remove()

    hook = ClusterPicturesHook(str(tmp_path), most=1)
    warnings = []
    loader = SimpleNamespace(dataset=None)
    logger = SimpleNamespace(warning=warnings.append)
    runner = SimpleNamespace(model=model, logger=logger, test_dataloader=loader)
    hook.before_test(runner)
    with torch.no_grad():
        head(feats)
    shape = {"img_shape": (64, 80), "ori_shape": (64, 80), "batch_input_shape": (64, 96)}
    sample = BaseDataElement(metainfo={**shape, "img_path": "a.jpg", "scale_factor": (1.0, 1.0)})
    batch = {"inputs": [torch.zeros(3, 64, 80, dtype=torch.uint8)]}
    hook.after_test_iter(runner, 0, batch, [sample])
    hook.after_test_iter(runner, 1, batch, [sample.new()])
    hook.after_test(runner)
    assert warnings == []
    (path,) = tmp_path.iterdir()
    with Image.open(path) as picture:
        assert picture.size == (4 * 240 + 3 * 8, 26 + 192)


def test_a_model_without_clusters():
    with pytest.raises(ValueError, match="no k-means head"):
        ClusterRecorder(nn.Linear(2, 2))
