"""Golden files of ResFormer: one network on square images of several sizes."""

from __future__ import annotations

import re
from typing import Any

import torch
from torch import Tensor

from mmeffvit.checkpoint import convert_official, load_weights
from mmeffvit.layers import MapContext, SharedLePEMixer
from mmeffvit.models import ResFormer
from mmeffvit.models.classifier import Classifier
from mmeffvit.models.network import Network
from mmeffvit.models.official import as_conv
from mmeffvit.testing.families.base import GoldenFamily, named


class ResFormerGolden(GoldenFamily):
    family = "resformer"
    system = "ResFormer"

    def arch(self, params: dict[str, Any]) -> dict[str, Any]:
        return {
            "embed_dims": params["embed_dim"],
            "depth": params["depth"],
            "num_heads": params["num_heads"],
            "mlp_ratio": params.get("mlp_ratio", 4),
            "patch_size": params.get("patch_size", 16),
            "extra_tokens": 1,
        }

    def small_arch(self, cls: type[Network], variant: str) -> dict[str, Any]:
        return {**cls.arch_zoo[variant], "embed_dims": 24, "num_heads": 3, "depth": 3}

    def converted(self, tensors: dict[str, Tensor], prefix: str = "state/") -> dict[str, Tensor]:
        state = convert_official(named(tensors, prefix), self.family).state_dict
        depth = 1 + max(int(key.split(".")[2]) for key in state if ".blocks." in key)
        # rules are for twelve blocks
        return {k.replace("out_norms.11.", f"out_norms.{depth - 1}."): v for k, v in state.items()}

    def outputs(self, meta: dict, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        arch, state = self.arch(meta["cfg"]), self.converted(tensors)
        dense = ResFormer(arch).eval()
        load_weights(dense, state)
        whole = ResFormer(arch, out_type="class_token")
        classifier = Classifier(whole, whole.make_head(len(tensors["state/head.bias"]))).eval()
        load_weights(classifier, state)
        results = {}
        for name in tensors:
            if found := re.fullmatch(r"((?:\w+/)?)input", name):
                patch = arch["patch_size"]
                rows, columns = (side // patch * patch for side in tensors[name].shape[-2:])
                # the authors drop what makes no whole patch
                image = tensors[name][..., :rows, :columns]
                results |= self._network(dense, classifier, image, f"{found[1]}out/")
        if "op/global_pos/out" in tensors:
            size = tensors["op/global_pos/out"].shape[-2:]
            results["op/global_pos/out"] = dense.position.of_map(*size)
        if "op/attn/out" in tensors:
            results["op/attn/out"] = _attention(named(tensors, "op/attn/"), arch["num_heads"])
        return results

    def _network(
        self, dense: ResFormer, classifier: Classifier, image: Tensor, out: str
    ) -> dict[str, Tensor]:
        tokens = []
        hooks = [dense.blocks[0].register_forward_pre_hook(lambda _, x: tokens.append(x[0]))]
        hooks += [b.register_forward_hook(lambda _, x, y: tokens.append(y)) for b in dense.blocks]
        (map_,) = dense(image)
        for hook in hooks:
            hook.remove()
        names = ["embedded", *(f"block{i}_tokens" for i in range(len(dense.blocks)))]
        results = {f"{out}{n}": x[:, :, 0].transpose(1, 2) for n, x in zip(names, tokens)}
        return {
            **results,
            f"{out}final_map": map_,
            f"{out}stage0": map_,
            f"{out}logits": classifier(image),
        }


def _attention(tensors: dict[str, Tensor], num_heads: int) -> Tensor:
    """A mixer alone, on a class token and a square map."""
    x = tensors["in/x"]
    side = int((x.shape[1] - 1) ** 0.5)
    mixer = SharedLePEMixer(x.shape[2], num_heads)
    state = {k.replace("get_v", "lepe"): as_conv(v) for k, v in named(tensors, "state/").items()}
    mixer.load_state_dict(state)
    context = MapContext(side, side, torch.device("cpu"))
    return mixer(x.transpose(1, 2).unsqueeze(2), context)[:, :, 0].transpose(1, 2)
