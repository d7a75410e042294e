"""What models of point clouds share as mmengine's models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mmengine.model import BaseModel
from torch import Tensor, nn

from mmeffvit.models.network import own_pretrained
from mmeffvit.registry import MODELS
from mmeffvit.structures import PointDataSample


def build_module(module: nn.Module | Mapping[str, Any], **defaults: Any) -> nn.Module:
    """A module as it is, or the one that a config with these defaults describes."""
    if isinstance(module, nn.Module):
        return module
    return MODELS.build({**defaults, **module})


def with_defaults(
    name: str, defaults: Mapping[str, Any], given: Mapping[str, Any] | None
) -> dict[str, Any]:
    """Settings that were given and, for the others, the defaults.

    Raises:
        ValueError: A setting has no default, so it is not known.
    """
    unknown = (given or {}).keys() - defaults.keys()
    if unknown:
        raise ValueError(f"{name} has {sorted(unknown)}; known are {', '.join(defaults)}")
    return {**defaults, **(given or {})}


class PointModel(BaseModel):
    """A model whose ``init_cfg=dict(type='Pretrained', checkpoint=FILE)`` reads converted weights.

    Args:
        data_preprocessor: Config of a `PointDataPreprocessor`, or the module.
        init_cfg: Of mmengine; ``Pretrained`` is ours, which is strict and reads .safetensors too.
    """

    def __init__(
        self,
        data_preprocessor: Mapping[str, Any] | nn.Module | None = None,
        init_cfg: dict | list | None = None,
    ):
        super().__init__(data_preprocessor, own_pretrained(init_cfg))

    def forward(
        self,
        inputs: Mapping[str, Any],
        data_samples: Sequence[PointDataSample] | None = None,
        mode: str = "tensor",
    ) -> Any:
        """Run a preprocessed batch.

        Args:
            inputs: ``points`` and ``voxels`` of `PointDataPreprocessor`.
            data_samples: One per sample; not needed for 'tensor'.
            mode: 'tensor' for what the head says, 'loss' for a dict of losses, 'predict' for the
                data samples with predictions.

        Raises:
            ValueError: The mode is another.
        """
        if mode == "tensor":
            return self._forward(inputs)
        if mode == "loss":
            return self.loss(inputs, data_samples)
        if mode == "predict":
            return self.predict(inputs, data_samples)
        raise ValueError(f"mode must be 'tensor', 'loss' or 'predict', got '{mode}'")

    def _forward(self, inputs: Mapping[str, Any]) -> Any:
        raise NotImplementedError

    def loss(
        self, inputs: Mapping[str, Any], data_samples: Sequence[PointDataSample]
    ) -> dict[str, Tensor]:
        """Losses of a batch by name."""
        raise NotImplementedError

    def predict(
        self, inputs: Mapping[str, Any], data_samples: Sequence[PointDataSample]
    ) -> list[PointDataSample]:
        """The data samples with predictions."""
        raise NotImplementedError
