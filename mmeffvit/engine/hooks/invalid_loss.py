"""Stop when a loss is not a number any more."""

import math
from typing import Any

import torch
from mmengine.hooks import Hook
from mmengine.runner import Runner

from mmeffvit.engine.errors import InvalidLossError
from mmeffvit.registry import HOOKS


@HOOKS.register_module()
class CheckInvalidLossHook(Hook):
    """Raise an error that names the iteration and the losses that are NaN or infinite.

    mmdet has a hook of this name that asserts on the total alone. This one runs before checkpoints
    are saved, so that the last one on disk is from before the damage.

    Args:
        interval: Check every so many iterations. mmengine copies every loss to the CPU for its log
            at each iteration anyway, so 1 costs nothing.
    """

    def __init__(self, interval: int = 1) -> None:
        if interval < 1:
            raise ValueError(f"interval must be at least 1 iteration, got {interval}")
        self.interval = interval

    def after_train_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: dict | tuple | list | None = None,
        outputs: dict[str, Any] | None = None,
    ) -> None:
        """Raises InvalidLossError if a loss is not finite."""
        if not outputs or not self.every_n_train_iters(runner, self.interval):
            return
        losses = {
            name: float(torch.as_tensor(value).detach())
            for name, value in outputs.items()
            if "loss" in name
        }
        invalid = {name: value for name, value in losses.items() if not math.isfinite(value)}
        if not invalid:
            return
        parts = {name: value for name, value in invalid.items() if name != "loss"} or invalid
        listed = ", ".join(f"{name}={value}" for name, value in parts.items())
        rates = ", ".join(f"{lr[0]:.3g}" for lr in runner.optim_wrapper.get_lr().values())
        raise InvalidLossError(
            f"Training stopped at iteration {runner.iter + 1}, epoch {runner.epoch + 1}: {listed}. "
            f"The learning rate was {rates}; a lower one, a longer warm-up, gradient clipping "
            "(optim_wrapper.clip_grad), or bfloat16 in place of float16 usually helps. "
            "Checkpoints from before are untouched."
        )
