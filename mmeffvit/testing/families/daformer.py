"""Golden file of DAFormer's head: three of its fusions, and the loss with weights of pixels."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from mmeffvit import compat
from mmeffvit.registry import MODELS
from mmeffvit.testing.families.base import GoldenFamily, named


class DAFormerGolden(GoldenFamily):
    family = "daformer"
    system = "DAFormer decode head"
    tolerance = 1e-5

    def build(self, cfg: dict[str, Any], state: dict[str, Tensor], fusion: str) -> nn.Module:
        """The head with weights of the file."""
        head = MODELS.build(
            {
                "type": "mmeffvit.DAFormerHead",
                "fusion": fusion,
                **{key: cfg[key] for key in ("in_channels", "embed_dims", "channels")},
                "num_classes": cfg["num_classes"],
            }
        )
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
        for name in ("aspp", "conv1"):
            state = named(tensors, f"variant/{name}/state/")
            if state:
                results[f"variant_/{name}/logits"] = self.build(cfg, state, name)(inputs)
        samples = [
            SegDataSample(gt_sem_seg=PixelData(data=label)) for label in tensors["uda/seg_label"]
        ]
        results["uda/loss_plain"] = head.loss_by_feat(logits, samples)["loss_ce"]
        for sample, weight in zip(samples, tensors["uda/seg_weight"]):
            sample.seg_weight = PixelData(data=weight[None])
        results["uda/loss_weighted"] = head.loss_by_feat(logits, samples)["loss_ce"]
        return {key: torch.as_tensor(value) for key, value in results.items()}
