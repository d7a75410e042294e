"""Golden files of CrossViT: two networks in one file, the second with stems of convolutions."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from mmeffvit.checkpoint import convert_official, load_weights
from mmeffvit.layers import MapContext
from mmeffvit.layers.class_token import CrossBlock
from mmeffvit.models import CrossViT
from mmeffvit.models.classifier import Classifier
from mmeffvit.models.network import Network
from mmeffvit.testing.families.base import GoldenFamily, named


class CrossViTGolden(GoldenFamily):
    family = "crossvit"
    system = "CrossViT"

    def arch(self, params: dict[str, Any]) -> dict[str, Any]:
        return {
            "embed_dims": tuple(params["embed_dim"]),
            "depths": tuple(map(tuple, params["depth"])),
            "num_heads": tuple(params["num_heads"]),
            "mlp_ratios": tuple(params["mlp_ratio"][:2]),
            "patch_sizes": tuple(params["patch_size"]),
            "image_sizes": tuple(params["img_size"]),
            "conv_stem": params.get("multi_conv", False),
        }

    def small_arch(self, cls: type[Network], variant: str) -> dict[str, Any]:
        sizes = {"embed_dims": (24, 32), "num_heads": (2, 4), "mlp_ratios": (2, 2)}
        sizes |= {"depths": ((1, 2, 0), (1, 1, 0)), "image_sizes": (60, 48)}
        return {**cls.arch_zoo[variant], **sizes}

    def outputs(self, meta: dict, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        results = self._network(self.arch(meta["cfg"]), tensors)
        if "dagger_cfg" in meta:
            dagger = self._network(self.arch(meta["dagger_cfg"]), named(tensors, "dagger/"))
            results |= {f"dagger/{key}": value for key, value in dagger.items()}
        block = named(tensors, "op/cross_attn_block/")
        if block:
            heads = meta["cfg"]["num_heads"][1]
            results["op/cross_attn_block/out"] = self._cross_block(block, heads)
        return results

    def _network(self, arch: dict[str, Any], tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        options = CrossViT.classifier_options
        whole = CrossViT(arch, **options)
        classes = len(tensors["state/head.0.bias"])
        network = Classifier(whole, whole.make_head(classes)).eval()
        state = self.converted(tensors)
        load_weights(network, state)
        results = {"out/logits": network(tensors["input"])}
        tokens, contexts = {}, {}
        for i, embedding in whole.embeddings.items():
            tokens[i] = embedding(whole._image_of(int(i), tensors["input"]))[0]
            contexts[i] = MapContext.of(tokens[i])
            results[f"out/embed{i}"] = _sequence(tokens[i])
        for k, block in enumerate(whole.blocks):
            tokens = block(tokens, contexts, whole.run_block)
            results |= {f"out/block{k}_branch{i}": _sequence(x) for i, x in tokens.items()}
        dense = CrossViT(arch, mode="fixed_size")
        load_weights(dense, state)
        for i, x in enumerate(dense.eval()(tensors["input"])):
            results[f"out/branch{i}"] = x
        for i, x in enumerate(whole(tensors["input"])):
            results[f"out/cls{i}"] = x[..., 0, 0]
        return results

    def _cross_block(self, tensors: dict[str, Tensor], num_heads: int) -> Tensor:
        """A cross block alone, with its keys as those of a first one."""
        x = tensors["in/x"]
        official = {f"blocks.0.fusion.0.{k}": v for k, v in named(tensors, "state/").items()}
        state = convert_official(official, self.family).state_dict
        block = CrossBlock(x.shape[2], num_heads, 0.0)
        block.load_state_dict(named(state, "backbone.blocks.0.exchanges.0.fusion.0."))
        return _sequence(block(x.transpose(1, 2).unsqueeze(2)))


def _sequence(x: Tensor) -> Tensor:
    """(B, C, 1, L) as the authors' (B, L, C)."""
    return x[:, :, 0].transpose(1, 2)
