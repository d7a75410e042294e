"""A model, a data set and accidents for tests of training: a run takes a second, without mmdet.

Configs reach this module by ``custom_imports``, also in other processes.
"""

import os
import random
import signal

import numpy as np
import torch
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from mmengine.registry import DATASETS, HOOKS, METRICS, MODELS
from torch import nn

NUM_SAMPLES, BATCH = 12, 4
STEPS_PER_EPOCH = NUM_SAMPLES // BATCH


@DATASETS.register_module(force=True)
class ToyDataset:
    """Sample i is a vector that depends on i alone, unless `augment` adds noise to it."""

    def __init__(self, augment=False):
        self.augment = augment

    def __len__(self):
        return NUM_SAMPLES

    def __getitem__(self, index):
        sample = torch.randn(8, generator=torch.Generator().manual_seed(index))
        return {"inputs": sample + torch.randn(8) if self.augment else sample}


@MODELS.register_module(force=True)
class ToyModel(BaseModel):
    """Draws from all three generators, as dropout, RoI samplers and augmentation do."""

    def __init__(self, nan_at=None):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(8, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Linear(8, 1)
        )
        self.nan_at = nan_at
        self.calls = 0

    def forward(self, inputs, mode="tensor"):
        out = self.layers(torch.stack(list(inputs)))
        if mode != "loss":
            # validation draws too, which a resumed run does not repeat
            return [{"out": value + torch.rand(1)} for value in out]
        self.calls += 1
        noise = random.random() + np.random.rand()  # noqa: NPY002
        loss = (out - noise).square().mean()
        if self.calls == self.nan_at:
            loss = loss * float("nan")
        return {"loss_fit": loss, "loss_size": self.layers[0].weight.square().mean()}


@METRICS.register_module(force=True)
class ToyMetric:
    """A score that rises from validation to validation, so that each is the best so far."""

    dataset_meta = None
    count = 0

    def process(self, data_samples, data_batch=None):
        pass

    def evaluate(self, size):
        ToyMetric.count += 1
        return {"score": ToyMetric.count}


class CrashError(RuntimeError):
    """Ends a run from within, where a test cannot kill its own process."""


@HOOKS.register_module(force=True)
class CrashHook(Hook):
    """Crash in the middle of iteration `at`, after its backward pass."""

    priority = "VERY_HIGH"

    def __init__(self, at, kill=False):
        self.at = at
        self.kill = kill

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        if runner.iter == self.at:
            crash(self.kill)


@HOOKS.register_module(force=True)
class CrashInWriteHook(Hook):
    """Crash in the middle of a write, half of the bytes on the disk.

    It is the write number `write` of those with the weights after `epoch`: the checkpoint of that
    epoch, then the best one.
    """

    priority = "LOWEST"

    def __init__(self, epoch, write=1, kill=False):
        self.epoch = epoch
        self.writes_left = write
        self.kill = kill

    def before_save_checkpoint(self, runner, checkpoint):
        self.writes_left -= checkpoint["meta"]["epoch"] == self.epoch
        if self.writes_left:
            return
        fsync = os.fsync

        def crash_instead(descriptor):
            os.fsync = fsync
            os.ftruncate(descriptor, os.fstat(descriptor).st_size // 2)
            crash(self.kill)

        os.fsync = crash_instead


@HOOKS.register_module(force=True)
class SaveParametersHook(Hook):
    """Every process writes the parameters that it ends with to ``rank<N>.pth``."""

    def after_train(self, runner):
        model = getattr(runner.model, "module", runner.model)
        parameters = dict(model.named_parameters())
        torch.save(parameters, os.path.join(runner.work_dir, f"rank{runner.rank}.pth"))


def crash(kill):
    if kill:
        os.kill(os.getpid(), signal.SIGKILL)
    raise CrashError


def config(loop="epoch", workers=0, augment=False, **kwargs):
    """A config of two epochs (six iterations), which validates after each, as a dict."""
    sampler = "InfiniteSampler" if loop == "infinite" else "DefaultSampler"
    by_epoch = loop == "epoch"
    loader = {
        "batch_size": BATCH,
        "num_workers": workers,
        "dataset": {"type": "ToyDataset"},
        "collate_fn": {"type": "pseudo_collate"},
    }
    cfg = {
        "default_scope": "mmengine",
        "custom_imports": {"imports": ["tests.engine.toy"]},
        "model": {"type": "ToyModel"},
        "train_dataloader": {
            **loader,
            "dataset": {"type": "ToyDataset", "augment": augment},
            "sampler": {"type": sampler, "shuffle": True},
        },
        "val_dataloader": {**loader, "sampler": {"type": "DefaultSampler", "shuffle": False}},
        "val_evaluator": {"type": "ToyMetric"},
        "train_cfg": {"by_epoch": True, "max_epochs": 2, "val_interval": 1}
        if by_epoch
        else {"by_epoch": False, "max_iters": 6, "val_interval": 2},
        "val_cfg": {},
        # weights, moments, warm-up and averages must all survive
        "optim_wrapper": {
            "optimizer": {"type": "AdamW", "lr": 0.1},
            "clip_grad": {"max_norm": 1.0},
        },
        "param_scheduler": [
            {"type": "LinearLR", "start_factor": 0.1, "by_epoch": False, "begin": 0, "end": 4},
            {"type": "MultiStepLR", "milestones": [1 if by_epoch else 4], "by_epoch": by_epoch},
        ],
        "default_hooks": {
            "checkpoint": {"type": "CheckpointHook", "interval": 1, "by_epoch": by_epoch}
        },
        "custom_hooks": [{"type": "EMAHook", "momentum": 0.2}],
        "log_level": "WARNING",
    }
    return {**cfg, **kwargs}
