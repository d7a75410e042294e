# RetinaNet, FPN, SecViT-T, 12 epochs of COCO.
# The paper's recipe for dense prediction could not be found: this one is that of RAVLT, by
# the same authors (configs/secvit/README.md says what was borrowed).
_base_ = [
    "mmdet::_base_/models/retinanet_r50_fpn.py",
    "mmdet::_base_/datasets/coco_detection.py",
    "../_base_/schedules/adamw_1x.py",
    "../_base_/default_runtime.py",
]

model = dict(
    backbone=dict(
        _delete_=True,
        type="mmeffvit.SecViT",
        arch="tiny",
        out_indices=(1, 2, 3),
        out_norm=True,
        drop_path_rate=0.1,
        # pretrained: dict(type="Pretrained", checkpoint="FILE.safetensors", prefix="backbone."), a
        # file that tools/convert_checkpoint.py makes of the authors' checkpoint
        init_cfg=None,
    ),
    # the map of stride 4 is not used: it is not returned, so that its norm does not exist
    neck=dict(in_channels=[128, 256, 512], start_level=0),
)

# weak decay, of every parameter
optim_wrapper = dict(optimizer=dict(weight_decay=0.0001), paramwise_cfg=None)
