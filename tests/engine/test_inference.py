"""Predicting on files: which ones, in which batches, and what is written about them."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmdet.structures import DetDataSample
from mmengine.config import Config
from mmengine.model import BaseModel
from mmengine.registry import MODELS
from mmengine.structures import InstanceData, PixelData
from mmpretrain.structures import DataSample
from mmseg.structures import SegDataSample
from PIL import Image
from pycocotools.coco import COCO

from mmeffvit.checkpoint import CheckpointError
from mmeffvit.datasets.coco_categories import COCO_CATEGORIES
from mmeffvit.datasets.transforms import UnreadableImageError
from mmeffvit.engine import inference, predictions
from mmeffvit.engine.errors import LaunchError
from mmeffvit.visualization.pixels import picture_of

META = {"classes": ("cat", "dog"), "palette": [[255, 0, 0], [0, 255, 0]]}


def write_image(path, height=24, width=32, value=90):
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.full((height, width, 3), value, np.uint8))
    return path


# -- files -----------------------------------------------------------------------------------------


def test_files_folders_and_patterns(tmp_path):
    for name in ("a/2.jpg", "a/1.PNG", "a/deep/3.jpeg", "b/x.bmp"):
        write_image(tmp_path / name)
    (tmp_path / "a" / "notes.txt").write_text("")

    def found(*arguments, **kwargs):
        images = inference.find_images([str(tmp_path / a) for a in arguments], **kwargs)
        return [path.relative_to(tmp_path).as_posix() for path in images]

    assert found("a") == ["a/1.PNG", "a/2.jpg", "a/deep/3.jpeg"]
    assert found("b/x.bmp", "a/*.jpg") == ["b/x.bmp", "a/2.jpg"]
    assert found("a/**/*.jp*g") == ["a/2.jpg", "a/deep/3.jpeg"]
    assert found("a/2.jpg", "a") == ["a/2.jpg", "a/1.PNG", "a/deep/3.jpeg"], "each once"
    assert found("a/notes.txt") == ["a/notes.txt"], "a file by its name is tried"
    assert found("a", outside=tmp_path / "a" / "deep") == ["a/1.PNG", "a/2.jpg"]


@pytest.mark.parametrize("argument", ["nothing.jpg", "no/*.jpg", "empty"])
def test_nothing_found(tmp_path, argument):
    (tmp_path / "empty").mkdir()
    with pytest.raises(LaunchError, match="There is no image at"):
        inference.find_images([str(tmp_path / argument)])


def test_outputs_of_one_name_are_kept_apart():
    paths = [Path(p) for p in ("x/a.jpg", "x/a.png", "x/b.jpg", "x/y/a.jpg")]
    names = predictions.name_outputs(paths)
    assert [names[p].as_posix() for p in paths] == ["a.jpg", "a.png", "b", "y/a"]
    (name,) = predictions.name_outputs([Path("one/two.jpg")]).values()
    assert name == Path("two")


# -- batches ---------------------------------------------------------------------------------------


@MODELS.register_module(force=True)
class BrightnessModel(BaseModel):
    """Predicts how bright an image is, and notes the batches it gets."""

    def __init__(self):
        super().__init__()
        self.scale = torch.nn.Parameter(torch.ones(()))
        self.batches = []

    def forward(self, inputs, data_samples, mode="tensor"):
        inputs = torch.stack(inputs)  # of one size
        self.batches.append(len(inputs))
        for image, sample in zip(inputs, data_samples):
            score = image.float().mean() / 255 * self.scale
            sample.pred_score = torch.stack([score, 1 - score])
        return data_samples


@pytest.fixture
def cfg():
    pipeline = [{"type": "LoadImageFromFile"}, {"type": "LoadAnnotations"}, {"type": "PackInputs"}]
    dataset = {"type": "CustomDataset", "pipeline": pipeline}
    return Config(
        {
            "default_scope": "mmpretrain",
            "model": {"type": "mmengine.BrightnessModel"},
            "test_dataloader": {"dataset": {"type": "RepeatDataset", "dataset": dataset}},
        }
    )


@pytest.fixture
def checkpoint(tmp_path):
    path = tmp_path / "model.pth"
    torch.save({"state_dict": {"scale": torch.tensor(1.0)}, "meta": {"dataset_meta": META}}, path)
    return str(path)


def test_batches_hold_neighbours_of_one_size(cfg, checkpoint, tmp_path):
    paths = [write_image(tmp_path / f"{i}.png", value=25 * i) for i in range(3)]
    paths.append(write_image(tmp_path / "wide.png", width=50))
    paths += [write_image(tmp_path / f"{i}.png", value=25 * i) for i in range(4, 7)]
    (tmp_path / "broken.png").write_text("no image")
    paths.insert(5, tmp_path / "broken.png")
    predictor = inference.Predictor(cfg, checkpoint)
    assert predictor.metainfo["classes"] == ("cat", "dog")
    assert not predictor.model.training
    results = list(predictor.run(paths, batch_size=2))
    assert [path for path, _ in results] == paths, "in order, each once"
    assert predictor.model.batches == [2, 1, 1, 1, 2]
    for path, result in results:
        if path.stem == "broken":
            assert isinstance(result, UnreadableImageError)
            assert str(path) in str(result)
        elif path.stem != "wide":
            assert result.pred_score[0] == pytest.approx(25 * int(path.stem) / 255, abs=1e-4)


def test_another_models_checkpoint_is_refused(cfg, tmp_path):
    torch.save({"state_dict": {"other": torch.zeros(1)}}, tmp_path / "x.pth")
    with pytest.raises(CheckpointError, match="0 of the 1 parameters of this BrightnessModel"):
        inference.Predictor(cfg, str(tmp_path / "x.pth"))


def test_code_in_a_checkpoint_does_not_run(cfg, tmp_path):
    class Harmful:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "ran",))

    torch.save({"state_dict": {"scale": torch.ones(())}, "x": Harmful()}, tmp_path / "x.pth")
    with pytest.raises(CheckpointError):
        inference.Predictor(cfg, str(tmp_path / "x.pth"))
    assert not (tmp_path / "ran").exists()


def test_classes_come_from_the_data_set_if_need_be(cfg, tmp_path):
    torch.save({"scale": torch.ones(())}, tmp_path / "weights.pth")
    cfg.test_dataloader.dataset.dataset = {
        "type": "CIFAR10",
        "data_root": str(tmp_path),
        "pipeline": [{"type": "LoadImageFromFile"}, {"type": "PackInputs"}],
    }
    predictor = inference.Predictor(cfg, str(tmp_path / "weights.pth"))
    assert list(predictor.metainfo["classes"])[:2] == ["airplane", "automobile"]


def test_configs_without_a_test(cfg, checkpoint):
    cfg.test_dataloader = None
    with pytest.raises(LaunchError, match="no test_dataloader"):
        inference.Predictor(cfg, checkpoint)


# -- results ---------------------------------------------------------------------------------------


def _write(tmp_path, sample, metainfo=META, **kwargs):
    path = write_image(tmp_path / "images" / "a.jpg")
    names = predictions.name_outputs([path])
    writer = predictions.create_writer(sample, tmp_path / "out", metainfo, names, **kwargs)
    writer.write(path, sample)
    writer.close()
    with Image.open(tmp_path / "out" / "pictures" / "a.png") as picture:
        picture.load()
        assert max(picture.size) >= 320
    return tmp_path / "out"


@pytest.mark.parametrize("masks", [True, False])
def test_detections_are_read_by_pycocotools(tmp_path, masks):
    bitmaps = torch.zeros(3, 24, 32, dtype=torch.bool)
    bitmaps[:, 4:10, 6:20] = True
    sample = DetDataSample()
    sample.pred_instances = InstanceData(
        bboxes=torch.tensor([[6.0, 4.0, 20.0, 10.0]] * 3),
        labels=torch.tensor([0, 1, 0]),
        scores=torch.tensor([0.5, 0.9, 0.1]),
    )
    if masks:
        sample.pred_instances.masks = bitmaps
    out = _write(tmp_path, sample, {"classes": ("bear", "kite")}, score_thr=0.3)
    coco = COCO(str(out / "predictions.json"))
    assert [a["score"] for a in coco.anns.values()] == [0.9, 0.5], "the best first"
    number = {name: i for i, name, _ in COCO_CATEGORIES}
    assert [a["category_id"] for a in coco.anns.values()] == [number["kite"], number["bear"]]
    for annotation in coco.anns.values():
        assert annotation["bbox"] == [6, 4, 14, 6]
        assert annotation["area"] == 84
        if masks:
            assert (coco.annToMask(annotation) == bitmaps[0].numpy()).all()
    assert coco.imgs[1]["file_name"].endswith("images/a.jpg")


def test_classes_of_others_are_counted_from_one(tmp_path):
    sample = DetDataSample()
    sample.pred_instances = InstanceData(
        bboxes=torch.zeros(0, 4), labels=torch.zeros(0, dtype=int), scores=torch.zeros(0)
    )
    out = _write(tmp_path, sample, {"classes": ("cat", "unicorn")})
    document = json.loads((out / "predictions.json").read_text())
    assert document["annotations"] == []
    assert [c["id"] for c in document["categories"]] == [1, 2]


@pytest.mark.parametrize("reduced", [True, False])
def test_label_maps_count_as_the_annotations_do(tmp_path, reduced):
    labels = torch.zeros(1, 24, 32, dtype=torch.long)
    labels[:, 12:] = 1
    sample = SegDataSample()
    sample.pred_sem_seg = PixelData(data=labels)
    out = _write(tmp_path, sample, {**META, "reduce_zero_label": reduced})
    with Image.open(out / "labels" / "a.png") as image:
        assert (np.asarray(image) == labels[0].numpy() + reduced).all()
    classes = json.loads((out / "classes.json").read_text())
    assert [c["label"] for c in classes] == [0 + reduced, 1 + reduced]
    assert classes[1]["name"] == "dog"
    assert classes[1]["colour"] == [0, 255, 0]


def test_best_classes(tmp_path):
    sample = DataSample()
    sample.set_pred_score(torch.tensor([0.25, 0.75]))
    (result,) = json.loads((_write(tmp_path, sample) / "predictions.json").read_text())
    assert (result["class"], result["label"], result["score"]) == ("dog", 1, 0.75)
    assert [entry["class"] for entry in result["top"]] == ["dog", "cat"]


def test_other_predictions_are_refused(tmp_path):
    sample = DetDataSample()
    sample.pred_panoptic_seg = PixelData(data=torch.zeros(1, 4, 4))
    with pytest.raises(LaunchError, match="this model predicts pred_panoptic_seg"):
        predictions.create_writer(sample, tmp_path, META, {})


# -- nothing is lost -------------------------------------------------------------------------------


@MODELS.register_module(force=True)
class ChoosyModel(BrightnessModel):
    """Takes no batch with an image that is wider than 40 pixels."""

    def forward(self, inputs, data_samples, mode="tensor"):
        if max(image.shape[-1] for image in inputs) > 40:
            raise ValueError("an image must not be wider than 40 pixels")
        if any(image.float().mean() > 250 for image in inputs):
            raise RuntimeError("too bright\nand more about it")
        return super().forward(inputs, data_samples, mode)


def test_what_the_network_refuses_is_named_and_skipped(cfg, checkpoint, tmp_path):
    paths = [write_image(tmp_path / f"{i}.png", value=v) for i, v in enumerate((50, 255, 75))]
    paths.insert(1, write_image(tmp_path / "wide.png", width=50))
    cfg.model.type = "mmengine.ChoosyModel"
    predictor = inference.Predictor(cfg, checkpoint)
    results = dict(predictor.run(paths, batch_size=2))
    assert list(results) == paths, "in order, each once"
    wide, bright = results[paths[1]], results[paths[2]]
    assert isinstance(wide, inference.RefusedImageError)
    assert f"{paths[1]} (50 x 24 pixels" in str(wide)
    assert "must not be wider than 40" in str(wide)
    assert str(bright).endswith("RuntimeError: too bright"), "alone of its batch"
    assert results[paths[3]].pred_score[0] == pytest.approx(75 / 255, abs=1e-4)


def test_predictions_carry_the_image_as_it_was_loaded(cfg, checkpoint, tmp_path):
    path = write_image(tmp_path / "a.png", value=40)
    ((_, sample),) = inference.Predictor(cfg, checkpoint).run([path])
    path.unlink()
    assert (picture_of(sample) == 40).all()
    assert picture_of(sample).shape == (24, 32, 3)


def _detections(*labels, shape=(24, 32)):
    sample = DetDataSample(metainfo={"ori_shape": shape})
    boxes = torch.tensor([[1.0, 2, 11, 12]] * len(labels)).view(-1, 4)
    scores = torch.full((len(labels),), 0.5)
    sample.pred_instances = InstanceData(
        bboxes=boxes, labels=torch.tensor(labels, dtype=torch.long), scores=scores
    )
    return sample


def test_what_was_found_is_on_the_disk_before_the_end(tmp_path):
    paths = [write_image(tmp_path / "in" / name) for name in ("x/a.png", "y/a.png", "y/b.png")]
    names = predictions.name_outputs(paths)
    out = tmp_path / "out"
    writer = predictions.create_writer(_detections(0), out, META, names)
    writer.write(paths[0], _detections(0))
    writer.write(paths[1], _detections(1, 0))
    lines = [json.loads(line) for line in (out / "predictions.jsonl").read_text().splitlines()]
    assert [line["image"]["file_name"] for line in lines] == [str(p) for p in paths[:2]]
    assert [len(line["annotations"]) for line in lines] == [1, 2]
    writer.close()
    document = json.loads((out / "predictions.json").read_text())
    assert [a["id"] for a in document["annotations"]] == [1, 2, 3]
    assert not (out / "predictions.jsonl").exists()
    pictures = [p.relative_to(out / "pictures").as_posix() for p in out.rglob("*.png")]
    assert sorted(pictures) == ["x/a.png", "y/a.png"], "none overwrites another"


def test_a_picture_that_cannot_be_drawn_costs_no_result(tmp_path, monkeypatch):
    paths = [tmp_path / f"{i}.tif" for i in range(3)]  # no such files, and no pixels to draw
    names = predictions.name_outputs(paths)
    said = []
    monkeypatch.setattr(predictions, "print_log", lambda text, **_: said.append(text))
    writer = predictions.create_writer(_detections(0), tmp_path / "out", META, names)
    for path in paths:
        writer.write(path, _detections(0))
    writer.close()
    document = json.loads((tmp_path / "out" / "predictions.json").read_text())
    assert len(document["images"]) == len(document["annotations"]) == 3
    assert document["images"][2] == {"id": 3, "file_name": str(paths[2]), "height": 24, "width": 32}
    (warning,) = said
    assert warning.startswith(f"Not drawn: the picture of {paths[0]} ("), "once for one kind"


def test_ids_and_names_are_those_of_the_annotation_file(tmp_path):
    """Ids have gaps, and the classes of the config come in another order than the file's."""
    known = write_image(tmp_path / "data" / "val" / "sub" / "a.png")
    other = write_image(tmp_path / "elsewhere" / "b.png")
    document = {
        "images": [{"id": 17, "file_name": "sub/a.png", "height": 24, "width": 32}],
        "annotations": [],
        "categories": [{"id": i, "name": n} for i, n in ((7, "dog"), (3, "pig"), (11, "cat"))],
    }
    (tmp_path / "data" / "val.json").write_text(json.dumps(document))
    dataset = {"data_root": str(tmp_path / "data"), "ann_file": "val.json"}
    dataset["data_prefix"] = {"img": "val/"}
    annotations = predictions.read_annotations(dataset, META["classes"])
    names = predictions.name_outputs([known, other])
    writer = predictions.create_writer(
        _detections(0), tmp_path / "out", META, names, annotations=annotations
    )
    for path in (known, other):
        writer.write(path, _detections(0, 1))
    writer.close()
    written = json.loads((tmp_path / "out" / "predictions.json").read_text())
    # mmdet numbers the classes that it is told as the file has them
    assert written["categories"] == [{"id": 7, "name": "dog"}, {"id": 11, "name": "cat"}]
    assert [a["category_id"] for a in written["annotations"]] == [7, 11, 7, 11]
    assert [(i["id"], i["file_name"]) for i in written["images"]] == [
        (17, "sub/a.png"),
        (18, str(other)),
    ]
    assert predictions.read_annotations(dataset, ("unicorn",)).categories is None
    (tmp_path / "data" / "val.json").write_text("[1, 2]")
    assert predictions.read_annotations(dataset, META["classes"]) is None


def test_labels_of_sigmoid_heads_are_numbers(tmp_path):
    labels = torch.zeros(1, 24, 32)
    labels[:, 12:] = 1.0
    sample = SegDataSample()
    sample.pred_sem_seg = PixelData(data=labels)
    out = _write(tmp_path, sample)
    with Image.open(out / "labels" / "a.png") as image:
        assert image.mode == "L"
        assert (np.asarray(image) == labels[0].numpy()).all()


def test_point_clouds_are_sent_to_where_they_are_predicted():
    loader = {"dataset": {"pipeline": [{"type": "mmeffvit.LoadPointsFromFile"}]}}
    cfg = Config({"default_scope": "mmeffvit", "model": {}, "test_dataloader": loader})
    with pytest.raises(LaunchError, match=r"CloudPredictor, or tools/predict.py"):
        inference.Predictor(cfg, "none.pth")
