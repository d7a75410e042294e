"""How deep the parameters of a network lie that does not say so itself."""

from __future__ import annotations

from torch import nn


def layer_depths(network: nn.Module) -> tuple[dict[str, int], int]:
    """The layer of each parameter, for learning rates that decay from layer to layer.

    Layers are the blocks in lists of modules, or in the lists of stages in a list: ``blocks.3``,
    ``stages.0.blocks.1``, ``layer1.0``. What comes before the first is layer 0, with what is in no
    list; what follows all blocks, the classifier too, is the last one.

    Args:
        network: Whose parameters are in the order in which an image meets them.

    Returns:
        Layers by name of the parameter, and their number.
    """
    blocks: dict[str, int] = {}
    outside: list[tuple[str, int]] = []
    depths: dict[str, int] = {}
    for name, _ in network.named_parameters():
        block = _block_of(network, name)
        if block is None:
            outside.append((name, len(blocks)))
        else:
            depths[name] = blocks.setdefault(block, len(blocks) + 1)
    last = len(blocks) + 1
    for name, before in outside:
        depths[name] = last if blocks and before == len(blocks) else 0
    if min(depths.values()) == 1:  # the stem is in a list itself
        return {name: depth - 1 for name, depth in depths.items()}, last
    return depths, last + 1


def _block_of(network: nn.Module, name: str) -> str | None:
    """Name of the module with one or two numbers in its path, and parts, that a parameter is in."""
    parts = name.split(".")
    found, numbers = None, 0
    for i, part in enumerate(parts[:-1]):
        if not part.isdigit():
            continue
        numbers += 1
        path = ".".join(parts[: i + 1])
        if numbers > 2 or not any(True for _ in network.get_submodule(path).children()):
            break
        found = path
    return found
