# Cascade Mask R-CNN, FPN, RMT-T, 36 epochs of multi-scale COCO.
# The authors trained none as small this long: the recipe is that of RMT-S (README.md).
_base_ = "../_base_/detectors/cascade-mask-rcnn_fpn_ms-3x_coco.py"

model = dict(
    backbone=dict(_delete_=True, type="mmeffvit.RMT", arch="tiny"),
    neck=dict(in_channels=[64, 128, 256, 512]),
)

optim_wrapper = dict(optimizer=dict(lr=0.0004))
