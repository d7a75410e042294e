"""Sums over the pixels of each cluster: the update of k-means, with a hard assignment."""

from __future__ import annotations

from torch import Tensor

from mmeffvit.ops import dispatch
from mmeffvit.ops.cluster_sum.fused import cluster_sum_fused
from mmeffvit.ops.cluster_sum.reference import cluster_sum_reference

__all__ = ["cluster_sum"]

dispatch.register("cluster_sum", "fused", cluster_sum_fused)
dispatch.register("cluster_sum", "reference", cluster_sum_reference)


def cluster_sum(logits: Tensor, values: Tensor, *, implementation: str | None = None) -> Tensor:
    """Give each pixel to the cluster it is closest to, and add up the values of each cluster.

    kMaX-DeepLab (arXiv 2207.04044, equation 6): the argmax over clusters in the place of a softmax
    over pixels. The assignment has no gradient; of equal logits the first wins. Sums are in
    float32 at least.

    Args:
        logits: (B, K, L), affinity of L pixels to K clusters.
        values: (B, C, L).
        implementation: ``'fused'`` or ``'reference'``; see `mmeffvit.ops.dispatch`.

    Returns:
        (B, C, K); 0 for a cluster without pixels.

    Raises:
        ValueError: The shapes do not belong together.
    """
    if logits.dim() != 3 or values.dim() != 3 or logits.shape[::2] != values.shape[::2]:
        raise ValueError(
            "cluster_sum takes logits (B, K, L) and values (B, C, L), got "
            f"{tuple(logits.shape)} and {tuple(values.shape)}"
        )
    return dispatch.run("cluster_sum", implementation, logits, values)
