"""docs/backbones.md has every backbone, with the numbers that are measured and published."""

import pytest

from maintenance import backbones
from mmeffvit import list_backbones

NUMBERS = backbones.read_numbers()


def test_every_backbone_once():
    assert sorted(NUMBERS) == list_backbones()
    rows = backbones.table(NUMBERS).splitlines()[2:]
    assert len(rows) == len(NUMBERS)
    assert backbones.table(NUMBERS) in backbones.PAGE.read_text()


@pytest.mark.parametrize("name", ["ravlt-tiny", "vit-tiny", "crossvit-tiny"])
def test_numbers_are_measured(name):
    assert backbones.Numbers.measure(name) == NUMBERS[name]


def test_rows_survive_the_file():
    for numbers in list(NUMBERS.values())[:5]:
        assert backbones.Numbers.from_row(numbers.row()) == numbers


def test_published_accuracies_say_where_they_stand():
    found = backbones.published_accuracies()
    assert found["secvit-tiny"] == (82.6, "its metafile")
    assert found["crossvit-9"] == (73.994, "the catalogue of weights")
    assert found["favit-b1"] == (79.4, "the authors' README")
    # nothing is said there that another source says by now
    assert {name: found[name] for name in backbones.ELSEWHERE} == backbones.ELSEWHERE


def test_picture_has_a_line_for_every_family_with_figures():
    figure = backbones.picture(NUMBERS)
    (axes,) = figure.axes
    drawn = sum(len(line.get_xdata()) for line in axes.get_lines())
    assert drawn == len(backbones.comparable(backbones.published_accuracies()))
