"""Reading scalars of one run, of resumed runs and of killed ones; drawing them."""

import json

import numpy as np
import pytest
from PIL import Image

from mmeffvit.visualization import draw_curves, read_scalars
from mmeffvit.visualization.curves import _smooth
from mmeffvit.visualization.files import save_picture


def _train(step, loss=1.0):
    return {"lr": 0.1, "loss": loss, "loss_cls": loss / 2, "epoch": 1, "iter": step, "step": step}


def _val(step, score):
    return {"coco/bbox_mAP": score, "coco/segm_mAP": score / 2, "coco/segm_mAP_s": -1, "step": step}


def _write(work_dir, stamp, records, tail=""):
    folder = work_dir / stamp / "vis_data"
    folder.mkdir(parents=True)
    lines = "".join(json.dumps(record) + "\n" for record in records)
    (folder / "scalars.json").write_text(lines + tail)


def _steps(records):
    return [record["step"] for record in records]


def test_epochs_become_iterations(tmp_path):
    _write(
        tmp_path,
        "20250101_000000",
        [_train(10), _train(20), _val(1, 0.1), _train(30), _train(40), _val(2, 0.3)],
    )
    train, val = read_scalars(tmp_path)
    assert _steps(train) == [10, 20, 30, 40]
    assert _steps(val) == [20, 40]


def test_iterations_stay_iterations(tmp_path):
    _write(tmp_path, "20250101_000000", [_train(10), _train(20), _val(25, 0.1)])
    assert _steps(read_scalars(tmp_path)[1]) == [25]


def test_a_resumed_run_takes_over(tmp_path):
    """Killed at step 40, resumed from step 20: what came after 20 is counted once."""
    first = [_train(10, 4), _train(20, 3), _val(1, 0.1), _train(30, 9), _train(40, 9)]
    second = [_train(30, 2), _train(40, 1), _val(2, 0.4)]
    _write(tmp_path, "20250101_000000", first)
    _write(tmp_path, "20250101_010000", second)
    train, val = read_scalars(tmp_path)
    assert _steps(train) == [10, 20, 30, 40]
    assert [r["loss"] for r in train] == [4, 3, 2, 1]
    assert _steps(val) == [20, 40]


def test_a_run_from_the_start_replaces_an_earlier_one(tmp_path):
    _write(tmp_path, "20250101_000000", [_train(10, 9), _train(20, 9), _val(1, 0.9)])
    _write(tmp_path, "20250102_000000", [_train(10, 1), _train(20, 1)])
    train, val = read_scalars(tmp_path)
    assert [r["loss"] for r in train] == [1, 1]
    assert val == []


def test_a_test_run_changes_nothing(tmp_path):
    _write(tmp_path, "20250101_000000", [_train(10), _val(1, 0.2)])
    _write(tmp_path, "20250102_000000", [])
    assert len(read_scalars(tmp_path)[0]) == 1


def test_half_a_line_of_a_killed_run_is_left_out(tmp_path):
    _write(tmp_path, "20250101_000000", [_train(10), _train(20)], tail='{"loss": 1.0, "st')
    assert _steps(read_scalars(tmp_path)[0]) == [10, 20]


def test_one_file_and_no_file(tmp_path):
    assert read_scalars(tmp_path) == ([], [])
    _write(tmp_path, "run", [_train(10)])
    assert len(read_scalars(tmp_path / "run" / "vis_data" / "scalars.json")[0]) == 1


def test_smoothing_starts_without_bias():
    np.testing.assert_allclose(_smooth(np.ones(5), 0.9), 1)
    np.testing.assert_allclose(_smooth(np.array([1.0, 4.0]), 0.5), [1, (0.5 * 1 + 4) / 1.5])


def test_figure_shows_losses_and_scores():
    train = [_train(step, loss=100 / step) for step in range(10, 110, 10)]
    figure = draw_curves(train, [_val(50, 0.2), _val(100, 0.6)], title="a title")
    losses, scores = figure.axes
    assert [t.get_text() for t in losses.get_legend().get_texts()] == ["total", "class"]
    assert [t.get_text() for t in scores.get_legend().get_texts()] == ["box AP", "mask AP"]
    for line, expected in zip(scores.get_lines(), ([0.2, 0.6], [0.1, 0.3])):
        np.testing.assert_allclose(line.get_xdata(), [50, 100])
        np.testing.assert_allclose(line.get_ydata(), expected)
    np.testing.assert_allclose(losses.get_lines()[0].get_ydata(), [r["loss"] for r in train])
    assert figure.get_suptitle() == "a title"


@pytest.mark.parametrize("kind", ["train only", "val only", "one point"])
def test_little_data_is_drawn(tmp_path, kind):
    train = [] if kind == "val only" else [_train(10)]
    val = [] if kind == "train only" else [_val(10, 0.0)]
    save_picture(draw_curves(train, val), tmp_path / "curves.png")
    with Image.open(tmp_path / "curves.png") as picture:
        assert picture.size == (1560, 624)


def test_nothing_to_draw():
    with pytest.raises(ValueError, match="at least one record"):
        draw_curves([], [])
