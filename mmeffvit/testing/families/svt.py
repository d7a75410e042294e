"""Golden files of SVT: maps with and without norms, both logits, mixers and transforms."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from mmeffvit.checkpoint import load_weights
from mmeffvit.layers import MapContext, ScatterMixer
from mmeffvit.models import SVT
from mmeffvit.models.classifier import Classifier
from mmeffvit.models.network import Network
from mmeffvit.ops import dual_tree_wavelet, inverse_dual_tree_wavelet
from mmeffvit.testing.families.base import GoldenFamily, named


class SVTGolden(GoldenFamily):
    family = "svt"
    system = "SVT"

    def arch(self, params: Mapping[str, Any]) -> dict[str, Any]:
        keys = ("embed_dims", "depths", "num_heads", "mlp_ratios")
        return {
            "stem_dim": params["stem_hidden_dim"],
            **{key: tuple(params[key]) for key in keys},
            "scatter_stages": params["scatter_stages"],
            "gate_size": params["lowpass_sizes"][0][0],
        }

    def small_arch(self, cls: type[Network], variant: str) -> dict[str, Any]:
        sizes = {"stem_dim": 8, "embed_dims": (16, 32, 32, 64), "num_heads": (1, 2, 2, 4)}
        small = {**super().small_arch(cls, variant), **sizes}
        return {**small, "mlp_ratios": (2, 2, 2, 2), "gate_size": 16}

    def outputs(self, meta: dict, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        results = _transforms(tensors)
        if "input" not in tensors:
            return results
        image, arch = tensors["input"], self.arch(meta)
        backbone = SVT(arch).eval()
        load_weights(backbone, self.converted(tensors))
        for i, stage in enumerate(backbone.stages):
            stage.norm.register_forward_hook(
                lambda _, x, y, i=i: results.update({f"out/stage{i}_raw": x[0]})
            )
        results |= {f"out/stage{i}": x for i, x in enumerate(backbone(image))}
        body = SVT(arch, **SVT.classifier_options)
        network = Classifier(body, body.make_head(meta["num_classes"])).eval()
        load_weights(network, self.converted(tensors))
        results["out/logits"] = network(image)
        network.head.aux_fc = None
        results["out/logits_cls_only"] = network(image)
        return results


def _transforms(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    results = {}
    if "op/dtcwt/in/x" in tensors:
        low, bands = dual_tree_wavelet(tensors["op/dtcwt/in/x"])
        results |= {"op/dtcwt/out_low": low, "op/dtcwt/out_high": bands}
    if "op/idtcwt/in/low" in tensors:
        given = named(tensors, "op/idtcwt/in/")
        results["op/idtcwt/out"] = inverse_dual_tree_wavelet(given["low"], given["high"])
    for name, mixes in (("scatter_channel", _channels), ("scatter_channel_token", _tokens)):
        op = named(tensors, f"op/{name}/")
        if op:
            side = op["state/complex_weight_ll"].shape[1:]
            x = op["in/x"].transpose(1, 2).unflatten(2, side)
            results[f"op/{name}/out"] = mixes(x, named(op, "state/")).flatten(2).transpose(1, 2)
    return results


def _channels(x: Tensor, state: dict[str, Tensor]) -> Tensor:
    mixer = ScatterMixer(x.shape[1], gate_size=tuple(x.shape[2:]))
    gate = state["complex_weight_ll"].flatten(1).T[None]
    names = {"weight1": "1", "weight2": "2", "bias1": "b1", "bias2": "b2"}
    own = {ours: state[f"complex_weight_lh_{theirs}"] for ours, theirs in names.items()}
    mixer.load_state_dict({"gate.table": gate, **own})
    return mixer(x, MapContext.of(x))


def _tokens(x: Tensor, state: dict[str, Tensor]) -> Tensor:
    """The mixer that no variant uses: half of the channels convolved, bands mixed along rows."""
    first, second = x.chunk(2, 1)
    first = F.conv2d(
        first, state["conv.weight"], state["conv.bias"], padding=1, groups=len(first[0])
    )
    low, bands = dual_tree_wavelet(second)
    z = torch.view_as_complex(bands.contiguous()).unflatten(
        1, state["complex_weight_lh_b1"].shape[1:]
    )

    for suffix, formula in (("", "bgirxy,gio->bgorxy"), ("_t", "bgirxy,xyo->bgirxo")):
        for number in "12":
            weight = torch.complex(*state[f"complex_weight_lh_{number}{suffix}"])
            bias = torch.complex(*state[f"complex_weight_lh_b{number}{suffix}"])
            z = torch.einsum(formula, z, weight) + (bias if suffix else bias[..., None, None, None])
            if number == "1":
                z = torch.complex(z.real.relu(), z.imag.relu())
    bands = torch.view_as_real(z.flatten(1, 2))
    second = inverse_dual_tree_wavelet(low * state["complex_weight_ll"], bands)
    return torch.stack((first, second), 2).flatten(1, 2)
