"""AdaptFormer's adapters (arXiv 2205.13535, section 3.2): a bottleneck beside each FFN."""

from __future__ import annotations

import math
from typing import Any

from torch import Tensor, nn

from mmeffvit.models.tuning.targets import called_modules, is_projection
from mmeffvit.models.tuning.weights import set_module

#: names under which blocks keep their feed-forward network
_FFNS = ("ffn", "mlp")


class ParallelAdapter(nn.Module):
    """``scale * up(ReLU(down(x)))``, of each token.

    Args:
        in_dim: Channels of the tokens.
        out_dim: Channels of what comes out.
        hidden_dim: Channels of the bottleneck.
        of_maps: Whether tokens come as maps (B, C, H, W), else with channels in the last place.
        scale: The paper's 0.1.
    """

    def __init__(
        self, in_dim: int, out_dim: int, hidden_dim: int, of_maps: bool, scale: float = 0.1
    ):
        super().__init__()
        self.down = nn.Conv2d(in_dim, hidden_dim, 1) if of_maps else nn.Linear(in_dim, hidden_dim)
        self.up = nn.Conv2d(hidden_dim, out_dim, 1) if of_maps else nn.Linear(hidden_dim, out_dim)
        self.scale = scale
        nn.init.kaiming_uniform_(self.down.weight, a=math.sqrt(5))
        for zero in (self.down.bias, self.up.weight, self.up.bias):
            nn.init.zeros_(zero)

    def forward(self, x: Tensor) -> Tensor:
        return self.up(self.down(x).relu()) * self.scale


class AdaptedFFN(nn.Module):
    """A feed-forward network and an adapter that read the same, and whose outputs are added.

    Equations 3 and 4 of the paper, in which both read the normalised tokens. What a block does with
    the output of its feed-forward network (layer scale, stochastic depth) it does with the sum.

    Args:
        base_layer: The feed-forward network.
        adapter: The adapter.
    """

    def __init__(self, base_layer: nn.Module, adapter: ParallelAdapter):
        super().__init__()
        self.base_layer = base_layer
        self.adapter = adapter

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        return self.base_layer(x, *args, **kwargs) + self.adapter(x)


def add_adapters(network: nn.Module, hidden_dim: int, scale: float) -> list[str]:
    """Put an adapter beside the FFN of every block, and freeze all else.

    A feed-forward network is recognised by its name, ``ffn`` or ``mlp``, and by its first and last
    layer, which are linear ones or 1x1 convolutions.

    Args:
        network: Changed in place.
        hidden_dim: Channels of the bottleneck.
        scale: Of what adapters add.

    Returns:
        Names of the feed-forward networks.

    Raises:
        ValueError: There are none.
    """
    found = {}
    for name, module in network.named_modules():
        ends = _ends(module) if name.rpartition(".")[2] in _FFNS else None
        # one that the options of the network have frozen stays as it is
        if ends is not None and ends[0].weight.requires_grad:
            found[name] = module, ends
    called = called_modules(network, found) if found else set()
    names = [name for name in found if name in called]
    if not names:
        raise ValueError(
            f"AdaptFormer needs blocks with a feed-forward network called {' or '.join(_FFNS)}, "
            "from linear layer to linear layer, that the network's own options do not freeze; "
            f"{type(network).__name__} has none. lora= adapts any linear layer"
        )
    network.requires_grad_(False)
    for name in names:
        ffn, (first, last) = found[name]
        of_maps = isinstance(first, nn.Conv2d)
        sizes = first.weight.shape[1], last.weight.shape[0]
        adapter = ParallelAdapter(*sizes, hidden_dim, of_maps, scale).to(first.weight)
        set_module(network, name, AdaptedFFN(ffn, adapter).train(ffn.training))
    return names


def _ends(ffn: nn.Module) -> tuple[nn.Module, nn.Module] | None:
    """First and last layer of a feed-forward network, both of one kind; None of anything else."""
    layers = [m for m in ffn.modules() if isinstance(m, (nn.Linear, nn.Conv2d))]
    if len(layers) < 2:
        return None
    first, last = layers[0], layers[-1]
    same = isinstance(first, nn.Linear) == isinstance(last, nn.Linear)
    same &= first.weight.shape[1] == last.weight.shape[0]
    return (first, last) if same and is_projection(first) and is_projection(last) else None
