"""ViT-CoMer: a plain ViT and a convolutional pyramid that exchange features (arXiv 2403.07392).

The authors' classes for detection and for segmentation differ; both are variants here. Parts of the
interactions (the paper's CTI, fusions of both branches) have the names of the authors' weights.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, ClassVar

from torch import Tensor, nn

from mmeffvit.layers import Context, MapContext, PositionTable
from mmeffvit.layers.levels import ConvBranch, Interaction, draw_levels, output_map
from mmeffvit.layers.position_table import resize_table
from mmeffvit.models.backbones.base import BaseBackbone, MapEdit
from mmeffvit.models.backbones.plain import plain_block
from mmeffvit.models.official import PLAIN_RULES, KeyRule, as_conv
from mmeffvit.ops import map_layout
from mmeffvit.registry import MODELS


def _arch(dim: int, num_heads: int, deform_heads: int, deform_ratio: float, mrfp_ratio: float):
    return {
        "embed_dims": dim,
        "depth": 12,
        "num_heads": num_heads,
        "mlp_ratio": 4,
        "layer_scale": 1.0,
        "image_size": 224,
        "window_sizes": None,
        "conv_channels": 64,
        "interactions": ((0, 2), (3, 5), (6, 8), (9, 11)),
        "to_vit": (True,) * 4,
        "to_cnn": (True,) * 4,
        "cnn_attention": (True,) * 4,
        "num_extra": 4,
        "vit_feature": "each",
        "deform_heads": deform_heads,
        "deform_ratio": deform_ratio,
        "deform_points": 4,
        "mrfp_ratio": mrfp_ratio,
        "ffn_ratio": 0.25,
    }


#: what the class for detection, which starts from DINOv2, has of its own
_DET = {"image_size": 592, "window_sizes": (14, 14, None) * 4, "vit_feature": "last"}


@MODELS.register_module()
class ViTCoMer(BaseBackbone):
    """ViT-CoMer, tiny to base (arXiv 2403.07392), as published for detection and segmentation.

    Images are padded inside to multiples of 32. Keys of an arch dict beside those of `PlainViT`
    (whose patches are of 16 pixels here):

    - ``conv_channels``: Of the stem of the convolutional branch.
    - ``interactions``: First and last ViT block of each. Per interaction: ``to_vit`` (pyramid to
      ViT, before its blocks), ``to_cnn`` (back, after them), ``cnn_attention`` (attention in the
      latter); ``num_extra`` more of the latter follow the last one.
    - ``vit_feature``: Which map of the ViT is added to the outputs: ``'last'`` to all, ``'each'``
      that of interaction i to output i (there must be four), or None.
    - ``deform_heads``, ``deform_points``, ``deform_ratio`` (width of the values over C),
      ``mrfp_ratio``, ``ffn_ratio`` (hidden widths over C).

    Args:
        arch: 'det-small', 'det-base', 'seg-tiny', 'seg-small', 'seg-base' or a dict.
        implementation: Of `mmeffvit.ops.deformable_attention`; None lets it choose.
        **kwargs: Those of `BaseBackbone`. `out_norm`: batch norms, as published. `frozen_stages`:
            0 is the embedding, i also the convolutions, i interactions and their ViT blocks.
    """

    family: ClassVar[str] = "vit-comer"
    arch_zoo: ClassVar[dict[str, dict[str, Any]]] = {
        "det-small": {**_arch(384, 6, 6, 1.0, 0.5), **_DET},
        "det-base": {**_arch(768, 12, 12, 0.5, 0.5), **_DET},
        "seg-tiny": _arch(192, 3, 6, 1.0, 6.0),
        "seg-small": _arch(384, 6, 6, 1.0, 1.5),
        "seg-base": _arch(768, 12, 12, 0.5, 1.0),
    }
    drop_path_rates: ClassVar[dict[str, float]] = dict(zip(arch_zoo, (0.2, 0.3, 0.1, 0.2, 0.3)))
    size_divisor: ClassVar[int] = 32
    stage_strides: ClassVar[tuple[int, ...]] = (4, 8, 16, 32)
    map_edits: ClassVar[str | None] = "stem"
    new_weights: ClassVar[dict[str, str]] = dict.fromkeys(
        ("spm", "interactions", "up", "out_norms"), "not in the weights of a plain ViT"
    )
    official_rules: ClassVar[tuple[KeyRule, ...]] = (
        *PLAIN_RULES,
        KeyRule(r"level_embed", r"backbone.spm.level_embed"),
        KeyRule(r"norm(\d)\.(\w+)", r"backbone.out_norms.\1.\2", shift=-1),
        *(
            KeyRule(
                rf"(.+\.attn)\.{layer}\.(\w+)",
                r"backbone.\1.sampling.\2",
                part=(index, 2),
                transform=as_conv,
            )
            for index, layer in enumerate(("sampling_offsets", "attention_weights"))
        ),
        KeyRule(r"(.+\.ffn\.dwconv)\.dwconv\.(\w+)", r"backbone.\1.\2"),
        KeyRule(r"(.+\.mrfp)\.dwconv\.(dwconv|bn)(\d)\.(\w+)", r"backbone.\1.\2.\3.\4"),
        KeyRule(r"(.+\.cti_tov)\.gamma", r"backbone.\1.scale.gamma"),
        KeyRule(r"((?:spm|up|interactions)\..+)", r"backbone.\1", transform=as_conv),
        KeyRule(r"(?:cls|mask)_token", None, reason="a token that this network does without"),
        KeyRule(r"norm\.\w+", None, reason="the norm after the ViT, which is not used here"),
        KeyRule(r"head\.\w+", None, reason="the classifier"),
    )

    def __init__(
        self,
        arch: str | Mapping[str, Any] = "det-small",
        *args: Any,
        implementation: str | None = None,
        **kwargs: Any,
    ):
        super().__init__(arch, *args, **kwargs)
        arch, rate = self.arch, self.drop_path_rate
        dim, side = arch["embed_dims"], arch["image_size"] // 16
        self.patch_embed = nn.Conv2d(self.in_channels, dim, 16, stride=16)
        # with the slot of a class token, as the weights of plain ViTs have it
        self.position = PositionTable(dim, (side, side), extra_tokens=1)
        self.blocks = nn.ModuleList(
            plain_block(arch, i, rate * i / max(arch["depth"] - 1, 1)) for i in range(arch["depth"])
        )
        self.spm = ConvBranch(self.in_channels, arch["conv_channels"], dim, 0 in self.out_indices)
        last = len(arch["interactions"]) - 1
        self.interactions = nn.ModuleList(
            Interaction(
                dim,
                int(dim * arch["ffn_ratio"]),
                rate,
                mrfp_dim=round(dim * arch["mrfp_ratio"]) if arch["to_vit"][i] else None,
                to_cnn=arch["to_cnn"][i],
                num_extra=arch["num_extra"] if i == last else 0,
                cnn_attention=arch["cnn_attention"][i],
                num_heads=arch["deform_heads"],
                num_points=arch["deform_points"],
                value_ratio=arch["deform_ratio"],
                implementation=implementation,
            )
            for i in range(last + 1)
        )
        self.up = nn.ConvTranspose2d(dim, dim, 2, stride=2) if 0 in self.out_indices else None
        self.out_norms = nn.ModuleDict(
            {str(i): nn.BatchNorm2d(dim) for i in self.out_indices if self.out_norm}
        )
        self.reset_parameters()
        self.freeze()

    def reset_parameters(self) -> None:
        """Draw linear layers from a normal of std 0.02, convolutions of std sqrt(2 / fan out)."""
        draw_levels(self, set(self.spm.modules()))

    def check_arch(self) -> None:
        arch, count = self.arch, len(self.arch["interactions"])
        for key in ("to_vit", "to_cnn", "cnn_attention"):
            if len(arch[key]) != count:
                raise ValueError(
                    f"arch['{key}'] needs one entry for each of the {count} interactions, got "
                    f"{arch[key]}"
                )
        if arch["vit_feature"] not in ("last", "each", None) or (
            arch["vit_feature"] == "each" and count != 4
        ):
            raise ValueError(
                "arch['vit_feature'] must be 'last', 'each' (with four interactions) or None, got "
                f"{arch['vit_feature']!r} with {count} interactions"
            )

    # -- contract ----------------------------------------------------------------------------------

    @property
    def stage_channels(self) -> tuple[int, ...]:
        return (self.arch["embed_dims"],) * 4

    @property
    def num_built_stages(self) -> int:
        """Interactions, all of which every output needs."""
        return len(self.arch["interactions"])

    def get_layer_depth(self, param_name: str, prefix: str = "") -> tuple[int, int]:
        """See `BaseBackbone`: embedding, ViT blocks, and all else beside the last layer."""
        last = self.arch["depth"] + 1
        part, *rest = param_name.removeprefix(prefix).split(".")
        if not param_name.startswith(prefix) or part not in ("patch_embed", "position", "blocks"):
            return last, last + 1
        return int(rest[0]) + 1 if part == "blocks" else 0, last + 1

    def frozen_modules(self) -> list[nn.Module]:
        if self.frozen_stages < 0:
            return []
        frozen = [self.patch_embed, self.position, *([self.spm] if self.frozen_stages else [])]
        spans = self.arch["interactions"][: self.frozen_stages]
        for interaction, (first, last) in zip(self.interactions, spans):
            frozen += [interaction, *self.blocks[first : last + 1]]
        return frozen

    def adapt_weight(self, name: str, value: Tensor) -> Tensor | None:
        if name == "patch_embed.weight" and value.shape[:2] == self.patch_embed.weight.shape[:2]:
            # DINOv2's patches are of 14 pixels
            return resize_table(value, (16, 16))
        return super().adapt_weight(name, value)

    def may_be_ignored(self, name: str) -> str | None:
        if re.match(r"interactions\.\d+\.(mrfp\.|(cti_toc|extra_CTIs\.\d+)\.\w+_norm)", name):
            return "a part that the authors' class makes and does not use"
        return super().may_be_ignored(name)

    def forward(self, image: Tensor, edit: MapEdit | None = None) -> tuple[Tensor, ...]:
        self.check_input(image)
        padded = map_layout(self.pad_image(image))
        finest, maps = self.spm(padded)
        x = self.patch_embed(padded)
        x = self.position(edit(x, 0, 0) if edit else x)
        levels, context = Context(), MapContext.of(x)
        features = []
        for interaction, (first, last) in zip(self.interactions, self.arch["interactions"]):
            if interaction.cti_tov is not None:
                maps = interaction.before(maps, x)
                x = self.run_block(interaction.cti_tov, maps, x, levels)
            for block in self.blocks[first : last + 1]:
                x = self.run_block(block, x, context)
            for fusion in interaction.after():
                maps = self.run_block(fusion, maps, x, levels)
            features.append(x)
        outs = []
        for i in self.out_indices:
            feature = None
            if self.arch["vit_feature"]:
                feature = features[-1 if self.arch["vit_feature"] == "last" else i]
            out = output_map(i, maps, finest, self.up, feature)
            out = self.out_norms[str(i)](out) if self.out_norm else out
            outs.append(self.crop_map(out, image, i))
        return tuple(outs)
