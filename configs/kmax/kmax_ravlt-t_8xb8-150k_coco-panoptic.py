# kMaX-DeepLab, RAVLT-T, COCO panoptic. No paper has it: the recipe is that of the authors'
# ResNet-50, and nothing of it was trained.
_base_ = "kmax_r50_8xb8-150k_coco-panoptic.py"

model = dict(
    backbone=dict(_delete_=True, type="mmeffvit.RAVLT", arch="tiny", drop_path_rate=0.1),
    panoptic_head=dict(in_channels=[64, 128, 256, 512]),
)
