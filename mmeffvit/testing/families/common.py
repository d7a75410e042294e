"""Pieces that the families' golden files share."""

from __future__ import annotations

from torch import Tensor

#: authors' names of the layers of an attention -> ours
_LAYERS = {"out_proj": "proj", "qkvo": "qkv"}


def mixer_state(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Weights of an attention alone, under the keys of our mixers."""
    state = {}
    for key, value in tensors.items():
        if key.startswith(prefix):
            layer, _, kind = key.removeprefix(prefix).partition(".")
            state[f"{_LAYERS.get(layer, layer)}.{kind}"] = value
    return state


def table_outputs(prefix: str, table: Tensor) -> dict[str, Tensor]:
    """A rotary table (L, d/2, 2) as the authors' two (L, d) tables."""
    cos, sin = (table[..., i].repeat_interleave(2, dim=-1) for i in (0, 1))
    return {f"{prefix}/cos": cos, f"{prefix}/sin": sin}
