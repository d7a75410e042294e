"""When training ends: weights into which low-rank adapters are merged, and the config for them."""

from __future__ import annotations

from pathlib import Path

from mmengine.dist import is_main_process
from mmengine.hooks import EMAHook, Hook
from mmengine.runner import Runner

from mmeffvit.engine.merging import write_merged
from mmeffvit.models.tuning import adapted_layers
from mmeffvit.registry import HOOKS


@HOOKS.register_module()
class MergeAdaptersHook(Hook):
    """Write ``merged/<name of the config>.pth``, and ``.py`` beside it, when training ends.

    The weights are the last ones, averaged ones where there are (`EMAHook`), and fit the config,
    which names the backbone without adapters. ``tools/merge_adapters.py`` does the same to any
    checkpoint.
    """

    priority = "VERY_LOW"

    def after_train(self, runner: Runner) -> None:
        if not is_main_process():
            return
        if not adapted_layers(runner.model):
            runner.logger.info("The model has no adapters, so nothing is merged")
            return
        averages = [hook.ema_model for hook in runner.hooks if isinstance(hook, EMAHook)]
        model = averages[0].module if averages else runner.model
        loader = runner.train_dataloader
        meta = {
            "epoch": runner.epoch,
            "iter": runner.iter,
            "dataset_meta": getattr(loader.dataset, "metainfo", {}),
        }
        folder = Path(runner.work_dir, "merged")
        file = folder / f"{Path(runner.cfg.filename or 'config').stem}.pth"
        write_merged(file, runner.cfg, model, meta)
        runner.logger.info(f"Merged weights are in {file}, and their config beside it")
