"""Contact sheets: where things are drawn, what counts as found, odd inputs."""

import numpy as np
import pytest
from PIL import Image

from mmeffvit.visualization import Example, Objects, draw_contact_sheet
from mmeffvit.visualization import contact_sheet as module
from mmeffvit.visualization import sheet as layout
from mmeffvit.visualization.contact_sheet import PALETTE, WRONG, draw_example, match_objects
from mmeffvit.visualization.files import save_picture

_SIZE = 100


def _square(y, x, side=40):
    mask = np.zeros((_SIZE, _SIZE), bool)
    mask[y : y + side, x : x + side] = True
    return mask


def _objects(corners, labels, scores=None, crowd=None, with_masks=True):
    masks = np.array([_square(*c) for c in corners], bool).reshape(-1, _SIZE, _SIZE)
    boxes = np.array([(x, y, x + 40, y + 40) for y, x in corners], float).reshape(-1, 4)
    return Objects(
        boxes,
        np.array(labels, int),
        masks if with_masks else None,
        None if scores is None else np.array(scores, float),
        None if crowd is None else np.array(crowd, bool),
    )


def _example(truth=None, prediction=None):
    nothing = _objects([], [])
    image = np.full((_SIZE, _SIZE, 3), 128, np.uint8)
    return Example(image, truth or nothing, prediction or _objects([], [], []), "000.jpg")


def _near(colour, other):
    return np.abs(np.asarray(colour, int) - np.asarray(other, int)).max() < 40


def _footer(sheet):
    return layout._FOOTER + layout.legend_height(module._LEGEND, sheet.width - 2 * layout._MARGIN)


def test_layout_has_the_size_it_promises():
    sheet = draw_contact_sheet([_example()] * 5, ["a"], panel=120, columns=2)
    group = 3 * 120 + 2 * layout._GAP
    assert sheet.width == 2 * layout._MARGIN + 2 * group + layout._GROUP_GAP
    top = layout._HEADER + layout._COLUMN_TITLE
    assert sheet.height == top + 3 * (120 + layout._CAPTION) + _footer(sheet)
    # the first picture starts under its column title; the sixth place stays empty
    pixels = np.asarray(sheet)
    left = layout._MARGIN
    assert (pixels[top : top + 120, left : left + 120] == 128).all()
    x = left + group + layout._GROUP_GAP
    y = top + 2 * (120 + layout._CAPTION)
    assert (pixels[y : y + 120, x : x + group] == 255).all()


def test_pictures_keep_their_proportions():
    image = np.zeros((50, 100, 3), np.uint8)
    nothing = Objects(np.zeros((0, 4)), np.zeros(0, int))
    pictures, _ = draw_example(Example(image, nothing, nothing), ["a"], 0.5, (200, 200))
    assert [p.size for p in pictures] == [(200, 100)] * 3
    sheet = draw_contact_sheet([Example(image, nothing, nothing)], ["a"], panel=200)
    top = layout._HEADER + layout._COLUMN_TITLE
    assert sheet.height == top + 100 + layout._CAPTION + _footer(sheet)


def test_long_legends_are_broken_into_lines():
    legend = [([(0, 0, 0)], "a class with a name")] * 6
    narrow, wide = layout.legend_height(legend, 400), layout.legend_height(legend, 4000)
    assert narrow == 3 * wide > 0
    assert layout.legend_height([], 100) == 0
    lines = [(line, x) for line, x, _ in layout._place(legend, 400)]
    assert [line for line, _ in lines] == [0, 0, 1, 1, 2, 2]
    assert [x > 0 for _, x in lines] == [False, True] * 3


@pytest.mark.parametrize("with_masks", [True, False])
def test_found_objects_have_the_colour_of_the_true_one(with_masks):
    truth = _objects([(5, 5), (55, 55)], [0, 1], with_masks=with_masks)
    # the second true object first, as its score is higher
    found = _objects([(56, 54), (6, 5)], [1, 0], [0.9, 0.8], with_masks=with_masks)
    (_, true_picture, found_picture), caption = draw_example(
        _example(truth, found), ["a", "b"], 0.5, (_SIZE, _SIZE)
    )
    for picture in (true_picture, found_picture):
        for (x, y), colour in (((30, 35), PALETTE[0]), ((75, 75), PALETTE[1])):
            tint = np.asarray(picture)[y, x].astype(int) - 128
            assert np.sign(tint[np.argmax(np.abs(tint))]) == np.sign(
                np.asarray(colour)[np.argmax(np.abs(tint))] - 128
            )
            assert _near(np.asarray(picture)[y, x], (np.asarray(colour) + 128) / 2)
    assert caption == "000.jpg   2 of 2 found"


def test_wrong_predictions_are_red_and_weak_ones_left_out():
    truth = _objects([(5, 5)], [0])
    found = _objects([(5, 5), (55, 55)], [1, 0], [0.9, 0.3])
    (_, _, picture), caption = draw_example(_example(truth, found), ["a", "b"], 0.5, (_SIZE, _SIZE))
    assert _near(np.asarray(picture)[38, 30], (np.asarray(WRONG) + 128) / 2)
    assert (np.asarray(picture)[75, 75] == 128).all()
    assert caption == "000.jpg   0 of 1 found · 1 wrong"


def test_a_true_object_is_found_once():
    truth = _objects([(5, 5)], [0])
    found = _objects([(6, 6), (5, 5)], [0, 0], [0.9, 0.8])
    matches, ignored = match_objects(found, truth, np.zeros(1, bool))
    assert matches.tolist() == [0, -1]
    assert ignored.tolist() == [False, False]


def test_predictions_in_a_crowd_do_not_count():
    truth = _objects([(5, 5), (55, 55)], [0, 1], crowd=[False, True])
    found = _objects([(50, 50), (55, 5)], [1, 1], [0.9, 0.9])
    matches, ignored = match_objects(found, truth, truth.crowd)
    assert matches.tolist() == [-1, -1]
    assert ignored.tolist() == [True, False]
    _, caption = draw_example(_example(truth, found), ["a", "b"], 0.5, (90, 90))
    assert caption == "000.jpg   0 of 1 found · 1 wrong · 1 crowd"


def test_crowds_are_hatched():
    truth = _objects([(5, 5)], [0], crowd=[True])
    (_, picture, _), _ = draw_example(_example(truth), ["a"], 0.5, (_SIZE, _SIZE))
    inside = np.asarray(picture)[25:42, 10:42].reshape(-1, 3)
    assert len(np.unique(inside[:, 0])) > 1, "stripes of two brightnesses"


def test_tags_stay_inside_and_apart():
    picture = Image.new("RGB", (200, 200))
    taken = []
    for corner in ((0, 0), (0, 2), (150, 0), (150, 180), (2, 180)):
        box = np.array([*corner, corner[0] + 40, corner[1] + 20], float)
        module._draw_tag(picture, "7  0.98", box, PALETTE[0], taken)
    for index, (x0, y0, x1, y1) in enumerate(taken):
        assert min(x0, y0) >= 0
        assert max(x1, y1) <= 200
        assert all(module._shared(taken[index], other) == 0 for other in taken[:index])


def test_wrong_arguments():
    with pytest.raises(ValueError, match="at least one example"):
        draw_contact_sheet([], ["a"])
    with pytest.raises(ValueError, match="panel=8 must be at least 32"):
        draw_contact_sheet([_example()], ["a"], panel=8)


def test_pictures_are_whole_or_absent(tmp_path):
    class Broken:
        def save(self, file, **kwargs):
            file.write(b"half")
            raise OSError("disk full")

    path = tmp_path / "new" / "sheet.png"
    save_picture(Image.new("RGB", (7, 5)), path)
    with pytest.raises(OSError, match="disk full"):
        save_picture(Broken(), path)
    assert Image.open(path).size == (7, 5)
    assert [p.name for p in path.parent.iterdir()] == ["sheet.png"]
