"""What can happen to a data set: each spoils a tiny valid one, or leaves it valid.

A mutation has a layout, a name, and what must come of it: the words of an error, the words of a
warning with labels that are right, or nothing at all with labels that are right.
"""

import json
import re
import shutil
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from PIL import Image

from tests.datasets.checks import sets


@dataclass(frozen=True)
class Mutation:
    layout: str
    name: str
    level: str | None
    words: str
    apply: Callable

    def __str__(self):
        return f"{self.layout}: {self.name}"


MUTATIONS: list[Mutation] = []


def add(layout, name, level, words, apply):
    MUTATIONS.append(Mutation(layout, name, level, words, apply))


def error(layout, words):
    """Decorate a function (root, cfg) whose work must be answered by an error with these words."""
    return lambda function: add(layout, _name(function), "error", words, function)


def warns(layout, words):
    return lambda function: add(layout, _name(function), "warning", words, function)


def valid(layout):
    return lambda function: add(layout, _name(function), None, "", function)


def _name(function):
    return function.__name__.strip("_").replace("_", " ")


# -- COCO ------------------------------------------------------------------------------------------


@contextmanager
def document(root, split="train"):
    path = root / "annotations" / f"{split}.json"
    content = json.loads(path.read_text())
    yield content
    path.write_text(json.dumps(content))


def each(part, change, split="train", which=slice(None)):
    """A mutation that changes entries of one list of the JSON."""

    def apply(root, cfg):
        with document(root, split) as content:
            for entry in content[part][which]:
                change(entry)

    return apply


def set_classes(*classes, head=None):
    def apply(root, cfg):
        for loader in (cfg.train_dataloader, cfg.val_dataloader):
            loader.dataset.metainfo = {"classes": classes}

    return apply


SECOND = slice(1, 2)


def update(change, split="train"):
    return each("annotations", lambda entry: entry.update(change), split, SECOND)


for name, words, apply in (
    ("classes in another case", "none of the classes", set_classes("Box", "Disc")),
    ("one name misspelt", r"no class 'disk'.*did you mean 'disc'", set_classes("box", "disk")),
    ("the first name misspelt", r"no class 'boxx'.*'box'", set_classes("boxx", "disc")),
    ("names with a blank", r"no class 'box '.*'box'", set_classes("box ", "disc")),
    ("classes in another order", "box would be called disc", set_classes("disc", "box")),
    ("a class more in front", "in another order", set_classes("cup", "box", "disc")),
    ("classes of something else", "none of the classes", set_classes("cat", "dog")),
    ("a name twice", "names twice", set_classes("box", "box")),
    ("one class, two heads", r"mask_head: num_classes=2.*has 1", set_classes("box")),
    ("no classes", "classes is empty", set_classes()),
):
    add("coco", name, "error", words, apply)


@error("coco", r"classes='box' is text.*\('box',\)")
def a_forgotten_comma(root, cfg):
    cfg.train_dataloader.dataset.metainfo = {"classes": "box"}


@error("coco", "'CLASSES', which nothing reads")
def upper_case_CLASSES(root, cfg):
    cfg.train_dataloader.dataset.metainfo = {"CLASSES": ("box", "disc")}


@error("coco", "has no metainfo, so that classes are the 80")
def no_metainfo(root, cfg):
    del cfg.train_dataloader.dataset["metainfo"]


@error("coco", r"val_dataloader.*classes are 2 \(disc, box\)")
def other_classes_in_val(root, cfg):
    with document(root, "val") as content:
        content["categories"].reverse()
    cfg.val_dataloader.dataset.metainfo = {"classes": ("disc", "box")}


@error("coco", r"roi_head.bbox_head: num_classes=80.*has 2 \(box, disc\)")
def a_head_of_80_classes(root, cfg):
    cfg.model.roi_head.bbox_head.num_classes = 80


@error("coco", r"roi_head.bbox_head.1: num_classes=1")
def a_stage_of_a_cascade(root, cfg):
    head = cfg.model.roi_head.bbox_head
    cfg.model.roi_head.bbox_head = [head, {**head, "num_classes": 1}]


@error("coco", "loss_cls: class_weight has 5 entries")
def weights_of_other_classes(root, cfg):
    cfg.model.roi_head.bbox_head.loss_cls = {"type": "CE", "class_weight": [1.0] * 5}


@error("coco", "loss_cls: num_classes=1203")
def a_loss_of_other_classes(root, cfg):
    cfg.model.roi_head.bbox_head.loss_cls = {"type": "SeesawLoss", "num_classes": 1203}


@error("coco", "val_evaluator: reads .*train.json, but the data set .*val.json")
def an_evaluator_of_another_file(root, cfg):
    cfg.val_evaluator.ann_file = str(root / "annotations/train.json")


for key in ("id", "file_name", "height", "width"):
    add("coco", f"images without {key}", "error", f"images have no '{key}'",
        each("images", lambda entry, key=key: entry.pop(key), which=SECOND))  # fmt: skip
for key in ("id", "image_id", "category_id", "bbox", "area"):
    add("coco", f"annotations without {key}", "error", f"annotations have no '{key}'",
        each("annotations", lambda entry, key=key: entry.pop(key), which=SECOND))  # fmt: skip
for key in ("images", "annotations", "categories"):

    def drop(root, cfg, key=key):
        with document(root) as content:
            del content[key]

    add("coco", f"no list of {key}", "error", f"has no list '{key}'", drop)
for name, words, change, split in (
    ("masks are missing", r"without a mask.*\(2\)", {"segmentation": []}, "train"),
    ("masks are missing in val", r"val.json.*without a mask", {"segmentation": None}, "val"),
    ("a polygon of two points", "fewer than three points", {"segmentation": [[1, 2, 9, 9]]}, "val"),
    ("a run-length mask of another size", "run-length mask of another size",
     {"segmentation": {"size": [9, 9], "counts": "a"}}, "train"),
    ("masks as text", "no polygons and no run lengths", {"segmentation": "masks/2.png"}, "train"),
    ("an unknown category", r"do not list|does not list: 99.*\(2\)", {"category_id": 99}, "train"),
    ("a category as text", "does not list: '7'", {"category_id": "7"}, "train"),
    ("an image as text", "text in one place", {"image_id": "1"}, "train"),
    ("an id twice", r"ids of annotations are not unique \(1\)", {"id": 1}, "train"),
    ("a box of three numbers", "four finite numbers", {"bbox": [1, 2, 3]}, "train"),
    ("a box of text", "four finite numbers", {"bbox": ["1", "2", "3", "4"]}, "train"),
    ("a box that is not finite", "four finite numbers", {"bbox": [1, 2, float("nan"), 4]}, "train"),
):  # fmt: skip
    add("coco", name, "error", words, update(change, split))
for name, words, change in (
    ("a box of no width", "less than a pixel", {"bbox": [5, 5, 0, 9]}),
    ("a box of negative width", "less than a pixel", {"bbox": [5, 5, -4, 9]}),
    ("no area", "less than a pixel", {"area": 0}),
    ("a box outside", "outside of the image", {"bbox": [200, 5, 20, 9]}),
    ("a polygon of two points in train", "fewer than three", {"segmentation": [[1, 2, 9, 9]]}),
    ("an image that is not there", "images that are not in it", {"image_id": 77}),
    ("an annotation with the id 0", "id 0", {"id": 0}),
):
    add("coco", name, "warning", words, update(change))

for part, key, value in (
    ("images", "file_name", 17),
    ("images", "height", "48"),
    ("images", "id", [1]),
    ("annotations", "bbox", {"x": 1}),
    ("annotations", "image_id", 1.5),
    ("categories", "name", 5),
):
    add("coco", f"{key} of {part} is {value!r}", "error", f"{part} have a '{key}' that is no",
        each(part, lambda entry, key=key, value=value: entry.update({key: value})))  # fmt: skip


@error("coco", "begins with a byte order mark")
def a_byte_order_mark(root, cfg):
    path = root / "annotations/train.json"
    path.write_text(path.read_text(), encoding="utf-8-sig")


@error("coco", "is in UTF-16")
def another_encoding(root, cfg):
    path = root / "annotations/train.json"
    path.write_text(path.read_text(), encoding="utf-16-le")


@error("coco", r"8 objects outside of the image")
def all_objects_outside(root, cfg):
    each("annotations", lambda entry: entry.update(bbox=[640, 480, 20, 9]))(root, cfg)


@error("coco", "8 objects with a box or an area of less than a pixel")
def boxes_as_shares_of_the_image(root, cfg):
    each("annotations", lambda entry: entry.update(bbox=[0.1, 0.1, 0.4, 0.3]))(root, cfg)


@error("coco", "without 'iscrowd'")
def no_iscrowd_to_measure_by(root, cfg):
    each("annotations", lambda entry: entry.pop("iscrowd"), "val")(root, cfg)


@error("coco", r"would fit as \(x0, y0, x1, y1\)")
def boxes_as_corners(root, cfg):
    def corners(entry):
        x, y, w, h = entry["bbox"]
        entry["bbox"] = [x, y, x + w, y + h]

    with document(root) as content:
        content["annotations"] = content["annotations"][1::2]  # those far from the origin
    each("annotations", corners)(root, cfg)


@error("coco", "ids of images are not unique")
def an_image_id_twice(root, cfg):
    each("images", lambda entry: entry.update(id=1), which=SECOND)(root, cfg)


@error("coco", "ids of categories are not unique")
def a_category_id_twice(root, cfg):
    each("categories", lambda entry: entry.update(id=3))(root, cfg)


@error("coco", "categories share a name")
def a_category_name_twice(root, cfg):
    each("categories", lambda entry: entry.update(name="box"))(root, cfg)


@error("coco", "no object of the classes")
def nothing_annotated(root, cfg):
    with document(root) as content:
        content["annotations"] = []


@error("coco", r"another size.*002.jpg is \(48, 64\), not \(64, 48\)")
def height_and_width_swapped(root, cfg):
    each("images", lambda entry: entry.update(height=64, width=48), which=SECOND)(root, cfg)


@error("coco", r"EXIF orientation.*\(002.jpg\)")
def turned_by_exif(root, cfg):
    path = root / "train/002.jpg"
    image = Image.open(path)
    exif = Image.Exif()
    exif[0x0112] = 6
    image.save(path, exif=exif.tobytes())


@error("coco", r"another size.*003.jpg is \(24, 32\)")
def a_smaller_copy(root, cfg):
    path = root / "train/003.jpg"
    Image.open(path).resize((32, 24)).save(path)


@error("coco", r"1 image of 4 not in .*\(004.jpg\)")
def an_image_is_missing(root, cfg):
    (root / "train/004.jpg").unlink()


@error("coco", r"4 images of 4 not in .*; there is 001.png")
def images_of_another_suffix(root, cfg):
    for path in sets.files(root, "train/*.jpg"):
        path.rename(path.with_suffix(".png"))


@error("coco", "4 images of 4 not in")
def another_folder_of_images(root, cfg):
    cfg.train_dataloader.dataset.data_prefix = {"img": "annotations/"}


@warns("coco", "val.json: has no object of the classes")
def images_to_be_tested_alone(root, cfg):
    with document(root, "val") as content:
        del content["annotations"]


@warns("coco", "images without labels.json: has no object")
def images_without_labels_besides(root, cfg):
    with document(root) as content:
        pass
    del content["annotations"]
    (root / "annotations/images without labels.json").write_text(json.dumps(content))
    labelled = cfg.train_dataloader.dataset
    steps = [{"type": "LoadImageFromFile"}, {"type": "LoadEmptyAnnotations"}]
    bare = {**labelled, "ann_file": "annotations/images without labels.json", "pipeline": steps}
    cfg.train_dataloader = {"dataset": {"type": "ConcatDataset", "datasets": [labelled, bare]}}


@valid("coco")
def categories_with_one_more(root, cfg):
    with document(root) as content:
        content["categories"].append({"id": 9, "name": "other"})


@valid("coco")
def ids_that_are_large(root, cfg):
    each("annotations", lambda entry: entry.update(id=entry["id"] + 10**12))(root, cfg)


@valid("coco")
def images_without_objects(root, cfg):
    with document(root) as content:
        content["annotations"] = content["annotations"][:2]


@valid("coco")
def boxes_of_fractions(root, cfg):
    each("annotations", lambda e: e.update(bbox=[v + 0.25 for v in e["bbox"]]))(root, cfg)


# -- label maps ------------------------------------------------------------------------------------


def repaint(change, split="train", mode=None):
    """A mutation that writes every label map of a split anew."""

    def apply(root, cfg):
        for path in sets.files(root, f"labels/{split}/*.png"):
            Image.fromarray(change(np.array(Image.open(path))), mode).save(path)

    return apply


def stacked(colours):
    return lambda labels: np.stack([labels * factor for factor in colours], -1)


for name, words, change in (
    ("0 and 255 only", "only 0 and 255", lambda a: (a > 0) * np.uint8(255)),
    ("0 and 128", r"128 in 0.png", lambda a: (a > 0) * np.uint8(128)),
    ("classes from 1", r"3 in 0.png.*reduce_zero_label=True", lambda a: a + np.uint8(1)),
    ("a colour for each class", "3 channels.*Replace every colour", stacked((9, 60, 100))),
    ("three equal channels", "3 channels.*equal channels", stacked((1, 1, 1))),
    ("16 bit", "16-bit labels up to 600", lambda a: a.astype(np.uint16) * 300),
    ("another size", r"label map is \(48, 60\)", lambda a: a[:, :60]),
    ("turned", r"label map is \(64, 48\)", lambda a: np.ascontiguousarray(a.T)),
    ("interpolated", "values that are no classes", lambda a: np.minimum(a * 3, 5).astype(np.uint8)),
    ("all ignored", "no label map has a class", lambda a: np.full_like(a, 255)),
):
    add("label maps", name, "error", words, repaint(change))
add("label maps", "0 and 255 only, in val", "error", "val.*only 0 and 255",
    repaint(lambda a: (a > 0) * np.uint8(255), "val"))  # fmt: skip


@warns("label maps", "has 0, the first class")
def no_ground(root, cfg):
    repaint(lambda a: np.where(a == 0, 255, a).astype(np.uint8))(root, cfg)


def _suffixes(folder, old, new):
    def apply(root, cfg):
        for path in sets.files(root, f"{folder}/train/*{old}"):
            path.rename(path.with_name(path.name.replace(old, new)))

    return apply


for name, words, apply in (
    ("images are png", "names end in '.jpg'; there are 4 .png",
     _suffixes("images", ".jpg", ".png")),
    ("images are JPG", "img_suffix='.JPG'", _suffixes("images", ".jpg", ".JPG")),
    ("maps are tif", r"4 label maps of 4 not there; there is 0.tif",
     _suffixes("labels", ".png", ".tif")),
    ("maps have other names", "4 label maps of 4 not there",
     _suffixes("labels", ".png", "_mask.png")),
):  # fmt: skip
    add("label maps", name, "error", words, apply)


@error("label maps", r"1 label map of 4 not there .*2.png")
def a_map_is_missing(root, cfg):
    (root / "labels/train/2.png").unlink()


@error("label maps", "reduce_zero_label ignores 0")
def zero_reduced_though_it_is_a_class(root, cfg):
    for loader in (cfg.train_dataloader, cfg.val_dataloader):
        loader.dataset.reduce_zero_label = True


@error("label maps", "reduce_zero_label is False, but True in its pipeline")
def zero_reduced_in_the_pipeline_alone(root, cfg):
    cfg.train_dataloader.dataset.pipeline[1].reduce_zero_label = True


@error("label maps", "reduce_zero_label is True, but False in train")
def zero_reduced_in_val_alone(root, cfg):
    cfg.val_dataloader.dataset.reduce_zero_label = True


@error("label maps", "names no classes")
def a_data_set_without_classes(root, cfg):
    for loader in (cfg.train_dataloader, cfg.val_dataloader):
        del loader.dataset["metainfo"]


@error("label maps", r"decode_head: num_classes=150.*has 3 \(ground, red, blue\)")
def a_decode_head_of_150(root, cfg):
    cfg.model.decode_head.num_classes = 150


@error("label maps", r"auxiliary_head.0: num_classes=19")
def an_auxiliary_head_of_19(root, cfg):
    cfg.model.auxiliary_head[0].num_classes = 19


@error("label maps", "out_channels=1, but")
def one_output_for_three_classes(root, cfg):
    cfg.model.decode_head.out_channels = 1


@error("label maps", "loss_decode: class_weight has 2 entries")
def weights_for_two(root, cfg):
    cfg.model.decode_head.loss_decode.class_weight = [1.0, 2.0]


@error("label maps", "classes are none of ADE20KDataset's")
def own_names_in_the_class_of_ade20k(root, cfg):
    cfg.train_dataloader.dataset.type = "ADE20KDataset"


@valid("label maps")
def a_palette(root, cfg):
    for path in sets.files(root, "labels/*/*.png"):
        image = Image.fromarray(np.array(Image.open(path)), "P")
        image.putpalette([0, 0, 0, 200, 60, 40, 9, 9, 200] + [0] * 253 * 3)
        image.save(path)


@valid("label maps")
def classes_from_one_said_so(root, cfg):
    for split in ("train", "val"):
        repaint(lambda a: a + np.uint8(1), split)(root, cfg)
    for loader in (cfg.train_dataloader, cfg.val_dataloader):
        loader.dataset.reduce_zero_label = True


@valid("label maps")
def borders_ignored(root, cfg):
    def border(labels):
        labels[:3] = 255
        return labels

    repaint(border)(root, cfg)


@valid("label maps")
def sixteen_bit_of_small_numbers(root, cfg):
    repaint(lambda a: a.astype(np.uint16))(root, cfg)


# -- folders ---------------------------------------------------------------------------------------


def name_folders(*classes):
    def apply(root, cfg):
        for loader in (cfg.train_dataloader, cfg.val_dataloader):
            loader.dataset.metainfo = {"classes": classes}

    return apply


for name, words, apply in (
    ("names in another order", "apple would be called cress",
     name_folders("cress", "apple", "berry")),
    ("a name too few", "3 folders .* for 2 classes", name_folders("apple", "berry")),
    ("a name too many", "3 folders .* for 4 classes",
     name_folders("apple", "berry", "cress", "dill")),
):  # fmt: skip
    add("folders", name, "error", words, apply)


@error("folders", r"hidden folders.*\(.ipynb_checkpoints\)")
def a_hidden_folder(root, cfg):
    shutil.copytree(root / "train/berry", root / "train/.ipynb_checkpoints")


@error("folders", "val: lacks berry")
def a_class_is_missing_in_val(root, cfg):
    shutil.rmtree(root / "val/berry")


@error("folders", "val: has zest besides")
def a_class_more_in_val(root, cfg):
    shutil.copytree(root / "val/berry", root / "val/zest")


@error("folders", "look like parts of a data set")
def the_folder_above(root, cfg):
    cfg.train_dataloader.dataset.data_prefix = ""


@error("folders", "no folders of classes")
def a_folder_too_deep(root, cfg):
    cfg.train_dataloader.dataset.data_prefix = "train/apple"


@error("folders", r"head: num_classes=1000.*has 3 \(apple, berry, cress\)")
def a_head_of_imagenet(root, cfg):
    cfg.model.head.num_classes = 1000


@error("folders", r"head: topk=\(1, 5\)")
def top_5_of_three(root, cfg):
    cfg.model.head.topk = (1, 5)


@error("folders", r"val_evaluator: topk=\(1, 5\)")
def top_5_of_three_measured(root, cfg):
    cfg.val_evaluator.topk = (1, 5)


@error("folders", "data_preprocessor: num_classes=1000")
def a_preprocessor_of_imagenet(root, cfg):
    cfg.data_preprocessor = {"num_classes": 1000}


@error("folders", "has no images")
def other_kinds_of_files(root, cfg):
    for path in sets.files(root, "train/*/*.jpg"):
        path.rename(path.with_suffix(".heic"))


@warns("folders", r"folders without images \(cress\)")
def an_empty_folder(root, cfg):
    for path in sets.files(root, "train/cress/*"):
        path.unlink()


@error("folders", r"labels are no classes.*\(2\)")
def a_list_with_other_labels(root, cfg):
    (root / "train.txt").write_text("apple/0.jpg 0\nberry/0.jpg 3\n")
    name_folders("apple", "berry", "cress")(root, cfg)
    cfg.train_dataloader.dataset.ann_file = "train.txt"


@error("folders", r"1 image of 2 not in .*\(.*plum/0.jpg\)")
def a_list_of_missing_images(root, cfg):
    (root / "train.txt").write_text("apple/0.jpg 0\nplum/0.jpg 1\n")
    name_folders("apple", "berry", "cress")(root, cfg)
    cfg.train_dataloader.dataset.ann_file = "train.txt"


@error("folders", r"not 'path label'.*\(1, 2\)")
def a_list_with_commas(root, cfg):
    (root / "train.txt").write_text("apple/0.jpg,0\nberry/0.jpg,1\n")
    cfg.train_dataloader.dataset.ann_file = "train.txt"


@valid("folders")
def a_list(root, cfg):
    (root / "train.txt").write_text("apple/0.jpg 0\nberry/0.jpg 1\ncress/1.jpg 2\n")
    name_folders("apple", "berry", "cress")(root, cfg)
    cfg.train_dataloader.dataset.ann_file = "train.txt"


@valid("folders")
def names_of_the_folders(root, cfg):
    name_folders("apple", "berry", "cress")(root, cfg)


# -- sweeps ----------------------------------------------------------------------------------------


def rewrite(change):
    """A mutation that writes the points of every sweep anew, from (N, columns)."""

    def apply(root, cfg):
        columns = 4 if (root / "ImageSets").is_dir() else 6
        for path in sets.files(root, "training/velodyne/*.bin"):
            path.write_bytes(change(np.fromfile(path, np.float32).reshape(-1, columns)))

    return apply


def npy(points):
    import io

    buffer = io.BytesIO()
    np.save(buffer, points)
    return buffer.getvalue()


def spoilt(value, column):
    def change(points):
        points[7, column] = value
        return points.tobytes()

    return change


def bright(points):
    points[:, 3] *= 255
    return points.tobytes()


RING = np.arange(600, dtype=np.float32)[:, None] % 32
for layout in ("kitti", "waymo"):
    for name, words, change in (
        ("an .npy file", "is a .npy file", npy),
        ("float64", "has float64 numbers", lambda p: p.astype(np.float64).tobytes()),
        ("cut off", "no multiple of", lambda p: p.tobytes()[:-3]),
        ("NaN in a coordinate", "not finite, such as row 7", spoilt(np.nan, 1)),
        ("NaN in the intensity", "not finite, such as row 7", spoilt(np.nan, 3)),
        ("infinite", "not finite, such as row 7", spoilt(np.inf, 0)),
        ("millimetres", "must be in metres", lambda p: (p * 1000).tobytes()),
        ("somewhere else", "0.0% of the points", lambda p: (p + 500).tobytes()),
    ):
        add(layout, name, "error", words, rewrite(change))
    add(layout, "bright points", "warning", "intensities reach", rewrite(bright))


@error("kitti", "records of 5 numbers")
def five_columns(root, cfg):
    rewrite(lambda p: np.hstack((p, RING)).tobytes())(root, cfg)


@error("waymo", "records of 5 numbers")
def five_columns_of_six(root, cfg):
    rewrite(lambda p: p[:, :5].tobytes())(root, cfg)


def relabel(pattern, text):
    def apply(root, cfg):
        for path in sets.files(root, "training/label_2/*.txt"):
            path.write_text(re.sub(pattern, text, path.read_text(), flags=re.MULTILINE))

    return apply


for name, words, apply in (
    ("lower case", "no object is called .*did you mean 'car'",
     relabel("^[A-Z]", lambda match: match[0].lower())),
    ("one class in lower case", "no object is called 'Car'.*did you mean 'car'",
     relabel("^Car", "car")),
    ("a line with too little", "must be a class and 14 numbers", relabel(" 19.7.*$", "")),
    ("commas", "must be a class and 14 numbers", relabel(" ", ",")),
):  # fmt: skip
    add("kitti", name, "error", words, apply)


@error("kitti", r"1 file of 3 not in .*velodyne \(000001.bin\)")
def a_sweep_is_missing(root, cfg):
    (root / "training/velodyne/000001.bin").unlink()


@error("kitti", r"1 file of 3 not in .*label_2 \(000001.txt\)")
def a_label_file_is_missing(root, cfg):
    (root / "training/label_2/000001.txt").unlink()


@error("kitti", r"1 file of 3 not in .*calib \(000001.txt\)")
def a_calibration_is_missing(root, cfg):
    (root / "training/calib/000001.txt").unlink()


@error("kitti", "needs R0_rect with 9 numbers")
def another_calibration(root, cfg):
    (root / "training/calib/000001.txt").write_text("P2: 1 2 3\n")


@error("kitti", "bbox_head: num_classes=3.*has 1")
def one_class_for_a_head_of_three(root, cfg):
    set_classes("Car")(root, cfg)


@error("kitti", r"no overlap from which objects.*\(Bus\)")
def a_class_without_an_overlap(root, cfg):
    relabel("^Cyclist", "Bus")(root, cfg)
    set_classes("Car", "Pedestrian", "Bus")(root, cfg)


@warns("kitti", r"sweeps without a point \(000001.bin\)")
def an_empty_sweep(root, cfg):
    (root / "training/velodyne/000001.bin").write_bytes(b"")


@valid("kitti")
def other_types_besides(root, cfg):
    relabel("^(Car.*)$", r"\1\nVan 0 0 0 1 1 2 2 2 2 5 0 1.6 30 0\nDontCare -1 -1 -10 0 0 9 9 -1 "
            "-1 -1 -1000 -1000 -1000 -10")(root, cfg)  # fmt: skip


@contextmanager
def infos(root, split="train"):
    content = json.loads((root / f"{split}.json").read_text())
    yield content
    (root / f"{split}.json").write_text(json.dumps(content))


@error("waymo", "no object is called .*did you mean 'car'")
def categories_in_lower_case(root, cfg):
    with infos(root) as content:
        own = content["metainfo"]
        own["categories"] = {name.lower(): n for name, n in own["categories"].items()}


@error("waymo", r"entries lack a path, a label or a box.*\(1\)")
def a_box_of_six_numbers(root, cfg):
    with infos(root) as content:
        content["data_list"][1]["instances"][0]["bbox_3d"].pop()


@error("waymo", r"1 file of 3 not in .*\(9.bin\)")
def another_file_of_points(root, cfg):
    with infos(root) as content:
        content["data_list"][1]["lidar_points"]["lidar_path"] = "9.bin"


@error("waymo", "must be a dict with the list 'data_list'")
def a_list_of_mmdet3d_0(root, cfg):
    (root / "train.json").write_text("[]")


@valid("waymo")
def classes_in_another_order(root, cfg):
    set_classes("Pedestrian", "Car", "Cyclist")(root, cfg)


# -- rooms -----------------------------------------------------------------------------------------


def refurnish(change):
    """A mutation that changes the dict of every room that is trained on."""

    def apply(root, cfg):
        for path in sets.files(root, "train/*.pth"):
            room = torch.load(path, weights_only=False)
            change(room)
            torch.save(room, path)

    return apply


for name, words, change in (
    ("colours of 0 to 1", "which is black", lambda r: r.update(color=r["color"] / 255)),
    ("colours of 16 bit", "must be 0 to 255", lambda r: r.update(color=r["color"] * 257.0)),
    ("colours of -1 to 1", "must be 0 to 255", lambda r: r.update(color=r["color"] / 127.5 - 1)),
    ("millimetres", "must be in metres", lambda r: r.update(coord=r["coord"] * 1000)),
    ("far from the origin", "subtract the mean", lambda r: r.update(coord=r["coord"] + 5e5)),
    ("NaN", "NaN or infinite coord", lambda r: r["coord"].__setitem__((3, 0), np.nan)),
    ("labels of other classes", r"has semantic_gt \[5\]",
     lambda r: r["semantic_gt"].__setitem__(3, 5)),
    ("labels of -1", r"has semantic_gt \[-1\]", lambda r: r["semantic_gt"].__setitem__(3, -1)),
    ("labels of fractions", "no integers", lambda r: r.update(semantic_gt=r["semantic_gt"] / 2)),
    ("no labels", r"has no \['semantic_gt'\]", lambda r: r.pop("semantic_gt")),
    ("no colours", r"has no \['color'\]", lambda r: r.pop("color")),
    ("fewer labels", "rows", lambda r: r.update(semantic_gt=r["semantic_gt"][:-1])),
    ("no points", "has no points", lambda r: r.update(coord=r["coord"][:0])),
    ("two coordinates", r"must be numbers \(N, 3\)", lambda r: r.update(coord=r["coord"][:, :2])),
    ("all ignored", "no point .* has a class", lambda r: r["semantic_gt"].fill(255)),
):  # fmt: skip
    add("rooms", name, "error", words, refurnish(change))


@error("rooms", r"decode_head: num_classes=2.*has 3")
def a_class_more_than_the_head(root, cfg):
    set_classes("floor", "thing", "ceiling")(root, cfg)


@error("rooms", "there are no rooms")
def another_folder(root, cfg):
    (root / "other").mkdir()
    cfg.train_dataloader.dataset.folders = ["other"]


@valid("rooms")
def labels_of_minus_one_said_so(root, cfg):
    refurnish(lambda room: room["semantic_gt"].__setitem__(slice(0, 9), -1))(root, cfg)
    cfg.train_dataloader.dataset.ignore_index = -1


@valid("rooms")
def folders_of_npy_files(root, cfg):
    for path in sets.files(root, "*/*.pth"):
        room = torch.load(path, weights_only=False)
        folder = path.with_suffix("")
        folder.mkdir()
        for key, value in room.items():
            np.save(folder / f"{key.replace('semantic_gt', 'segment')}.npy", value)
        path.unlink()
    for loader in (cfg.train_dataloader, cfg.val_dataloader):
        loader.dataset.semantic_key = "segment"


# -- images of 16 bits -----------------------------------------------------------------------------


def deepen(paths, shift=8):
    """Write images as PNG of 16 bits, of which `8 + shift` are used."""
    for path in paths:
        pixels = cv2.imread(str(path)).astype(np.uint16) << shift
        cv2.imwrite(str(path.with_suffix(".png")), pixels)
        path.unlink()


@valid("label maps")
def images_of_16_bits(root, cfg):
    deepen(sets.files(root, "images/train/*.jpg"))
    cfg.train_dataloader.dataset.img_suffix = ".png"


@valid("folders")
def images_of_classes_of_16_bits(root, cfg):
    deepen(sets.files(root, "train/*/*.jpg"))


# -- damaged files ---------------------------------------------------------------------------------

_GARBAGE = bytes(range(256)) * 3


def damage(pattern, change):
    def apply(root, cfg):
        path = sets.files(root, pattern)[0]
        path.write_bytes(change(path.read_bytes()))

    return apply


for layout, pattern in (
    ("coco", "annotations/train.json"),
    ("coco", "train/*.jpg"),
    ("label maps", "images/train/*.jpg"),
    ("label maps", "labels/train/*.png"),
    ("folders", "train/apple/*.jpg"),
    ("kitti", "training/calib/*.txt"),
    ("waymo", "train.json"),
    ("rooms", "train/*.pth"),
):
    for what, change in (
        ("empty", lambda content: b""),
        ("half", lambda content: content[: len(content) // 2]),
        ("garbage", lambda content: _GARBAGE),
    ):
        file = pattern.rpartition("/")[2].partition(".")[0].replace("*", "")
        add(layout, f"{pattern} is {what}", "error", file, damage(pattern, change))
