# ConDaFormer with three stages on S3DIS, areas 1, 2, 3, 4 and 6, on 2 GPUs x 4 rooms. 3000 epochs
# are 100 here, each with every room 30 times.
_base_ = [
    "../_base_/models/condaformer.py",
    "../_base_/datasets/s3dis_rooms.py",
    "../_base_/default_runtime_points.py",
    "../_base_/schedules/adamw_points_100e.py",
]

default_hooks = dict(checkpoint=dict(save_best="mIoU"))
randomness = dict(seed=3407)
auto_scale_lr = dict(base_batch_size=8)
