"""Drawing of semantic equitable clustering (SecViT, arXiv 2405.13337)."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from mmeffvit.layers.mixers import SECMixer
from mmeffvit.ops import apply_rotary, sec_cluster_ids
from mmeffvit.visualization.attention.capture import MixerCall
from mmeffvit.visualization.attention.maps import (
    MapRow,
    TokenMap,
    attention_rows,
    register_drawing,
)


def cluster_maps(call: MixerCall) -> Tensor:
    """Cluster of every token: (h, H, W) in 0..K-1, 0 for those least similar to the mean key."""
    _, k, _ = call.tokens
    k = apply_rotary(k, call.mixer.positions(call.context))
    ids = sec_cluster_ids(k, call.mixer.core.clusters_for(call.context.num_tokens))
    return ids[0].unflatten(-1, call.size)


@register_drawing(SECMixer)
def draw_clusters(call: MixerCall, token: tuple[int, int], heads: Sequence[int]) -> list[MapRow]:
    """Clusters per head, and the attention of the query, which stays inside of its cluster."""
    clusters = call.mixer.core.clusters_for(call.context.num_tokens)
    if clusters == 1:
        return attention_rows(call, token, heads)
    ids, tokens = cluster_maps(call), call.context.num_tokens
    sizes = " or ".join(map(str, sorted({tokens // clusters, -(-tokens // clusters)})))
    note = (
        f"{clusters} clusters of {sizes} tokens, in the order of similarity to the mean key of the "
        "head."
    )
    maps = [
        TokenMap(
            ids[head], f"head {head}: marked token in cluster {ids[head][token]}", (0, clusters - 1)
        )
        for head in heads
    ]
    return [
        MapRow(
            note,
            maps,
            "Spectral_r",
            ("least similar", "most similar"),
            opacity=(0.65, 0.65),
        ),
        *attention_rows(
            call,
            token,
            heads,
            "Attention of the marked token, which reads its own cluster only, as multiples of the "
            "mean weight.",
        ),
    ]
