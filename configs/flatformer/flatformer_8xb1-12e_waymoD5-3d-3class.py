# FlatFormer on a fifth of the single sweeps of Waymo, 12 epochs on 8 GPUs x 1 sweep.
_base_ = "./flatformer_8xb1-24e_waymo-3d-3class.py"

train_dataloader = dict(dataset=dict(load_interval=5))
train_cfg = dict(max_epochs=12, val_interval=12)
param_scheduler = [
    dict(
        type="CosineAnnealingLR",
        eta_min_ratio=100,
        by_epoch=True,
        begin=0,
        end=1.2,
        convert_to_iter_based=True,
    ),
    dict(
        type="CosineAnnealingLR",
        eta_min_ratio=1e-3,
        by_epoch=True,
        begin=1.2,
        end=12,
        convert_to_iter_based=True,
    ),
]
