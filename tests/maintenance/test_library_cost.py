"""What a wrapped network costs: both sides return the same maps, and a row has their ratio."""

import pytest

from maintenance.library_cost import COLUMNS, measure
from mmeffvit.analysis.results import ENVIRONMENT_COLUMNS

pytest.importorskip("timm")


@pytest.mark.parametrize("mode", ["forward", "train"])
def test_a_row(mode):
    row = measure("timm/test_convnext", {}, mode, side=32, rounds=3)
    assert set(row) == set(COLUMNS) - {*ENVIRONMENT_COLUMNS, "command"}
    assert float(row["wrapped_ms"]) > 0
    assert 0.1 < float(row["ratio"]) < 10
