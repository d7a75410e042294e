"""What the tests of all configs do with one."""

import copy
import functools
import os
from pathlib import Path
from unittest import mock

import mmengine.optim
from mmengine.config import Config
from mmengine.dataset import Compose
from mmengine.registry import HOOKS, PARAM_SCHEDULERS
from torch.optim import Optimizer

ROOT = Path(__file__).resolve().parents[2]

_parse = Config._file2dict
_add_group = Optimizer.add_param_group


@functools.cache
def _parsed(filename, changed, options, named):
    return _parse(filename, *options, **dict(named))


def parsed_once(filename, *options, **named):
    """As `Config._file2dict`; a file that is the base of many is read for the first one only."""
    path = os.path.abspath(filename)
    changed = os.stat(path).st_mtime_ns
    return copy.deepcopy(_parsed(path, changed, options, tuple(named.items())))


@functools.cache
def _read(path):
    with mock.patch.object(Config, "_file2dict", parsed_once):
        return Config.fromfile(ROOT / path)


def load(path):
    """A config of the repository; each file is read once, and every caller has a copy."""
    return copy.deepcopy(_read(path))


def build_optim_wrapper(model, cfg):
    """As training builds it.

    Upstream makes a group of every parameter, and PyTorch compares each with all groups before it:
    half of the time of a config. Here all are compared once.
    """

    def add_alone(optimizer, group):
        groups, optimizer.param_groups = optimizer.param_groups, []
        _add_group(optimizer, group)
        optimizer.param_groups = groups + optimizer.param_groups

    with mock.patch.object(Optimizer, "add_param_group", add_alone):
        wrapper = mmengine.optim.build_optim_wrapper(model, cfg)
    params = [param for group in wrapper.optimizer.param_groups for param in group["params"]]
    assert len(params) == len(set(params)), "a parameter is in two groups"
    return wrapper


def check_rest_builds(cfg):
    """Pipelines, hooks and schedulers: what a config has beside its model and optimizer."""
    loaders = (cfg.train_dataloader, cfg.val_dataloader, cfg.test_dataloader)
    for loader in filter(None, loaders):  # what learns without labels is not validated
        assert Compose(loader.dataset.pipeline).transforms
    for hook in cfg.get("custom_hooks", []):
        assert HOOKS.build(hook)
    for scheduler in cfg.param_scheduler:
        assert scheduler.type in PARAM_SCHEDULERS
