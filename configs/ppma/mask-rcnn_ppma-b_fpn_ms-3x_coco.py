# Mask R-CNN, FPN, PPMA-B, 36 epochs of multi-scale COCO.
# The recipe is the authors' (README.md).
_base_ = "../_base_/detectors/mask-rcnn_fpn_ms-3x_coco.py"

model = dict(
    backbone=dict(_delete_=True, type="mmeffvit.PPMA", arch="base"),
    neck=dict(in_channels=[80, 160, 320, 512]),
)

# every GPU has its own statistics
sync_bn = None
