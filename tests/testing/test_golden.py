import json
from pathlib import Path

import numpy as np
import pytest
import torch

from mmeffvit.testing import check_golden, relative_rms_error
from mmeffvit.testing.command_line import main

GOLDEN = Path(__file__).parents[1] / "data" / "golden" / "secvit.npz"


def rewrite(tmp_path, change):
    with np.load(GOLDEN) as file:
        arrays = {key: file[key] for key in file.files}
    change(arrays)
    np.savez(tmp_path / "changed.npz", **arrays)
    return tmp_path / "changed.npz"


def test_command_line_prints_and_passes(capsys):
    assert main([str(GOLDEN)]) == 0
    printed = capsys.readouterr().out
    assert "out/stage3" in printed
    assert "FAILED" not in printed


def test_a_changed_weight_is_noticed(tmp_path, capsys):
    def change(arrays):
        arrays["state/layers.2.blocks.1.attn.lepe.weight"] = (
            arrays["state/layers.2.blocks.1.attn.lepe.weight"] * 1.01
        )

    path = rewrite(tmp_path, change)
    errors = check_golden(path)
    assert errors["out/stage1"] < 1e-4 < errors["out/stage2"]
    assert main([str(path)]) == 1
    assert "FAILED" in capsys.readouterr().out


def test_an_output_that_is_not_a_number_fails(tmp_path, capsys):
    def change(arrays):
        arrays["out/logits"] = arrays["out/logits"] * np.nan

    assert main([str(rewrite(tmp_path, change))]) == 1


def test_outputs_that_are_not_understood_are_an_error(tmp_path):
    path = rewrite(tmp_path, lambda arrays: arrays.update({"out/stage9": np.zeros(3)}))
    with pytest.raises(ValueError, match=r"not understood: \{'out/stage9'\}"):
        check_golden(path)


def test_other_systems_are_refused(tmp_path):
    path = rewrite(tmp_path, lambda a: a.update(meta=np.array(json.dumps({"system": "Other"}))))
    with pytest.raises(ValueError, match=r"'Other'; known are .*SecViT"):
        check_golden(path)


def test_relative_rms_error():
    expected = torch.tensor([3.0, 4.0])
    assert relative_rms_error(expected * 1.1, expected) == pytest.approx(0.1, rel=1e-5)
    with pytest.raises(ValueError, match="shapes differ"):
        relative_rms_error(expected, expected[:1])
