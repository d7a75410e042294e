"""Golden files of ConDaFormer: every level, every block, and the attention with its windows."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mmeffvit.checkpoint import convert_official, load_weights
from mmeffvit.layers.points import PointLevel
from mmeffvit.models.points import ConDaFormer, PointSegmentor, raw_point_rows
from mmeffvit.ops.points import batch_to_offset, offset_to_batch
from mmeffvit.testing.families.base import GoldenFamily, named

_PLANES = ("xy", "xz", "yz")


def build(meta: dict, tensors: dict[str, Tensor]) -> PointSegmentor:
    """The network of the file, with its weights."""
    config = meta["config"]
    backbone = ConDaFormer(arch=ConDaFormer.arch_from_official(config))
    network = PointSegmentor(backbone, {"num_classes": config["out_channels"]})
    official = named(tensors, "state/")
    load_weights(network, convert_official(official, "condaformer").state_dict)
    return network.eval()


def inputs(tensors: dict[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    """The voxels of the file as a model takes them; its features start with the coordinates."""
    batch = offset_to_batch(tensors["in/offset"].long())
    coors = torch.cat((batch[:, None], tensors["in/discrete_coord"].long()), 1)
    return {"voxels": {"voxels": tensors["in/feat"], "coors": coors}}


def check(meta: dict, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """All outputs of the file by name."""
    network = build(meta, tensors)
    outputs: dict[str, Tensor] = {}
    handles = _record(network.backbone, outputs)
    logits = network(inputs(tensors))
    for handle in handles:
        handle.remove()
    rows = raw_point_rows(tensors["in/inverse"], tensors["in/length"], tensors["in/offset"])
    outputs |= {"out/logits": logits, "out/logits_inverse": logits[rows]}
    for name in {key.split("/")[1] for key in tensors if key.startswith("op/")}:
        outputs |= _attention(f"op/{name}", network.backbone, tensors)
    return outputs


def _record(backbone: ConDaFormer, outputs: dict[str, Tensor]) -> list:
    def add_level(name: str, level: PointLevel) -> None:
        outputs[f"out/{name}/indices"] = level.cells
        outputs[f"out/{name}/spatial_shape"] = level.cells[:, 1:].amax(0) + 1

    def stem(module: nn.Module, args: tuple, out: Tensor) -> None:
        add_level("stem", args[1])
        outputs["out/stem/feat"] = out
        outputs["out/normalised/coord"] = args[1].xyz
        outputs["out/normalised/discrete_coord"] = args[1].cells[:, 1:]

    def pool(name: str):
        def record(module: nn.Module, args: tuple, out: tuple[Tensor, PointLevel]) -> None:
            feat, level = out
            add_level(name, level)
            outputs[f"out/{name}/feat"] = feat
            outputs[f"out/{name}/xyz"] = level.xyz
            outputs[f"out/{name}/count"] = level.counts[:, None]
            outputs[f"out/{name}/batch"] = level.batch

        return record

    def feat(name: str):
        return lambda module, args, out: outputs.update({f"out/{name}/feat": out})

    handles = [backbone.stem.register_forward_hook(stem)]
    for s, module in enumerate(backbone.pools, 1):
        handles.append(module.register_forward_hook(pool(f"pool{s}")))
    for j, module in enumerate(backbone.unpools, 1):
        handles.append(module.register_forward_hook(feat(f"unpool{j}")))
    for i, blocks in enumerate(backbone.blocks, 1):
        for j, block in enumerate(blocks):
            handles.append(block.register_forward_hook(feat(f"block{i}.{j}")))
    return handles


def _attention(name: str, backbone: ConDaFormer, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """A mixer alone, its projections, and its windows in the authors' arrays of pairs."""
    stage, index = (int(part) for part in name.split("block")[1].split(".")[:2])
    mixer = backbone.blocks[stage - 1][index].mixer
    # the file's positions are in cells of the level
    cells, xyz = tensors[f"{name}/in/indices"].long(), tensors[f"{name}/in/xyz"]
    level = PointLevel(xyz, cells, batch_to_offset(cells[:, 0]), torch.ones(len(xyz)))
    x = tensors[f"{name}/in/feat"]
    q, k, v = mixer.project(x, level)
    outputs = {f"{name}/mid/q_scaled": q, f"{name}/mid/k": k, f"{name}/mid/v": v}
    outputs[f"{name}/out"] = mixer(x, level)
    planes = level.plane_windows(mixer.window_size, mixer.quant_size, mixer.shifted)
    attended = mixer.attend(q, k, v, level).chunk(3, dim=1)
    for plane, windows, out in zip(_PLANES, planes, attended):
        outputs[f"{name}/mid/{plane}/attn_out"] = out
        order = tensors[f"{name}/mid/{plane}/sort_idx"].long()
        window, counts = windows.window[order], windows.counts
        per_query = counts[window]
        query = torch.repeat_interleave(per_query)
        starts = torch.cat((per_query.new_zeros(1), per_query.cumsum(0)))
        first = (counts.cumsum(0) - counts)[window]
        first_pair = (counts.square().cumsum(0) - counts.square())[window]
        key = first[query] + torch.arange(len(query)) - starts[query]
        bins = windows.bins[order]
        outputs |= {
            f"{name}/mid/{plane}/index_0": query,
            f"{name}/mid/{plane}/index_1": key,
            f"{name}/mid/{plane}/index_0_offsets": starts,
            f"{name}/mid/{plane}/index_1_offsets": first_pair + torch.arange(len(order)) - first,
            f"{name}/mid/{plane}/rel_idx": bins[query] - bins[key] + windows.num_bins - 1,
        }
    return outputs


class ConDaFormerGolden(GoldenFamily):
    family = "condaformer"
    system = "ConDaFormer"
    tolerance = 1e-4

    def outputs(self, meta: dict, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        return check(meta, tensors)
