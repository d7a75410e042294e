"""Detectors with queries and deformable attention: Deformable DETR and DINO of mmdet.

B images, V levels, H W a level, Q queries, K boxes that come out, N classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmeffvit.deploy.deformable import SymbolicSizes, with_plain_attention
from mmeffvit.deploy.errors import ExportError
from mmeffvit.deploy.selection import Candidates, as_outputs, clip, gather


class Queries(nn.Module):
    """Boxes of a detector with queries.

    Args:
        model: ``DeformableDETR`` or ``DINO``; it is copied, as its attention gets another form.

    Raises:
        ExportError: Another detector that derives from them, or another head.
    """

    def __init__(self, model: nn.Module) -> None:
        from mmdet.models.dense_heads import DETRHead
        from mmdet.models.detectors import DINO, DeformableDETR

        super().__init__()
        head = model.bbox_head
        if type(model) not in (DINO, DeformableDETR):
            raise ExportError(
                f"{type(model).__name__} builds its queries in its own way; DeformableDETR and "
                "DINO are served"
            )
        if type(head)._predict_by_feat_single is not DETRHead._predict_by_feat_single:
            raise ExportError(f"the head {type(head).__name__} chooses boxes in its own way")
        self.model = with_plain_attention(model)
        self.padded = model.data_preprocessor.pad_size_divisor > 1
        self.count = int(head.test_cfg.get("max_per_img", model.num_queries))

    def forward(self, x: Tensor, size: Tensor) -> dict[str, Tensor]:
        """Normalised images (B, C, H', W'), of which `size` is no padding, to boxes."""
        model = self.model
        with SymbolicSizes():
            maps = model.extract_feat(x)
            encoder, decoder = self._flatten(maps, x.shape[2:], size)
            queries, head = model.pre_decoder(**model.forward_encoder(**encoder))
            decoder.update(queries)
            head.update(self._decode(**decoder))
            logits, boxes = (outputs[-1] for outputs in model.bbox_head(**head))
        return as_outputs(self._choose(logits, boxes, size))

    def _flatten(
        self, maps: Sequence[Tensor], shape: Sequence[int], size: Tensor
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """What the encoder and the decoder take: one token after the other, of all levels."""
        model = self.model
        shapes = [tuple(level.shape[2:]) for level in maps]
        masks = _padding_masks(maps, shape, size) if self.padded else [None] * len(maps)
        places = [model.positional_encoding(mask, input=level) for mask, level in zip(masks, maps)]
        shared = {
            "spatial_shapes": shapes,
            "level_start_index": None,
            "valid_ratios": maps[0].new_ones(maps[0].size(0), len(maps), 2)
            if not self.padded
            else torch.stack([model.get_valid_ratio(mask) for mask in masks], 1),
        }
        mask = torch.cat([mask.flatten(1) for mask in masks], 1) if self.padded else None
        embeddings = zip(places, model.level_embed)
        encoder = {
            "feat": torch.cat([level.flatten(2).transpose(1, 2) for level in maps], 1),
            "feat_mask": mask,
            "feat_pos": torch.cat(
                [place.flatten(2).transpose(1, 2) + level for place, level in embeddings], 1
            ),
        }
        return encoder | shared, {"memory_mask": mask} | shared

    def _decode(self, **inputs: Any) -> dict[str, Any]:
        """States of queries and their boxes, of all layers of the decoder."""
        model = self.model
        if type(model).__name__ != "DINO":
            return model.forward_decoder(**inputs)
        # as its forward_decoder, without len(query), which binds a trace to one batch
        names = {"memory": "value", "memory_mask": "key_padding_mask", "dn_mask": "self_attn_mask"}
        inputs = {names.get(name, name): value for name, value in inputs.items()}
        states, boxes = model.decoder(reg_branches=model.bbox_head.reg_branches, **inputs)
        return {"hidden_states": states, "references": list(boxes)}

    def _choose(self, logits: Tensor, boxes: Tensor, size: Tensor) -> Candidates:
        """The best pairs of query and class, or queries, of logits (B, Q, N)."""
        if self.model.bbox_head.loss_cls.use_sigmoid:
            scores, pair = logits.sigmoid().flatten(1).topk(self.count)
            query, labels = pair // logits.size(2), pair % logits.size(2)
        else:
            scores, labels = logits.softmax(-1)[..., :-1].max(-1)
            scores, query = scores.topk(self.count)
            labels = labels.gather(1, query)
        centre, extent = gather(boxes, query).chunk(2, -1)
        corners = torch.cat((centre - 0.5 * extent, centre + 0.5 * extent), -1)
        corners = clip(corners * size[[1, 0, 1, 0]].to(corners), size)
        return Candidates(corners, scores, labels)


def _padding_masks(maps: Sequence[Tensor], shape: Sequence[int], size: Tensor) -> list[Tensor]:
    """Where a level is padding, (B, H, W) bool each, of images of `shape` (H', W')."""
    rows = torch.arange(shape[0]).unsqueeze(1) >= size[0]
    columns = torch.arange(shape[1]) >= size[1]
    outside = (rows | columns).float().expand(1, maps[0].size(0), -1, -1)
    return [F.interpolate(outside, level.shape[2:])[0].bool() for level in maps]
