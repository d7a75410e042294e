"""Folders of images and label maps: which map is of which image, which value of which class."""

import numpy as np
import pytest
from PIL import Image

from maintenance import shapes
from mmeffvit.datasets.layouts import LayoutError, Options, describe

NAMES = ("background", *shapes.CLASSES)


def read(data, split, stem):
    path = data.root / data.split(split).annotations / f"{stem}{data.suffixes[1]}"
    return np.array(Image.open(path))


def test_ade_like(tmp_path):
    data = describe(shapes.write_label_maps(tmp_path), "label maps")
    assert (data.classes, data.suffixes) == (NAMES, (".jpg", ".png"))
    assert data.split("train").images == "images/training"
    assert data.split("val").annotations == "annotations/validation"
    assert not data.reduce_zero_label
    assert not (tmp_path / ".mmeffvit").exists()


def test_gaps_are_closed(tmp_path):
    shapes.write_label_maps(tmp_path, values=(0, *shapes.IDS))
    data = describe(tmp_path, "label maps")
    assert (data.classes, data.ids) == (NAMES, (0, 3, 7, 20))
    np.testing.assert_array_equal(read(data, "val", "006"), shapes.label_map(6))


def test_ignored_pixels_stay(tmp_path):
    shapes.write_label_maps(tmp_path, values=(255, *shapes.IDS), names=False)
    (tmp_path / "classes.txt").write_text("\n".join(shapes.CLASSES))
    data = describe(tmp_path, "label maps")
    assert data.classes == shapes.CLASSES
    np.testing.assert_array_equal(read(data, "train", "000"), shapes.label_map(0, (255, 0, 1, 2)))


def test_black_and_white(tmp_path):
    shapes.write_label_maps(tmp_path, values=(0, 255, 255, 255), names=False)
    data = describe(tmp_path, "label maps")
    assert data.classes == ("background", "foreground")
    np.testing.assert_array_equal(read(data, "val", "007"), shapes.label_map(7, (0, 1, 1, 1)))
    assert "255 became 1" in data.notes[0]


def test_one_name_leaves_the_background(tmp_path):
    """A single class would be learnt from its own pixels alone, and found everywhere."""
    shapes.write_label_maps(tmp_path, values=(0, 1, 1, 1), names=False)
    (tmp_path / "classes.txt").write_text("crack\n")
    data = describe(tmp_path, "label maps")
    assert (data.classes, data.ids) == (("background", "crack"), (0, 1))
    assert not data.reduce_zero_label
    np.testing.assert_array_equal(read(data, "val", "007"), shapes.label_map(7, (0, 1, 1, 1)))
    assert "classes.txt with both names" in data.notes[0]
    said = describe(tmp_path, "label maps", options=Options(reduce_zero_label=True))
    assert (said.reduce_zero_label, said.classes) == (True, ("crack",))


def test_zero_is_no_class(tmp_path):
    shapes.write_label_maps(tmp_path, names=False)
    (tmp_path / "classes.txt").write_text("\n".join(shapes.CLASSES))
    data = describe(tmp_path, "label maps")
    assert (data.reduce_zero_label, data.classes) == (True, shapes.CLASSES)
    said = describe(tmp_path, "label maps", options=Options(reduce_zero_label=True))
    assert said.classes == data.classes


def test_without_names(tmp_path):
    shapes.write_label_maps(tmp_path, names=False)
    assert describe(tmp_path, "label maps").classes == ("class 0", "class 1", "class 2", "class 3")


def test_values_that_fit_no_names(tmp_path):
    shapes.write_label_maps(tmp_path, values=(0, *shapes.IDS), names=False)
    (tmp_path / "classes.txt").write_text("a\nb\n")
    with pytest.raises(LayoutError, match="values 0, 3, 7, 20, and 2 classes are named"):
        describe(tmp_path, "label maps")


def test_cityscapes_like(tmp_path):
    """Cities in folders, long endings, several maps of an image."""
    for split in ("train", "val"):
        for seed, city in enumerate(("ulm", "bonn")):
            stem = f"{split}/{city}/{city}_{seed:06d}"
            shapes.save(tmp_path / f"leftImg8bit/{stem}_leftImg8bit.png", shapes.scene(seed)[0])
            for ending in ("labelIds", "labelTrainIds", "instanceIds"):
                path = tmp_path / f"gtFine/{stem}_gtFine_{ending}.png"
                shapes.save(path, shapes.label_map(seed))
    data = describe(tmp_path, "label maps")
    assert data.suffixes == ("_leftImg8bit.png", "_gtFine_labelTrainIds.png")
    assert (data.split("train").images, data.split("val").annotations) == (
        "leftImg8bit/train",
        "gtFine/val",
    )
    assert data.split("train").num_images == 2


def test_without_splits(tmp_path):
    for seed in range(6):
        shapes.save(tmp_path / f"images/{seed}.jpg", shapes.scene(seed)[0])
        if seed:
            shapes.save(tmp_path / f"masks/{seed}_mask.png", shapes.label_map(seed))
    data = describe(tmp_path, "label maps")
    assert data.suffixes == (".jpg", "_mask.png")
    stems = {n: (tmp_path / s.listed).read_text().split() for n, s in data.splits.items()}
    assert stems == {"train": ["1", "2", "4", "5"], "val": ["3"]}
    assert "1 images" in data.notes[0]


def test_pictures_are_no_maps(tmp_path):
    shapes.write_label_maps(tmp_path)
    shapes.save(tmp_path / "annotations/training/000.png", shapes.scene(0)[0])
    with pytest.raises(LayoutError, match=r"picture of mode RGB.*colours"):
        describe(tmp_path, "label maps")


COLOURS = ((0, 0, 0), (128, 64, 128), (70, 130, 180), (220, 20, 60))
LISTS = {
    "classes.txt": "{n} {r} {g} {b}\n",
    "label_colors.txt": "{r} {g} {b}\t{n}\n",
    "labelmap.txt": "{n}:{r},{g},{b}::\n",
    "class_dict.csv": "{n},{r},{g},{b}\n",
}
HEADINGS = {"labelmap.txt": "# label:color_rgb:parts:actions\n", "class_dict.csv": "name,r,g,b\n"}


def write_colours(root, mode="RGB"):
    shapes.write_label_maps(root, names=False)
    for path in root.glob("annotations/*/*.png"):
        table = np.array(COLOURS, np.uint8)
        picture = Image.fromarray(table[np.array(Image.open(path))])
        picture = picture.convert("P", palette=Image.Palette.ADAPTIVE) if mode == "P" else picture
        picture.save(path)


def colour_list(style, names=NAMES):
    return "".join(style.format(n=name, r=r, g=g, b=b) for name, (r, g, b) in zip(names, COLOURS))


@pytest.mark.parametrize("mode", ["RGB", "P"])
@pytest.mark.parametrize("file", LISTS)
def test_colours_become_numbers(tmp_path, file, mode):
    write_colours(tmp_path, mode)
    (tmp_path / file).write_text(HEADINGS.get(file, "") + colour_list(LISTS[file]))
    data = describe(tmp_path, "label maps")
    assert (data.classes, data.reduce_zero_label) == (NAMES, False)
    for split, stem in (("train", "000"), ("val", "006")):
        np.testing.assert_array_equal(read(data, split, stem), shapes.label_map(int(stem)))
    assert "(128, 64, 128) 'square'" in data.notes[0]


def test_colours_that_do_not_count(tmp_path):
    write_colours(tmp_path)
    text = colour_list(LISTS["classes.txt"], ("Void", *shapes.CLASSES))
    (tmp_path / "classes.txt").write_text(text)
    data = describe(tmp_path, "label maps")
    assert data.classes == shapes.CLASSES
    np.testing.assert_array_equal(read(data, "val", "006"), shapes.label_map(6, (255, 0, 1, 2)))


def test_colours_by_options(tmp_path):
    write_colours(tmp_path)
    data = describe(tmp_path, "label maps", options=Options(classes=NAMES, palette=COLOURS))
    np.testing.assert_array_equal(read(data, "val", "006"), shapes.label_map(6))
    with pytest.raises(LayoutError, match="palette has 4 colours, and classes 3 names"):
        describe(tmp_path, "label maps", options=Options(classes=NAMES[1:], palette=COLOURS))


def test_a_changed_list_of_colours_is_read_again(tmp_path):
    write_colours(tmp_path)
    for names in (NAMES, ("Void", *shapes.CLASSES)):
        (tmp_path / "classes.txt").write_text(colour_list(LISTS["classes.txt"], names))
        data = describe(tmp_path, "label maps")
    np.testing.assert_array_equal(read(data, "val", "006"), shapes.label_map(6, (255, 0, 1, 2)))


def test_colours_that_nobody_named(tmp_path):
    write_colours(tmp_path)
    advice = r"classes.txt with a name and three numbers in every line, for 0 0 0, .*128 64 128"
    with pytest.raises(LayoutError, match=advice):
        describe(tmp_path, "label maps")
    (tmp_path / "classes.txt").write_text("background 0 0 0\nsquare 128 64 128\n")
    with pytest.raises(LayoutError, match=r"\.png has colours of no class in \d+ of 4096 pixels"):
        describe(tmp_path, "label maps")
    (tmp_path / "classes.txt").write_text("background 0 0 0\nsquare\nbar 1 2 3\n")
    with pytest.raises(LayoutError, match=r"in some lines, and none in others: \['square'\]"):
        describe(tmp_path, "label maps")
    (tmp_path / "classes.txt").write_text("a 0 0 300\nb 0 0 0\n")
    with pytest.raises(LayoutError, match=r"colour of 'a' is \[0, 0, 300\]"):
        describe(tmp_path, "label maps")
    (tmp_path / "classes.txt").write_text("a 0 0 0\nb 0 0 0\n")
    with pytest.raises(LayoutError, match=r"\(0, 0, 0\) stands for 'b' and for another class"):
        describe(tmp_path, "label maps")


def test_names_with_numbers_are_no_colours(tmp_path):
    shapes.write_label_maps(tmp_path, names=False)
    names = ("road 1", "road 2", "3 lanes", "bar 4 5")
    (tmp_path / "classes.txt").write_text("\n".join(names))
    assert describe(tmp_path, "label maps").classes == names


def test_maps_as_jpeg(tmp_path):
    shapes.write_label_maps(tmp_path)
    for path in list(tmp_path.glob("annotations/*/*.png")):
        Image.open(path).save(path.with_suffix(".jpg"))
        path.unlink()
    with pytest.raises(LayoutError, match="JPEG, which does not keep the numbers"):
        describe(tmp_path, "label maps")


def test_class_folders(tmp_path):
    shapes.write_classes(tmp_path)
    (tmp_path / "train/.cache").mkdir()
    shapes.save(tmp_path / "train/.cache/0.png", np.zeros((8, 8), np.uint8))
    for path in (tmp_path / "val/post").iterdir():
        path.unlink()
    data = describe(tmp_path, "classes")
    assert data.classes == ("bar", "post", "square")
    # square is 2, although val has two folders with images
    lines = (tmp_path / data.split("val").annotations).read_text().splitlines()
    assert lines == [f"val/{n}/{i}.png {c}" for n, c in (("bar", 0), ("square", 2)) for i in (0, 1)]
    assert data.split("train").num_images == 12
    assert "val has no images of post." in data.notes


def test_class_folders_without_splits(tmp_path):
    shapes.write_classes(tmp_path, num=(5,), splits=(".",))
    data = describe(tmp_path, "classes")
    assert {n: s.num_images for n, s in data.splits.items()} == {"train": 12, "val": 3}


def test_class_that_is_not_trained_on(tmp_path):
    shapes.write_classes(tmp_path)
    (tmp_path / "train/bar").rename(tmp_path / "train/beam")
    with pytest.raises(LayoutError, match="no class to train on: bar"):
        describe(tmp_path, "classes")
