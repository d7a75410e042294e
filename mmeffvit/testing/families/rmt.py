"""Golden files of RMT: both forms of its attention alone, their tables, the token-label logits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch.nn.functional as F
from torch import Tensor

from mmeffvit.checkpoint import convert_official
from mmeffvit.layers import MapContext, MaSAMixer
from mmeffvit.testing.families.base import ConvPyramidGolden, named, table_outputs


class RMTGolden(ConvPyramidGolden):
    family = "rmt"
    system = "RMT"

    def arch(self, params: Mapping[str, Any]) -> dict[str, Any]:
        return {
            **super().arch(params),
            "decay_inits": params["init_values"],
            "decay_ranges": params["heads_ranges"],
            "decomposed": params["chunkwise_recurrents"],
        }

    def network_outputs(
        self, meta: dict, tensors: dict[str, Tensor], x: Tensor, out: str
    ) -> dict[str, Tensor]:
        results = super().network_outputs(meta, tensors, x, out)
        if "state/aux_head.weight" in tensors:
            # class logits, and half of the largest that the auxiliary head finds in any token
            network = self.build_classifier(meta, tensors)
            feat = network.backbone(x)[-1]
            tokens = feat.flatten(2).transpose(1, 2)
            weight, bias = (tensors[f"state/aux_head.{kind}"] for kind in ("weight", "bias"))
            auxiliary = F.linear(tokens, weight, bias).amax(dim=1)
            results[f"{out}logits_token_label"] = network.head(feat) + 0.5 * auxiliary
        return results

    def operator_outputs(self, meta: dict, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        if "op" not in meta:
            return {}
        return _attention("decomposed", meta["op"], tensors) | _attention(
            "full", meta["op"], tensors
        )


def _attention(form: str, op: dict, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    prefix = f"op/masa_{form}"
    mixer = MaSAMixer(
        op["embed_dim"], op["num_heads"], op["init_value"], op["heads_range"], form == "decomposed"
    )
    official = {
        f"layers.0.blocks.0.retention.{key}": value
        for key, value in named(tensors, f"{prefix}/state/").items()
    }
    state = convert_official(official, "rmt").state_dict
    mixer.load_state_dict(named(state, "backbone.stages.0.blocks.0.mixer."))
    x = tensors[f"{prefix}/in/x"].permute(0, 3, 1, 2)
    context = MapContext.of(x)
    table, decay = mixer.positions(context)
    results = {f"{prefix}/out": mixer(x, context).permute(0, 2, 3, 1)}
    results |= {
        key: value.unflatten(0, (op["H"], op["W"]))
        for key, value in table_outputs(f"{prefix}/in", table).items()
    }
    if form == "full":
        return results | {f"{prefix}/in/mask": decay.full()}
    return results | {
        f"{prefix}/in/mask_h": decay.along_height,
        f"{prefix}/in/mask_w": decay.along_width,
        "op/relpos/decay": x.new_tensor(mixer.rates),
    }
