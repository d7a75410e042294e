"""Official checkpoints to our keys."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from mmeffvit.checkpoint.files import CheckpointError
from mmeffvit.models.network import Network
from mmeffvit.models.official import KeyRule
from mmeffvit.models.zoo import network_classes
from mmeffvit.registry import MODELS

#: where authors put the weights, best first: published figures mostly belong to averaged ones
CONTAINERS = ("model_ema", "state_dict_ema", "model", "state_dict", "net", "params")
#: what wrappers put before all names, in any order
WRAPPERS = ("module.", "_orig_mod.", "model.")


@dataclass
class Conversion:
    """What became of an official checkpoint.

    Attributes:
        family: Family of networks, such as ``'secvit'``.
        variant: Name of the published variant with these sizes, such as ``'tiny'``, or None.
        container: Entry of the file that the weights came from; '' if it held them directly.
        state_dict: Weights under our keys, which start with ``backbone.``, ``head.`` or, in
            detectors of point clouds, the names of their other parts.
        ignored: Official key -> why it is left out.
        renamed: Official key -> ours, mostly one; of those that are joined, the same.
    """

    family: str
    variant: str | None
    container: str
    state_dict: dict[str, Tensor]
    ignored: dict[str, str] = field(default_factory=dict)
    renamed: dict[str, tuple[str, ...]] = field(default_factory=dict)

    def __str__(self) -> str:
        name = f"{self.family}-{self.variant}" if self.variant else f"{self.family} of another size"
        source = f"the entry '{self.container}'" if self.container else "the file itself"
        lines = [f"{name}: {len(self.state_dict)} tensors converted from {source}"]
        for key, reason in self.ignored.items():
            lines.append(f"  ignored {key}: {reason}")
        return "\n".join(lines)


def find_weights(checkpoint: Mapping[str, Any]) -> tuple[dict[str, Tensor], str]:
    """The weights inside a training state, and the name of the entry that holds them.

    What wrappers put before all keys, such as ``module.``, is taken off, as is ``_orig_mod.`` of
    parts that were compiled.

    Raises:
        CheckpointError: There are none.
    """
    found, container = find_container(checkpoint)
    weights = {
        key.replace("_orig_mod.", ""): v for key, v in found.items() if isinstance(v, Tensor)
    }
    while wrapper := next((w for w in WRAPPERS if all(key.startswith(w) for key in weights)), None):
        weights = {key.removeprefix(wrapper): value for key, value in weights.items()}
    return weights, container


def find_container(checkpoint: Mapping[str, Any]) -> tuple[Mapping[str, Any], str]:
    """The mapping inside a training state that holds the weights, and the name of its entry.

    Containers may be nested (``model_ema`` of a wrapper holds ``state_dict``).

    Raises:
        CheckpointError: There is none.
    """
    path = []
    while not any(isinstance(value, Tensor) for value in checkpoint.values()):
        for name in CONTAINERS:
            if isinstance(checkpoint.get(name), Mapping) and checkpoint[name]:
                checkpoint = checkpoint[name]
                path.append(name)
                break
        else:
            raise CheckpointError(
                "no weights found: the checkpoint has the entries "
                f"{', '.join(map(str, checkpoint)) or '(none)'}, "
                f"and weights are looked for directly and in {', '.join(CONTAINERS)}"
            )
    return checkpoint, ".".join(path)


def convertible_classes() -> dict[str, type]:
    """Family -> class that has the keys of its authors' files: networks, and necks."""
    return {
        cls.family: cls
        for cls in (*network_classes().values(), *MODELS.module_dict.values())
        if isinstance(cls, type) and getattr(cls, "official_rules", ()) and cls.family
    }


def convert_official(checkpoint: Mapping[str, Any], family: str) -> Conversion:
    """Give an official checkpoint our keys and shapes.

    Args:
        checkpoint: What the file holds: weights, or a training state with one of `CONTAINERS`;
            keys may start with `WRAPPERS`, and with ``backbone.`` in detectors.
        family: One of :func:`convertible_classes`, such as a family of `mmeffvit.list_backbones`.

    Raises:
        ValueError: The family is not known, or its authors published no weights.
        CheckpointError: The weights are not the family's.
    """
    classes = convertible_classes()
    if family not in classes:
        raise ValueError(
            f"no official checkpoints are known for '{family}'; they are for {', '.join(classes)}"
        )
    weights, container = find_weights(checkpoint)
    network = classes[family]
    weights, ignored = _of_the_network(weights, network.official_rules)
    parts: dict[str, list[Tensor | None]] = {}
    unknown = []
    renamed: dict[str, tuple[str, ...]] = {}
    for key, value in weights.items():
        found = _apply_all(network.official_rules, key)
        if not found:
            unknown.append(key)
        for rule, target in found:
            if target is None:
                _check_copy(rule, key, weights)
                ignored[key] = rule.reason
                continue
            index, count = rule.part
            renamed[key] = (*renamed.get(key, ()), target)
            parts.setdefault(target, [None] * count)[index] = _reshape(key, value, rule)
    if unknown or not any(key.startswith(network.prefix) for key in parts):
        raise CheckpointError(_not_the_family(family, weights, unknown, classes))
    state_dict = {target: _join(target, tensors) for target, tensors in parts.items()}
    if not issubclass(network, Network):
        return Conversion(family, None, container, network.arranged(state_dict), ignored, renamed)
    variant = network.variant_of_weights(state_dict)
    return Conversion(family, variant, container, state_dict, ignored, renamed)


def _of_the_network(
    weights: dict[str, Tensor], rules: tuple[KeyRule, ...]
) -> tuple[dict[str, Tensor], dict[str, str]]:
    """What the rules are for, in files of detectors, and why the rest is left out.

    Rules know the keys of a backbone alone, or those of a whole detector; what leaves fewer keys
    unknown is taken.
    """

    def unknown(keys: Iterable[str]) -> int:
        return sum(_apply(rules, key)[0] is None for key in keys)

    inside = {
        key.removeprefix("backbone."): value
        for key, value in weights.items()
        if key.startswith("backbone.")
    }
    if not inside or unknown(weights) <= unknown(inside):
        return weights, {}
    outside = (key for key in weights if not key.startswith("backbone."))
    return inside, dict.fromkeys(outside, "not part of the backbone")


def _apply_all(rules: tuple[KeyRule, ...], key: str) -> list[tuple[KeyRule, str | None]]:
    """The first rule for a key; of those that take rows of a tensor, all."""
    rule, target = _apply(rules, key)
    if rule is None or rule.row is None:
        return [(rule, target)] * (rule is not None)
    matches = ((rule, rule.match(key)) for rule in rules if rule.row is not None)
    return [(rule, rule.rename(match)) for rule, match in matches if match]


def _apply(rules: tuple[KeyRule, ...], key: str) -> tuple[KeyRule | None, str | None]:
    for rule in rules:
        match = rule.match(key)
        if match:
            return rule, rule.rename(match)
    return None, None


def _check_copy(rule: KeyRule, key: str, weights: Mapping[str, Tensor]) -> None:
    """Raise CheckpointError where a tensor is dropped as the copy of another, and is none."""
    if not rule.same_as:
        return
    original = rule.match(key).expand(rule.same_as)
    if original not in weights or not torch.equal(weights[key], weights[original]):
        what = "differs from" if original in weights else "is there without"
        raise CheckpointError(
            f"'{key}' {what} '{original}', although a file of this network holds the same weights "
            "under both names: it was changed after training, or belongs to another network"
        )


def _reshape(key: str, value: Tensor, rule: KeyRule) -> Tensor:
    value = value if rule.row is None else value[rule.row]
    if rule.transform is not None:
        return rule.transform(value)
    if rule.ndim is None or value.dim() == rule.ndim:
        return value
    if value.dim() < rule.ndim:
        return value.reshape(value.shape + (1,) * (rule.ndim - value.dim()))
    kept = [size for size in value.shape if size != 1]
    if len(kept) > rule.ndim:
        raise CheckpointError(
            f"'{key}' has the shape {tuple(value.shape)}, where {rule.ndim} axes other than "
            "one are expected"
        )
    # an axis of size one may also be a real one (a single class): keep the first axes
    return value.reshape(value.shape[: rule.ndim] if rule.ndim > 1 else -1)


def _join(target: str, parts: list[Tensor | None]) -> Tensor:
    """The tensors that make up one of ours, joined on their first axis."""
    tensors = [part for part in parts if part is not None]
    if len(tensors) < len(parts):
        raise CheckpointError(
            f"'{target}' is made of {len(parts)} tensors of the checkpoint, of which "
            f"{len(parts) - len(tensors)} are missing"
        )
    return torch.cat(tensors) if len(tensors) > 1 else tensors[0]


def _not_the_family(
    family: str,
    weights: Mapping[str, Tensor],
    unknown: list[str],
    classes: Mapping[str, type],
) -> str:
    others = [
        name
        for name, cls in classes.items()
        if name != family and all(_apply(cls.official_rules, key)[0] for key in weights)
    ]
    hint = f" They look like {' or '.join(others)}." if others else ""
    examples = ", ".join(unknown[:4]) or "none of the expected keys is there"
    return (
        f"these are not weights of {family}: {len(unknown)} of {len(weights)} keys do not belong "
        f"to it ({examples}).{hint}"
    )
