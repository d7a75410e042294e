"""Images that loaders read otherwise than they are: what is said of 16 bits."""

import numpy as np
import pytest
from PIL import Image

from mmeffvit.datasets.checks.images import check_depth
from mmeffvit.engine.preflight import find_problems
from tests.datasets.checks import mutations, sets


def save(path, pixels):
    Image.fromarray(pixels).save(path)
    return str(path)


def test_twelve_of_sixteen_bits_are_nearly_black(tmp_path):
    level = np.full((8, 8), 4095, np.uint16)
    (finding,) = check_depth(
        [save(tmp_path / "a.png", level), save(tmp_path / "b.tif", level // 2)]
    )
    assert finding.level == "warning"
    assert "16 bits go up to 4,095 of 65,535" in str(finding)
    assert "makes 15 of 255 of that, nearly black (a.png, b.tif)" in str(finding)


def test_images_that_fill_their_bits_pass(tmp_path):
    paths = [
        save(tmp_path / "full.png", np.full((8, 8), 40000, np.uint16)),
        save(tmp_path / "limit.png", np.full((8, 8), 32 * 256, np.uint16)),
        save(tmp_path / "dark.png", np.full((8, 8, 3), 3, np.uint8)),
        save(tmp_path / "alpha.png", np.full((8, 8, 4), 3, np.uint8)),
        save(tmp_path / "photo.jpg", np.full((8, 8, 3), 3, np.uint8)),
    ]
    assert check_depth(paths) == []


#: layout -> its images to train on, and what makes the config read them under another suffix
READ = {
    "coco": ("train/*.jpg", lambda root, cfg: rename_in_json(root, cfg)),
    "label maps": (
        "images/train/*.jpg",
        lambda root, cfg: cfg.train_dataloader.dataset.update(img_suffix=".png"),
    ),
    "folders": ("train/*/*.jpg", lambda root, cfg: None),
}


def rename_in_json(root, cfg):
    change = mutations.each(
        "images", lambda image: image.update(file_name=image["file_name"].replace("jpg", "png"))
    )
    change(root, cfg)


@pytest.mark.parametrize("layout", READ)
def test_every_layout_is_looked_at(layout, tmp_path):
    write, config = sets.LAYOUTS[layout]
    pattern, rename = READ[layout]
    write(tmp_path)
    cfg = config(tmp_path)
    mutations.deepen(sets.files(tmp_path, pattern), shift=2)
    rename(tmp_path, cfg)
    (finding,) = find_problems(cfg, ("train", "val"))
    assert "of 65,535" in finding.what
    cfg.train_dataloader.dataset.pipeline[0].color_type = "unchanged"  # read as they are
    assert find_problems(cfg, ("train", "val")) == []
