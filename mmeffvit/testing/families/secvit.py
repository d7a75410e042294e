"""Golden files of SecViT: the clustering attention alone, its clusters and its rotary table."""

from __future__ import annotations

from torch import Tensor, nn

from mmeffvit.layers import MapContext, SECMixer
from mmeffvit.ops import apply_rotary, rotary_table_2d, sec_cluster_ids
from mmeffvit.testing.families.common import mixer_state, table_outputs

SYSTEM = "SecViT"
TOLERANCE = 1e-4


def outputs(meta: dict, tensors: dict[str, Tensor], network: nn.Module) -> dict[str, Tensor]:
    if "op_sec_attn" not in meta:
        return {}
    op = meta["op_sec_attn"]
    state = mixer_state(tensors, "op/sec_attn/state/")
    x = tensors["op/sec_attn/in/x"]
    results = {}
    for name, clusters in (("sec_attn", op["num_clusters"]), ("full_attn", -1)):
        mixer = SECMixer(op["embed_dim"], op["num_heads"], clusters)
        mixer.load_state_dict(state)
        results[f"op/{name}/out"] = mixer(x, MapContext.of(x))
    qkv = mixer.qkv(x).flatten(2).transpose(1, 2).unflatten(-1, (3, op["num_heads"], -1))
    table = rotary_table_2d(op["H"], op["W"], mixer.head_dim)
    keys = apply_rotary(qkv[:, :, 1], table)
    results["op/sec_attn/out_cluster_id"] = sec_cluster_ids(keys, op["num_clusters"])
    return results | table_outputs("op/sec_attn/in", table)
