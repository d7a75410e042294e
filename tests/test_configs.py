"""Walks over config trees."""

import pytest
import torch
from mmengine.config import Config, ConfigDict

from mmeffvit.configs import (
    class_name,
    convert,
    full_type,
    in_text,
    lookup,
    plain,
    type_name,
    values_of_text,
    walk,
    with_names,
)

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


def test_names_of_classes():
    from mmdet.datasets import CocoDataset
    from mmengine.dataset import default_collate
    from mmengine.model import PretrainedInit

    from mmeffvit.models.backbones import RMT

    assert class_name(CocoDataset) == "mmdet.CocoDataset"
    assert class_name(RMT) == "mmeffvit.RMT"
    assert class_name(PretrainedInit) == "mmengine.Pretrained"
    assert class_name(default_collate) == "mmengine.default_collate"
    assert class_name(torch.optim.SGD) == "torch.optim.sgd.SGD", "not torch's own registry"
    assert full_type({"type": RMT}) == "mmeffvit.RMT"
    assert type_name({"type": PretrainedInit}) == "Pretrained"
    assert full_type({"type": None}) == full_type({}) == full_type("RMT") == ""


PURE = """
import torch
from torch import nn
from mmengine.optim import OptimWrapper
from mmdet.models import FPN, RetinaNet

model = dict(type=RetinaNet, neck=dict(type=FPN, layer=nn.Linear, dtype=torch.float16))
optim_wrapper = dict(type=OptimWrapper)
"""


def test_configs_in_pure_python_as_text(tmp_path):
    (tmp_path / "pure.py").write_text(PURE)
    cfg = in_text(Config.fromfile(tmp_path / "pure.py"))
    assert cfg.model.type == "mmdet.RetinaNet"
    assert cfg.optim_wrapper == {"type": "mmengine.OptimWrapper"}
    assert cfg.default_scope == "mmdet", "the toolbox of the model"
    # an argument that is a class stays one, and is written by its path
    assert cfg.model.neck["layer"] is torch.nn.Linear
    assert cfg.model.neck["dtype"] is torch.float16
    assert sorted(cfg.keys()) == ["default_scope", "model", "optim_wrapper"]
    cfg.dump(tmp_path / "written.py")
    written = Config.fromfile(tmp_path / "written.py")
    assert written.model.neck["layer"] == "torch.nn.Linear"
    assert written.model.type == cfg.model.type


def test_configs_in_text_are_left_alone():
    cfg = Config(TREE)
    assert in_text(cfg) is cfg
    assert with_names(cfg) == TREE


def test_values_of_a_text_are_what_mmengine_reads():
    cfg = Config.fromfile("configs/mask_rcnn_secvit.py")
    values = values_of_text(cfg.pretty_text)
    assert Config(values)._cfg_dict == Config.fromstring(cfg.pretty_text, ".py")._cfg_dict
    assert values["optim_wrapper"]["optimizer"]["lr"] == cfg.optim_wrapper.optimizer.lr


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("a = -1.5\nb = {'x-y': (1, [2])}", {"a": -1.5, "b": {"x-y": (1, [2])}}),
        ("a = dict([('b', 1)], c=None)", {"a": {"b": 1, "c": None}}),
        ("a = dict(t=torch.float16, m=-inf)", {"a": {"t": "torch.float16", "m": float("-inf")}}),
        ("a = array([1, 2])", {"a": [[1, 2]]}),
        ("", {}),
        ("a = <class 'x'>", {}),
    ],
)
def test_values_of_text(text, values):
    assert values_of_text(text) == values


@pytest.mark.parametrize(
    "text",
    [
        "import os",
        "a = __import__('os').system('true')",
        "print(1)",
        "dict = eval\na = dict('1')",
        "a, dict = 1, eval",
        "dict: int = eval",
        "def f(x=print(1)): pass",
        "a = [x for x in f()]",
        "a = f'{print(1)}'",
        "a = dict(**f())",
        "a = b[print(1)]",
        "a = (dict := eval)",
        "a.b = 1",
        "for dict in [eval]: pass",
        "class dict: pass",
        "a = dict.__class__('x')",
        "a = lambda: 1",
        "del dict",
    ],
)
def test_programs_have_no_values(text):
    assert values_of_text(text) is None
