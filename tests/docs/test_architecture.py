"""docs/architecture.md and its drawing show the package as tests/test_package.py has it."""

import re

import pytest

from maintenance import drawings
from tests.test_package import FLOORS, OUTSIDE

from .documents import ROOT

PAGE = "docs/architecture.md"


def test_the_page_names_every_room_on_its_floor():
    rows = re.findall(r"^\| (\d?) *\| `(\w+)` \|", (ROOT / PAGE).read_text(), re.MULTILINE)
    floors, number = {}, 0
    for written, room in rows:
        number = int(written) if written else number
        floors.setdefault(number, set()).add(room)
    expected = dict(enumerate(FLOORS, start=1))
    assert floors == expected, f"the table of {PAGE} is not FLOORS of tests/test_package.py"


def test_the_page_names_what_stands_beside_the_package():
    text = (ROOT / PAGE).read_text()
    assert [name for name in OUTSIDE if f"`{name}/`" not in text] == []


def test_the_drawing_has_every_room_on_its_floor():
    drawn = [set(floor.rooms) for floor in reversed(drawings.FLOORS)]
    assert drawn == FLOORS, "bring FLOORS of maintenance/drawings.py up to date and run it"
    for floor in drawings.FLOORS:
        for name in floor.inside:
            (room,) = floor.rooms
            pattern = name.replace("<op>", "*")
            assert list((ROOT / "mmeffvit" / room).glob(pattern)), f"{room} has no {name}"


def test_what_the_second_drawing_names_is_there():
    from mmeffvit.layers import Block, SECMixer
    from mmeffvit.layers.points import PointSECMixer

    for part in ("pos", "norm1", "mixer", "norm2", "ffn", "drop_path"):
        assert hasattr(Block(4, None, None), part)
    of_maps, of_points = SECMixer(16, 2), PointSECMixer(16, 2)
    assert type(of_maps.core) is type(of_points.core)
    for mixer in (of_maps, of_points):
        assert all(hasattr(mixer, part) for part in ("qkv", "positions", "lepe", "proj"))


@pytest.mark.slow
def test_drawings_are_those_of_the_script(tmp_path):
    """Up to fonts and versions: sizes, and most pixels."""
    import numpy as np
    from PIL import Image

    for name, sheet in (("floors", drawings.draw_floors()), ("pyramid", drawings.draw_pyramid())):
        sheet.save(tmp_path / "new.png")
        old = ROOT / f"docs/images/architecture_{name}.png"
        new, old = (
            np.asarray(Image.open(p).convert("L"), int) for p in (tmp_path / "new.png", old)
        )
        assert new.shape == old.shape
        assert (abs(new - old) > 60).mean() < 0.01, f"run python -m maintenance.drawings ({name})"
