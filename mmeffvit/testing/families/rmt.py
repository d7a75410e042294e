"""Golden files of RMT: both forms of its attention alone, their tables, the token-label logits."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from mmeffvit.checkpoint import convert_official
from mmeffvit.layers import MapContext
from mmeffvit.layers.mixers.masa import MaSAMixer
from mmeffvit.testing.families.common import table_outputs

SYSTEM = "RMT"
TOLERANCE = 1e-4


def outputs(meta: dict, tensors: dict[str, Tensor], network: nn.Module) -> dict[str, Tensor]:
    results = {}
    if "state/aux_head.weight" in tensors:
        results["out/logits_token_label"] = _token_label_logits(tensors, network)
    if "op" in meta:
        for form in ("decomposed", "full"):
            results |= _attention(form, meta["op"], tensors)
    return results


def _token_label_logits(tensors: dict[str, Tensor], network: nn.Module) -> Tensor:
    """Class logits, and half of the largest logits that the auxiliary head finds in any token."""
    feat = network.backbone(tensors["input"])[-1]
    tokens = feat.flatten(2).transpose(1, 2)
    auxiliary = F.linear(tokens, tensors["state/aux_head.weight"], tensors["state/aux_head.bias"])
    return network.head(feat) + 0.5 * auxiliary.amax(dim=1)


def _attention(form: str, op: dict, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    prefix = f"op/masa_{form}"
    mixer = MaSAMixer(
        op["embed_dim"], op["num_heads"], op["init_value"], op["heads_range"], form == "decomposed"
    )
    official = {
        key.replace(f"{prefix}/state/", "layers.0.blocks.0.retention."): value
        for key, value in tensors.items()
        if key.startswith(f"{prefix}/state/")
    }
    state = convert_official(official, "rmt").state_dict
    mixer.load_state_dict(
        {key.removeprefix("backbone.stages.0.blocks.0.mixer."): v for key, v in state.items()}
    )
    x = tensors[f"{prefix}/in/x"].permute(0, 3, 1, 2)
    context = MapContext.of(x)
    decay = context.manhattan_decay(mixer.rates)
    tables = table_outputs(f"{prefix}/in", context.rotary_1d(mixer.head_dim))
    results = {f"{prefix}/out": mixer(x, context).permute(0, 2, 3, 1)}
    results |= {key: table.unflatten(0, (op["H"], op["W"])) for key, table in tables.items()}
    if form == "full":
        return results | {f"{prefix}/in/mask": decay.full()}
    return results | {
        f"{prefix}/in/mask_h": decay.along_height,
        f"{prefix}/in/mask_w": decay.along_width,
        "op/relpos/decay": x.new_tensor(mixer.rates),
    }
