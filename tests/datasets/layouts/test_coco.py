"""COCO's format under any names, and what is put right in it."""

import json

import pytest

from maintenance import shapes
from mmeffvit.datasets.layouts import LayoutError, Options, describe
from mmeffvit.datasets.layouts.base import hold_out, split_of


def edit(path, change):
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def read(data, split):
    return json.loads((data.root / data.split(split).annotations).read_text())


@pytest.mark.parametrize(
    ("path", "split"),
    [
        ("annotations/instances_train2017.json", "train"),
        ("valid/_annotations.coco.json", "val"),
        ("images/validation", "val"),
        ("test-dev/labels.json", "test"),
        ("train/val.json", "val"),
        ("trainval.txt", "train"),
        ("train_val_split/a.json", None),
        ("strained/a.json", None),
    ],
)
def test_split_of(path, split):
    from pathlib import PurePosixPath

    assert split_of(PurePosixPath(path)) == split


def test_roboflow(tmp_path):
    data = describe(shapes.write_roboflow(tmp_path), "boxes")
    assert (data.classes, data.ids) == (shapes.CLASSES, shapes.IDS)
    assert data.kinds == {"boxes"}
    assert {n: s.num_images for n, s in data.splits.items()} == {"train": 6, "val": 3, "test": 2}
    assert data.split("val").annotations == "valid/_annotations.coco.json"
    assert data.split("val").images == "valid"
    assert "'shapes' (id 0) is left out" in data.notes[0]
    assert not (tmp_path / ".mmeffvit").exists()  # nothing had to be written


def test_coco_itself(tmp_path):
    data = describe(shapes.write_coco(tmp_path), "boxes")
    assert data.kinds == {"boxes", "masks"}
    assert data.split("train").images == "train2017"
    assert data.split("test") == data.split("val")


def test_group_of_the_same_name(tmp_path):
    """A single class, whose group has its name: COCO's own reader would find two classes."""
    shapes.write_roboflow(tmp_path)
    for path in tmp_path.glob("*/*.json"):

        def one_class(content):
            content["categories"] = [
                {"id": 0, "name": "cell", "supercategory": "none"},
                {"id": 1, "name": "cell", "supercategory": "cell"},
            ]
            for annotation in content["annotations"]:
                annotation["category_id"] = 1

        edit(path, one_class)
    data = describe(tmp_path, "boxes")
    assert (data.classes, data.ids) == (("cell",), (1,))
    assert [c["id"] for c in read(data, "train")["categories"]] == [1]


def test_one_file_is_divided(tmp_path):
    shapes.write_coco(tmp_path / "all", num=(10, 1))
    path = tmp_path / "all/annotations/instances_val2017.json"
    path.unlink()
    data = describe(tmp_path / "all", "boxes")
    names = {split: [i["file_name"] for i in read(data, split)["images"]] for split in data.splits}
    assert (len(names["train"]), len(names["val"])) == (8, 2)
    assert not set(names["train"]) & set(names["val"])
    owners = {i["id"] for i in read(data, "val")["images"]}
    assert {a["image_id"] for a in read(data, "val")["annotations"]} == owners
    again = describe(tmp_path / "all/annotations/instances_train2017.json", "boxes")
    assert (again.root, again.splits) == (data.root, data.splits)


@pytest.mark.parametrize("split", ["val", "test"])
def test_what_was_put_aside_is_divided_when_asked_for(tmp_path, split):
    shapes.write_coco(tmp_path, num=(1, 5))
    annotations = tmp_path / "annotations"
    (annotations / "instances_train2017.json").unlink()
    file = annotations / f"instances_{split}2017.json"
    (annotations / "instances_val2017.json").rename(file)
    shown = f"annotations/{file.name}"
    with pytest.raises(LayoutError, match=f"is one of {split} .*options train={shown}") as error:
        describe(tmp_path, "boxes")
    assert "none to train on" in str(error.value)
    data = describe(tmp_path, "boxes", options=Options(files={"train": shown}))
    assert {name: part.num_images for name, part in data.splits.items()} == {"train": 4, "val": 1}
    assert describe(file, "boxes").splits == data.splits


def test_the_same_images_are_held_out():
    names = [f"{i}.png" for i in range(20)]
    assert hold_out(names) == hold_out(names[::-1])
    assert len(hold_out(names)[1]) == 4
    assert hold_out(["a", "b"]) == (["a"], ["b"])
    with pytest.raises(LayoutError, match="1 image"):
        hold_out(["a"])


def test_categories_in_another_order(tmp_path):
    """Their numbers follow the file that is trained on, and a class has one id everywhere."""
    shapes.write_coco(tmp_path)
    path = tmp_path / "annotations/instances_val2017.json"
    before = json.loads(path.read_text())

    def shuffle(content):
        content["categories"] = [
            {"id": 1, "name": "post"},
            {"id": 2, "name": "square"},
            {"id": 3, "name": "bar"},
        ]
        ids = {3: 2, 7: 3, 20: 1}
        for annotation in content["annotations"]:
            annotation["category_id"] = ids[annotation["category_id"]]

    edit(path, shuffle)
    data = describe(tmp_path, "boxes")
    after = read(data, "val")
    assert [c["id"] for c in after["categories"]] == list(shapes.IDS)
    own = [[a["category_id"] for a in content["annotations"]] for content in (before, after)]
    assert own[0] == own[1]
    assert json.loads(path.read_text())["categories"][0]["name"] == "post"  # yours is as it was


def test_what_evaluation_stumbles_over(tmp_path):
    shapes.write_coco(tmp_path)

    def spoil(content):
        for number, annotation in enumerate(content["annotations"]):
            annotation["id"] = number  # 0 counts as no match
            del annotation["iscrowd"], annotation["area"]

    edit(tmp_path / "annotations/instances_val2017.json", spoil)
    data = describe(tmp_path, "boxes")
    mended = read(data, "val")["annotations"]
    assert [a["id"] for a in mended] == list(range(1, len(mended) + 1))
    assert all(a["iscrowd"] == 0 and a["area"] == a["bbox"][2] * a["bbox"][3] for a in mended)
    assert any("id 0" in note for note in data.notes)


def test_paths_of_another_machine(tmp_path):
    shapes.write_coco(tmp_path)

    def move(content):
        for image in content["images"]:
            image["file_name"] = f"C:\\data\\{image['file_name']}"

    edit(tmp_path / "annotations/instances_train2017.json", move)
    data = describe(tmp_path, "boxes")
    names = [image["file_name"] for image in read(data, "train")["images"]]
    assert names[0] == "000.png"
    assert (tmp_path / data.split("train").images / names[0]).is_file()


def test_masks_of_some_objects(tmp_path):
    shapes.write_coco(tmp_path)
    path = tmp_path / "annotations/instances_train2017.json"
    edit(path, lambda content: content["annotations"][0].pop("segmentation"))
    data = describe(tmp_path, "boxes")
    assert data.kinds == {"boxes"}
    assert "17 of 18 objects have a mask" in data.notes[-1]


def test_files_that_the_user_names(tmp_path):
    shapes.write_coco(tmp_path)
    for old, new in (("train2017", "first"), ("val2017", "second")):
        path = tmp_path / f"annotations/instances_{old}.json"
        path.rename(tmp_path / f"annotations/{new}.json")
    with pytest.raises(LayoutError, match=r"not clear.*annotations/first\.json"):
        describe(tmp_path, "boxes")
    files = {"train": "annotations/first.json", "val": "annotations/second.json"}
    data = describe(tmp_path, "boxes", options=Options(files=files))
    assert data.split("val").num_images == 3
    with pytest.raises(LayoutError, match="There is no file"):
        describe(tmp_path, "boxes", options=Options(files={"train": "nowhere.json"}))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c["images"][0].update(file_name="gone.png"), "not there: gone.png"),
        (lambda c: c["categories"].append({"id": 9, "name": "bar"}), "1 objects of the category"),
        (lambda c: c.update(images=[]), "names no images"),
    ],
)
def test_what_cannot_be_mended(tmp_path, change, message):
    shapes.write_coco(tmp_path)
    if message.startswith("1 objects"):

        def change(content):
            content["categories"].append({"id": 9, "name": "star"})
            content["annotations"][0]["category_id"] = 9

    edit(tmp_path / "annotations/instances_val2017.json", change)
    with pytest.raises(LayoutError, match=message):
        describe(tmp_path, "boxes")


def test_a_damaged_file(tmp_path):
    shapes.write_coco(tmp_path)
    path = tmp_path / "annotations/instances_train2017.json"
    path.write_text(path.read_text()[:-20])
    with pytest.raises(LayoutError, match="no whole JSON file"):
        describe(tmp_path, "boxes")


def test_other_tasks_of_coco(tmp_path):
    shapes.write_coco(tmp_path)
    (tmp_path / "annotations/captions_train2017.json").write_text("{}")
    (tmp_path / "annotations/info.json").write_text("[1]")
    assert describe(tmp_path, "boxes").classes == shapes.CLASSES
