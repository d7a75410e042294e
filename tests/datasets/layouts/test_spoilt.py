"""A newcomer's folder with something wrong in it: a sentence that names it, or a note, never less.

What these folders are called and hold is read before any config; what only a config can tell is in
tests/datasets/checks.
"""

import json
import re
import shutil

import numpy as np
import pytest
from PIL import Image

from maintenance import shapes
from mmeffvit.datasets.layouts import LayoutError, describe

WRITE = {
    "COCO": (shapes.write_coco, "boxes"),
    "YOLO": (shapes.write_yolo, "boxes"),
    "VOC": (shapes.write_voc, "boxes"),
    "maps": (shapes.write_label_maps, "label maps"),
    "classes": (shapes.write_classes, "classes"),
}
TRAIN = "annotations/instances_train2017.json"
ODD = "my pic #1%20 \u00e9 "


def made(layout, tmp_path):
    write, kind = WRITE[layout]
    return write(tmp_path / "data"), kind


def entry(part, **change):
    """A change of the second entry of a list in COCO's JSON; None takes a key away."""

    def spoil(root):
        content = json.loads((root / TRAIN).read_text())
        for key, value in change.items():
            content[part][1].pop(key) if value is None else content[part][1].update({key: value})
        (root / TRAIN).write_text(json.dumps(content))

    return spoil


def replaced(part, value):
    def spoil(root):
        content = json.loads((root / TRAIN).read_text())
        content[part][1] = value
        (root / TRAIN).write_text(json.dumps(content))

    return spoil


def text(name, content, encoding="utf-8"):
    return lambda root: (root / name).write_text(content, encoding=encoding)


def xml(old, new):
    def spoil(root):
        path = root / "Annotations/001.xml"
        path.write_text(re.sub(old, new, path.read_text()))

    return spoil


def without(pattern, which=slice(None)):
    def spoil(root):
        paths = sorted(root.glob(pattern))[which]
        assert paths
        for path in paths:
            path.unlink()

    return spoil


def renamed(pattern):
    def spoil(root):
        paths = sorted(root.glob(pattern))
        assert paths
        for path in paths:
            path.rename(path.with_name(ODD + path.name))

    return spoil


def in_pixels(root):
    for path in root.glob("labels/*/*.txt"):
        rows = [line.split() for line in path.read_text().splitlines()]
        rows = [[row[0], *(str(64 * float(value)) for value in row[1:])] for row in rows]
        path.write_text("\n".join(map(" ".join, rows)))


def latin(name, content):
    return text(name, content, "latin-1")


def recode(path, encoding):
    path.write_text(path.read_text(), encoding=encoding)


YOLO = "labels/train/001.txt"
REFUSED = [
    ("COCO", "an image is a number", replaced("images", 7), r"train2017.json: has images that are"),
    ("COCO", "an object is nothing", replaced("annotations", None), r"annotations that are no dic"),
    ("COCO", "a category is text", replaced("categories", "bar"), r"categories that are no dicts"),
    ("COCO", "an image without id", entry("images", id=None), r"images have no 'id'"),
    ("COCO", "an image without name", entry("images", file_name=None), r"have no 'file_name'"),
    ("COCO", "an id that is a list", entry("images", id=[1]), r"'id' that is no number or text"),
    ("COCO", "no image_id", entry("annotations", image_id=None), r"have no 'image_id' \(2\)"),
    ("COCO", "no category_id", entry("annotations", category_id=None), r"no 'category_id' \(2\)"),
    ("COCO", "categories as lists", entry("annotations", category_id=[3]), r"'category_id' that"),
    ("COCO", "a category without id", entry("categories", id=None), r"categories have no 'id'"),
    ("COCO", "a category without name", entry("categories", name=None), r"have no 'name' \(7\)"),
    ("YOLO", "latin-1", latin("data.yaml", "names: [caf\u00e9, b, c]"), r"data.yaml is no text"),
    ("YOLO", "latin-1 labels", latin(YOLO, "0 .5 .5 .2 .2 \u00e9"), r"001.txt is no text in UTF-8"),
    ("YOLO", "damaged", text("data.yaml", "names: [a, b"), r"data.yaml could not be read: while"),
    ("YOLO", "names under names", text("data.yaml", "names: {a: 0, b: 1, c: 2}"), r"under 'a', 'b"),
    ("YOLO", "one name as text", text("data.yaml", "names: cat"), r"names: 'cat'; write a list"),
    ("YOLO", "yes and no", text("data.yaml", "names: [yes, no, c]"), r"class 0 is True, which is"),
    ("YOLO", "an empty name", text("data.yaml", "names: [a, , c]"), r"could not be read|is None"),
    ("YOLO", "another nc", text("data.yaml", "nc: 5\nnames: [a, b, c]"), r"nc: 5, and has 3 names"),
    ("YOLO", "a class below 0", text(YOLO, "-1 .5 .5 .2 .2"), r"001.png name class -1, but there"),
    ("YOLO", "pixels", in_pixels, r"000.txt, line 1: 22.0 is no share of the image's width"),
    ("YOLO", "names for numbers", text(YOLO, "bar .5 .5 .2 .2"), r"001.txt: Invalid class id 'bar"),
    ("YOLO", "no images to train on", without("images/train/*"), r"images of val, and none to tr"),
    ("VOC", "another XML", text("Annotations/001.xml", "<html/>"), r"001.xml .*begins with <html>"),
    ("VOC", "no box", xml("<bndbox>.*?</bndbox>", ""), r"001.xml: Missing bndbox"),
    ("VOC", "a side as text", xml("<xmin>.*?</xmin>", "<xmin>left</xmin>"), r"'xmin' value 'l"),
    ("VOC", "a list of others", text("ImageSets/Main/train.txt", "x\n"), r"of val, and none to"),
    ("maps", "latin-1", latin("classes.txt", "a\n\u00e9\nc\nd"), r"classes.txt is no text"),
    ("maps", "images renamed", renamed("images/training/*"), r"6 images of train have no"),
    ("maps", "no images", without("images/training/*"), r"images of val, and none to train on"),
    ("classes", "nothing to train on", without("train/*/*"), r"images of val, and none to train"),
]  # fmt: skip
NOTED = [
    ("YOLO", "images renamed", renamed("images/val/*"), "3 label files have no image of their na"),
    ("YOLO", "nothing to validate on", without("images/val/*"), "nothing to validate on, so every"),
    ("VOC", "XML is missing", without("Annotations/*", slice(0, 3)), "3 images have no XML file"),
    ("VOC", "lists of more", without("JPEGImages/*", slice(0, 2)), "train.txt names 2 images that"),
    ("maps", "maps are missing", without("annotations/training/*", slice(2)), "2 images of train"),
    ("classes", "a class is missing in val", without("val/bar/*"), "val has no images of bar"),
]
FINE = [
    ("COCO", "with a mark", lambda root: recode(root / TRAIN, "utf-8-sig")),
    ("COCO", "UTF-16", lambda root: recode(root / TRAIN, "utf-16")),
    ("COCO", "an id of an object that is a list", entry("annotations", id=[1])),
    ("YOLO", "names in UTF-16", text("data.yaml", "names: [square, bar, post]", "utf-16")),
    ("YOLO", "names of numbers", text("data.yaml", "names: {'0': square, '1': bar, '2': post}")),
    ("YOLO", "names of files", lambda root: [renamed(p)(root) for p in ("*/train/*", "*/val/*")]),
    ("VOC", "blanks around names", xml("<name>(.*?)</name>", r"<name>\n \1 </name>")),
    ("maps", "names of files", lambda root: [renamed(p)(root) for p in ("*/training/*",)]),
]  # fmt: skip


def ids(cases):
    return [f"{layout}: {name}" for layout, name, *_ in cases]


@pytest.mark.parametrize(("layout", "name", "spoil", "words"), REFUSED, ids=ids(REFUSED))
def test_refused_with_its_name(layout, name, spoil, words, tmp_path):
    root, kind = made(layout, tmp_path)
    spoil(root)
    with pytest.raises(LayoutError, match=words):
        describe(root, kind)


@pytest.mark.parametrize(("layout", "name", "spoil", "words"), NOTED, ids=ids(NOTED))
def test_left_out_with_a_note(layout, name, spoil, words, tmp_path):
    root, kind = made(layout, tmp_path)
    spoil(root)
    assert any(words in note for note in describe(root, kind).notes)


@pytest.mark.parametrize(("layout", "name", "spoil"), FINE, ids=ids(FINE))
def test_read_all_the_same(layout, name, spoil, tmp_path):
    """Files as other systems write them: no class and no object is lost."""
    root, kind = made(layout, tmp_path)
    whole = describe(root, kind)
    shutil.rmtree(root / ".mmeffvit", ignore_errors=True)
    spoil(root)
    data = describe(root, kind)
    assert data.classes == whole.classes
    assert [split.num_images for split in data.splits.values()] == [
        split.num_images for split in whole.splits.values()
    ]
    if kind == "boxes":  # as mmdet and pycocotools open it
        content = json.loads((root / data.split("train").annotations).read_text(encoding="utf-8"))
        assert len(content["annotations"]) == 12
        assert {c["name"] for c in content["categories"]} == set(shapes.CLASSES)


def test_names_that_are_numbers_become_text(tmp_path):
    root, kind = made("COCO", tmp_path)
    for path in (root / "annotations").iterdir():
        content = json.loads(path.read_text())
        for number, category in enumerate(content["categories"]):
            category["name"] = number
        path.write_text(json.dumps(content))
    data = describe(root, kind)
    assert data.classes == ("0", "1", "2")
    written = json.loads((root / data.split("val").annotations).read_text())
    assert [category["name"] for category in written["categories"]] == ["0", "1", "2"]


def test_objects_of_no_image_are_counted(tmp_path):
    """One file is divided by its images; what is of none would be gone without a word."""
    root, kind = made("COCO", tmp_path)
    (root / "annotations/instances_val2017.json").unlink()
    entry("annotations", image_id=99)(root)
    notes = describe(root, kind).notes
    assert any("1 objects of annotations/instances_train2017.json belong to" in n for n in notes)


def test_images_of_any_depth_and_kind(tmp_path):
    """Alpha channels, grey and 16 bits have the same objects."""
    root, kind = made("YOLO", tmp_path)
    paths = sorted(root.glob("images/train/*.png"))
    pictures = [np.array(Image.open(path)) for path in paths]
    Image.fromarray(np.dstack([pictures[0], pictures[0][..., :1]])).save(paths[0])
    Image.fromarray(pictures[1]).convert("L").save(paths[1])
    Image.fromarray(pictures[2][..., 0].astype(np.uint16) * 256).save(paths[2])
    Image.fromarray(pictures[3]).convert("P").save(paths[3])
    assert describe(root, kind).split("train").num_images == 6
