"""Images of five bands and 16 bits: the demo's config trains, tests, predicts and draws."""

import json

import cv2
import numpy as np
import pytest
from PIL import Image

from . import runs

tifffile = pytest.importorskip("tifffile")

CONFIG = runs.ROOT / "configs/demo/retinanet_five_bands_demo.py"
SIDE = 64


def write_split(root, split, count):
    """Bright squares, in the near infrared alone, on noise; ids of categories have a gap."""
    rng = np.random.default_rng(len(split))
    images, annotations = [], []
    (root / split).mkdir(parents=True)
    for index in range(1, count + 1):
        image = rng.integers(300, 500, (SIDE, SIDE, 5)).astype(np.uint16)
        x, y = (int(v) for v in rng.integers(0, SIDE - 24, 2))
        image[y : y + 24, x : x + 24, 3:] = 2000
        name = f"{index}.tif"
        tifffile.imwrite(
            root / split / name, image, photometric="minisblack", planarconfig="contig"
        )
        images.append({"id": 10 * index, "file_name": name, "height": SIDE, "width": SIDE})
        annotations.append(
            {
                "id": index,
                "image_id": 10 * index,
                "category_id": 7,
                "bbox": [x, y, 24, 24],
                "area": 576,
                "iscrowd": 0,
            }
        )
    categories = [{"id": 3, "name": "building"}, {"id": 7, "name": "field"}]
    document = {"images": images, "annotations": annotations, "categories": categories}
    (root / "annotations").mkdir(exist_ok=True)
    (root / "annotations" / f"{split}.json").write_text(json.dumps(document))


@pytest.mark.slow
def test_trains_tests_predicts_and_draws(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    data = tmp_path / "five"
    write_split(data, "train", 2)
    write_split(data, "val", 2)
    config = tmp_path / "five.py"
    loader = "dict(num_workers=0, persistent_workers=False, batch_size=2)"
    config.write_text(
        f"_base_ = {str(CONFIG)!r}\n"
        "train_cfg = dict(max_epochs=1)\n"
        f"train_dataloader = {loader}\nval_dataloader = {loader}\ntest_dataloader = {loader}\n"
    )
    with runs.main("train.py") as main:
        main(config, "--data-root", data, "--work-dir", "run")
    with Image.open("run/predictions.png") as picture:
        assert picture.size[0] > 600, "the hook drew"
    scored = ("--cfg-options", "default_hooks.visualization.score_thr=0.0")
    with runs.main("test.py") as main:
        arguments = ("--data-root", data, "--work-dir", "test", "--show-dir", "shown")
        main(config, "run/epoch_1.pth", *arguments, *scored)
    with runs.main("predict.py") as main:
        # one file is of three bands only: the network does not take it
        tifffile.imwrite(data / "val" / "rgb.tif", np.full((SIDE, SIDE, 3), 400, np.uint16))
        options = ("--cfg-options", f"test_dataloader.dataset.data_root={data}")
        with pytest.raises(SystemExit, match="1"):
            main(
                *(config, "run/epoch_1.pth", data / "val", "--out", "out"),
                *("--score-thr", "0.0", "--batch-size", "2", *options),
            )
    document = json.loads((tmp_path / "out" / "predictions.json").read_text())
    assert document["categories"] == [{"id": 3, "name": "building"}, {"id": 7, "name": "field"}]
    assert [(i["id"], i["file_name"]) for i in document["images"]] == [(10, "1.tif"), (20, "2.tif")]
    assert {a["category_id"] for a in document["annotations"]} <= {3, 7}
    for picture in ("out/pictures/1.png", "shown/1.tif"):
        image = cv2.imread(str(tmp_path / picture))
        assert image.shape[0] >= SIDE
        assert np.ptp(image) > 100
