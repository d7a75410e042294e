# Mask R-CNN, FPN, PPMA-T, 12 epochs of COCO.
# The recipe is the authors' (README.md).
_base_ = "../_base_/detectors/mask-rcnn_fpn_1x_coco.py"

model = dict(
    backbone=dict(_delete_=True, type="mmeffvit.PPMA", arch="tiny"),
    neck=dict(in_channels=[64, 128, 256, 512]),
)

# every GPU has its own statistics
sync_bn = None
