import logging

import pytest
from mmengine.config import Config

from mmeffvit.checkpoint import CheckpointError
from mmeffvit.engine import launch
from mmeffvit.engine.errors import InvalidLossError, LaunchError


class TestLoadConfig:
    @pytest.mark.parametrize(
        "name",
        [
            "mmdet::mask_rcnn/mask-rcnn_r50_fpn_1x_coco.py",
            "mmdet::_base_/default_runtime.py",
            "mmseg::upernet/upernet_r50_4xb4-80k_ade20k-512x512.py",
            "mmpretrain::resnet/resnet18_8xb32_in1k.py",
            "mmeffvit::_base_/default_runtime.py",
        ],
    )
    def test_upstream_names(self, name):
        assert launch.load_config(name).default_scope is not None

    def test_file(self, tmp_path):
        (tmp_path / "a.py").write_text("x = 1")
        assert launch.load_config(str(tmp_path / "a.py")).x == 1

    def test_missing_file_names_neighbours(self, tmp_path):
        (tmp_path / "mask_rcnn_secvit.py").write_text("x = 1")
        with pytest.raises(LaunchError, match=r"looked for at .*close matches: .*rcnn_secvit\.py"):
            launch.load_config(str(tmp_path / "mask_rcn_secvit.py"))
        with pytest.raises(LaunchError, match=r"There is no config .*missing/x\.py'"):
            launch.load_config(str(tmp_path / "missing" / "x.py"))

    def test_missing_upstream_name(self):
        with pytest.raises(LaunchError, match=r"mmdet::mask_rcnn/mask-rcnn_r50_fpn_1x_coco\.py"):
            launch.load_config("mmdet::mask_rcnn/mask-rcn_r50_fpn_1x_coco.py")
        with pytest.raises(LaunchError, match="'mmnothing', which is not installed"):
            launch.load_config("mmnothing::a/b.py")


def test_work_dir(tmp_path):
    (tmp_path / "name.py").write_text("x = 1")
    cfg = Config.fromfile(tmp_path / "name.py")
    launch.set_work_dir(cfg)
    assert cfg.work_dir == "work_dirs/name"
    launch.set_work_dir(cfg, "asked/for")
    assert cfg.work_dir == "asked/for"
    launch.set_work_dir(cfg)
    assert cfg.work_dir == "asked/for"


def test_amp():
    cfg = Config({"optim_wrapper": {"optimizer": {"type": "SGD"}}})
    launch.enable_amp(cfg)
    assert (cfg.optim_wrapper.type, cfg.optim_wrapper.loss_scale) == ("AmpOptimWrapper", "dynamic")
    cfg = Config({"optim_wrapper": {"type": "DeepSpeedOptimWrapper"}})
    with pytest.raises(LaunchError, match="DeepSpeedOptimWrapper"):
        launch.enable_amp(cfg)


def test_auto_scale_lr():
    cfg = Config({"auto_scale_lr": {"base_batch_size": 16}})
    launch.enable_auto_scale_lr(cfg)
    assert cfg.auto_scale_lr.enable is True
    with pytest.raises(LaunchError, match="base_batch_size"):
        launch.enable_auto_scale_lr(Config({}))


class TestSafetyHooks:
    def test_upstream_config_gets_them(self):
        cfg = launch.load_config("mmdet::_base_/default_runtime.py")
        ((level, message),) = launch.add_safety_hooks(cfg)
        assert level == logging.INFO
        assert "SafeCheckpointHook, ReproducibleResumeHook, CheckInvalidLossHook" in message
        assert cfg.default_hooks.checkpoint.type == "mmeffvit.SafeCheckpointHook"
        assert cfg.default_hooks.checkpoint.interval == 1
        types = [hook.type for hook in cfg.custom_hooks]
        assert types == ["mmeffvit.ReproducibleResumeHook", "mmeffvit.CheckInvalidLossHook"]

    def test_our_default_runtime_has_them(self):
        cfg = launch.load_config("mmeffvit::_base_/default_runtime.py")
        before = cfg.to_dict()
        assert launch.add_safety_hooks(cfg) == []
        assert cfg.to_dict() == before

    def test_what_a_config_chose_stays(self):
        hooks = [{"type": "mmdet.CheckInvalidLossHook", "interval": 10}]
        cfg = Config({"custom_hooks": hooks, "default_hooks": {"checkpoint": None}})
        launch.add_safety_hooks(cfg)
        assert cfg.default_hooks.checkpoint is None
        assert [hook.type for hook in cfg.custom_hooks] == [
            "mmdet.CheckInvalidLossHook",
            "mmeffvit.ReproducibleResumeHook",
        ]


def test_seed():
    cfg = Config({"randomness": {"deterministic": True}})
    assert len(launch.set_seed(cfg)) == 1
    assert cfg.randomness == {"deterministic": True, "seed": 0}
    cfg.randomness.seed = 4
    assert launch.set_seed(cfg) == []
    assert cfg.randomness.seed == 4


@pytest.mark.parametrize(
    ("error", "status"), [(LaunchError, 2), (CheckpointError, 2), (InvalidLossError, 1)]
)
def test_exit_with_sentence(capsys, error, status):
    def main():
        raise error("what to do")

    with pytest.raises(SystemExit) as exit_info:
        launch.exit_with_sentence(main)
    assert exit_info.value.code == status
    assert capsys.readouterr().err == "error: what to do\n"


def test_only_the_first_process_speaks(capsys, monkeypatch):
    monkeypatch.setenv("RANK", "1")

    def main():
        raise LaunchError("what to do")

    with pytest.raises(SystemExit):
        launch.exit_with_sentence(main)
    assert capsys.readouterr().err == ""


def test_what_mmpretrain_leaves_to_its_launchers():
    preprocessor = {"type": "ClsDataPreprocessor", "mean": [0.0]}
    cfg = {
        "default_scope": "mmpretrain",
        "model": {"type": "ImageClassifier"},
        "data_preprocessor": preprocessor,
        "train_dataloader": {"num_workers": 2},
        "val_dataloader": {"num_workers": 0, "collate_fn": {"type": "mine"}},
    }
    filled = Config(cfg)
    launch.add_toolbox_defaults(filled)
    assert filled.model.data_preprocessor == preprocessor
    assert filled.train_dataloader.collate_fn == {"type": "default_collate"}
    assert filled.train_dataloader.persistent_workers is True
    assert filled.val_dataloader.collate_fn == {"type": "mine"}
    assert filled.val_dataloader.persistent_workers is False
    other = Config({**cfg, "default_scope": "mmdet"})
    launch.add_toolbox_defaults(other)
    assert other.to_dict() == {**cfg, "default_scope": "mmdet"}
