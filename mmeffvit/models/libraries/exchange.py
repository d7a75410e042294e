"""Features that a branch and the blocks of a transformer of another library exchange."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from mmeffvit.layers import Context
from mmeffvit.layers.levels import Interaction
from mmeffvit.ops import map_layout


class Exchange:
    """What goes on between the blocks of a transformer during one pass.

    Args:
        interactions: One for each span of blocks.
        maps: Of the branch; those that the interactions make take their place.
        grid: Rows and columns of patches.
        name: Of the transformer.

    Attributes:
        features: Maps of the patches after each span.
    """

    def __init__(
        self, interactions: nn.ModuleList, maps: list[Tensor], grid: tuple[int, int], name: str
    ):
        self.interactions = interactions
        self.maps = maps
        self.grid = grid
        self.name = name
        self.levels = Context()
        self.features: list[Tensor] = []

    @contextmanager
    def around(
        self, blocks: Sequence[nn.Module], spans: Sequence[tuple[int, int]]
    ) -> Iterator[None]:
        """Exchange before the first and after the last block of each span."""
        handles = []
        for interaction, (first, last) in zip(self.interactions, spans, strict=True):

            def before(module, args, kwargs, interaction=interaction):
                return self._before(interaction, args, kwargs)

            def after(module, args, output, interaction=interaction):
                self._after(interaction, output)

            handles.append(blocks[first].register_forward_pre_hook(before, with_kwargs=True))
            handles.append(blocks[last].register_forward_hook(after))
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _before(self, interaction: Interaction, args: tuple, kwargs: dict) -> tuple[tuple, dict]:
        tokens, *others = args if args else (kwargs["hidden_states"],)
        extra, patches = self._split(tokens)
        self.maps = interaction.before(self.maps, patches)
        patches = interaction.cti_tov(self.maps, patches, self.levels)
        tokens = _joined(extra, patches)
        return ((tokens, *others), kwargs) if args else ((), {**kwargs, "hidden_states": tokens})

    def _after(self, interaction: Interaction, output: Any) -> None:
        _, patches = self._split(output if isinstance(output, Tensor) else output[0])
        for fusion in interaction.after():
            self.maps = fusion(self.maps, patches, self.levels)
        self.features.append(patches)

    def _split(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Class and register tokens (B, E, C), which come first, and a map (B, C, h, w)."""
        height, width = self.grid
        extra = tokens.shape[1] - height * width if tokens.dim() == 3 else -1
        if extra < 0:
            raise ValueError(
                f"the blocks of {self.name} do not take a sequence of {height} x {width} patches, "
                f"but {tuple(tokens.shape)}; the adapter is for plain transformers"
            )
        patches = tokens[:, extra:].transpose(1, 2).unflatten(2, self.grid)
        return tokens[:, :extra], map_layout(patches)


def _joined(extra: Tensor, patches: Tensor) -> Tensor:
    return torch.cat((extra, patches.flatten(2).transpose(1, 2)), 1)
