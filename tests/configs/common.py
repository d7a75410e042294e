"""What the tests of all configs do with one."""

import copy
import functools
from pathlib import Path

from mmengine.config import Config
from mmengine.dataset import Compose
from mmengine.registry import HOOKS, PARAM_SCHEDULERS

ROOT = Path(__file__).resolve().parents[2]


@functools.cache
def _read(path):
    return Config.fromfile(ROOT / path)


def load(path):
    """A config of the repository; each file is read once, and every caller has a copy."""
    return copy.deepcopy(_read(path))


def check_rest_builds(cfg):
    """Pipelines, hooks and schedulers: what a config has beside its model and optimizer."""
    loaders = (cfg.train_dataloader, cfg.val_dataloader, cfg.test_dataloader)
    for loader in filter(None, loaders):  # what learns without labels is not validated
        assert Compose(loader.dataset.pipeline).transforms
    for hook in cfg.get("custom_hooks", []):
        assert HOOKS.build(hook)
    for scheduler in cfg.param_scheduler:
        assert scheduler.type in PARAM_SCHEDULERS
