"""Training, validation and resuming by mmengine's Runner, with nothing but mmengine and torch."""

import pytest
import torch
from mmengine.evaluator import BaseMetric
from mmengine.registry import DefaultScope
from mmengine.runner import Runner

from .tiny import DETECTOR, SEGMENTOR, room, sweep


class Rooms:
    def __len__(self):
        return 3

    def __getitem__(self, index):
        return room(60 + 10 * index, seed=index)


class Sweeps(Rooms):
    def __getitem__(self, index):
        return sweep(80, seed=index)


class Accuracy(BaseMetric):
    def process(self, data_batch, data_samples):
        for sample in data_samples:
            predicted = sample["pred_pts_seg"]["pts_semantic_mask"].numpy()
            self.results.append((predicted == sample["eval_ann_info"]["pts_semantic_mask"]).mean())

    def compute_metrics(self, results):
        assert len(results) == 3
        return {"accuracy": sum(results) / 3}


class Boxes(BaseMetric):
    def process(self, data_batch, data_samples):
        self.results += [len(sample["pred_instances_3d"]["scores_3d"]) for sample in data_samples]

    def compute_metrics(self, results):
        return {"boxes": sum(results)}


@pytest.fixture(autouse=True)
def _one_scope_and_no_pause(monkeypatch):
    # an iteration-based loop sleeps two seconds whenever its data starts anew
    monkeypatch.setattr("mmengine.runner.loops.time.sleep", lambda seconds: None)
    with DefaultScope.overwrite_default_scope("mmengine"):
        yield


def run(work_dir, model, dataset, metric, max_iters, name, **kwargs):
    loader = {"batch_size": 2, "num_workers": 0, "dataset": dataset}
    runner = Runner(
        model=model,
        work_dir=str(work_dir),
        experiment_name=name,
        train_dataloader={
            **loader,
            "sampler": {"type": "InfiniteSampler", "shuffle": False},
        },
        val_dataloader={**loader, "sampler": {"type": "DefaultSampler", "shuffle": False}},
        train_cfg={"type": "IterBasedTrainLoop", "max_iters": max_iters, "val_interval": 2},
        val_cfg={"type": "ValLoop"},
        val_evaluator={"type": "Evaluator", "metrics": [metric]},
        optim_wrapper={
            "optimizer": {"type": "SGD", "lr": 0.05, "momentum": 0.9},
            "paramwise_cfg": {"custom_keys": {"blocks": {"lr_mult": 0.1}}},
        },
        param_scheduler=[
            {"type": "MultiStepLR", "milestones": [3], "by_epoch": False},
        ],
        default_hooks={
            "checkpoint": {"type": "mmeffvit.SafeCheckpointHook", "by_epoch": False, "interval": 2}
        },
        log_level="ERROR",
        randomness={"seed": 0},
        **kwargs,
    )
    runner.train()
    return runner


def states(work_dir, iteration):
    return torch.load(work_dir / f"iter_{iteration}.pth", weights_only=True)["state_dict"]


@pytest.mark.parametrize(
    ("model", "dataset", "metric", "key"),
    [(SEGMENTOR, Rooms, Accuracy, "accuracy"), (DETECTOR, Sweeps, Boxes, "boxes")],
    ids=["segmentor", "detector"],
)
def test_trains_saves_validates_and_resumes(tmp_path, model, dataset, metric, key):
    arguments = (model, dataset(), metric())
    whole, name = tmp_path / "whole", tmp_path.name
    runner = run(whole, *arguments, 4, f"{name}_whole")
    assert runner.message_hub.get_scalar(f"val/{key}").current() >= 0
    rates = {group["lr"] for group in runner.optim_wrapper.optimizer.param_groups}
    assert sorted(rates) == pytest.approx([0.0005, 0.005])
    before, after = states(whole, 2), states(whole, 4)
    changed = {k for k in after if not torch.equal(before[k], after[k])}
    assert {k.partition(".")[0] for k in changed} == {k.partition(".")[0] for k in after}

    checkpoint = str(whole / "iter_2.pth")
    run(tmp_path, *arguments, 4, f"{name}_resumed", load_from=checkpoint, resume=True)
    for name, value in states(tmp_path, 4).items():
        assert torch.equal(value, after[name]), name
