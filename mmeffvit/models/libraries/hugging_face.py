"""Networks of Hugging Face transformers: its backbones, and plain transformers beside them."""

from __future__ import annotations

import copy
import json
import os
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, ClassVar

from torch import Tensor, nn

from mmeffvit.errors import did_you_mean
from mmeffvit.models.libraries.base import Library, Statistics
from mmeffvit.models.libraries.hidden_states import EXTRA_TOKENS, FeatureMaps, HiddenStates
from mmeffvit.models.libraries.offline import fetching_if_allowed


class HuggingFaceNetwork(Library):
    """A backbone of transformers, or a plain transformer whose hidden states are maps.

    Its name is one of the hub (``'facebook/dinov2-small'``), a folder with its ``config.json``, or
    a type of model (``'dinov2'``), whose options are entries of the config.
    """

    package: ClassVar[str] = "transformers"
    removes_unused: ClassVar[bool] = False

    def check(self) -> None:
        _ = self.config

    @cached_property
    def config(self) -> Any:
        """The config of the network, with all stages beside the stem as outputs."""
        config = self._of_type() if self._is_type else self._of_name()
        config = getattr(config, "vision_config", config)  # of models of images and text
        if config.model_type not in _types():
            raise ValueError(
                f"transformers has no backbone of the type '{config.model_type}' (of {self.name}); "
                f"it has {', '.join(_backbones())}, and of plain transformers "
                f"{', '.join(EXTRA_TOKENS)} are known. Many others are in timm."
            )
        for key, value in (("reshape_hidden_states", True), ("num_channels", self.in_channels)):
            if hasattr(config, key):
                setattr(config, key, value)
        if config.model_type not in EXTRA_TOKENS:
            config.out_features = [name for name in config.stage_names if name != "stem"]
        return config

    @cached_property
    def _reader(self) -> FeatureMaps | HiddenStates:
        return HiddenStates() if self.config.model_type in EXTRA_TOKENS else FeatureMaps()

    @property
    def _is_type(self) -> bool:
        return "/" not in self.name and not os.path.isdir(self.name)

    def _of_type(self) -> Any:
        from transformers import CONFIG_MAPPING

        if self.name not in _types():
            hint = did_you_mean(self.name, _types(), most=3)
            raise ValueError(
                f"'{self.name}' is no type of backbone of transformers"
                + (hint or f"; there are {', '.join(_types())}")
                + ". A model of the hub is named hf/owner/name, a folder hf/./folder"
            )
        kind = CONFIG_MAPPING[self.name]
        known = kind().to_dict()
        for key in self.options:
            if key not in known:
                raise ValueError(
                    f"the config of '{self.name}' has no entry '{key}'{did_you_mean(key, known)}"
                )
        # as read from a file, where models expect lists
        text = kind(**self.options).to_json_string(use_diff=False)
        return kind.from_dict(json.loads(text))

    def _of_name(self) -> Any:
        from transformers import AutoConfig

        try:
            with fetching_if_allowed():
                config, unused = AutoConfig.from_pretrained(
                    self.name, return_unused_kwargs=True, **self.options
                )
        except (OSError, ValueError) as error:
            raise ValueError(
                f"transformers finds no config.json of '{self.name}': {error}\nOf a model on the "
                "hub it is read when the backbone is built; without a network, give a folder that "
                "holds config.json (and model.safetensors)."
            ) from error
        if unused:
            known = config.to_dict()
            key = next(iter(unused))
            raise ValueError(
                f"the config of '{self.name}' has no entry '{key}'{did_you_mean(key, known)}"
            )
        return config

    def make(self) -> nn.Module:
        return self._reader.make(self.config)

    def keep(self, network: nn.Module, indices: Sequence[int]) -> None:
        self._reader.keep(network, indices, self.out_norm)

    def maps(self, network: nn.Module, x: Tensor, indices: Sequence[int]) -> Sequence[Tensor]:
        return self._reader.maps(network, x, indices, self.out_norm)

    def all_indices(self, network: nn.Module) -> tuple[int, ...]:
        return self._reader.all_indices(network)

    def image_size(self, network: nn.Module) -> tuple[int, int]:
        size = getattr(network.config, "image_size", None) or 224
        return (size, size) if isinstance(size, int) else tuple(size)

    def recompute(self, network: nn.Module) -> None:
        network.gradient_checkpointing_enable()

    def has_weights(self) -> bool:
        return not self._is_type

    def weights(self) -> Mapping[str, Tensor]:
        kind = self._reader.model_class(self.config)
        return kind.from_pretrained(self.name, config=copy.deepcopy(self.config)).state_dict()

    def statistics(self) -> Statistics:
        from transformers.image_processing_base import ImageProcessingMixin

        if self._is_type:
            return Statistics()
        try:
            with fetching_if_allowed():
                entries, _ = ImageProcessingMixin.get_image_processor_dict(self.name)
        except OSError:  # there is no such file, or no network
            return Statistics()
        scale = 1 / entries.get("rescale_factor", 1 / 255) if entries.get("do_rescale", True) else 1
        mean, std = entries.get("image_mean"), entries.get("image_std")
        if not entries.get("do_normalize", True) or mean is None:
            mean, std = (0.0,) * 3, (1.0,) * 3
        scaled = (tuple(round(scale * value, 4) for value in values) for values in (mean, std))
        return Statistics(
            *scaled, origin=f"RGB images as in preprocessor_config.json of {self.name}"
        )


def _types() -> list[str]:
    """Types of models that can be had."""
    return sorted({*_backbones(), *EXTRA_TOKENS})


def _backbones() -> list[str]:
    from transformers.models.auto.modeling_auto import MODEL_FOR_BACKBONE_MAPPING_NAMES

    return sorted(set(MODEL_FOR_BACKBONE_MAPPING_NAMES) - {"timm_backbone"})
