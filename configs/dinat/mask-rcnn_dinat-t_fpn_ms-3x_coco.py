# Mask R-CNN, FPN, DiNAT-Tiny, 36 epochs of multi-scale COCO.
# The recipe is the authors' (README.md).
_base_ = "../_base_/detectors/mask-rcnn_fpn_ms-3x_coco.py"

model = dict(
    backbone=dict(_delete_=True, type="mmeffvit.DiNAT", arch="tiny", dilations="detection"),
    neck=dict(in_channels=[64, 128, 256, 512]),
)

# relative biases do not decay either
optim_wrapper = dict(paramwise_cfg=dict(custom_keys=dict(rpb=dict(decay_mult=0.0))))
