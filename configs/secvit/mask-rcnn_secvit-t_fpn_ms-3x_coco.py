# Mask R-CNN, FPN, SecViT-T, 36 epochs of multi-scale COCO.
# The paper's recipe for dense prediction could not be found: this one is that of RAVLT, by
# the same authors (configs/secvit/README.md says what was borrowed).
_base_ = [
    "mmdet::_base_/models/mask-rcnn_r50_fpn.py",
    "../_base_/datasets/coco_instance_ms.py",
    "../_base_/schedules/adamw_3x.py",
    "../_base_/default_runtime.py",
]

model = dict(
    backbone=dict(
        _delete_=True,
        type="mmeffvit.SecViT",
        arch="tiny",
        out_indices=(0, 1, 2, 3),
        out_norm=True,
        drop_path_rate=0.1,
        # pretrained: dict(type="Pretrained", checkpoint="FILE.safetensors", prefix="backbone."), a
        # file that tools/convert_checkpoint.py makes of the authors' checkpoint
        init_cfg=None,
    ),
    neck=dict(in_channels=[64, 128, 256, 512]),
)
