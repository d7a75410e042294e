_base_ = "./mask-rcnn_dinat-t_fpn_ms-3x_coco.py"

model = dict(backbone=dict(_delete_=True, type="mmeffvit.NAT", arch="mini"))
