"""Sheets of samples with their labels: what is drawn where, and that every layout is drawn."""

import numpy as np
import pytest

from mmeffvit.engine.labelled import load_labelled
from mmeffvit.visualization import label_sheet
from mmeffvit.visualization.label_sheet import draw_label_sheet
from tests.datasets.checks import sets


@pytest.mark.parametrize("layout", sets.LAYOUTS)
def test_every_layout_is_drawn(layout, tmp_path, monkeypatch):
    write, config = sets.LAYOUTS[layout]
    write(tmp_path)
    samples, metainfo = load_labelled(config(tmp_path), "train", 2)
    captions = []

    def compose(sizes, draw, **page):
        captions.extend(draw(index, (120, 90))[1] for index in range(len(sizes)))
        return composed(sizes, draw, **page)

    composed = label_sheet.compose_sheet
    monkeypatch.setattr(label_sheet, "compose_sheet", compose)
    sheet = np.asarray(draw_label_sheet(samples, metainfo, "title", panel=120))
    assert len(samples) == 2
    expected = {
        "coco": "train/004.jpg   1 box · 1 disc",
        "label maps": "train/3.jpg",
        "folders": "cress/1.jpg   cress",
        "kitti": "velodyne/000002.bin   1 Car · 1 Pedestrian · 1 Cyclist",
        "waymo": "velodyne/2.bin   1 Car · 1 Pedestrian · 1 Cyclist",
        "rooms": "train/b.pth   800 points",
    }
    assert captions[1] == expected[layout]
    # pictures that differ from the ones without labels, where labels can be drawn
    pictures = [
        label_sheet._draw(s, metainfo["classes"], [(9, 9, 9)] * 3, (90, 90)) for s in samples
    ]
    differ = [(np.asarray(plain) != np.asarray(drawn)).any() for plain, drawn in pictures]
    assert all(differ) == (layout != "folders")
    assert sheet.std() > 0
