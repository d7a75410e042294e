"""What golden files hold besides the maps of the stages, one module per family.

Each module has ``SYSTEM`` (the name in the files), ``TOLERANCE`` (largest absolute error in
float32) and ``outputs(meta, tensors, network)``, which computes every further output by name. What
is no pyramid has ``check(meta, tensors)`` in its place, which computes all of them.
"""

from mmeffvit.testing.families import condaformer, flatformer, pointops, ravlt, rmt, secvit, ssvit

FAMILIES = {
    "secvit": secvit,
    "ravlt": ravlt,
    "rmt": rmt,
    "ssvit": ssvit,
    "pointops": pointops,
    "condaformer": condaformer,
    "flatformer": flatformer,
}
