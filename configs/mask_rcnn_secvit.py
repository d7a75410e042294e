# The front door: Mask R-CNN with SecViT-T on COCO. Without COCO on disk, run configs/demo/ instead.
_base_ = "./secvit/mask-rcnn_secvit-t_fpn_1x_coco.py"
