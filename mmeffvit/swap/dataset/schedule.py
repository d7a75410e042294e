"""``recipe='small-data'``: batches and schedule for hundreds of images, not a hundred thousand."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from typing import Any

from mmeffvit.configs import plain, type_name
from mmeffvit.swap.changes import Draft
from mmeffvit.swap.errors import SwapError

#: optimizer steps of a training: 12 epochs of 5000 images in batches of 16 are 3750
STEPS = 4000
#: at least so many batches make an epoch
_BATCHES = 4
#: part of the steps that warm up at most, and evaluations that are made
_WARM_UP, _EVALUATIONS = 0.1, 10
#: keys of schedulers and hooks that count epochs or iterations
_TIMES = ("begin", "end", "T_max", "total_iters", "milestones", "switch_epoch", "num_last_epochs")


def set_small_data(draft: Draft, num_images: int, steps: int | None = None) -> None:
    """Fit batches and schedule to the number of images.

    The batch is that of the config, or a quarter of the images if these are few. Epochs (or
    iterations) are as many as make about `steps` optimizer steps; all dates of schedulers move in
    proportion, warm-ups take a tenth of the steps at most. The learning rate is scaled with the
    batch over all GPUs (``auto_scale_lr.base_batch_size`` says what it was for): linearly, or for
    Adam and AdamW with its square root (arXiv 2205.10287). Ten evaluations are made.

    Args:
        draft: Of the config.
        num_images: To train on.
        steps: Of the optimizer; None takes `STEPS`.

    Raises:
        SwapError: The config says no number of epochs or iterations.
    """
    steps = STEPS if steps is None else steps
    train = draft.get(("train_cfg",)) or {}
    unit = "max_iters" if "max_iters" in train else "max_epochs"
    if unit not in train:
        raise SwapError("recipe='small-data' needs train_cfg.max_epochs or train_cfg.max_iters.")
    gpus, batch = _gpus(), _batch(draft)
    fitting = max(1, min(batch, num_images // (_BATCHES * gpus)))
    draft.set(("train_dataloader", "batch_size"), fitting, f"{num_images} images to train on")
    accumulated = draft.get(("optim_wrapper", "accumulative_counts")) or 1
    _scale_rate(draft, batch, fitting * gpus * accumulated, fitting / batch)
    per_epoch = _per_epoch(draft, num_images, fitting * gpus)
    old, iterations = train[unit], steps * accumulated
    new = iterations if unit == "max_iters" else max(1, round(iterations / per_epoch))
    why = f"about {steps} optimizer steps, {per_epoch} batches an epoch"
    draft.set(("train_cfg", unit), new, why)
    interval = max(1, new // _EVALUATIONS)
    draft.set(("train_cfg", "val_interval"), interval, f"{_EVALUATIONS} evaluations")
    draft.remove(("train_cfg", "dynamic_intervals"), "of the old schedule")
    if draft.get(("default_hooks", "checkpoint")) is not None:
        place = ("default_hooks", "checkpoint", "interval")
        draft.set(place, interval, "a checkpoint for each evaluation")
    _move_dates(draft, new / old, iterations, unit == "max_epochs")


def notes_of_kept_schedule(draft: Draft, num_images: int) -> list[str]:
    """What to say of a schedule that stays as it is: whether most of it is warm-up.

    Args:
        draft: Of the config.
        num_images: To train on.
    """
    train = draft.get(("train_cfg",)) or {}
    iterations = train.get("max_iters")
    if iterations is None and "max_epochs" in train:
        iterations = train["max_epochs"] * _per_epoch(draft, num_images, _batch(draft) * _gpus())
    schedulers = draft.get(("param_scheduler",)) or []
    schedulers = [schedulers] if isinstance(schedulers, Mapping) else schedulers
    ends = [s["end"] for s in schedulers if _warms_up(s) and not s.get("by_epoch", True)]
    if iterations is None or 2 * max(ends, default=0) <= iterations:
        return []
    return [
        f"Of {iterations} iterations on {num_images} images the learning rate rises for the first "
        f"{max(ends)}, so that little is learnt: --recipe small-data (recipe='small-data') fits "
        "batches and schedule to the number of images."
    ]


def _warms_up(scheduler: Mapping[str, Any]) -> bool:
    kinds = ("LinearLR", "ConstantLR", "QuadraticWarmupLR")
    return type_name(scheduler) in kinds and not scheduler.get("begin") and "end" in scheduler


def _gpus() -> int:
    return int(os.environ.get("WORLD_SIZE", 1))


def _batch(draft: Draft) -> int:
    """Images on each GPU."""
    return draft.get(("train_dataloader", "batch_size")) or 1


def _per_epoch(draft: Draft, num_images: int, batch: int) -> int:
    """Batches of an epoch."""
    return max(1, math.ceil(num_images * _repeats(draft) / batch))


def _repeats(draft: Draft) -> int:
    """How often wrappers show the images in an epoch."""
    node, times = draft.get(("train_dataloader", "dataset")), 1
    while isinstance(node, Mapping):
        if type_name(node) == "RepeatDataset":
            times *= node.get("times", 1)
        node = node.get("dataset")
    return times


def _scale_rate(draft: Draft, old_batch: int, total: int, fallback: float) -> None:
    base = (draft.get(("auto_scale_lr",)) or {}).get("base_batch_size")
    factor = total / base if base else fallback
    rate = draft.get(("optim_wrapper", "optimizer", "lr"))
    if rate is None or factor == 1:
        return
    if str(draft.get(("optim_wrapper", "optimizer", "type"))).startswith("Adam"):
        factor **= 0.5  # arXiv 2205.10287
    before = base or f"{old_batch} on each GPU"
    why = f"scaled with the batch: {total} images a step, before {before}"
    draft.set(("optim_wrapper", "optimizer", "lr"), rate * factor, why)
    if base:
        place = ("auto_scale_lr", "base_batch_size")
        draft.set(place, total, "what the learning rate is for now")


def _move_dates(draft: Draft, ratio: float, iterations: int, epochs: bool) -> None:
    schedulers = draft.get(("param_scheduler",))
    if schedulers:
        own = [schedulers] if isinstance(schedulers, Mapping) else schedulers
        new = _moved(plain(own), ratio, iterations, epochs)
        new = new[0] if isinstance(schedulers, Mapping) else new
        draft.set(("param_scheduler",), new, "in proportion; a tenth warms up at most")
    for i, hook in enumerate(draft.get(("custom_hooks",)) or []):
        for key in ("switch_epoch", "num_last_epochs"):
            if isinstance(hook.get(key), int):
                moved = max(1, round(hook[key] * ratio))
                draft.set(("custom_hooks", i, key), moved, "in proportion")


def _moved(
    schedulers: list[dict[str, Any]], ratio: float, iterations: int, epochs: bool
) -> list[dict[str, Any]]:
    warm_up_end = (0, 0)
    for scheduler in schedulers:
        by_epoch = scheduler.get("by_epoch", True)
        warms_up = _warms_up(scheduler)
        if not by_epoch and (epochs or warms_up):
            if warms_up:
                end = scheduler["end"]
                scheduler["end"] = max(1, min(end, round(_WARM_UP * iterations)))
                warm_up_end = (end, scheduler["end"])
            continue  # how many iterations the old epochs had is not known
        for key in _TIMES:
            value = scheduler.get(key)
            if isinstance(value, (list, tuple)):
                scheduler[key] = type(value)(max(1, round(v * ratio)) for v in value)
            elif isinstance(value, int) and value:
                same = key == "begin" and value == warm_up_end[0]
                scheduler[key] = warm_up_end[1] if same else max(1, round(value * ratio))
    return schedulers
