"""Weights under the names and shapes of their authors: key rules backwards."""

import re

import torch


def official_state(state, network):
    """Weights under our keys to weights that the rules of a network convert into these.

    Args:
        state: Under our keys, which start with ``backbone.`` or ``head.``.
        network: Class with `official_rules`.
    """
    official = {}
    for key, value in state.items():
        official.update(_official(key, value, network.official_rules))
    return official


def _official(key, value, rules):
    for rule in rules:
        if rule.target is None or (groups := _groups(key, rule)) is None:
            continue
        names = {_fill(rule.pattern, groups): value}
        if rule.part[1] > 1:
            same = [r for r in rules if r.target == rule.target and r.ndim == rule.ndim]
            assert len(same) == rule.part[1]
            pieces = value.chunk(rule.part[1])
            names = {_fill(r.pattern, groups): pieces[r.part[0]] for r in same}
        if all(_first(name, rules) == key for name in names):
            return {name: _shaped(tensor, rule, key) for name, tensor in names.items()}
    raise AssertionError(f"no rule leads to {key}")


def _sources(pattern):
    """What stands in the groups of a regular expression without groups inside them."""
    return re.findall(r"\((?!\?)((?:[^()\\]|\\.|\[[^\]]*\])*)\)", pattern)


def _groups(key, rule):
    """What the groups of a rule's pattern were, if it leads to a key."""
    sources = _sources(rule.pattern)
    parts = re.split(r"\\(\d)", rule.target)
    found = "".join(
        f"(?P<g{part}>{sources[int(part) - 1]})" if i % 2 else re.escape(part)
        for i, part in enumerate(parts)
    )
    if rule.shift:  # numbers before the shift need not be among those of the pattern
        found = found.replace(f"(?P<g1>{sources[0]})", r"(?P<g1>\d+)")
    match = re.fullmatch(found, key)
    if match is None:
        return None
    groups = [match.groupdict().get(f"g{i + 1}", "") for i in range(len(sources))]
    if rule.shift:
        groups[0] = str(int(groups[0]) - rule.shift)
    return groups


def _fill(pattern, groups):
    values = iter(groups)
    filled = re.sub(r"\((?!\?)(?:[^()\\]|\\.|\[[^\]]*\])*\)", lambda match: next(values), pattern)
    return filled.replace("\\", "")


def _first(name, rules):
    for rule in rules:
        if match := rule.match(name):
            return rule.rename(match)
    return None


def _shaped(value, rule, key):
    """With as few axes as authors have who write linear layers, and as many in scales."""
    if rule.ndim == 4:
        return value.flatten(1) if value.shape[2:] == (1, 1) else value
    if rule.ndim == 1 and "layer_scale" in key:
        return value[None, :, None, None]
    if rule.ndim == 2:
        return value[..., None, None]
    return value if torch.is_tensor(value) else torch.as_tensor(value)
