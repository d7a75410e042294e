"""tools/export_onnx.py: it writes what agrees with PyTorch, and nothing else."""

import pytest

from tests.models.backbones.tiny import build_tiny
from tests.tools import runs

ARGUMENTS = ("dinat-mini", "--shape", "64", "96", "--out")


@pytest.fixture
def tool(monkeypatch):
    """The tool, with a network that takes no minute."""
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    module = runs.load("export_onnx.py")
    tiny = build_tiny("dinat", out_indices=(0,)).eval().requires_grad_(False)
    monkeypatch.setattr(module, "build", lambda *arguments: tiny)
    return module


@pytest.mark.slow
@pytest.mark.usefixtures("quick_onnx")
def test_tiles_of_neighbourhoods_are_written_in_plain_operators(tool, tmp_path, capsys):
    import onnx

    path = tmp_path / "network.onnx"
    assert tool.main([*ARGUMENTS, str(path)]) == 0
    assert "at 64 x 96 and 97 x 106" in capsys.readouterr().out
    model = onnx.load(path)
    assert {entry.domain for entry in model.opset_import} == {""}
    # rows of tiles one after the other, so that no pixel has all its neighbours beside it
    assert "Loop" in {node.op_type for node in model.graph.node}


def test_nothing_is_written_if_the_numbers_differ(tool, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(tool, "export", lambda *arguments: arguments[-1].touch())
    monkeypatch.setattr(tool, "compare", lambda *arguments: 0.5)
    path = tmp_path / "network.onnx"
    assert tool.main([*ARGUMENTS, str(path)]) == 1
    assert "the difference is above 1e-03" in capsys.readouterr().err
    assert not path.exists()


def test_what_is_there_is_kept(tool, tmp_path, capsys):
    path = tmp_path / "network.onnx"
    path.write_text("mine")
    assert tool.main([*ARGUMENTS, str(path)]) == 2
    assert "add --overwrite" in capsys.readouterr().err
    assert path.read_text() == "mine"
