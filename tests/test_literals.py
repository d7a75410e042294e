"""Texts of configs, read without running them."""

import pytest
from mmengine.config import Config

from mmeffvit.literals import values_of_text


def test_gives_what_mmengine_reads():
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
def test_values(text, values):
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
def test_programs(text):
    assert values_of_text(text) is None
