# Cascade Mask R-CNN, FPN, 36 epochs of multi-scale COCO. The configs of a network add their
# backbone.
_base_ = [
    "../models/cascade-mask-rcnn_fpn_4conv1fc-giou.py",
    "../datasets/coco_instance_ms.py",
    "../schedules/adamw_3x.py",
    "../default_runtime.py",
]

# the batch norms of the box heads are no "norm" by name
optim_wrapper = dict(paramwise_cfg=dict(norm_decay_mult=0.0))
