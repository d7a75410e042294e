"""tools/test.py as people run it."""

import pickle

import cv2
import pytest
import torch
from mmengine.registry import DefaultScope

from mmeffvit.checkpoint import CheckpointError
from mmeffvit.engine.errors import LaunchError
from mmeffvit.engine.launch import load_config
from tests.tools import runs


@pytest.fixture(scope="module")
def job(tmp_path_factory):
    """A config, its data, and a checkpoint with random weights."""
    from mmdet.registry import MODELS
    from mmdet.utils import register_all_modules

    register_all_modules(init_default_scope=False)
    folder = tmp_path_factory.mktemp("job")
    config = runs.write_config(folder)
    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope("mmdet"):
        model = MODELS.build(load_config(config).model)
    torch.save({"state_dict": model.state_dict(), "meta": {}}, folder / "random.pth")
    return config, folder / "random.pth", runs.write_data(folder / "digits")


@pytest.mark.slow
def test_ap_pictures_and_predictions(job, tmp_path):
    config, checkpoint, data = job
    output = runs.run(
        *("test.py", config, checkpoint, "--work-dir", tmp_path / "work"),
        *("--data-root", data, "--show-dir", tmp_path / "pictures", "--out", tmp_path / "p.pkl"),
        *("--cfg-options", "default_hooks.visualization.score_thr=0.0"),
        fresh=True,
    )
    assert "coco/bbox_mAP: " in output
    assert "coco/segm_mAP: " in output
    pictures = sorted((tmp_path / "pictures").iterdir())
    images = sorted((runs.Path(data) / "val2017").iterdir())
    assert [p.name for p in pictures] == [i.name for i in images]
    for picture, image in zip(pictures, images):
        # ground truth and predictions side by side, and something drawn on both
        drawn, plain = cv2.imread(str(picture)), cv2.imread(str(image))
        assert drawn.shape == (plain.shape[0], 2 * plain.shape[1], 3)
        for half in (drawn[:, : plain.shape[1]], drawn[:, plain.shape[1] :]):
            assert (abs(half.astype(int) - plain).max(axis=2) > 40).sum() > 20
    predictions = pickle.loads((tmp_path / "p.pkl").read_bytes())
    assert len(predictions) == 2
    assert len(predictions[0]["pred_instances"]["bboxes"]) == 5


@pytest.fixture
def tool():
    """The tool's main, for what needs no process of its own."""
    with runs.main("test.py") as main:
        yield main


def test_another_models_checkpoint_is_refused(tool, job, tmp_path):
    config, checkpoint, data = job
    wider = ("model.roi_head.bbox_head.fc_out_channels=24", "model.roi_head.mask_head.num_convs=2")
    with pytest.raises(CheckpointError, match=r"of the \d+ parameters of this MaskRCNN: .*\(32, "):
        tool(
            config, checkpoint, "--work-dir", tmp_path, "--data-root", data, "--cfg-options", *wider
        )


def test_missing_data(tool, job, tmp_path):
    config, checkpoint, _ = job
    with pytest.raises(LaunchError, match=r"instances_val2017\.json is missing"):
        tool(config, checkpoint, "--data-root", tmp_path)
