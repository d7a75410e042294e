"""LabelMapsHook: a file per test image, none of which overwrites another."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample
from PIL import Image

from mmeffvit.engine.label_maps import LabelMapsHook


class Images(list):
    """Stands for a data set of mmseg."""

    def __init__(self, paths, **metainfo):
        super().__init__(paths)
        self.metainfo = {"classes": ["a", "b", "c"], **metainfo}

    def get_data_info(self, index):
        return {"img_path": str(self[index])}


def write(hook, dataset, maps):
    runner = SimpleNamespace(test_dataloader=SimpleNamespace(dataset=dataset))
    samples = [SegDataSample(metainfo={"img_path": str(path)}) for path in dataset]
    for sample, labels in zip(samples, maps):
        sample.pred_sem_seg = PixelData(data=torch.as_tensor(labels)[None])
    hook.before_test_epoch(runner)
    hook.after_test_iter(runner, 0, None, samples)


MAPS = [np.full((4, 5), value) for value in (0, 1, 2)]


def test_images_of_one_name_keep_their_folders(tmp_path):
    paths = [Path("/data", name) for name in ("day/a.png", "night/a.png", "night/b.png")]
    write(LabelMapsHook(str(tmp_path)), Images(paths), MAPS)
    found = {str(p.relative_to(tmp_path)): p for p in tmp_path.rglob("*.*")}
    assert sorted(found) == ["b.png", "day/a.png", "night/a.png"]
    for name, value in zip(("day/a.png", "night/a.png", "b.png"), (0, 1, 2)):
        assert (np.asarray(Image.open(found[name])) == value).all()


@pytest.mark.parametrize(
    ("metainfo", "expected", "mode"),
    [
        ({"reduce_zero_label": True}, 2, "L"),
        ({"classes": [str(i) for i in range(300)]}, 1, "I;16"),
    ],
)
def test_labels_are_those_of_the_annotation_files(tmp_path, metainfo, expected, mode):
    write(LabelMapsHook(str(tmp_path)), Images([Path("a.png")], **metainfo), MAPS[1:2])
    picture = Image.open(tmp_path / "a.png")
    assert picture.mode == mode
    assert (np.asarray(picture) == expected).all()
