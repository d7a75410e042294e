# Mask R-CNN, simple feature pyramid of both branches, CrossViT-S, 36 epochs of multi-scale COCO.
# The authors trained no detector: this is a recipe of fine-tuning plain ViTs (README.md).
_base_ = [
    "mmdet::_base_/models/mask-rcnn_r50_fpn.py",
    "../_base_/datasets/coco_instance_ms.py",
    "../_base_/schedules/adamw_3x.py",
    "../_base_/default_runtime.py",
]

model = dict(
    backbone=dict(_delete_=True, type="mmeffvit.CrossViT", arch="small"),
    neck=dict(
        _delete_=True,
        type="mmeffvit.PlainToPyramid",
        in_channels=[192, 384],
        out_channels=256,
        num_outs=5,
        concat=True,
    ),
)

optim_wrapper = dict(
    constructor="mmeffvit.LayerDecayOptimWrapperConstructor",
    # norms, biases, vectors and position tables are not decayed
    paramwise_cfg=dict(_delete_=True, layer_decay_rate=0.7, no_decay=True),
)
