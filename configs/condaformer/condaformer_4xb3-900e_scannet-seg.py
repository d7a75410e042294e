# ConDaFormer with four stages on ScanNet, on 4 GPUs x 3 rooms. 900 epochs are 100 here, each with
# every room 9 times.
_base_ = [
    "../_base_/models/condaformer.py",
    "../_base_/datasets/scannet_rooms.py",
    "../_base_/default_runtime_points.py",
    "../_base_/schedules/adamw_points_100e.py",
]

model = dict(
    data_preprocessor=dict(voxel_layer=dict(voxel_size=[0.02, 0.02, 0.02])),
    backbone=dict(arch="scannet"),
    decode_head=dict(num_classes=20),
)

optim_wrapper = dict(optimizer=dict(weight_decay=0.02))
param_scheduler = [
    # over the first 2 % of the iterations
    dict(
        type="LinearLR",
        start_factor=1e-6,
        by_epoch=True,
        begin=0,
        end=2,
        convert_to_iter_based=True,
    ),
    dict(
        type="MultiStepLR",
        milestones=[60, 80],
        gamma=0.1,
        by_epoch=True,
        begin=0,
        end=100,
        convert_to_iter_based=True,
    ),
]
default_hooks = dict(checkpoint=dict(save_best="mIoU"))
randomness = dict(seed=3407)
auto_scale_lr = dict(base_batch_size=12)
