"""Our backbones as ``AutoBackbone`` of Hugging Face transformers; imported when asked for."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor
from transformers import AutoBackbone, AutoConfig, AutoModel, PretrainedConfig, PreTrainedModel
from transformers.modeling_outputs import BackboneOutput
from transformers.utils.backbone_utils import BackboneConfigMixin, BackboneMixin

from mmeffvit.models import zoo


class MMEffViTConfig(BackboneConfigMixin, PretrainedConfig):
    """Config of a backbone of this package.

    Args:
        backbone: One of `mmeffvit.list_backbones`.
        options: Arguments of the network, such as ``drop_path_rate``.
        out_features: Stages that are returned, of ``'stage1'``, ``'stage2'`` ...
        out_indices: The same by their positions, from 0.
        **kwargs: Of transformers.
    """

    model_type: ClassVar[str] = "mmeffvit"

    def __init__(
        self,
        backbone: str = "ravlt-tiny",
        options: dict[str, Any] | None = None,
        out_features: list[str] | None = None,
        out_indices: list[int] | None = None,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.backbone = backbone
        self.options = dict(options or {})
        with torch.device("meta"):
            network = zoo.create_backbone(backbone, **self.options)
        self.stage_names = [f"stage{i + 1}" for i in range(network.num_stages)]
        self.hidden_sizes = list(network.stage_channels)
        if out_features is None and out_indices is None:
            out_indices = list(network.default_out_indices)
        if out_features is None:
            out_features = [self.stage_names[i] for i in out_indices]
        self.out_features = out_features


class MMEffViTBackbone(BackboneMixin, PreTrainedModel):
    """A backbone of this package; `network` is ours."""

    config_class = MMEffViTConfig
    base_model_prefix = "network"
    main_input_name = "pixel_values"
    has_attentions = False

    def __init__(self, config: MMEffViTConfig):
        super().__init__(config)
        if hasattr(self, "_init_backbone"):  # before transformers 5
            self._init_backbone(config)
        self.num_features = list(config.hidden_sizes)
        indices = tuple(config.stage_names.index(name) for name in config.out_features)
        self.network = zoo.create_backbone(config.backbone, out_indices=indices, **config.options)
        self.post_init()

    def _init_weights(self, module: torch.nn.Module) -> None:
        """Nothing: networks of ours begin with weights of their own."""

    def forward(self, pixel_values: Tensor, **kwargs: Any) -> BackboneOutput:
        """Maps (B, C_i, H_i, W_i) of images (B, C, H, W)."""
        return BackboneOutput(feature_maps=self.network(pixel_values))


def register() -> None:
    """Let ``AutoConfig``, ``AutoBackbone`` and ``AutoModel`` know them.

    A folder is loaded by ``AutoModel``: ``AutoBackbone`` of transformers 5 takes names of the hub
    alone.
    """
    AutoConfig.register(MMEffViTConfig.model_type, MMEffViTConfig, exist_ok=True)
    AutoBackbone.register(MMEffViTConfig, MMEffViTBackbone, exist_ok=True)
    AutoModel.register(MMEffViTConfig, MMEffViTBackbone, exist_ok=True)
