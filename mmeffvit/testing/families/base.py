"""How golden files are read: what all families share."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from torch import Tensor, nn

from mmeffvit.checkpoint import convert_official, load_weights
from mmeffvit.models.classifier import Classifier
from mmeffvit.models.network import Network
from mmeffvit.models.zoo import network_classes

#: family -> its adapter
FAMILIES: dict[str, GoldenFamily] = {}


class GoldenFamily:
    """One family's golden files; a sub-class says what is special about them."""

    #: name in `mmeffvit.list_backbones`; sub-classes with one are enrolled
    family: ClassVar[str] = ""
    #: how the files name the system, or how that name begins
    system: ClassVar[str] = ""
    #: largest absolute error allowed in float32
    tolerance: ClassVar[float] = 1e-4
    #: largest mean error under autocast allowed in the contract tests, over the mean output
    autocast_tolerance: ClassVar[float] = 0.03

    def __init_subclass__(cls, **kwargs: Any):
        super().__init_subclass__(**kwargs)
        if cls.family:
            FAMILIES[cls.family] = cls()

    def outputs(self, meta: dict, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        """All outputs of a file by name, computed with our code.

        Args:
            meta: What the file says of itself.
            tensors: Weights (``state/...``), inputs and outputs by name.
        """
        raise NotImplementedError

    def arch(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """Our arch dict from the arguments of the authors' constructor."""
        raise NotImplementedError

    def small_arch(self, cls: type[Network], variant: str) -> dict[str, Any]:
        """The structure of a variant in a size for tests: few blocks, a quarter of the channels."""
        arch = copy.deepcopy(cls.arch_zoo[variant])
        depths = arch["depths"]
        small = tuple(1 + (i == 2) for i in range(len(depths)))
        for key, value in arch.items():
            if isinstance(value, Sequence) and len(value) == len(depths):
                # lists of one entry per block are cut to the new depths
                arch[key] = tuple(
                    entry[:new] if _per_block(entry, old) else entry
                    for entry, old, new in zip(value, depths, small)
                )
        arch["depths"] = small
        arch["embed_dims"] = tuple(dim // 4 for dim in arch["embed_dims"])
        return arch

    def converted(self, tensors: dict[str, Tensor], prefix: str = "state/") -> dict[str, Tensor]:
        """The weights of a file under our keys."""
        return convert_official(named(tensors, prefix), self.family).state_dict


def _per_block(entry: Any, depth: int) -> bool:
    return isinstance(entry, Sequence) and not isinstance(entry, str) and len(entry) == depth


class PyramidGolden(GoldenFamily):
    """Files of image backbones: ``input`` to the map of every stage, and to logits.

    ``out/stage0``, or ``out/stage1`` in newer files, is the map of the first stage, with the norm
    on the output where the authors' dense backbone has one, and ``out/raw_stage0`` without it.
    Further inputs have a number (``input2``, ``out2/...``).
    """

    def params(self, meta: dict) -> dict[str, Any]:
        """Arguments of the authors' constructor."""
        return meta["constructor"] if "constructor" in meta else meta["params"]

    def network_options(self, meta: dict) -> dict[str, Any]:
        """Arguments of our network beside its arch."""
        return {}

    def head_options(self, meta: dict) -> dict[str, Any]:
        """Sizes of the head beside the number of classes."""
        return {}

    def is_normed(self, meta: dict, tensors: dict[str, Tensor]) -> bool:
        """Whether ``out/stage...`` are the normed maps of a dense backbone."""
        return "params" in meta or "out/raw_stage0" in tensors

    def outputs(self, meta: dict, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        results = {}
        for name in [key for key in tensors if key.startswith("input")]:
            out = name.replace("input", "out")
            results |= self.network_outputs(meta, tensors, tensors[name], f"{out}/")
        return results | self.operator_outputs(meta, tensors)

    def network_outputs(
        self, meta: dict, tensors: dict[str, Tensor], x: Tensor, out: str
    ) -> dict[str, Tensor]:
        """Maps and logits of an input, as far as the file has them."""
        first = 0 if f"{out}stage0" in tensors else 1
        normed = self.build(meta, tensors, out_norm=self.is_normed(meta, tensors))
        results = {f"{out}stage{i}": m for i, m in enumerate(normed(x), first)}
        if f"{out}raw_stage{first}" in tensors:
            raw = self.build(meta, tensors, out_norm=False)
            results |= {f"{out}raw_stage{i}": m for i, m in enumerate(raw(x), first)}
        if f"{out}logits" in tensors:
            results[f"{out}logits"] = self.build_classifier(meta, tensors)(x)
        return results

    def operator_outputs(self, meta: dict, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        """Outputs of operators and modules alone (``op/...``)."""
        return {}

    def build(self, meta: dict, tensors: dict[str, Tensor], **options: Any) -> Network:
        """Our backbone with the weights of the file."""
        cls = network_classes()[self.family]
        arch = self.arch(self.params(meta))
        backbone = cls(arch=arch, **{**self.network_options(meta), **options})
        load_weights(backbone, self.converted(tensors))
        return backbone.eval()

    def build_classifier(self, meta: dict, tensors: dict[str, Tensor]) -> Classifier:
        """Our classifier with the weights of the file."""
        cls = network_classes()[self.family]
        arch = self.arch(self.params(meta))
        backbone = cls(arch=arch, **{**self.network_options(meta), **cls.classifier_options})
        classes = meta["num_classes"] if "num_classes" in meta else self.params(meta)["num_classes"]
        network = Classifier(backbone, backbone.make_head(classes, **self.head_options(meta)))
        load_weights(network, self.converted(tensors))
        return network.eval()


class ConvPyramidGolden(PyramidGolden):
    """SecViT, RAVLT, SSViT and RMT, whose authors' constructors share most arguments."""

    def arch(self, params: Mapping[str, Any]) -> dict[str, Any]:
        scaled, initial = params["layerscales"], params["layer_init_values"]
        if not isinstance(initial, Sequence):
            initial = [initial] * len(scaled)
        return {
            **{key: params[key] for key in ("embed_dims", "depths", "num_heads", "mlp_ratios")},
            "layer_scale": [value if on else None for value, on in zip(initial, scaled)],
        }

    def head_options(self, meta: dict) -> dict[str, Any]:
        return {"hidden_channels": self.params(meta)["projection"]}


def named(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The tensors whose names start with a prefix, without it."""
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}


#: authors' names of the layers of an attention -> ours
_LAYERS = {"out_proj": "proj", "qkvo": "qkv"}


def load_mixer(mixer: nn.Module, tensors: dict[str, Tensor], prefix: str) -> nn.Module:
    """Give a mixer the weights of an attention alone."""
    state = {}
    for key, value in named(tensors, prefix).items():
        layer, _, kind = key.partition(".")
        state[f"{_LAYERS.get(layer, layer)}.{kind}"] = value
    mixer.load_state_dict(state)
    return mixer


def table_outputs(prefix: str, table: Tensor) -> dict[str, Tensor]:
    """A rotary table (L, d/2, 2) as the authors' two (L, d) tables."""
    cos, sin = (table[..., i].repeat_interleave(2, dim=-1) for i in (0, 1))
    return {f"{prefix}/cos": cos, f"{prefix}/sin": sin}
