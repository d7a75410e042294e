"""Random numbers that depend on where training is, not on how it got there."""

import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from mmengine.dist import get_rank
from mmengine.hooks import Hook
from mmengine.runner import Runner

from mmeffvit.registry import HOOKS

# One stream for what loads the next batch and one for what trains on it.
_DATA, _STEP = 0, 1


@HOOKS.register_module()
class ReproducibleResumeHook(Hook):
    """Seed Python's, NumPy's and PyTorch's generators from (seed, iteration, rank) at every step.

    Dropout, drop path and RoI samplers then draw in a resumed run what they draw in an
    uninterrupted one, so both end with the same weights. Also needed: ``randomness=dict(seed=...)``
    (the order of the samples follows it), and on a GPU ``deterministic=True`` there for equality to
    the last bit.

    Random augmentation is reproduced too with ``num_workers=0``. In worker processes it draws from
    generators that live as long as the workers, so a resumed run may see other augmentations than
    an uninterrupted one (it does not under the iteration-based loop of mmengine 0.10.7, which loads
    all earlier batches once more, and takes its time).
    """

    # After all other hooks: what they draw must not reach the model or the data.
    priority = "LOWEST"

    def before_train(self, runner: Runner) -> None:
        loop = runner.train_loop
        if hasattr(loop, "dataloader_iterator") and loop.dataloader.num_workers == 0:
            loop.dataloader_iterator = _SeededBatches(loop.dataloader_iterator, runner)

    def before_train_epoch(self, runner: Runner) -> None:
        _seed(runner.seed, _DATA, runner.iter)

    def before_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict | tuple | list | None = None
    ) -> None:
        _seed(runner.seed, _STEP, runner.iter)

    def after_train_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: dict | tuple | list | None = None,
        outputs: dict[str, Any] | None = None,
    ) -> None:
        _seed(runner.seed, _DATA, runner.iter + 1)


class _SeededBatches:
    """Stands before the batches of an iteration-based loop: each begins with its own seed.

    Between the end of a step and the next batch such a loop validates, or, in a resumed run, skips
    what it has seen and starts its loader, all of which may draw random numbers.
    """

    def __init__(self, batches: Iterator, runner: Runner) -> None:
        self._batches = batches
        self._seed = runner.seed
        # mmengine 0.10.7 skips what has been seen by asking for it, later versions by `skip_iter`
        self._position = runner.iter if hasattr(batches, "skip_iter") else 0
        self._seen = runner.iter

    def __iter__(self) -> Iterator:
        return self

    def __next__(self) -> Any:
        self._position += 1
        if self._position <= self._seen:
            return self._skip_one()
        # starting a loader draws a number
        getattr(self._batches, "_ensure_iterator", lambda: None)()
        _seed(self._seed, _DATA, self._position - 1)
        return next(self._batches)

    def _skip_one(self) -> None:
        try:
            self._batches._iterator._next_index()  # its samples are not loaded
        except StopIteration:
            next(self._batches)  # starts anew

    def __getattr__(self, name: str) -> Any:
        return getattr(self._batches, name)


def _seed(seed: int, stream: int, iteration: int) -> None:
    words = np.random.SeedSequence([seed, stream, iteration, get_rank()]).generate_state(3)
    random.seed(int(words[0]))
    np.random.seed(words[1])  # noqa: NPY002  the legacy generator is the one that pipelines use
    torch.manual_seed(int(words[2]))
