# Mask R-CNN, simple feature pyramid of a plain ViT, 36 epochs of multi-scale COCO, layer decay.
_base_ = [
    "mmdet::_base_/models/mask-rcnn_r50_fpn.py",
    "../datasets/coco_instance_ms.py",
    "../schedules/adamw_3x.py",
    "../default_runtime.py",
]

model = dict(
    neck=dict(_delete_=True, type="mmeffvit.PlainToPyramid", out_channels=256, num_outs=5),
)

optim_wrapper = dict(
    constructor="mmeffvit.LayerDecayOptimWrapperConstructor",
    # norms, biases, vectors and position tables are not decayed
    paramwise_cfg=dict(_delete_=True, layer_decay_rate=0.7, no_decay=True),
)
