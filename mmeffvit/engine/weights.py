"""Weights of a checkpoint under the names of a model: containers, prefixes, and counts."""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterator, Mapping, Set
from dataclasses import dataclass
from typing import Any

from mmengine.hooks import Hook
from mmengine.model import BaseTTAModel, is_model_wrapper
from mmengine.runner import Runner
from torch import nn

from mmeffvit.checkpoint import CheckpointError, resized_weight
from mmeffvit.checkpoint.convert import find_container
from mmeffvit.errors import did_you_mean
from mmeffvit.models.tuning import tuned_names

#: of the tensors of the model, and of those of the checkpoint: less is another model's
LEAST = 0.1


@dataclass
class Fit:
    """How the weights of a checkpoint fit a model.

    Attributes:
        weights: Under the names of the model, as far as only wrappers had changed them.
        shapes: Of the model's tensors, by name.
        fitting: Names of the model for which there is a tensor of the right shape.
    """

    weights: OrderedDict[str, Any]
    shapes: Mapping[str, tuple[int, ...]]
    fitting: Set[str]

    @property
    def almost_none(self) -> bool:
        """Whether less than `LEAST` of the model, and of the checkpoint, has a place."""
        return len(self.fitting) < LEAST * min(len(self.shapes), len(self.weights) or 1)

    def why_not(self, key: str) -> str:
        """What is wrong with a tensor of the model that is not among the fitting ones."""
        if key in self.weights:
            given = tuple(getattr(self.weights[key], "shape", ()))
            return f"{key} is {given} and should be {self.shapes[key]}"
        return f"{key} is not there{did_you_mean(key, self.weights).rstrip('?')}"


def unwrap(model: nn.Module) -> nn.Module:
    """The model that has the weights: not what distributes it, or merges its predictions."""
    while is_model_wrapper(model) or isinstance(model, BaseTTAModel):
        model = model.module
    return model


def fit_weights(model: nn.Module, checkpoint: Mapping[str, Any]) -> Fit:
    """Find the weights in a checkpoint, and take off what wrappers put before their names.

    `DataParallel`, ``torch.compile``, Lightning and others do so (``module.``, ``_orig_mod.``,
    ``model.``), for the whole model or for a part of it. What gives most names of the model is
    taken; the names stay if nothing gives more. Weights of layers that have adapters get theirs.

    Raises:
        CheckpointError: There are no weights in it.
    """
    model = unwrap(model)
    shapes = {key: tuple(value.shape) for key, value in model.state_dict().items()}
    given, _ = find_container(checkpoint)
    best, most = given, -1
    tuned = tuned_names(model)
    for rename in _renamings(given):
        renamed = {tuned(rename(key)): value for key, value in given.items()}
        fitting = {k for k, shape in shapes.items() if _shape(renamed.get(k)) == shape}
        if len(fitting) > most:
            best, most, found, chosen = renamed, len(fitting), fitting, rename
    weights = OrderedDict(best)
    versions = getattr(given, "_metadata", None)  # which modules read to follow their own renames
    if versions is not None:
        weights._metadata = OrderedDict(
            (chosen(f"{k}.").rstrip(".") if k else k, v) for k, v in versions.items()
        )
    return Fit(weights, shapes, found)


def fit_tables(model: nn.Module, fit: Fit) -> list[str]:
    """Resize tables of our networks that were trained for another window or size of images.

    Args:
        model: Whose shapes count.
        fit: Of `fit_weights`; its weights and its fitting names are changed.

    Returns:
        The names of these tables.
    """
    model, names = unwrap(model), []
    for name, shape in fit.shapes.items():
        if name in fit.weights and name not in fit.fitting:
            value = resized_weight(model, name, fit.weights[name])
            if _shape(value) == shape:
                fit.weights[name] = value
                names.append(name)
    fit.fitting = {*fit.fitting, *names}
    return names


def _shape(value: Any) -> tuple[int, ...] | None:
    return tuple(value.shape) if hasattr(value, "shape") else None


def _renamings(keys: Collection[str]) -> Iterator[Callable[[str], str]]:
    """Ways to take wrappers off, the least first."""
    yield lambda key: key

    def unwrap(key: str) -> str:
        return re.sub(r"(^|\.)(?:(?:_orig_mod|module)\.)+", r"\1", key)

    yield unwrap
    prefix = ""
    rest = list(map(unwrap, keys))
    while rest:
        first = {key.partition(".")[0] for key in rest}
        common = first.pop() if len(first) == 1 else next(iter(first & {"model", "net"}), None)
        if common is None or not any(key.startswith(f"{common}.") for key in rest):
            return
        prefix += f"{common}."
        yield lambda key, prefix=prefix: unwrap(key).removeprefix(prefix)
        rest = [key.removeprefix(f"{common}.") for key in rest if key.startswith(f"{common}.")]


class FitWeightsHook(Hook):
    """Refuse a checkpoint of which almost nothing fits, where mmengine would go on without it.

    It runs for ``load_from`` and for resuming, and gives weights the names of the model first. For
    ``load_from`` tables of our networks are resized where the config has another window or size.
    """

    priority = "VERY_HIGH"  # before that of averaged weights

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Raises CheckpointError if less than a tenth has a place in the model."""
        fit = fit_weights(runner.model, checkpoint)
        if fit.almost_none:
            raise CheckpointError(describe_misfit(runner.model, fit, runner._load_from))
        if not runner._resume:
            tables = fit_tables(runner.model, fit)
            if tables:
                runner.logger.info(
                    f"{len(tables)} tables were resized to the sizes of this config: "
                    f"{', '.join(tables[:4])}{' ...' if len(tables) > 4 else ''}"
                )
        checkpoint["state_dict"] = fit.weights
        if len(fit.fitting) < len(fit.shapes):
            runner.logger.warning(
                f"{len(fit.fitting)} of the {len(fit.shapes)} tensors of the model are in the "
                "checkpoint with their shapes; the others start as they were initialised"
            )


def describe_misfit(model: nn.Module, fit: Fit, source: Any) -> str:
    """A sentence with counts, the closest names, and what to do."""
    model = unwrap(model)
    absent = [key for key in fit.shapes if key not in fit.fitting]
    reasons = "; ".join(map(fit.why_not, absent[:3]))
    advice = "It seems to belong to another config, or to need tools/convert_checkpoint.py"
    for part, child in model.named_children():
        inside = set(child.state_dict())
        if len(inside & set(fit.weights)) > LEAST * len(inside):
            advice = (
                f"They are names of its {part}: use model.{part}.init_cfg=dict(type='Pretrained', "
                "checkpoint=...) in place of load_from"
            )
    return (
        f"Of the {len(fit.weights)} tensors in {source or 'the checkpoint'}, {len(fit.fitting)} "
        f"fit the {len(fit.shapes)} of this {type(model).__name__}: {reasons}"
        f"{' ...' if len(absent) > 3 else ''}. {advice}."
    )
