"""Golden files of NAT, DiNAT and DiNAT_s; files of DiNAT hold a DiNAT_s beside it (``dinats_``)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from mmeffvit.checkpoint import convert_official
from mmeffvit.layers import MapContext, NeighbourhoodMixer
from mmeffvit.testing.families.base import FAMILIES, PyramidGolden, named


class NATGolden(PyramidGolden):
    family = "nat"
    system = "NAT"
    tolerance = 2e-5

    def arch(self, params: Mapping[str, Any]) -> dict[str, Any]:
        return {
            "embed_dims": tuple(params["embed_dim"] * 2**i for i in range(len(params["depths"]))),
            **{key: params[key] for key in ("depths", "num_heads", "mlp_ratio")},
            "kernel_size": params.get("kernel_size", 7),
            "layer_scale": params.get("layer_scale"),
        }

    def operator_outputs(self, meta: dict, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        names = {key.split("/")[1] for key in tensors if key.startswith("op/na_")}
        return {f"op/{name}/out": _attention(named(tensors, f"op/{name}/")) for name in names}


class DiNATGolden(NATGolden):
    family = "dinat"
    system = "DiNAT"

    def network_options(self, meta: dict) -> dict[str, Any]:
        return {"dilations": self.params(meta).get("dilations") or 1}

    def outputs(self, meta: dict, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        results = super().outputs(meta, tensors)
        if meta.get("dinats_params"):
            others = FAMILIES["dinat-s"].outputs(
                {**meta, "params": meta["dinats_params"], "dinats_params": None},
                named(tensors, "dinats_"),
            )
            results |= {f"dinats_{name}": value for name, value in others.items()}
        return results


class DiNATsGolden(DiNATGolden):
    family = "dinat-s"
    system = "DiNAT_s"


def _attention(tensors: dict[str, Tensor]) -> Tensor:
    """The module of the authors alone, on maps (B, H, W, C)."""
    official = {
        f"levels.0.blocks.0.attn.{key}": value for key, value in named(tensors, "state/").items()
    }
    state = named(convert_official(official, "nat").state_dict, "backbone.stages.0.blocks.0.mixer.")
    x = tensors["in/x"].permute(0, 3, 1, 2)
    kernel_size, dilation = tensors["in/kernel_dilation"].tolist()
    mixer = NeighbourhoodMixer(x.shape[1], len(state["core.rpb"]), kernel_size, dilation)
    mixer.load_state_dict(state)
    return mixer(x, MapContext.of(x)).permute(0, 2, 3, 1)
