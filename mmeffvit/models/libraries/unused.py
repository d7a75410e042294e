"""Parameters that no output of a network depends on."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mmeffvit.models.libraries.base import Facts, Library
from mmeffvit.models.meta import RememberedShapes


def unused_parameters(
    network: nn.Module, library: Library, facts: Facts, indices: Sequence[int]
) -> list[nn.Parameter]:
    """Those that no map depends on, such as the token that stands for masked patches.

    The network runs on the meta device, which costs no arithmetic.

    Args:
        network: Of the library.
        library: What knows it.
        facts: Of the network.
        indices: What the library calls the maps that are returned.
    """
    height, width = facts.size or (2 * facts.divisor, 2 * facts.divisor)
    image = torch.empty(1, library.in_channels, height, width, device="meta")
    was_training = network.training
    caller = _Caller(library, network, indices).eval()
    parameters = {name: value.detach().to("meta") for name, value in caller.named_parameters()}
    for value in parameters.values():
        value.requires_grad_()
    buffers = {name: value.to("meta") for name, value in caller.named_buffers()}
    with torch.enable_grad(), torch.device("cpu"), RememberedShapes():
        maps = torch.func.functional_call(caller, parameters | buffers, (image,))
    network.train(was_training)
    used = _leaves(maps)
    return [
        parameter
        for name, parameter in caller.named_parameters()
        if id(parameters[name]) not in used
    ]


class _Caller(nn.Module):
    """The network of a library as a module that returns maps."""

    def __init__(self, library: Library, network: nn.Module, indices: Sequence[int]):
        super().__init__()
        self.library = library
        self.network = network
        self.indices = indices

    def forward(self, x: Tensor) -> Sequence[Tensor]:
        return self.library.maps(self.network, x, self.indices)


def _leaves(outputs: Sequence[Tensor]) -> set[int]:
    """Identities of the tensors whose gradients a backward pass from the outputs would reach."""
    waiting = [x.grad_fn for x in outputs if x.grad_fn is not None]
    seen = set(waiting)
    leaves = set()
    while waiting:
        node = waiting.pop()
        if hasattr(node, "variable"):
            leaves.add(id(node.variable))
        for following, _ in node.next_functions:
            if following is not None and following not in seen:
                seen.add(following)
                waiting.append(following)
    return leaves
