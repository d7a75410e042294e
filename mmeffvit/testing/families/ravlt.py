"""Golden files of RAVLT: both gated attentions alone, and their rotary table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from mmeffvit.layers import GatedSoftmaxMixer, MapContext, RALAMixer
from mmeffvit.testing.families.base import ConvPyramidGolden, load_mixer, table_outputs


class RAVLTGolden(ConvPyramidGolden):
    family = "ravlt"
    system = "RAVLT (RALA)"
    tolerance = 2e-4

    def arch(self, params: Mapping[str, Any]) -> dict[str, Any]:
        # the authors' lists may be longer than the stage
        kinds = [list(kinds[:n]) for kinds, n in zip(params["flagss"], params["depths"])]
        return {**super().arch(params), "attention": kinds}

    def operator_outputs(self, meta: dict, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        if "op" not in meta:
            return {}
        op, results = meta["op"], {}
        for name, mixer_type in (("rala_linear", RALAMixer), ("softmax_gated", GatedSoftmaxMixer)):
            mixer = mixer_type(op["dim"], op["num_heads"])
            load_mixer(mixer, tensors, f"op/{name}/state/")
            x = tensors[f"op/{name}/in/x"]
            context = MapContext.of(x)
            results[f"op/{name}/out"] = mixer(x, context)
            results |= table_outputs(f"op/{name}/in", mixer.positions(context))
        return results
