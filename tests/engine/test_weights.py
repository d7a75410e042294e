"""Weights of a checkpoint under the names of a model, and checkpoints of other models."""

from collections import OrderedDict

import pytest
import torch
from mmengine.config import Config
from torch import nn

from mmeffvit.checkpoint import CheckpointError
from mmeffvit.checkpoint.convert import find_weights
from mmeffvit.engine import launch
from mmeffvit.engine.evaluation import check_weights
from mmeffvit.engine.weights import fit_tables, fit_weights
from mmeffvit.models import PyramidViT
from tests.engine import toy


def network():
    return nn.ModuleDict(
        {"backbone": nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3)), "head": nn.Linear(3, 1)}
    )


def wrapped(kind, state):
    """What a wrapper makes of the names."""
    if kind == "backbone._orig_mod.":
        return {key.replace("backbone.", kind): value for key, value in state.items()}
    return {f"{kind}{key}": value for key, value in state.items()}


PREFIXES = [
    "",
    "module.",
    "_orig_mod.",
    "model.",
    "net.",
    "module._orig_mod.",
    "_orig_mod.module.",
    "module.model.net.",
    "backbone._orig_mod.",
]


@pytest.mark.parametrize("prefix", PREFIXES)
@pytest.mark.parametrize("container", [None, "state_dict", "model", "net", "params"])
def test_prefixes_and_containers(tmp_path, prefix, container):
    model, other = network(), network()
    state = wrapped(prefix, model.state_dict())
    checkpoint = {container: state, "epoch": 3} if container else state
    fit = fit_weights(other, checkpoint)
    assert len(fit.fitting) == len(fit.shapes) == 9
    assert list(fit.weights) == list(model.state_dict())
    torch.save(checkpoint, tmp_path / "a.pth")
    assert check_weights(other, str(tmp_path / "a.pth")) == 6
    for key, value in other.state_dict().items():
        assert torch.equal(value, model.state_dict()[key])


def test_other_entries_do_not_hide_a_prefix():
    """Lightning keeps the weights of a loss beside those of the model."""
    state = {**wrapped("model.", network().state_dict()), "loss.weight": torch.ones(1)}
    assert len(fit_weights(network(), {"state_dict": state}).fitting) == 9


def test_names_of_a_part_of_the_model_stay():
    backbone = {k: v for k, v in network().state_dict().items() if k.startswith("backbone.")}
    fit = fit_weights(network(), {"state_dict": backbone})
    assert list(fit.weights) == list(backbone)
    assert not fit.almost_none


def test_versions_of_modules_follow_the_names():
    state = OrderedDict(wrapped("module.", network().state_dict()))
    state._metadata = {"": {"version": 1}, "module.backbone.1": {"version": 2}}
    assert dict(fit_weights(network(), state).weights._metadata) == {
        "": {"version": 1},
        "backbone.1": {"version": 2},
    }


def test_compiled_parts_of_official_files():
    state = {"stem._orig_mod.weight": torch.ones(1)}
    assert find_weights({"model": state}) == ({"stem.weight": torch.ones(1)}, "model")


def with_tables(window):
    arch = {
        "embed_dims": (8, 8, 8, 8),
        "depths": (1, 1, 1, 1),
        "num_heads": (1, 1, 1, 1),
        "mlp_ratios": (1, 1, 1, 1),
        "mixers": ({"type": "mmeffvit.URPEMixer", "window_size": window},) * 4,
        "layer_scale": (None,) * 4,
    }
    return nn.ModuleDict({"backbone": PyramidViT(arch), "head": nn.Linear(window, 1)})


def test_tables_of_another_window_are_resized():
    old, new = with_tables(3), with_tables(5)
    for name, value in old.named_parameters():
        if name.endswith("factor.table"):
            nn.init.constant_(value, 0.5)
    fit = fit_weights(new, {"state_dict": wrapped("module.", old.state_dict())})
    tables = fit_tables(new, fit)
    assert len(tables) == 2 * 4
    # what is no table of a network of ours stays as it is
    assert fit.shapes.keys() - fit.fitting == {"head.weight"}
    table = "backbone.stages.2.blocks.0.mixer.tables.factor.table"
    torch.testing.assert_close(fit.weights[table], torch.full((1, 81, 1), 0.5))


def train(tmp_path, state, **kwargs):
    torch.save(state, tmp_path / "start.pth")
    cfg = Config(toy.config(load_from=str(tmp_path / "start.pth"), **kwargs))
    cfg.work_dir = str(tmp_path / "run")
    cfg.experiment_name = tmp_path.name
    cfg.train_cfg.max_epochs = 1
    runner = launch.build_runner(cfg)
    runner.train()
    return runner


@pytest.mark.parametrize("bare", [False, True])
def test_training_starts_from_wrapped_weights(tmp_path, bare):
    start = {f"_orig_mod.{k}": v for k, v in toy.ToyModel().state_dict().items()}
    marked = {key: torch.full_like(value, 0.5) for key, value in start.items()}
    optim_wrapper = {"optimizer": {"type": "SGD", "lr": 0.0}}
    checkpoint = marked if bare else {"state_dict": marked, "meta": {}}
    runner = train(tmp_path, checkpoint, optim_wrapper=optim_wrapper, param_scheduler=None)
    for value in runner.model.parameters():
        assert torch.equal(value, torch.full_like(value, 0.5))


def test_training_refuses_weights_of_another_model(tmp_path):
    with pytest.raises(CheckpointError) as caught:
        train(tmp_path, {"state_dict": {f"layer.{i}.weight": torch.ones(i) for i in range(12)}})
    message = str(caught.value)
    assert "Of the 12 tensors in" in message
    assert "0 fit the 9 of this ToyModel" in message
    assert "layers.0.weight is not there; did you mean 'layer." in message


def test_training_says_where_names_of_a_part_belong(tmp_path):
    inner = {f"{i}.weight": torch.ones(1) for i in (0, 1, 3)}
    with pytest.raises(
        CheckpointError, match=r"use model\.layers\.init_cfg=dict\(type='Pretrained'"
    ):
        train(tmp_path, {"state_dict": inner})
