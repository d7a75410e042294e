# Mask R-CNN, FPN, ViT-CoMer-S, 12 epochs of multi-scale COCO.
# The recipe is the authors' (README.md); it starts from a ViT-S of DINOv2.
_base_ = [
    "mmdet::_base_/models/mask-rcnn_r50_fpn.py",
    "../_base_/datasets/coco_instance_ms.py",
    "../_base_/schedules/adamw_1x.py",
    "../_base_/default_runtime.py",
]

model = dict(
    backbone=dict(_delete_=True, type="mmeffvit.ViTCoMer", arch="det-small"),
    neck=dict(in_channels=[384, 384, 384, 384]),
)

# after scaling, a crop of at most 1024 x 1024
train_pipeline = [*_base_.train_pipeline]
train_pipeline.insert(
    -1,
    dict(
        type="RandomCrop",
        crop_type="absolute_range",
        crop_size=(1024, 1024),
        allow_negative_crop=True,
    ),
)
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))

optim_wrapper = dict(
    constructor="mmeffvit.LayerDecayOptimWrapperConstructor",
    # norms, biases, vectors and the position table are not decayed
    paramwise_cfg=dict(_delete_=True, layer_decay_rate=0.7, no_decay=True),
)
