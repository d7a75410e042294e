"""Networks, rooms and sweeps at a size for tests."""

import torch
from mmengine.structures import InstanceData

from mmeffvit.models.points import PointData, PointDataSample
from mmeffvit.ops.points import unique_rows

#: arch of a ConDaFormer
CONDAFORMER = {
    "stem_dims": 16,
    "embed_dims": (48, 96),
    "depths": (2, 1),
    "decoder_dims": (48, 48),
    "decoder_depths": (2, 0),
    "window_size": 3,
    "quant_size": 0.25,
    "in_channels": 6,
    "voxel_size": 0.1,
}
#: 20 x 12 pillars of half a metre
RANGE = (-5.0, -3.0, -2.0, 5.0, 3.0, 4.0)
PILLAR = (0.5, 0.5, 6.0)

SEGMENTOR = {
    "type": "mmeffvit.PointSegmentor",
    "data_preprocessor": {
        "type": "mmeffvit.PointDataPreprocessor",
        "voxel_layer": {"voxel_size": (0.1, 0.1, 0.1)},
    },
    "backbone": {
        "type": "mmeffvit.ConDaFormer",
        "arch": {**CONDAFORMER, "depths": (1, 1), "decoder_depths": (0, 0)},
    },
    "decode_head": {"type": "mmeffvit.PointSegHead", "num_classes": 4},
}
DETECTOR = {
    "type": "mmeffvit.PointDetector",
    "data_preprocessor": {
        "type": "mmeffvit.PointDataPreprocessor",
        "voxel_type": "dynamic",
        "voxel_layer": {"voxel_size": PILLAR, "point_cloud_range": RANGE},
    },
    "voxel_encoder": {
        "type": "mmeffvit.DynamicVFE",
        "in_channels": 4,
        "feat_channels": (8, 8),
        "voxel_size": PILLAR,
        "point_cloud_range": RANGE,
    },
    "middle_encoder": {
        "type": "mmeffvit.FlatFormer",
        "arch": {
            "embed_dims": 8,
            "num_heads": 2,
            "num_blocks": 1,
            "mlp_ratio": 2,
            "group_size": 16,
            "window_size": (4, 3),
            "grid_size": (20, 12),
        },
    },
    "backbone": {
        "type": "mmeffvit.SECOND",
        "in_channels": 8,
        "out_channels": (8, 8),
        "layer_nums": (1, 1),
    },
    "neck": {
        "type": "mmeffvit.SECONDFPN",
        "in_channels": (8, 8),
        "out_channels": (8, 8),
    },
    "bbox_head": {
        "type": "mmeffvit.CenterHead",
        "in_channels": 16,
        "num_classes": 2,
        "share_channels": 8,
        "head_channels": 8,
        "voxel_size": PILLAR,
        "point_cloud_range": RANGE,
        "test_cfg": {
            "max_num": 50,
            "score_thr": 0.0,
            "nms_thr": (0.2, 0.2),
            "nms_pre": (50, 50),
            "nms_post": (10, 10),
        },
    },
}


def scene(counts=(90, 41), voxel_size=0.1, seed=0):
    """One point in each of some voxels per sample: (N, 6) voxels and (N, 4) coors."""
    generator = torch.Generator().manual_seed(seed)
    voxels, coors = [], []
    for sample, count in enumerate(counts):
        cells = torch.randint(0, 9, (8 * count, 3), generator=generator)
        cells = unique_rows(cells).rows
        cells = cells[torch.randperm(len(cells), generator=generator)[:count]]
        places = torch.rand(len(cells), 3, generator=generator)
        colours = torch.rand(len(cells), 3, generator=generator)
        voxels.append(torch.cat(((cells + places) * voxel_size, colours), dim=1))
        coors.append(torch.cat((torch.full((len(cells), 1), sample), cells), dim=1))
    return torch.cat(voxels), torch.cat(coors)


def room(count=200, seed=0, num_classes=4):
    """Raw points of one room with labels by height, as a data set gives them."""
    generator = torch.Generator().manual_seed(seed)
    points = torch.rand(count, 6, generator=generator)
    labels = (points[:, 2] * num_classes).long()
    sample = PointDataSample(
        gt_pts_seg=PointData(pts_semantic_mask=labels),
        eval_ann_info={"pts_semantic_mask": labels.numpy()},
    )
    return {"inputs": {"points": points}, "data_samples": sample}


def sweep(count=300, seed=0):
    """Points (x, y, z, intensity) with two boxes of one class each."""
    generator = torch.Generator().manual_seed(seed)
    low, high = torch.tensor(RANGE[:3]), torch.tensor(RANGE[3:])
    points = torch.rand(count, 4, generator=generator)
    points[:, :3] = low + points[:, :3] * (high - low)
    boxes = torch.tensor([[1.2, 0.3, 0, 2, 1, 1, 0.3], [-3.1, -1.7, 0, 1, 1, 2, -1]])
    instances = InstanceData(bboxes_3d=boxes, labels_3d=torch.tensor([0, 1]))
    return {
        "inputs": {"points": points},
        "data_samples": PointDataSample(gt_instances_3d=instances),
    }
