"""mmpretrain's T2T-ViT and TNT as dense backbones: maps of images of any size; needs mmpretrain.

Weights keep mmpretrain's keys. Swin and Swin V2 need no more than arguments; docs/upstream_vits.md
has all four under detectors and segmentors.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from mmpretrain.models.backbones import TNT, T2T_ViT
from mmpretrain.models.utils import resize_pos_embed
from torch import Tensor, nn

from mmeffvit.registry import MODELS


def layers_from_start(out_indices: Sequence[int] | int, count: int) -> list[int]:
    """Layers counted from 0; negative ones are counted from the last.

    Raises:
        ValueError: There are no such layers, or they are not ascending.
    """
    indices = [out_indices] if isinstance(out_indices, int) else list(out_indices)
    counted = [index + count if index < 0 else index for index in indices]
    if not counted or counted != sorted(set(counted)) or not 0 <= counted[0] <= counted[-1] < count:
        raise ValueError(
            f"out_indices must be ascending layers out of 0..{count - 1}, or negative from the "
            f"last, each once; got {out_indices}"
        )
    return counted


class _DenseViT:
    """What the two have in common, beside mmpretrain's classes."""

    #: name of the list of layers
    layers_name: ClassVar[str]
    out_indices: list[int]

    def cut_after_last_output(self) -> None:
        """Remove the layers that no output needs, and the norm if the last layer is among them."""
        layers = getattr(self, self.layers_name)
        if self.out_indices[-1] < len(layers) - 1:
            del layers[self.out_indices[-1] + 1 :]
            self.norm = nn.Identity()

    @property
    def out_strides(self) -> tuple[int, ...]:
        return (16,) * len(self.out_indices)

    def train(self, mode: bool = True):
        super().train(mode)
        return self  # mmpretrain's returns nothing

    def get_layer_depth(self, param_name: str, prefix: str = "") -> tuple[int, int]:
        """Layer of a parameter and their number, as `mmeffvit.models.BaseBackbone` has it."""
        last = len(getattr(self, self.layers_name)) + 1
        part, *rest = param_name.removeprefix(prefix).split(".")
        if not param_name.startswith(prefix) or part == "norm":
            return last, last + 1
        return int(rest[0]) + 1 if part == self.layers_name else 0, last + 1


@MODELS.register_module()
class DenseT2T(_DenseViT, T2T_ViT):
    """T2T-ViT (arXiv 2101.11986) of mmpretrain as maps of stride 16, of images of any size.

    Attention is fused: the 67,200^2 weights that the first layer has at 800x1344 are never made.
    Logits are scaled as in the authors' code, with which the published weights were trained: by
    the -1/2 power of the channels of a head, in the two layers of the soft split those of the
    head's input. mmpretrain 1.x multiplies by the square root of a head's channels instead. Images
    are padded with zeros to multiples of 4 pixels, on the right and at the bottom.

    Args:
        out_indices: Layers whose maps are returned; the last layer's has the final norm. What comes
            after the last one of them is not built.
        num_layers: As in `T2T_ViT`.
        layer_cfgs: As in `T2T_ViT`.
        **kwargs: Those of `T2T_ViT`, without ``out_type``.

    Attributes:
        out_channels: Channels of each map.
        out_strides: Strides of each map.
    """

    layers_name = "encoder"

    def __init__(
        self,
        *args: Any,
        out_indices: Sequence[int] | int = -1,
        num_layers: int = 14,
        layer_cfgs: Mapping[str, Any] | Sequence[Mapping[str, Any]] = (),
        **kwargs: Any,
    ):
        configs = [layer_cfgs] * num_layers if isinstance(layer_cfgs, Mapping) else layer_cfgs
        configs = [dict(config) for config in configs or [{}] * num_layers]
        super().__init__(
            *args,
            out_indices=layers_from_start(out_indices, num_layers),
            num_layers=num_layers,
            layer_cfgs=configs,
            out_type="featmap",
            **kwargs,
        )
        split = self.tokens_to_token
        scales = [None, None, *(config.get("qk_scale") for config in configs)]
        for layer, scale in zip((split.attention1, split.attention2, *self.encoder), scales):
            attention = layer.attn
            scale = scale or (attention.input_dims // attention.num_heads) ** -0.5
            attention.scaled_dot_product_attention = partial(
                F.scaled_dot_product_attention, scale=scale
            )
        self.final_norm = self.final_norm and self.out_indices[-1] == num_layers - 1
        self.cut_after_last_output()

    @property
    def out_channels(self) -> tuple[int, ...]:
        return (self.tokens_to_token.embed_dims,) * len(self.out_indices)

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """(B, 3, H, W) to maps (B, C, ceil(H / 16), ceil(W / 16))."""
        # the first split would leave out a last pixel or two
        bottom, right = (-side % 4 for side in image.shape[-2:])
        return super().forward(F.pad(image, (0, right, 0, bottom)))

    def init_weights(self) -> None:
        if self.cls_token is None:
            # mmpretrain's draws the token that is not there
            super(T2T_ViT, self).init_weights()
        else:
            super().init_weights()


def _without_weights(module: nn.Module, args: tuple, kwargs: dict) -> tuple[tuple, dict]:
    """Arguments with which PyTorch's attention is fused: nobody reads the weights."""
    return args, {**kwargs, "need_weights": False}


@MODELS.register_module()
class DenseTNT(_DenseViT, TNT):
    """TNT (arXiv 2103.00112) of mmpretrain as maps of stride 16, of images of any size.

    Images are padded with zeros to multiples of the patch, on the right and at the bottom, and the
    table of patches is resized bicubically. Attention is fused.

    Args:
        out_indices: Layers whose maps are returned; the last layer's has the final norm. What comes
            after the last one of them is not built.
        img_size: Of the images that the table was made for.
        patch_size: Side of a patch; 16 or another number that `first_stride` divides.
        **kwargs: Those of `TNT`.

    Attributes:
        out_channels: Channels of each map.
        out_strides: Strides of each map.
    """

    layers_name = "layers"

    def __init__(
        self,
        *args: Any,
        out_indices: Sequence[int] | int = -1,
        img_size: int | tuple[int, int] = 224,
        patch_size: int = 16,
        **kwargs: Any,
    ):
        super().__init__(*args, img_size=img_size, patch_size=patch_size, **kwargs)
        self.out_indices = layers_from_start(out_indices, self.num_layers)
        self.patch_size = patch_size
        self.table_size = tuple(side // patch_size for side in self.pixel_embed.img_size)
        for layer in self.layers:
            for block in (layer.inner_block, layer.outer_block):
                block.attn.attn.register_forward_pre_hook(_without_weights, with_kwargs=True)
        self._register_load_state_dict_pre_hook(self._resize_table)
        self.cut_after_last_output()

    @property
    def out_channels(self) -> tuple[int, ...]:
        return (self.embed_dims_outer,) * len(self.out_indices)

    @property
    def out_strides(self) -> tuple[int, ...]:
        return (self.patch_size,) * len(self.out_indices)

    def _resize_table(self, state: dict[str, Tensor], prefix: str, *args: Any) -> None:
        """Weights for another image, which was square."""
        name = f"{prefix}patch_pos"
        if name in state and state[name].shape != self.patch_pos.shape:
            side = math.isqrt(state[name].shape[1] - 1)
            state[name] = resize_pos_embed(state[name], (side, side), self.table_size)

    def _pixels(self, image: Tensor) -> Tensor:
        """(B, 3, H, W) to the pixels of each patch, (B * patches, pixels, C)."""
        embed = self.pixel_embed
        pixels = embed.unfold(embed.proj(image)).transpose(1, 2)
        pixels = pixels.unflatten(2, (embed.embed_dims_inner, *embed.new_patch_size))
        return (pixels + self.pixel_pos).flatten(0, 1).flatten(2).transpose(1, 2)

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """(B, 3, H, W) to maps (B, C, ceil(H / patch), ceil(W / patch))."""
        bottom, right = (-side % self.patch_size for side in image.shape[-2:])
        image = F.pad(image, (0, right, 0, bottom))
        size = tuple(side // self.patch_size for side in image.shape[-2:])
        pixels = self._pixels(image)
        patches = pixels.reshape(len(image), math.prod(size), -1)
        patches = self.norm2_proj(self.projection(self.norm1_proj(patches)))
        patches = torch.cat((self.cls_token.expand(len(image), -1, -1), patches), 1)
        patches = patches + resize_pos_embed(self.patch_pos, self.table_size, size)
        patches = self.drop_after_pos(patches)
        outs = []
        for index, layer in enumerate(self.layers):
            pixels, patches = layer(pixels, patches)
            if index in self.out_indices:
                out = self.norm(patches) if index == self.num_layers - 1 else patches
                outs.append(out[:, 1:].transpose(1, 2).unflatten(2, size))
        return tuple(outs)
