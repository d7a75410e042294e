"""Large images in tiles: what is cut is put together, and no network sees more than a tile."""

import sys
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from mmdet.structures import DetDataSample
from mmengine.config import Config
from mmengine.model import BaseModel
from mmengine.registry import MODELS
from mmengine.structures import InstanceData
from mmseg.models import EncoderDecoder
from pycocotools.coco import COCO
from torch.nn import functional as F

from mmeffvit.engine import inference, predictions, tiles
from mmeffvit.engine.errors import LaunchError
from mmeffvit.visualization.contact_sheet import Objects, draw_objects
from mmeffvit.visualization.masks import Crop, CroppedMasks, encode

sahi = pytest.importorskip("sahi")


def test_tiles_cover_an_image_and_lie_inside():
    covered = np.zeros((250, 330), int)
    found = tiles.cut(covered.shape, 100, 0.2)
    for x0, y0, x1, y1 in found:
        assert (x1 - x0, y1 - y0) == (100, 100)
        covered[y0:y1, x0:x1] += 1
    assert covered.min() == 1
    assert found == sorted(found, key=lambda tile: (tile[1], tile[0])), "row by row"
    assert tiles.cut((50, 330), 100, 0.0)[0] == (0, 0, 100, 50)
    assert tiles.cut((50, 70), 100, 0.2) == [(0, 0, 70, 50)]


@pytest.mark.parametrize(("classes", "overlap"), [(3, 0.25), (3, 0.0), (1, 0.5)])
def test_averaged_logits_are_those_of_mmsegs_slide_mode(classes, overlap):
    """A network whose logits depend on where a tile ends, by the zeros around it."""
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(classes, 3, 9, 9, generator=generator)
    image = torch.randn(1, 3, 70, 101, generator=generator)

    def encode_decode(crop, metas=None):
        logits = F.conv2d(crop, weight, padding=4)
        return logits if classes > 1 else logits.sigmoid()

    size, stride = 32, int(32 * (1 - overlap))
    model = SimpleNamespace(
        test_cfg=SimpleNamespace(stride=(stride, stride), crop_size=(size, size)),
        out_channels=classes,
        encode_decode=encode_decode,
    )
    slide = EncoderDecoder.slide_inference(model, image, [{}])[0]
    expected = slide.argmax(0) if classes > 1 else (slide[0] > 0.4).long()

    def found():
        for x0, y0, x1, y1 in tiles.cut((70, 101), size, overlap):
            logits = encode_decode(image[:, :, y0:y1, x0:x1])[0]
            yield (x0, y0, x1, y1), SimpleNamespace(seg_logits=SimpleNamespace(data=logits))

    labels = tiles.average(found(), (70, 101), threshold=0.4)
    assert labels.dtype == torch.uint8
    assert (labels == expected).float().mean() > 0.999  # sums in another order
    assert len(labels.unique()) == max(classes, 2)


@MODELS.register_module(force=True)
class BrightThings(BaseModel):
    """A detector without weights to learn: whatever is bright and hangs together is an object."""

    def __init__(self, masks=True):
        super().__init__()
        self.scale = torch.nn.Parameter(torch.ones(()))
        self.masks = masks
        self.shapes = []

    def forward(self, inputs, data_samples, mode="tensor"):
        for image, sample in zip(inputs, data_samples):
            self.shapes.append(tuple(image.shape[1:]))
            bright = (image[0].numpy() > 128).astype(np.uint8)
            count, parts, stats, _ = cv2.connectedComponentsWithStats(bright)
            x, y, w, h = stats[1:, :4].T
            boxes = torch.tensor(np.stack([x, y, x + w, y + h], 1), dtype=torch.float32)
            # larger parts are surer; blue ones are of the second class
            share = torch.tensor(stats[1:, 4] / 4000.0, dtype=torch.float32).clamp(0.4, 0.99)
            second = [int(image[2].numpy()[parts == i].mean() > 128) for i in range(1, count)]
            sample.pred_instances = InstanceData(
                bboxes=boxes, labels=torch.tensor(second, dtype=torch.long), scores=share
            )
            if self.masks:
                masks = np.stack([parts == i for i in range(1, count)] or [np.zeros_like(bright)])
                sample.pred_instances.masks = torch.from_numpy(masks[: count - 1])
        return data_samples


# x0, y0, x1, y1, class: within a tile, over one edge, over two, larger than a tile, at the rim, and
# over an edge but smaller than the overlap
THINGS = [
    (10, 10, 40, 30, 0),
    (80, 20, 120, 50, 1),
    (85, 120, 130, 170, 0),
    (180, 60, 330, 200, 1),
    (150, 230, 190, 250, 0),
    (140, 60, 158, 80, 1),
]


@pytest.fixture
def predictor(tmp_path):
    image = np.full((250, 350, 3), 30, np.uint8)
    for x0, y0, x1, y1, label in THINGS:
        image[y0:y1, x0:x1, 0] = 255
        image[y0:y1, x0:x1, 2] = 255 * label
    cv2.imwrite(str(tmp_path / "large.png"), image)
    meta_keys = ("img_id", "img_path", "ori_shape", "img_shape")
    pipeline = [{"type": "LoadImageFromFile"}]
    pipeline += [{"type": "mmdet.PackDetInputs", "meta_keys": meta_keys}]
    cfg = Config(
        {
            "default_scope": "mmdet",
            "model": {"type": "mmengine.BrightThings"},
            "test_dataloader": {"dataset": {"type": "CocoDataset", "pipeline": pipeline}},
        }
    )
    meta = {"dataset_meta": {"classes": ("red", "blue"), "palette": [[1, 2, 3]] * 2}}
    torch.save({"state_dict": {"scale": torch.tensor(1.0)}, "meta": meta}, tmp_path / "c.pth")
    return inference.Predictor(cfg, str(tmp_path / "c.pth"))


@pytest.mark.parametrize("masks", [True, False])
def test_objects_are_whole_again(predictor, tmp_path, masks):
    predictor.model.masks = masks
    seen = []
    tiled = tiles.TiledPredictor(
        predictor, 100, 0.25, progress=lambda path, done, count: seen.append((done, count))
    )
    ((_, sample),) = tiled.run([tmp_path / "large.png"], batch_size=5)
    assert isinstance(sample, DetDataSample)
    assert seen[-1][0] == seen[-1][1] == len(predictor.model.shapes) - 1
    assert set(predictor.model.shapes[:-1]) == {(100, 100)}, "no more than a tile at once"
    assert predictor.model.shapes[-1] == (71, 100), "and the whole image, as large as a tile"
    found = sample.pred_instances
    order = np.lexsort((found.bboxes[:, 1], found.bboxes[:, 0]))
    expected = sorted(THINGS)
    assert found.labels[order].tolist() == [label for *_, label in expected]
    boxes = np.array([box for *box, _ in expected])
    # one pixel of the shrunk image is 3.5 of the whole one
    assert np.abs(found.bboxes[order].numpy() - boxes).max() <= 4
    small = [box for box in found.bboxes.tolist() if box[2] - box[0] < 25]
    assert small == [[140, 60, 158, 80]], "what is whole in one tile is exact"
    assert ("masks" in found) == masks
    if masks:
        assert isinstance(found.masks, CroppedMasks)
        for index, (x0, y0, x1, y1) in zip(order, boxes):
            mask = found.masks[int(index)]
            truth = np.zeros((250, 350), bool)
            truth[y0:y1, x0:x1] = True
            assert (mask & truth).sum() / (mask | truth).sum() > 0.85


def test_results_are_written_and_drawn_smaller(predictor, tmp_path):
    tiled = tiles.TiledPredictor(predictor, 100)
    ((path, sample),) = tiled.run([tmp_path / "large.png"])
    names = predictions.name_outputs([path])
    writer = predictions.create_writer(sample, tmp_path / "out", predictor.metainfo, names)
    writer.largest_side = 200
    writer.write(path, sample)
    writer.close()
    coco = COCO(str(tmp_path / "out" / "predictions.json"))
    assert len(coco.anns) == len(THINGS)
    for annotation in coco.anns.values():
        assert coco.annToMask(annotation).shape == (250, 350)
        assert coco.annToMask(annotation).sum() == annotation["area"]
    assert cv2.imread(str(tmp_path / "out" / "pictures" / "large.png")).shape[:2] == (143, 200)


def test_a_small_image_is_one_tile_and_broken_ones_are_named(predictor, tmp_path):
    (tmp_path / "broken.png").write_text("no image")
    tiled = tiles.TiledPredictor(predictor, 400)
    results = dict(tiled.run([tmp_path / "broken.png", tmp_path / "large.png"]))
    assert isinstance(results[tmp_path / "broken.png"], inference.UnreadableImageError)
    assert len(results[tmp_path / "large.png"].pred_instances) == len(THINGS)
    assert predictor.model.shapes == [(250, 350)]


def test_sizes_and_a_missing_package_are_sentences(predictor, monkeypatch):
    for size, overlap in ((16, 0.2), (64, 1.0), (64, -0.1)):
        with pytest.raises(LaunchError, match=f"Tiles of {size} pixels"):
            tiles.TiledPredictor(predictor, size, overlap)
    monkeypatch.setitem(sys.modules, "sahi", None)
    with pytest.raises(LaunchError, match=r"extra 'data': pip install sahi"):
        tiles.TiledPredictor(predictor, 64)


def test_classifiers_are_refused(predictor, tmp_path, monkeypatch):
    def classify(inputs, data_samples, mode="tensor"):
        return [DetDataSample() for _ in data_samples]

    monkeypatch.setattr(predictor.model, "forward", classify)
    with pytest.raises(LaunchError, match="Tiles are for detectors and segmentors"):
        list(tiles.TiledPredictor(predictor, 100).run([tmp_path / "large.png"]))


def test_cropped_masks_are_the_masks():
    """Also their run lengths, of crops at every rim; pycocotools makes the same of whole masks."""
    rng = np.random.default_rng(0)
    shape, bitmaps, crops = (9, 7), [], []
    for x, y, height, width in (
        (0, 0, 9, 7),
        (2, 3, 4, 5),
        (0, 5, 4, 2),
        (6, 0, 9, 1),
        (3, 0, 9, 2),
    ):
        inside = rng.random((height, width)) > 0.3
        crops.append(Crop(x, y, inside))
        bitmaps.append(np.zeros(shape, bool))
        bitmaps[-1][y : y + height, x : x + width] = inside
    bitmaps.append(np.zeros(shape, bool))
    bitmaps[-1][:, 2:5] = True  # one run over three columns
    crops.append(Crop(2, 0, np.ones((9, 3), bool)))
    crops.append(Crop(2, 2, np.zeros((2, 2), bool)))
    bitmaps.append(np.zeros(shape, bool))
    masks = CroppedMasks(crops, shape)
    for index, bitmap in enumerate(bitmaps):
        assert (masks[np.int64(index)] == bitmap).all()
        assert encode(masks, index) == encode(bitmaps, index)
    for index in ([2, 0], np.array([True, False, True, False, True, False, False]), slice(None)):
        expected = np.array(bitmaps)[index]
        assert [m.tolist() for m in masks[index]] == [m.tolist() for m in expected]


def test_cropped_masks_are_drawn_where_they_are():
    bitmap = np.zeros((120, 160), bool)
    bitmap[10:50, 20:90] = True
    image = np.full((120, 160, 3), 100, np.uint8)
    parts = {"boxes": np.array([[20, 10, 90, 50.0]]), "labels": np.array([0])}
    whole = draw_objects(image, Objects(**parts, masks=bitmap[None]), ["a"])
    crops = CroppedMasks([Crop(20, 10, bitmap[10:50, 20:90])], bitmap.shape)
    cropped = draw_objects(image, Objects(**parts, masks=crops), ["a"])
    assert np.abs(np.asarray(whole, int) - np.asarray(cropped, int)).mean() < 0.5
    small = draw_objects(image, Objects(**parts, masks=crops), ["a"], (80, 60))
    assert small.size == (80, 60)
