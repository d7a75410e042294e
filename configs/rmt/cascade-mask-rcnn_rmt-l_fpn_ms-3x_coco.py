_base_ = "./cascade-mask-rcnn_rmt-t_fpn_ms-3x_coco.py"

model = dict(
    backbone=dict(arch="large"),
    neck=dict(in_channels=[112, 224, 448, 640]),
)

# as for RMT-B: the authors have no Cascade Mask R-CNN with RMT-L
optim_wrapper = dict(optimizer=dict(lr=0.0002))
