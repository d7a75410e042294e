# Mask R-CNN, simple feature pyramid, ResFormer-S, 36 epochs of multi-scale COCO.
# The paper's own recipe is not known here: this is one of fine-tuning plain ViTs (README.md).
_base_ = [
    "mmdet::_base_/models/mask-rcnn_r50_fpn.py",
    "../_base_/datasets/coco_instance_ms.py",
    "../_base_/schedules/adamw_3x.py",
    "../_base_/default_runtime.py",
]

model = dict(
    backbone=dict(_delete_=True, type="mmeffvit.ResFormer", arch="small"),
    neck=dict(
        _delete_=True,
        type="mmeffvit.PlainToPyramid",
        in_channels=384,
        out_channels=256,
        num_outs=5,
    ),
)

optim_wrapper = dict(
    constructor="mmeffvit.LayerDecayOptimWrapperConstructor",
    # norms, biases and vectors are not decayed
    paramwise_cfg=dict(_delete_=True, layer_decay_rate=0.7, no_decay=True),
)
