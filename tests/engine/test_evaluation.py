import os

import pytest
import torch
from mmengine.config import Config
from safetensors.torch import save_file
from torch import nn

from mmeffvit.checkpoint import CheckpointError
from mmeffvit.engine.errors import LaunchError
from mmeffvit.engine.evaluation import check_weights, draw_predictions, dump_predictions


def make_model(width=4):
    return nn.Sequential(nn.Linear(3, width), nn.BatchNorm1d(width), nn.Linear(width, 2))


@pytest.mark.parametrize(
    "save",
    [
        lambda state, path: torch.save(state, f"{path}.pth"),
        lambda state, path: torch.save({"state_dict": state, "meta": {}}, f"{path}.pth"),
        lambda state, path: torch.save(
            {"state_dict": {f"module.{k}": v for k, v in state.items()}}, f"{path}.pth"
        ),
        lambda state, path: save_file(state, f"{path}.safetensors"),
    ],
)
def test_loads_what_fits(tmp_path, save):
    source, model = make_model(), make_model()
    save(source.state_dict(), tmp_path / "c")
    (path,) = tmp_path.iterdir()
    assert check_weights(model, str(path)) == 6
    for key, value in source.state_dict().items():
        assert torch.equal(model.state_dict()[key], value)


def test_missing_buffers_are_fine(tmp_path):
    state = {k: v for k, v in make_model().state_dict().items() if "running" not in k}
    torch.save(state, tmp_path / "c.pth")
    assert check_weights(make_model(), str(tmp_path / "c.pth")) == 6


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ({"other": torch.zeros(1)}, r"0 of the 6 parameters of this Sequential: 0\.weight is not"),
        (make_model(5).state_dict(), r"1 of the 6 .*0\.weight is \(5, 3\) and should be \(4, 3\)"),
        ({k: v for k, v in make_model().state_dict().items() if k[0] != "2"}, r"4 of the 6 "),
    ],
)
def test_refuses_what_does_not(tmp_path, state, message):
    torch.save({"state_dict": state}, tmp_path / "c.pth")
    with pytest.raises(CheckpointError, match=message):
        check_weights(make_model(), str(tmp_path / "c.pth"))


def test_refuses_damaged_and_absent_files(tmp_path):
    with pytest.raises(CheckpointError, match=r"no checkpoint .*c\.pth"):
        check_weights(make_model(), str(tmp_path / "c.pth"))
    torch.save(make_model().state_dict(), tmp_path / "c.pth")
    content = (tmp_path / "c.pth").read_bytes()
    (tmp_path / "c.pth").write_bytes(content[: len(content) // 2])
    with pytest.raises(CheckpointError, match=r"c\.pth.*truncated"):
        check_weights(make_model(), str(tmp_path / "c.pth"))


def test_show_dir_is_where_it_says():
    cfg = Config({"default_hooks": {"visualization": {"type": "DetVisualizationHook"}}})
    draw_predictions(cfg, "pictures")
    assert cfg.default_hooks.visualization.test_out_dir == os.path.abspath("pictures")
    assert cfg.default_hooks.visualization.draw is True
    assert cfg.default_hooks.visualization.type == "mmeffvit.DetectionPicturesHook"
    with pytest.raises(LaunchError, match="DetVisualizationHook"):
        draw_predictions(Config({}), "pictures")


def test_show_dir_of_mmpretrain():
    cfg = Config({"default_hooks": {"visualization": {"type": "VisualizationHook"}}})
    draw_predictions(cfg, "pictures")
    hook = cfg.default_hooks.visualization
    assert (hook.enable, hook.interval) == (True, 1)
    assert hook.out_dir == os.path.abspath("pictures")


def test_predictions_are_written_beside_evaluating():
    cfg = Config({"default_scope": "mmdet", "test_evaluator": {"type": "CocoMetric"}})
    dump_predictions(cfg, "out.pkl")
    assert [e.type for e in cfg.test_evaluator] == ["CocoMetric", "DumpDetResults"]
    assert cfg.test_evaluator[1].out_file_path == "out.pkl"


def test_segmentors_are_drawn_and_written_into_folders():
    cfg = Config(
        {
            "default_scope": "mmseg",
            "default_hooks": {"visualization": {"type": "SegVisualizationHook"}},
            "test_evaluator": {"type": "IoUMetric"},
        }
    )
    draw_predictions(cfg, "pictures")
    assert cfg.custom_hooks == [
        {"type": "mmeffvit.SegmentationPicturesHook", "out_dir": os.path.abspath("pictures")}
    ]
    dump_predictions(cfg, "maps")
    assert cfg.custom_hooks[1:] == [
        {"type": "mmeffvit.LabelMapsHook", "out_dir": os.path.abspath("maps")}
    ]
    assert cfg.test_evaluator == [{"type": "IoUMetric"}]
    with pytest.raises(LaunchError, match=r"names a folder for label maps .* got --out p\.pkl"):
        dump_predictions(cfg, "p.pkl")


def test_label_maps_take_the_place_of_a_metric_that_only_writes():
    writes = {"type": "IoUMetric", "format_only": True, "output_dir": "server"}
    evaluators = [writes, {"type": "CityscapesMetric"}]
    cfg = Config({"default_scope": "mmseg", "test_evaluator": evaluators})
    dump_predictions(cfg, "maps")
    assert cfg.test_evaluator == [{"type": "CityscapesMetric"}]


def test_out_must_be_a_pickle():
    with pytest.raises(LaunchError, match=r"ends with \.pkl; got 'results\.json'"):
        dump_predictions(Config({"default_scope": "mmdet"}), "results.json")
