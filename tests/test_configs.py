"""Walks over config trees."""

import pytest
from mmengine.config import Config, ConfigDict

from mmeffvit.configs import convert, lookup, plain, type_name, walk

TREE = {"model": {"type": "mmdet.FCOS", "neck": [{"type": "FPN"}, {"sizes": (1, 2)}]}, "seed": 0}


@pytest.fixture(params=[dict, Config])
def tree(request):
    return request.param(TREE)


def test_lookup(tree):
    assert lookup(tree, ("model", "neck", 1, "sizes", 0)) == 1
    assert lookup(tree, ()) is tree
    for absent in (("data",), ("model", "neck", 2), ("model", "neck", "type"), ("seed", "x")):
        assert lookup(tree, absent) is None
        assert lookup(tree, absent, "nothing") == "nothing"


def test_walk_gives_parents_first_and_leaves_out_keys(tree):
    places = [place for place, _ in walk(tree)]
    assert places[:4] == [(), ("model",), ("model", "type"), ("model", "neck")]
    assert ("model", "neck", 1, "sizes", 1) in places
    assert len(places) == 11
    assert all(lookup(tree, place) == value for place, value in walk(tree))
    assert [place for place, _ in walk(tree, skip=("neck", "seed"))] == places[:3]


def test_convert_changes_children_first(tree):
    def change(value):
        if isinstance(value, dict) and value.get("type") == "FPN":
            return None
        return value + 1 if isinstance(value, int) else value

    changed = convert(tree, change)
    assert changed["model"]["neck"] == [None, {"sizes": (2, 3)}]
    assert (changed["seed"], tree["seed"]) == (1, 0)


def test_plain_is_a_copy_of_pythons_own_types(tree):
    copy = plain(tree)
    assert copy == TREE
    assert all(type(value) is not ConfigDict for _, value in walk(copy))
    copy["model"]["neck"].clear()
    assert len(tree["model"]["neck"]) == 2


def test_type_name():
    assert type_name({"type": "mmdet.FCOS"}) == type_name({"type": "FCOS"}) == "FCOS"
    assert type_name({"type": Config}) == "Config"
    assert type_name({}) == type_name([{"type": "FPN"}]) == ""
