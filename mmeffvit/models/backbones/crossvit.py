"""CrossViT: two plain ViTs of one image, whose class tokens exchange what they know.

arXiv 2103.14899, published for classification; maps of images of any size are ours.
"""

from __future__ import annotations

import math
from functools import partial
from typing import Any, ClassVar

import torch.nn.functional as F
from torch import Tensor, nn

from mmeffvit.layers import LayerNorm2d, MapContext
from mmeffvit.layers.class_token import ClassTokenEmbedding, MultiScaleBlock, TokenExchange
from mmeffvit.layers.init import draw_linear_layers
from mmeffvit.layers.stem import conv_patches
from mmeffvit.models.backbones.base import BaseBackbone, pad_sides
from mmeffvit.models.backbones.plain import plain_block
from mmeffvit.models.heads.classifiers import BranchClassifier
from mmeffvit.models.official import KeyRule, as_conv
from mmeffvit.models.published.crossvit import WEIGHTS
from mmeffvit.models.weights import WeightsFile
from mmeffvit.ops import map_layout
from mmeffvit.registry import MODELS


def _arch(dim: int, depth: int, num_heads: int, mlp_ratio: float, **changes: Any) -> dict[str, Any]:
    return {
        "embed_dims": (dim, 2 * dim),
        "depths": ((1, depth, 0),) * 3,
        "num_heads": (num_heads, num_heads),
        "mlp_ratios": (mlp_ratio, mlp_ratio),
        "patch_sizes": (12, 16),
        "image_sizes": (240, 224),
        "conv_stem": False,
        **changes,
    }


_dagger = partial(_arch, conv_stem=True)


def _rules() -> tuple[KeyRule, ...]:
    """The authors' keys; linear layers become 1x1 convolutions."""
    embedding, block = r"backbone.embeddings.\1.", r"blocks\.(\d+)\."
    names = {
        r"patch_embed\.(\d)\.proj\.(.+)": rf"{embedding}patch_embed.\2",
        r"pos_embed\.(\d)": f"{embedding}position.table",
        rf"{block}projs\.(\d)\.(.+)": r"backbone.blocks.\1.exchanges.\2.there.\3",
        rf"{block}revert_projs\.(\d)\.(.+)": r"backbone.blocks.\1.exchanges.\2.back.\3",
        r"norm\.(\d)\.(\w+)": r"backbone.out_norms.\1.\2",
    }
    for theirs, ours in (("norm1", "norm1"), ("norm2", "norm2"), ("attn", "mixer"), ("mlp", "ffn")):
        own = rf"backbone.blocks.\1.encoders.\2.\3.{ours}.\4"
        names[rf"{block}blocks\.(\d)\.(\d+)\.{theirs}\.(.+)"] = own
    rules = [KeyRule(*pair, transform=as_conv) for pair in names.items()]
    # a chain of cross blocks has numbers, a single one has none
    for number, own in (("", r"0.{}.\3"), (r"(\d+)\.", r"\3.{}.\4")):
        fusion = rf"{block}fusion\.(\d)\.{number}"
        for theirs, ours, part in (
            ("norm1", "norm1", (0, 1)),
            (r"attn\.wq", "attn.q", (0, 1)),
            (r"attn\.wk", "attn.kv", (0, 2)),
            (r"attn\.wv", "attn.kv", (1, 2)),
            (r"attn\.proj", "attn.proj", (0, 1)),
        ):
            target = r"backbone.blocks.\1.exchanges.\2.fusion." + own.format(ours)
            pattern = rf"{fusion}{theirs}\.(weight|bias)"
            rules.append(KeyRule(pattern, target, part=part, transform=as_conv))
    token = KeyRule(r"cls_token\.(\d)", f"{embedding}class_token.weight", transform=lambda t: t[0])
    return (*rules, token, KeyRule(r"head\.(\d)\.(\w+)", r"head.fcs.\1.\2"))


@MODELS.register_module()
class CrossViT(BaseBackbone):
    """CrossViT in its eleven published variants (arXiv 2103.14899).

    Its two outputs are the maps of the branches, of strides 12 and 16. Keys of an arch dict, of two
    entries but for the second and the last:

    - ``embed_dims``, ``num_heads``, ``mlp_ratios``, ``patch_sizes``.
    - ``depths``: Per multi-scale block the ViT blocks of both branches, and the cross blocks after
      them, of which 0 means one.
    - ``image_sizes``: Of the squares that the position tables, which are resized, are for.
    - ``conv_stem``: Convolutions in place of the embedding of patches of 12 and 16 ("dagger").

    Args:
        arch: A name in `arch_zoo`, such as 'small' or '18-dagger', or a dict.
        mode: ``'dense'``: both branches see the image as it is, filled up with zeros to whole
            patches; the second sees things 15/14 as large as in training. ``'fixed_size'``: each
            sees it squashed to its square, as published; maps then have the squares' sizes.
        out_type: ``'map'``, or ``'class_token'`` for class tokens as maps of one pixel.
        **kwargs: Those of `BaseBackbone`; `frozen_stages` counts multi-scale blocks.
    """

    family: ClassVar[str] = "crossvit"
    arch_zoo: ClassVar[dict[str, dict[str, Any]]] = {
        "tiny": _arch(96, 4, 3, 4),
        "small": _arch(192, 4, 6, 4),
        "base": _arch(384, 4, 12, 4),
        "9": _arch(128, 3, 4, 3),
        "15": _arch(192, 5, 6, 3),
        "18": _arch(224, 6, 7, 3),
        "9-dagger": _dagger(128, 3, 4, 3),
        "15-dagger": _dagger(192, 5, 6, 3),
        "18-dagger": _dagger(224, 6, 7, 3),
        "15-dagger-408": _dagger(192, 5, 6, 3, image_sizes=(408, 384)),
        "18-dagger-408": _dagger(224, 6, 7, 3, image_sizes=(408, 384)),
    }
    drop_path_rates: ClassVar[dict[str, float]] = dict.fromkeys(arch_zoo, 0.1)
    classifier_options: ClassVar[dict[str, Any]] = {"mode": "fixed_size", "out_type": "class_token"}
    whole_options: ClassVar[dict[str, Any]] = classifier_options
    official_rules: ClassVar[tuple[KeyRule, ...]] = _rules()
    weights: ClassVar[tuple[WeightsFile, ...]] = WEIGHTS

    def __init__(
        self, arch: str | dict = "small", *args, mode: str = "dense", out_type="map", **kwargs
    ):
        if mode not in ("dense", "fixed_size") or out_type not in ("map", "class_token"):
            allowed = "'dense' or 'fixed_size' and out_type 'map' or 'class_token'"
            raise ValueError(f"mode must be {allowed}, got {mode!r} and {out_type!r}")
        super().__init__(arch, *args, **kwargs)
        self.mode, self.out_type = mode, out_type
        needs = self._needs()
        self.embeddings = nn.ModuleDict({str(i): self._make_embedding(i) for i in needs[0][0]})
        self.blocks = nn.ModuleList(self._make_block(k, *both) for k, both in enumerate(needs))
        norms = {str(i): LayerNorm2d(self.stage_channels[i], eps=1e-6) for i in self.out_indices}
        self.out_norms = nn.ModuleDict(norms if self.out_norm else {})
        draw_linear_layers(self)
        self.freeze()

    def _needs(self) -> list[tuple[set[int], set[int]]]:
        """Per multi-scale block the branches whose encoder, and whose exchange, an output reads."""
        encoders, needs = {*self.out_indices}, []
        exchanges = encoders if self.out_type == "class_token" else set()
        for _ in self.arch["depths"]:
            # an exchange reads the patches of the other branch
            encoders = {0, 1} if exchanges else encoders
            needs.append((encoders, exchanges))
            exchanges = encoders
        return needs[::-1]

    def _make_embedding(self, branch: int) -> ClassTokenEmbedding:
        dim, patch = self.stage_channels[branch], self.stage_strides[branch]
        make = conv_patches if self.arch["conv_stem"] else partial(nn.Conv2d, stride=patch)
        size = (self.arch["image_sizes"][branch] // patch,) * 2
        return ClassTokenEmbedding(make(self.in_channels, dim, patch), dim, size)

    def _make_block(self, index: int, encoders: set[int], exchanges: set[int]) -> MultiScaleBlock:
        arch, depth = self.arch, self.arch["depths"][index]
        # as published: cross blocks count in the table of rates, and all have the last one
        before, *_, count = (sum(d[1] + d[2] for d in arch["depths"][:k]) for k in (index, None))
        rates = [self.drop_path_rate * (before + n) / max(count - 1, 1) for n in range(sum(depth))]
        sizes = zip(arch["embed_dims"], arch["num_heads"], arch["mlp_ratios"], depth)
        names = ("embed_dims", "num_heads", "mlp_ratio", "depth")
        shared = {"window_sizes": None, "layer_scale": None}
        branches = [{**dict(zip(names, entry)), **shared} for entry in sizes]
        dims, last, count = arch["embed_dims"], rates[depth[1] + depth[2] - 1], max(depth[2], 1)
        return MultiScaleBlock(
            {
                str(i): [plain_block(branches[i], n, rates[n]) for n in range(depth[i])]
                for i in encoders
            },
            {
                str(i): TokenExchange(dims[i], dims[1 - i], arch["num_heads"][1 - i], count, last)
                for i in exchanges
            },
        )

    def make_head(self, num_classes: int) -> nn.Module:
        return BranchClassifier(self.out_channels, num_classes)

    def check_arch(self) -> None:
        keys = ("embed_dims", "num_heads", "mlp_ratios", "patch_sizes", "image_sizes")
        if any(len(self.arch[key]) != 2 for key in keys):
            raise ValueError(f"{', '.join(keys)} need an entry for each of two branches")
        depths = self.arch["depths"]
        if any(len(depth) != 3 or not 1 <= depth[0] <= depth[1] for depth in depths):
            needed = "(blocks of branch 0, of branch 1, cross blocks) with 1 <= first <= second"
            raise ValueError(f"arch['depths'] must be {needed} each; got {depths}")
        if self.arch["conv_stem"] and {*self.arch["patch_sizes"]} - {12, 16}:
            raise ValueError(f"conv_stem makes patches of 12 and 16: {self.arch['patch_sizes']}")

    @property
    def size_divisor(self) -> int:
        return math.lcm(*self.arch["patch_sizes"])

    @property
    def stage_strides(self) -> tuple[int, ...]:
        return tuple(self.arch["patch_sizes"])

    @property
    def stage_channels(self) -> tuple[int, ...]:
        return tuple(self.arch["embed_dims"])

    @property
    def num_built_stages(self) -> int:
        return len(self.arch["depths"])  # every output needs all multi-scale blocks

    def get_layer_depth(self, param_name: str, prefix: str = "") -> tuple[int, int]:
        """See `BaseBackbone`: the longer branch counts, the other one ends with it."""
        depths, name = self.arch["depths"], param_name.removeprefix(prefix)
        layer = last = sum(depth[1] for depth in depths) + 1
        if param_name.startswith(f"{prefix}embeddings."):
            layer = 0
        elif param_name.startswith(f"{prefix}blocks."):
            _, index, kind, branch, number = name.split(".")[:5]
            layer = sum(depth[1] for depth in depths[: int(index) + 1])
            if kind == "encoders":
                layer -= depths[int(index)][int(branch)] - 1 - int(number)
        return layer, last + 1

    def frozen_modules(self) -> list[nn.Module]:
        stages = self.frozen_stages
        return [] if stages < 0 else [self.embeddings, *self.blocks[:stages]]

    def may_be_missing(self, name: str) -> str | None:
        if name.startswith(f"blocks.{len(self.arch['depths']) - 1}.exchanges."):
            return "an exchange of class tokens that maps do without"
        return super().may_be_missing(name)

    def _image_of(self, branch: int, image: Tensor) -> Tensor:
        if self.mode == "dense":
            return pad_sides(image, self.stage_strides[branch])
        size = (self.arch["image_sizes"][branch],) * 2
        same = image.shape[-2:] == size
        return image if same else F.interpolate(image, size, mode="bicubic", align_corners=False)

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        self.check_input(image)
        tokens, sizes = {}, {}
        for i, embedding in self.embeddings.items():
            tokens[i], sizes[i] = embedding(map_layout(self._image_of(int(i), image)))
        contexts = {i: MapContext.of(x) for i, x in tokens.items()}
        for block in self.blocks:
            tokens = block(tokens, contexts, self.run_block)
        outs = []
        for i in map(str, self.out_indices):
            x = self.out_norms[i](tokens[i]) if self.out_norm else tokens[i]
            is_map = self.out_type == "map"
            outs.append(x[:, :, 0, 1:].unflatten(2, sizes[i]) if is_map else x[..., :1])
        return tuple(outs)
