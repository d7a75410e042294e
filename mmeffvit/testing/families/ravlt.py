"""Golden files of RAVLT: both gated attentions alone, and their rotary table."""

from __future__ import annotations

from torch import Tensor, nn

from mmeffvit.layers import GatedSoftmaxMixer, MapContext, RALAMixer
from mmeffvit.ops import rotary_table_2d
from mmeffvit.testing.families.common import mixer_state, table_outputs

SYSTEM = "RAVLT (RALA)"
TOLERANCE = 2e-4


def outputs(meta: dict, tensors: dict[str, Tensor], network: nn.Module) -> dict[str, Tensor]:
    if "op" not in meta:
        return {}
    op, results = meta["op"], {}
    for name, mixer_type in (("rala_linear", RALAMixer), ("softmax_gated", GatedSoftmaxMixer)):
        mixer = mixer_type(op["dim"], op["num_heads"])
        mixer.load_state_dict(mixer_state(tensors, f"op/{name}/state/"))
        x = tensors[f"op/{name}/in/x"]
        results[f"op/{name}/out"] = mixer(x, MapContext.of(x))
        table = rotary_table_2d(op["H"], op["W"], mixer.head_dim)
        results |= table_outputs(f"op/{name}/in", table)
    return results
