# Mask R-CNN, FPN, CrossFormer-S, 12 epochs of COCO.
# The recipe is the authors' (README.md).
_base_ = "../_base_/detectors/mask-rcnn_fpn_1x_coco.py"

model = dict(
    backbone=dict(_delete_=True, type="mmeffvit.CrossFormer", arch="small", out_norm=False),
    neck=dict(in_channels=[96, 192, 384, 768]),
)

# weak decay, of every parameter
optim_wrapper = dict(optimizer=dict(weight_decay=0.0001), paramwise_cfg=None)
