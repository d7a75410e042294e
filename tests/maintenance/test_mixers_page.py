"""The table of docs/mixers.md is what `maintenance.mixers` measures."""

import re

import pytest
import torch

from maintenance import mixers
from mmeffvit.layers import GatedConvMixer, SoftmaxMixer
from mmeffvit.testing.mixers import mixer_configs

ROWS = {
    cells[0].strip("`"): cells[1:]
    for line in re.findall(r"^\| (`.+) \|$", mixers.PAGE.read_text(), re.MULTILINE)
    if len(cells := line.split(" | ")) >= len(mixers.HEADINGS) - 1
}


def test_rows_are_of_mixers_with_their_parameters():
    configs = {k.removesuffix("()"): v for k, v in mixer_configs(mixers.OPTIONS).items()}
    # every registered mixer is on the page, and nothing else
    assert ROWS.keys() == configs.keys()
    for name, cells in ROWS.items():
        with torch.device("meta"):
            mixer = mixers.build(configs[name])
        assert cells[0] == f"{sum(p.numel() for p in mixer.parameters()):,}", name


def test_measures():
    window = SoftmaxMixer(mixers.DIM, mixers.HEADS, window_size=4)
    # projections, and two products of 16 x 16 x d per window and head
    assert mixers.macs(window, 8) == 64 * (4 * 64**2 + 2 * 16 * 64)
    assert mixers.extent(window, 8) == (4, 4, pytest.approx(16 / 64))
    conv = GatedConvMixer(mixers.DIM, kernel_size=3)
    assert mixers.extent(conv, 8)[2] == 1
    assert "SECAttention" in {cls.__name__ for cls in mixers.point_cores()}
