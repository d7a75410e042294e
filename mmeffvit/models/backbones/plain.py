"""Plain vision transformers: patches, then blocks of one width and one stride.

`PlainViT` is the second loop beside `Pyramid`. A block sees a (B, C, H, W) map, so that mixers,
feed-forward networks and norms are those of pyramids. Tokens beside the map, such as a class token,
are learnt apart, and join it as a map of one row, (B, C, 1, E + H W), in which blocks without
places (softmax over everything) work as well.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from mmeffvit.layers import MLP, Block, LayerNorm2d, MapContext, PositionTable, SoftmaxMixer
from mmeffvit.layers.init import draw_linear_layers
from mmeffvit.models.backbones.base import BaseBackbone, MapEdit, one_per_block
from mmeffvit.models.heads.classifiers import LinearClassifier
from mmeffvit.models.official import PLAIN_RULES, KeyRule
from mmeffvit.ops import map_layout
from mmeffvit.registry import MODELS


def per_block(arch: Mapping[str, Any], key: str) -> list[Any]:
    """An entry of an arch dict: one value for all blocks, or a sequence of one per block."""
    return one_per_block(f"arch['{key}']", arch[key], arch["depth"])


def plain_block(arch: Mapping[str, Any], index: int, drop_path: float, **options: Any) -> Block:
    """A block of ViT (arXiv 2010.11929): softmax attention and an MLP, both after a norm.

    Args:
        arch: As that of `PlainViT`.
        index: Place of the block from 0.
        drop_path: Its stochastic-depth rate.
        **options: Those of `SoftmaxMixer`.
    """
    dim, window = arch["embed_dims"], per_block(arch, "window_sizes")[index]
    return Block(
        dim,
        SoftmaxMixer(dim, arch["num_heads"], window, **options),
        MLP(dim, int(arch["mlp_ratio"] * dim)),
        norm=partial(LayerNorm2d, eps=1e-6),
        drop_path=drop_path,
        layer_scale=arch["layer_scale"],
    )


def _arch(dim: int, num_heads: int, **changes: Any) -> dict[str, Any]:
    return {
        "embed_dims": dim,
        "depth": 12,
        "num_heads": num_heads,
        "mlp_ratio": 4,
        "patch_size": 16,
        "image_size": 224,
        "extra_tokens": 1,
        "window_sizes": None,
        "layer_scale": None,
        **changes,
    }


@MODELS.register_module()
class PlainViT(BaseBackbone):
    """A plain vision transformer: ViT (arXiv 2010.11929) as DeiT (arXiv 2012.12877) sized it.

    Its outputs are the maps after some blocks, by default the last one, all of one stride; the neck
    `PlainToPyramid` makes a pyramid of them. The keys of an arch dict:

    - ``embed_dims``, ``depth``, ``num_heads``, ``mlp_ratio``: one number each.
    - ``patch_size``: Pixels of a side of a patch, and the stride.
    - ``image_size``: Of the square image that the position table was made for; it is resized to
      other maps, bicubically.
    - ``extra_tokens``: Learnt tokens beside the map; the first one is the class token. 0 for none.
    - ``window_sizes``: Side of the attention windows, one entry per block or one for all; None for
      attention over the whole map. Windows need ``extra_tokens=0``.
    - ``layer_scale``: Initial value, or None.

    A network of this kind overrides :meth:`make_patch_embed`, :meth:`make_position` or
    :meth:`make_block`, which are called while it is built, when `arch` is there; what it puts
    before the blocks besides, it does in :meth:`embed`.

    Args:
        arch: 'tiny', 'small', 'base' or a dict.
        out_type: ``'map'``, or ``'class_token'`` to return the class token as a map of one pixel.
        block_options: Keyword arguments of :meth:`make_block`, such as ``implementation`` of
            `mmeffvit.ops.map_window_attention`.
        **kwargs: Those of `BaseBackbone`; ``out_indices`` are blocks, and `frozen_stages` counts
            the embedding and blocks.
    """

    family: ClassVar[str] = "vit"
    arch_zoo: ClassVar[dict[str, dict[str, Any]]] = {
        "tiny": _arch(192, 3),
        "small": _arch(384, 6),
        "base": _arch(768, 12),
    }
    drop_path_rates: ClassVar[dict[str, float]] = dict.fromkeys(arch_zoo, 0.1)
    #: parts before the blocks, with which freezing and layers of decaying rates begin
    embedding_parts: ClassVar[tuple[str, ...]] = ("patch_embed", "position", "extra_tokens")
    classifier_options: ClassVar[dict[str, Any]] = {"out_type": "class_token"}
    map_edits: ClassVar[str | None] = "stem"
    official_rules: ClassVar[tuple[KeyRule, ...]] = (
        *PLAIN_RULES,
        KeyRule(r"cls_token", r"backbone.extra_tokens.weight", transform=lambda t: t[0]),
        # the authors' norm follows the last of 12 blocks
        KeyRule(r"norm\.(\w+)", r"backbone.out_norms.11.\1"),
        KeyRule(r"head\.(\w+)", r"head.fc.\1"),
    )

    def __init__(
        self,
        arch: str | Mapping[str, Any] = "tiny",
        *args: Any,
        out_type: str = "map",
        block_options: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ):
        super().__init__(arch, *args, **kwargs)
        dim, extra = self.arch["embed_dims"], self.arch["extra_tokens"]
        if out_type not in ("map", "class_token") or (out_type == "class_token" and not extra):
            raise ValueError(
                "out_type must be 'map', or 'class_token' where there are extra_tokens; got "
                f"{out_type!r} with extra_tokens={extra}"
            )
        self.out_type = out_type
        self.patch_embed = self.make_patch_embed(self.in_channels, dim)
        # 0 of networks whose positions have no size
        side = self.arch.get("image_size", 0) // self.arch["patch_size"]
        self.position = self.make_position(dim, (side, side), extra)
        self.extra_tokens = nn.Embedding(extra, dim) if extra else None
        last_block = max(self.arch["depth"] - 1, 1)
        self.blocks = nn.ModuleList(
            self.make_block(i, self.drop_path_rate * i / last_block, **(block_options or {}))
            for i in range(self.num_built_stages)
        )
        self.out_norms = nn.ModuleDict(
            {str(i): LayerNorm2d(dim, eps=1e-6) for i in self.out_indices if self.out_norm}
        )
        self.reset_parameters()
        self.freeze()

    # -- parts of a network ------------------------------------------------------------------------

    def make_patch_embed(self, in_channels: int, dim: int) -> nn.Module:
        """Images (B, C, H, W), padded to whole patches, to maps of `dim` channels."""
        patch = self.arch["patch_size"]
        return nn.Conv2d(in_channels, dim, patch, stride=patch)

    def make_position(self, dim: int, size: tuple[int, int], extra_tokens: int) -> PositionTable:
        """Positions of a map of `size`, and of so many tokens beside it."""
        return PositionTable(dim, size, extra_tokens)

    def make_block(self, index: int, drop_path: float, **options: Any) -> nn.Module:
        """A block: (B, C, H, W) and a context to (B, C, H, W).

        Args:
            index: Place from 0.
            drop_path: Its stochastic-depth rate.
            **options: What the network handed on.
        """
        return plain_block(self.arch, index, drop_path, **options)

    def make_context(self, x: Tensor, size: tuple[int, int]) -> MapContext:
        """What blocks know of places: of tokens `x` that belong to a map of `size`."""
        return MapContext.of(x)

    def make_head(self, num_classes: int) -> nn.Module:
        return LinearClassifier(self.out_channels[-1], num_classes)

    def reset_parameters(self) -> None:
        """Draw 1x1 convolutions and extra tokens from a normal of std 0.02; the rest as in timm."""
        for module in self.modules():
            if isinstance(module, nn.Embedding):
                nn.init.trunc_normal_(module.weight, std=0.02)
        draw_linear_layers(self)

    def check_arch(self) -> None:
        if self.arch["extra_tokens"] and any(per_block(self.arch, "window_sizes")):
            raise ValueError(
                "windows hold tokens of the map alone: set extra_tokens=0, or window_sizes=None"
            )

    @property
    def size_divisor(self) -> int:
        return self.arch["patch_size"]

    @property
    def stage_strides(self) -> tuple[int, ...]:
        return (self.arch["patch_size"],) * self.arch["depth"]

    @property
    def stage_channels(self) -> tuple[int, ...]:
        return (self.arch["embed_dims"],) * self.arch["depth"]

    @property
    def default_out_indices(self) -> tuple[int, ...]:
        return (self.arch["depth"] - 1,)

    def get_layer_depth(self, param_name: str, prefix: str = "") -> tuple[int, int]:
        """See `BaseBackbone`: layer 0 is the embedding, with positions and extra tokens."""
        last = self.num_built_stages + 1
        part, *rest = param_name.removeprefix(prefix).split(".")
        if not param_name.startswith(prefix) or part not in (*self.embedding_parts, "blocks"):
            return last, last + 1
        return int(rest[0]) + 1 if part == "blocks" else 0, last + 1

    def frozen_modules(self) -> list[nn.Module]:
        if self.frozen_stages < 0:
            return []
        embedding = [getattr(self, name, None) for name in self.embedding_parts]
        norms = [n for i, n in self.out_norms.items() if int(i) < self.frozen_stages]
        return [m for m in embedding if m is not None] + [
            *self.blocks[: self.frozen_stages],
            *norms,
        ]

    def embed(self, image: Tensor, edit: MapEdit | None = None) -> Tensor:
        """Images to the map that the first block gets, without extra tokens."""
        x = self.patch_embed(map_layout(self.pad_image(image)))
        return self.position(edit(x, 0, 0) if edit else x)

    def forward(self, image: Tensor, edit: MapEdit | None = None) -> tuple[Tensor, ...]:
        self.check_input(image)
        x = self.embed(image, edit)
        size = x.shape[-2:]
        if self.extra_tokens is not None:
            extra = self.extra_tokens.weight + self.position.of_extra_tokens()
            extra = extra.T[None, :, None].expand(x.shape[0], -1, -1, -1)
            x = map_layout(torch.cat((extra.to(x.dtype), x.flatten(2).unsqueeze(2)), 3))
        context = self.make_context(x, size)
        outs = []
        for i, block in enumerate(self.blocks):
            x = self.run_block(block, x, context)
            if i in self.out_indices:
                out = self.out_norms[str(i)](x) if self.out_norm else x
                if self.out_type == "class_token":
                    outs.append(out[..., :1])
                elif self.extra_tokens is not None:
                    outs.append(out[:, :, 0, self.arch["extra_tokens"] :].unflatten(2, size))
                else:
                    outs.append(out)
        return tuple(outs)
