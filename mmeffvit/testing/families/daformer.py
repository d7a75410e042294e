"""Golden files of DAFormer's head: its fusions, and the loss with weights of pixels."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from mmeffvit import compat
from mmeffvit.registry import MODELS
from mmeffvit.testing.families.base import GoldenFamily, named

#: variants of a file that are no `fusion` alone
_VARIANTS = {
    "sepaspp_pool": {
        "fusion": "sepaspp",
        "dilations": (1, 2, 4),
        "image_pool": True,
        "context": {
            "type": "ConvModule",
            "kernel_size": 3,
            "padding": 1,
            "norm_cfg": {"type": "BN"},
        },
    }
}


class DAFormerGolden(GoldenFamily):
    family = "daformer"
    system = "DAFormer decode head"
    tolerance = 1e-5

    def build(self, cfg: dict[str, Any], state: dict[str, Tensor], variant: str) -> nn.Module:
        """The head with weights of the file."""
        options = _VARIANTS.get(variant, {"fusion": variant})
        queries = state.get("fuse_layer.global_relation.query_project.conv.weight")
        if queries is not None:
            options = {**options, "relation_channels": len(queries)}
        sizes = {key: cfg[key] for key in ("in_channels", "embed_dims", "channels", "num_classes")}
        head = MODELS.build({"type": "mmeffvit.DAFormerHead", **sizes, **options})
        head.load_state_dict(state)
        return head.eval()

    def outputs(self, meta: dict, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        compat.setup()  # the head is mmseg's, which may lack a compiled mmcv
        from mmengine.structures import PixelData
        from mmseg.structures import SegDataSample

        cfg, inputs = meta["cfg"], [tensors[f"input/{i}"] for i in range(4)]
        head = self.build(cfg, named(tensors, "state/"), cfg["variants"][0])
        logits = head(inputs)
        results = {"out/logits": logits, "out/fused": head.fuse(inputs)}
        for name in cfg["variants"][1:]:
            state = named(tensors, f"variant/{name}/state/")
            results[f"variant_/{name}/logits"] = self.build(cfg, state, name)(inputs)
        samples = [
            SegDataSample(gt_sem_seg=PixelData(data=label)) for label in tensors["uda/seg_label"]
        ]
        results["uda/loss_plain"] = head.loss_by_feat(logits, samples)["loss_ce"]
        for sample, weight in zip(samples, tensors["uda/seg_weight"]):
            sample.seg_weight = PixelData(data=weight[None])
        results["uda/loss_weighted"] = head.loss_by_feat(logits, samples)["loss_ce"]
        return {key: torch.as_tensor(value) for key, value in results.items()}
