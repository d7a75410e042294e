"""Random numbers that depend on where training is, not on how it got there."""

import random
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

    Random augmentation is reproduced too with ``num_workers=0`` under an epoch-based loop. In
    worker processes it draws from generators that live as long as the workers, so a resumed run
    sees other augmentations than an uninterrupted one.
    """

    # After all other hooks: what they draw must not reach the model or the data.
    priority = "LOWEST"

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

    def after_val(self, runner: Runner) -> None:
        # An iteration-based loop fetches its next batch right after validating.
        _seed(runner.seed, _DATA, runner.iter)


def _seed(seed: int, stream: int, iteration: int) -> None:
    words = np.random.SeedSequence([seed, stream, iteration, get_rank()]).generate_state(3)
    random.seed(int(words[0]))
    np.random.seed(words[1])  # noqa: NPY002  the legacy generator is the one that pipelines use
    torch.manual_seed(int(words[2]))
