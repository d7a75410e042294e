"""tools/check_data.py: what it prints, how it ends, and the sheet."""

import pytest
from PIL import Image

from tests.datasets.checks import sets
from tests.tools import runs


@pytest.fixture
def tool():
    with runs.main("check_data.py") as main:
        yield main


def test_prints_findings_and_draws(tool, tmp_path, capsys):
    sets.write_label_maps(tmp_path)
    cfg = sets.label_map_config(tmp_path)
    cfg.dump(tmp_path / "right.py")
    assert tool(tmp_path / "right.py", "--out", tmp_path / "sheet.png") == 0
    out = capsys.readouterr().out
    assert "0 errors and 0 warnings in train, val," in out
    assert Image.open(tmp_path / "sheet.png").width > 600

    cfg.model.decode_head.num_classes = 150
    cfg.dump(tmp_path / "wrong.py")
    assert tool(tmp_path / "wrong.py", "--splits", "val") == 1
    out = capsys.readouterr().out
    assert "error: model.decode_head: num_classes=150, but val_dataloader" in out
    assert "1 errors and 0 warnings in val" in out
