"""YOLO and Pascal VOC become COCO, the same boxes to the pixel."""

import json
import sys

import pytest

from maintenance import shapes
from mmeffvit.datasets.layouts import LayoutError, Options, convert, describe


def boxes(data, split="val"):
    """(class, left, top, width, height) of all objects by image."""
    content = json.loads((data.root / data.split(split).annotations).read_text())
    names = {c["id"]: c["name"] for c in content["categories"]}
    found = {}
    for image in content["images"]:
        own = [a for a in content["annotations"] if a["image_id"] == image["id"]]
        key = int(image["file_name"].rpartition("/")[2][:3])
        found[key] = [(names[a["category_id"]], *a["bbox"]) for a in own]
    return found


def drawn(seeds):
    return {
        seed: [(shapes.CLASSES[k], *map(float, box)) for k, *box in shapes.scene(seed)[1]]
        for seed in seeds
    }


def assert_same(found, wanted):
    assert found.keys() == wanted.keys()
    for seed, own in wanted.items():
        assert [one[0] for one in found[seed]] == [one[0] for one in own]
        for one, other in zip(found[seed], own):
            assert one[1:] == pytest.approx(other[1:], abs=0.01)


def test_yolo(tmp_path):
    data = describe(shapes.write_yolo(tmp_path), "boxes")
    assert (data.layout, data.classes, data.kinds) == ("YOLO", shapes.CLASSES, {"boxes"})
    assert_same(boxes(data), drawn(range(6, 9)))


def test_yolo_polygons(tmp_path):
    data = describe(shapes.write_yolo(tmp_path, polygons=True), "boxes")
    assert data.kinds == {"boxes", "masks"}
    content = json.loads((data.root / data.split("train").annotations).read_text())
    assert all(a["iscrowd"] == 0 and len(a["segmentation"][0]) >= 6 for a in content["annotations"])
    assert_same(boxes(data), drawn(range(6, 9)))


def test_oriented_yolo_boxes_are_called_by_their_name(tmp_path):
    """They cannot be told from outlines of four corners, so a note says what is learnt."""
    data = describe(shapes.write_yolo(tmp_path, polygons=True), "boxes")
    assert "oriented boxes (YOLO OBB)" in data.notes[-1]
    for path in tmp_path.glob("labels/train/*.txt"):  # an outline of another number of corners
        path.write_text(path.read_text() + " 0.5 0.5")
    assert "YOLO OBB" not in str(describe(tmp_path, "boxes").notes)


def test_voc(tmp_path):
    data = describe(shapes.write_voc(tmp_path), "boxes")
    assert data.classes == tuple(sorted(shapes.CLASSES))
    assert_same(boxes(data), drawn(range(6, 9)))


def test_voc_difficult_objects_are_ignored(tmp_path):
    shapes.write_voc(tmp_path)
    path = tmp_path / "Annotations/006.xml"
    path.write_text(path.read_text().replace("<difficult>0", "<difficult>1", 1))
    data = describe(tmp_path, "boxes")
    content = json.loads((data.root / data.split("val").annotations).read_text())
    assert [a["iscrowd"] for a in content["annotations"]] == [1, 0, 0, 0, 0, 0]


def test_xml_beside_images(tmp_path):
    """As some exports have it: no lists, a folder for each split."""
    shapes.write_voc(tmp_path / "voc")
    for seed in range(9):
        split = "train" if seed < 6 else "valid"
        for old in (f"JPEGImages/{seed:03d}.png", f"Annotations/{seed:03d}.xml"):
            target = tmp_path / "flat" / split / old.rpartition("/")[2]
            target.parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / "voc" / old).rename(target)
    assert_same(boxes(describe(tmp_path / "flat", "boxes")), drawn(range(6, 9)))


def test_written_once(tmp_path, monkeypatch):
    shapes.write_yolo(tmp_path)
    describe(tmp_path, "boxes")
    monkeypatch.setattr(convert, "_to_coco", lambda *args: pytest.fail("converted again"))
    describe(tmp_path, "boxes")
    monkeypatch.undo()
    label = tmp_path / "labels/val/006.txt"
    label.write_text("1 0.5 0.5 0.25 0.25\n")
    assert boxes(describe(tmp_path, "boxes"))[6] == [("bar", 24.0, 24.0, 16.0, 16.0)]


def test_read_only_folders_are_left_alone(tmp_path, monkeypatch):
    root = shapes.write_yolo(tmp_path / "data")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    monkeypatch.setattr("mmeffvit.datasets.layouts.cache.os.access", lambda path, mode: False)
    data = describe(root, "boxes")
    assert data.split("train").annotations.startswith(str(tmp_path / "home/mmeffvit/data-"))
    assert not (root / ".mmeffvit").exists()


def test_names_of_classes(tmp_path):
    shapes.write_yolo(tmp_path, names=False)
    with pytest.raises(LayoutError, match=r"no data\.yaml or classes\.txt that names them"):
        describe(tmp_path, "boxes")
    data = describe(tmp_path, "boxes", options=Options(classes=("a", "b", "c")))
    assert data.classes == ("a", "b", "c")
    (tmp_path / "classes.txt").write_text("x\ny\n")
    with pytest.raises(LayoutError, match="name class 2, but there are 2 classes"):
        describe(tmp_path, "boxes")


def test_data_yaml_one_folder_off(tmp_path):
    """``../train/images`` of a file that lies beside ``train/``, as exports have it."""
    shapes.write_yolo(tmp_path / "y")
    for split in ("train", "val"):
        (tmp_path / "out" / split).mkdir(parents=True)
        for kind in ("images", "labels"):
            (tmp_path / "y" / kind / split).rename(tmp_path / "out" / split / kind)
    text = "train: ../train/images\nval: ../val/images\nnames: [square, bar, post]\nnc: 3\n"
    (tmp_path / "out/data.yaml").write_text(text)
    assert_same(boxes(describe(tmp_path / "out", "boxes")), drawn(range(6, 9)))


def test_a_broken_label_is_named(tmp_path):
    shapes.write_yolo(tmp_path)
    (tmp_path / "labels/train/003.txt").write_text("0 0.5 0.5\n")
    with pytest.raises(LayoutError, match=r"003\.txt"):
        describe(tmp_path, "boxes")


def test_without_the_library(tmp_path, monkeypatch):
    shapes.write_yolo(tmp_path)
    monkeypatch.setitem(sys.modules, "supervision", None)
    with pytest.raises(LayoutError, match="pip install 'supervision"):
        describe(tmp_path, "boxes")


def test_two_layouts_at_once(tmp_path):
    shapes.write_yolo(tmp_path)
    shapes.write_coco(tmp_path)
    with pytest.raises(LayoutError, match=r'COCO and YOLO at once.*layout="COCO"'):
        describe(tmp_path, "boxes")
    assert describe(tmp_path, "boxes", layout="yolo").layout == "YOLO"
    with pytest.raises(LayoutError, match="did you mean 'YOLO'"):
        describe(tmp_path, "boxes", layout="YOLOO")


def test_a_file_in_place_of_the_folder(tmp_path):
    """YOLO's users give data.yaml everywhere else."""
    whole = describe(shapes.write_yolo(tmp_path), "boxes")
    assert describe(tmp_path / "data.yaml", "boxes") == whole
    with pytest.raises(LayoutError, match=r"000\.png is a file. Give the folder"):
        describe(tmp_path / "images/train/000.png", "boxes")


def test_nothing_that_is_known(tmp_path):
    with pytest.raises(LayoutError, match="There is no folder"):
        describe(tmp_path / "nowhere", "boxes")
    with pytest.raises(LayoutError, match="Found: nothing"):
        describe(tmp_path, "boxes")
    shapes.write_classes(tmp_path)
    with pytest.raises(LayoutError, match=r"looks like class folders(?s:.*)data\.yaml"):
        describe(tmp_path, "boxes")
