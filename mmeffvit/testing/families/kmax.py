"""Golden files of kMaX-DeepLab's head: network, losses, and what becomes of its predictions."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import torch
from torch import Tensor

from mmeffvit.models.heads import kmax
from mmeffvit.testing.families.base import GoldenFamily, named


def _shrunk(meta: dict, key: str) -> int:
    """A width of the file: ``'256->32'`` is 32 there."""
    return int(meta["shrunk_constants"][key].rpartition(">")[2])


class KMaXGolden(GoldenFamily):
    family = "kmax"
    system = "kMaX-DeepLab head"
    # of mask logits up to 40
    tolerance = 2e-4

    def build(self, meta: dict, tensors: dict[str, Tensor]) -> kmax.KMaX:
        """The head of a file with its weights."""
        cfg = meta["cfg"]
        network = kmax.KMaX(
            cfg["feat_channels"],
            cfg["strides"],
            cfg["num_classes"],
            cfg["num_queries"],
            {"depths": cfg["pix_layers"], "widths": cfg["pix_channels"], "kinds": cfg["pix_types"]},
            {
                "depths": cfg["dec_layers"],
                "embed_dims": _shrunk(meta, "query_dim"),
                "mask_dims": _shrunk(meta, "mask_kernel_dim"),
                "ffn_dims": _shrunk(meta, "ffn"),
            },
            "decoder" if cfg["use_aux_decoder"] else "light",
            self._semantic_options(meta),
        )
        network.load_state_dict(kmax.convert_head(named(tensors, "state/")))
        return network.eval()

    def _semantic_options(self, meta: dict) -> dict[str, Any]:
        options: dict[str, Any] = {"dim": _shrunk(meta, "aux_aspp_channels")}
        if meta["cfg"]["use_aux_decoder"]:
            options["skip_dims"] = [_shrunk(meta, f"aux_os{stride}_proj") for stride in (8, 4)]
        return options

    def outputs(self, meta: dict, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        network = self.build(meta, tensors)
        feats = [tensors[f"input/{name}"] for name in meta["cfg"]["feat_names"]]
        output = network(feats, with_layers=True)
        maps = network.pixel_decoder([feats[i] for i in network.order])
        results = {f"out/stage{i}": x for i, x in enumerate(maps)}
        results["out/panoptic_feature"] = maps[-1]
        results["out/aux_semantic_pred"] = output.semantic
        results |= _names(output.final, "out/")
        for index, layer in enumerate(output.layers):
            results |= _names(layer, f"out/aux_outputs/{index}/")
        return {
            **results,
            **self._operators(network, tensors),
            **self._losses(meta, tensors, output),
            **self._results(meta, tensors),
        }

    def _operators(self, network: kmax.KMaX, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        axial = network.pixel_decoder.stages[1][0].mix[0]
        results = {"op/axial2d_stage1/out": axial(tensors["op/axial2d_stage1/in/0"])}
        given = named(tensors, "op/kmax_layer0/in/")
        query, said = network.decoder.layers[0](given["pixel_feature"], given["query_feature"])
        results |= _names(said, "op/kmax_layer0/out/", short=True)
        results["op/kmax_layer0/out/query"] = query
        given = named(tensors, "op/final_predictor/in/")
        said = network.decoder.predictor(
            given["class_embeddings"], given["mask_embeddings"], given["pixel_feature"]
        )
        return results | _names(said, "op/final_predictor/out/", short=True)

    def _losses(
        self, meta: dict, tensors: dict[str, Tensor], output: kmax.KMaXOutput
    ) -> dict[str, Tensor]:
        truth = [
            kmax.Segments(tensors[f"loss/target/{i}/labels"], tensors[f"loss/target/{i}/masks"])
            for i in range(meta["cfg"]["batch"])
        ]
        results = {}
        for i, segments in enumerate(truth):
            found = kmax.match(output.final.class_logits[i], output.final.mask_logits[i], segments)
            names = ("query", "gt", "dice", "cls_prob")
            order = _as_in_file(found, tensors[f"loss/matcher/{i}/query"])
            results |= {
                f"loss/matcher/{i}/{name}": getattr(found, entry.name)[order]
                for name, entry in zip(names, fields(found))
            }
        targets = kmax.make_targets(output.final, truth)
        results |= {
            f"loss/processed_targets/{name}": value
            for name, value in {
                "masks": targets.masks,
                "labels": targets.labels,
                "pq_loss_mask_weight": targets.mask_weights,
                "pq_loss_class_weight": targets.class_weights,
                "pixel_gt_void_mask": targets.void,
                "inverse_gt_mask_area": targets.inverse_area,
                "ground_truth_semantic": targets.semantic.masked_fill(
                    targets.void, meta["cfg"]["num_classes"]
                ),
            }.items()
        }
        for name, options in {
            "share_match_allpixels": {"num_samples": None, "num_semantic_samples": None},
            "own_match_allpixels": {
                "num_samples": None,
                "num_semantic_samples": None,
                "share_matching": False,
            },
            "share_match_sampled": {
                "num_samples": 40,
                "num_semantic_samples": min(32, output.semantic[0, 0].numel() // 2),
            },
        }.items():
            results |= self._loss(meta, tensors, output, truth, name, options)
        return results

    def _loss(
        self,
        meta: dict,
        tensors: dict[str, Tensor],
        output: kmax.KMaXOutput,
        truth: list[kmax.Segments],
        name: str,
        options: dict[str, Any],
    ) -> dict[str, Tensor]:
        losses = meta["loss_cfg"]
        criterion = kmax.KMaXCriterion(
            dict.fromkeys(("ce", "mask", "dice", "pixel_insdis", "aux_semantic"), 1.0),
            sharpness=losses["T_ins"],
            semantic_sharpness=losses["T_sem"],
            **options,
        )
        noise = iter(range(len(named(tensors, "loss/noise/"))))
        criterion.draw = lambda like: tensors[f"loss/noise/{next(noise)}"]
        results = {}
        for key, value in criterion(output, truth).items():
            layer, _, loss = key.rpartition(".")
            results[f"loss/{name}/{loss}{layer.replace('d', '_')}"] = value
        return results

    def _results(self, meta: dict, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        cfg = meta["pp_cfg"]
        given = (tensors["pp/mask_cls"], tensors["pp/mask_pred"])
        rules = kmax.PanopticRules(
            cfg["thr_thing"],
            cfg["thr_stuff"],
            cfg["overlap"],
            cfg["reorder_class_weight"],
            cfg["reorder_mask_weight"],
            cfg["pixel_thr"],
        )
        things = len(cfg["things"])
        found = kmax.panoptic(*given, things, rules)
        labels = torch.tensor(found.labels)
        scores, classes, masks = kmax.instances(*given, things, cfg["topk"])
        order = scores.argsort(descending=True)
        return {
            "pp/panoptic_seg": found.ids,
            "pp/seg_id": torch.arange(1, len(labels) + 1),
            "pp/seg_category": labels,
            "pp/seg_isthing": labels < things,
            "pp/semantic": kmax.semantic(*given),
            "pp/inst_scores_sorted": scores[order],
            "pp/inst_labels": classes[order],
            "pp/inst_masks": masks[order].to(torch.uint8),
        }


def _as_in_file(found: Any, queries: Tensor) -> Tensor:
    """Pairs have no order of their own."""
    return found.queries.argsort()[queries.argsort().argsort()]


def _names(prediction: kmax.Prediction, prefix: str, short: bool = False) -> dict[str, Tensor]:
    names = ("class_logits", "mask_logits") if short else ("pred_logits", "pred_masks")
    values = (prediction.class_logits, prediction.mask_logits, prediction.embeddings)
    return {f"{prefix}{name}": v for name, v in zip((*names, "pixel_feature"), values)}
