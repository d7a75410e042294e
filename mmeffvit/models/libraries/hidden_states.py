"""Maps of plain transformers of Hugging Face that are no backbones there: their hidden states."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

#: types of models that take images of any size -> class and other tokens before the patches
EXTRA_TOKENS = {
    "chinese_clip_vision_model": 1,
    "clip_vision_model": 1,
    "data2vec-vision": 1,
    "deit": 2,
    "ijepa": 0,
    "siglip_vision_model": 0,
    "vit": 1,
    "vit_msn": 1,
}
#: where they have the norm after the last block
_NORMS = ("layernorm", "post_layernorm", "norm")


class HiddenStates:
    """How such a model is made and asked for maps."""

    def model_class(self, config: Any) -> type[nn.Module]:
        """The class of transformers for a config."""
        from transformers import MODEL_MAPPING

        return MODEL_MAPPING[type(config)]

    def make(self, config: Any) -> nn.Module:
        """The network with random weights, without a pooling of its own where it can do without."""
        from transformers import AutoModel

        parameters = inspect.signature(self.model_class(config).__init__).parameters
        options = {"add_pooling_layer": False} if "add_pooling_layer" in parameters else {}
        return AutoModel.from_config(copy.deepcopy(config), **options)

    def all_indices(self, network: nn.Module) -> tuple[int, ...]:
        """One for each block."""
        return tuple(range(network.config.num_hidden_layers))

    def keep(self, network: nn.Module, indices: Sequence[int], out_norm: bool) -> None:
        """Nothing can be removed: the forward of the library runs all of its blocks."""

    def maps(
        self, network: nn.Module, x: Tensor, indices: Sequence[int], out_norm: bool
    ) -> list[Tensor]:
        """Hidden states after blocks as maps, without the tokens before the patches.

        Raises:
            ValueError: There are other tokens than the config says.
        """
        states = network(
            pixel_values=x, output_hidden_states=True, interpolate_pos_encoding=True
        ).hidden_states
        config = network.config
        grid = tuple(side // config.patch_size for side in x.shape[-2:])
        extra, length = EXTRA_TOKENS[config.model_type], grid[0] * grid[1]
        if states[-1].shape[1] != extra + length:
            raise ValueError(
                f"'{config.model_type}' has {states[-1].shape[1]} tokens for {grid[0]} x {grid[1]} "
                f"patches, and {extra} more were expected; take a model of timm"
            )
        norm = _norm_of(network) if out_norm else nn.Identity()
        return [norm(states[i + 1])[:, extra:].transpose(1, 2).unflatten(2, grid) for i in indices]


def _norm_of(network: nn.Module) -> nn.Module:
    return next(getattr(network, name) for name in _NORMS if hasattr(network, name))


class FeatureMaps:
    """How a model that is a backbone in transformers is made and asked for maps."""

    def model_class(self, config: Any) -> type[nn.Module]:
        """The class of transformers for a config; ``AutoBackbone`` takes no folders."""
        from transformers import MODEL_FOR_BACKBONE_MAPPING

        return MODEL_FOR_BACKBONE_MAPPING[type(config)]

    def make(self, config: Any) -> nn.Module:
        """The network with random weights."""
        from transformers import AutoBackbone

        return AutoBackbone.from_config(copy.deepcopy(config))

    def all_indices(self, network: nn.Module) -> tuple[int, ...]:
        """One for each stage."""
        return tuple(range(len(network.out_features)))

    def keep(self, network: nn.Module, indices: Sequence[int], out_norm: bool) -> None:
        """Return these maps, and have no norms of others."""
        stages = [name for name in network.stage_names if name != "stem"]
        network.out_features = [stages[i] for i in indices]
        if hasattr(network.config, "apply_layernorm"):
            network.config.apply_layernorm = out_norm
            # DINOv3 puts it on the last map, whatever its config says
            for name in _NORMS if not out_norm else ():
                if isinstance(getattr(network, name, None), nn.LayerNorm):
                    setattr(network, name, nn.Identity())
        norms = getattr(network, "hidden_states_norms", None)
        if isinstance(norms, nn.ModuleDict):
            for name in set(norms) - set(network.out_features):
                del norms[name]

    def maps(
        self, network: nn.Module, x: Tensor, indices: Sequence[int], out_norm: bool
    ) -> Sequence[Tensor]:
        """The maps that were kept."""
        return network(x).feature_maps
