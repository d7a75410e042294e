# FlatFormer on single sweeps of Waymo, 24 epochs on 8 GPUs x 1 sweep.
_base_ = [
    "../_base_/models/flatformer.py",
    "../_base_/datasets/waymo_sweeps.py",
    "../_base_/schedules/cyclic_points_24e.py",
    "../_base_/default_runtime_points.py",
]
