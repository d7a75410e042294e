# Sparse R-CNN, FPN, RAVLT-T, 12 epochs. What differs from mmdet's with a ResNet-50 is the backbone;
# nothing of it has been trained on COCO here.
_base_ = "mmdet::sparse_rcnn/sparse-rcnn_r50_fpn_1x_coco.py"

model = dict(
    backbone=dict(_delete_=True, type="mmeffvit.RAVLT", arch="tiny", drop_path_rate=0.1),
    neck=dict(in_channels=[64, 128, 256, 512]),
)
