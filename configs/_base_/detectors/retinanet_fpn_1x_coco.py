# RetinaNet, FPN, 12 epochs of COCO at one scale. The configs of a network add their backbone, of
# which only the maps of strides 8, 16 and 32 are used: the first is not returned, so that it has no
# norm, and the neck starts at what is then the first.
_base_ = [
    "mmdet::_base_/models/retinanet_r50_fpn.py",
    "mmdet::_base_/datasets/coco_detection.py",
    "../schedules/adamw_1x.py",
    "../default_runtime.py",
]

model = dict(neck=dict(start_level=0))

# weak decay, of every parameter
optim_wrapper = dict(optimizer=dict(weight_decay=0.0001), paramwise_cfg=None)
