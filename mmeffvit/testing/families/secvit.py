"""Golden files of SecViT: the clustering attention alone, its clusters and its rotary table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from mmeffvit.layers import MapContext, SECMixer
from mmeffvit.ops import apply_rotary, sec_cluster_ids
from mmeffvit.testing.families.base import ConvPyramidGolden, load_mixer, table_outputs


class SecViTGolden(ConvPyramidGolden):
    family = "secvit"
    system = "SecViT"

    def arch(self, params: Mapping[str, Any]) -> dict[str, Any]:
        return {**super().arch(params), "num_clusters": params["num_clusterss"]}

    def operator_outputs(self, meta: dict, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        if "op_sec_attn" not in meta:
            return {}
        op = meta["op_sec_attn"]
        x = tensors["op/sec_attn/in/x"]
        context = MapContext.of(x)
        results = {}
        for name, clusters in (("sec_attn", op["num_clusters"]), ("full_attn", -1)):
            mixer = SECMixer(op["embed_dim"], op["num_heads"], clusters)
            load_mixer(mixer, tensors, "op/sec_attn/state/")
            results[f"op/{name}/out"] = mixer(x, context)
        table = mixer.positions(context)
        _, k, _ = mixer.qkv(x)
        keys = apply_rotary(k, table)
        results["op/sec_attn/out_cluster_id"] = sec_cluster_ids(keys, op["num_clusters"])
        return results | table_outputs("op/sec_attn/in", table)
