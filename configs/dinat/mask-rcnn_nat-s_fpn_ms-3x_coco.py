_base_ = "./mask-rcnn_dinat-s_fpn_ms-3x_coco.py"

model = dict(
    backbone=dict(_delete_=True, type="mmeffvit.NAT", arch="small", drop_path_rate=0.35),
)
