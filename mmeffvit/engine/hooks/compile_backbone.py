"""``torch.compile`` in training, of the part that has no data-dependent code: the backbone."""

import logging
from collections.abc import Callable, Sequence
from typing import Any

import torch
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner
from torch import nn

from mmeffvit.engine.errors import LaunchError
from mmeffvit.registry import HOOKS


@HOOKS.register_module()
class CompileBackboneHook(Hook):
    """Compile ``model.backbone`` before training, in place: weights keep their names.

    mmengine's ``compile=True`` compiles the whole training step, losses and assigners with it.

    Args:
        backend: Of ``torch.compile``.
        dynamic: Whether graphs hold for all sizes of images, as those of multi-scale training.
        limit: Warn when so many graphs were compiled again after the first iteration.
    """

    def __init__(self, backend: str = "inductor", dynamic: bool | None = True, limit: int = 8):
        self.backend = backend
        self.dynamic = dynamic
        self.limit = limit
        self.graphs = 0
        self._first: int | None = None
        self._warned = False

    def before_train(self, runner: Runner) -> None:
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        backbone = getattr(model, "backbone", None)
        if not isinstance(backbone, nn.Module):
            raise LaunchError(
                f"--compile compiles model.backbone, and {type(model).__name__} has none; leave "
                "it out, or set compile=True in the config for the whole training step."
            )
        backbone.compile(backend=self._compile, dynamic=self.dynamic)
        runner.logger.info(
            f"{type(backbone).__name__} is compiled by {self.backend!r}; the first iterations of "
            "training and of validation are slow."
        )

    def _compile(self, graph: torch.fx.GraphModule, inputs: Sequence[Any]) -> Callable:
        self.graphs += 1
        return torch._dynamo.lookup_backend(self.backend)(graph, inputs)

    def after_train_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: dict | tuple | list | None = None,
        outputs: dict[str, Any] | None = None,
    ) -> None:
        if self._first is None:
            self._first = self.graphs
        again = self.graphs - self._first
        if again > self.limit and not self._warned:
            self._warned = True
            runner.logger.log(
                logging.WARNING,
                f"The backbone was compiled {again} more times after the first iteration; this "
                "costs more than it saves. TORCH_LOGS=recompiles says why; images of few sizes "
                "(or of one, with dynamic=False of CompileBackboneHook) help.",
            )
