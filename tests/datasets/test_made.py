"""Data sets whose files a registered function makes."""

import pytest
from mmengine.dataset import BaseDataset

from mmeffvit.datasets.made import MadeOnFirstUse
from mmeffvit.registry import DATA_MAKERS


@DATA_MAKERS.register_module(name="test_lines")
def write_lines(root, count=2, log=None):
    (root / "list.txt").write_text("x\n" * count)
    log(f"{count} written")


class Lines(MadeOnFirstUse, BaseDataset):
    maker = {"type": "test_lines"}  # noqa: RUF012

    def load_data_list(self):
        return [{"line": line} for line in (self.data_root / "list.txt").read_text().split()]


def build(root, **kwargs):
    return Lines(data_root=root, serialize_data=False, **kwargs)


@pytest.mark.parametrize(
    ("make", "count"), [(True, 2), ({}, 2), ({"count": 5}, 5), ({"type": "test_lines"}, 2)]
)
def test_makes(tmp_path, make, count):
    assert len(build(tmp_path, make=make)) == count


def test_reads_what_is_there(tmp_path):
    for make in (None, False):
        with pytest.raises(FileNotFoundError):
            build(tmp_path, make=make)
    lazy = build(tmp_path, make=True, lazy_init=True)
    assert not list(tmp_path.iterdir())
    lazy.full_init()
    assert len(lazy) == len(build(tmp_path)) == 2
    (tmp_path / "list.txt").write_text("")
    lazy.full_init()  # once only
    assert not (tmp_path / "list.txt").read_text()


def test_what_this_project_makes_is_found_by_name():
    found = {name: DATA_MAKERS.get(name).__name__ for name in ("digits", "rooms", "sweeps")}
    assert found == {"digits": "ensure_digits", "rooms": "ensure_rooms", "sweeps": "ensure_sweeps"}
