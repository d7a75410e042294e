# FlatFormer on three sweeps of Waymo together, 24 epochs on 8 GPUs x 1 sample. The age of a point,
# 0, -1 or -2 sweeps, takes the place of its elongation.
_base_ = "./flatformer-2frames_8xb1-24e_waymo-3d-3class.py"

sweeps_num = 2
load_points, load_sweeps, object_sample, *train_steps = _base_.train_pipeline
train_pipeline = [
    load_points,
    dict(load_sweeps, sweeps_num=sweeps_num),
    dict(object_sample, info_path=_base_.data_root + "waymo_objects_train_3frames.safetensors"),
    *train_steps,
]
load_points, load_sweeps, *test_steps = _base_.test_pipeline
test_pipeline = [load_points, dict(load_sweeps, sweeps_num=sweeps_num), *test_steps]

train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = dict(dataset=dict(pipeline=test_pipeline))
