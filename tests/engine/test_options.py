"""Options that change nothing are named; a resumed run says what it keeps."""

import logging

import pytest
import torch
from mmengine.config import Config

from mmeffvit.engine import launch, resume
from mmeffvit.engine.errors import LaunchError
from mmeffvit.engine.options import check_options
from tests.engine import toy

CFG = {
    "max_epochs": 2,
    "base_lr": 0.001,
    "pipeline": [{"type": "Resize", "scale": (96, 96)}],
    "model": {"type": "X", "test_cfg": {"score_thr": 0.1}, "backbone": {"type": "Y", "depth": 3}},
    "train_cfg": {"max_epochs": 2},
    "optim_wrapper": {"optimizer": {"lr": 0.001}},
    "train_dataloader": {"dataset": {"pipeline": [{"type": "Resize", "scale": (96, 96)}]}},
    "default_hooks": {"checkpoint": {"type": "CheckpointHook"}},
}


def doubts(option):
    return list(check_options(Config(CFG), {option: 1}))


@pytest.mark.parametrize(
    "option",
    [
        "train_cfg.max_epochs",
        "model.test_cfg.score_thr",
        "model.test_cfg.max_per_img",
        "model.backbone.depths",  # the class says so itself
        "train_dataloader.dataset.pipeline.0.scale",
        "default_hooks.visualization.draw",
        "load_from",
        "tta_model.type",
        "randomness.seed",
    ],
)
def test_options_that_are_read(option):
    assert doubts(option) == []


def test_misspelt_entries_are_refused():
    with pytest.raises(
        LaunchError, match=r"reads 'trian_cfg'; did you mean train_cfg.max_epochs\?"
    ):
        doubts("trian_cfg.max_epochs")


def test_entries_that_nobody_reads_are_named():
    assert doubts("flavour") == ["flavour makes the entry 'flavour', which no tool reads"]


@pytest.mark.parametrize(
    ("option", "there"),
    [
        ("model.test_cfg.scor_thr", "model.test_cfg.score_thr"),
        ("default_hooks.chekpoint.interval", "default_hooks.checkpoint"),
    ],
)
def test_new_keys_that_look_like_others_are_named(option, there):
    assert doubts(option) == [f"{option} makes a new key; did you mean {there}, which is there?"]


@pytest.mark.parametrize(
    ("option", "places"),
    [
        ("max_epochs", "train_cfg.max_epochs"),
        ("base_lr", "optim_wrapper.optimizer.lr"),
        ("pipeline.0.scale", "train_dataloader.dataset.pipeline.0.scale"),
    ],
)
def test_variables_are_named_with_what_to_set_instead(option, places):
    (doubt,) = doubts(option)
    assert doubt.endswith(f"has been used already: setting it changes nothing; set {places}")


def test_tools_log_them(monkeypatch):
    logged = []
    monkeypatch.setattr(launch, "print_log", lambda text, **kwargs: logged.append((text, kwargs)))
    cfg = Config(CFG)
    launch.apply_options(cfg, {"max_epochs": 1, "train_cfg.max_epochs": 5})
    ((text, kwargs),) = logged
    assert text.startswith("--cfg-options max_epochs is a variable")
    assert kwargs["level"] == logging.WARNING
    assert cfg.train_cfg.max_epochs == 5


def write_state(tmp_path, **kwargs):
    text = Config(toy.config(**kwargs)).pretty_text
    state = {"meta": {"cfg": text}, "state_dict": {}, "optimizer": {}, "message_hub": {}}
    torch.save(state, tmp_path / "epoch_1.pth")
    return str(tmp_path / "epoch_1.pth")


def notes_of_resuming(tmp_path, path, **kwargs):
    cfg = Config(toy.config(work_dir=str(tmp_path), **kwargs))
    return [text for level, text in resume.set_resume(cfg, path) if level == logging.WARNING]


def test_a_resumed_run_names_the_rates_that_it_keeps(tmp_path):
    old = {
        "optim_wrapper": {"optimizer": {"type": "AdamW", "lr": 0.1, "betas": (0.9, 0.99)}},
        "param_scheduler": {"type": "CosineAnnealingLR", "T_max": 2},
    }
    new = {
        "optim_wrapper": {
            "optimizer": {"type": "AdamW", "lr": 0.5, "betas": [0.9, 0.99]},
            "clip_grad": {"max_norm": 3},  # counts from now on
        },
        "param_scheduler": [{"type": "CosineAnnealingLR", "T_max": 4, "eta_min": 0.0}],
    }
    path = write_state(tmp_path, **old)
    (text,) = notes_of_resuming(tmp_path, path, **new)
    assert (
        "optim_wrapper.optimizer.lr 0.1 (the config says 0.5), "
        "param_scheduler.0.T_max 2 (the config says 4), "
        "param_scheduler.0.eta_min nothing (the config says 0.0). To train on" in text
    )
    assert "betas" not in text
    assert "clip_grad" not in text


def test_a_resumed_run_that_is_as_before_says_nothing(tmp_path):
    path = write_state(tmp_path)
    assert notes_of_resuming(tmp_path, path) == []
    # longer training is what people resume for
    assert notes_of_resuming(tmp_path, path, train_cfg={"by_epoch": True, "max_epochs": 9}) == []


@pytest.mark.parametrize("count", [1, 4])
def test_scaling_the_rate_counts_accumulation(tmp_path, count):
    cfg = Config(
        toy.config(
            work_dir=str(tmp_path / f"run{count}"),
            experiment_name=f"accumulate_{count}",
            optim_wrapper={
                "optimizer": {"type": "SGD", "lr": 0.25},
                "accumulative_counts": count,
            },
            auto_scale_lr={"enable": True, "base_batch_size": toy.BATCH},
        )
    )
    runner = launch.build_runner(cfg)
    wrapper = runner.build_optim_wrapper(runner.optim_wrapper)
    runner.scale_lr(wrapper, runner.auto_scale_lr)
    assert wrapper.param_groups[0]["lr"] == 0.25 * count
    assert cfg.auto_scale_lr.base_batch_size == toy.BATCH, "a config that is written stays true"
