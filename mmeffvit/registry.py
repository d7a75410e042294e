"""Registries of mmeffvit: children of mmengine's, so that ``type='mmeffvit.X'`` resolves from any
OpenMMLab config on both distributions, without ``custom_imports``.

mmengine imports this module by name and swallows an ImportError raised in it, so it imports nothing
but mmengine. The modules in ``locations`` are imported when a name is looked up for the first time.
"""

from importlib import import_module

from mmengine import registry as mmengine_registry
from mmengine.registry import DATASETS as MMENGINE_DATASETS
from mmengine.registry import HOOKS as MMENGINE_HOOKS
from mmengine.registry import METRICS as MMENGINE_METRICS
from mmengine.registry import MODELS as MMENGINE_MODELS
from mmengine.registry import OPTIM_WRAPPER_CONSTRUCTORS as MMENGINE_OPTIM_WRAPPER_CONSTRUCTORS
from mmengine.registry import TRANSFORMS as MMENGINE_TRANSFORMS
from mmengine.registry import WEIGHT_INITIALIZERS as MMENGINE_WEIGHT_INITIALIZERS
from mmengine.registry import Registry

_SCOPE = "mmeffvit"


class LazyRegistry(Registry):
    """A registry that imports some modules only when one of their own names is looked up.

    For classes that need a toolbox which users of the others need not have.

    Args:
        *args: Of mmengine's `Registry`.
        modules: Name -> the module that registers it.
        **kwargs: Of mmengine's `Registry`.
    """

    def __init__(self, *args, modules: dict[str, str], **kwargs):
        super().__init__(*args, **kwargs)
        self._modules = modules

    def get(self, key: str) -> type | None:
        module = self._modules.get(key.removeprefix(f"{_SCOPE}."))
        if module is not None:
            import_module(module)
        return super().get(key)


MODELS = LazyRegistry(
    "model",
    parent=MMENGINE_MODELS,
    scope=_SCOPE,
    locations=["mmeffvit.layers", "mmeffvit.models"],
    modules={
        **dict.fromkeys(
            ("BatchNormClsHead", "ConvClsHead", "NormClsHead"), "mmeffvit.classification.heads"
        ),
        "MultiResolutionClassifier": "mmeffvit.classification.multi_resolution",
        "MaskTTAModel": "mmeffvit.engine.mask_tta",
        **dict.fromkeys(("DenseT2T", "DenseTNT"), "mmeffvit.classification.backbones"),
        **dict.fromkeys(("KMaXHead", "KMaXFusionHead"), "mmeffvit.segmentation.kmax"),
        "KMaXSegHead": "mmeffvit.segmentation.kmax_semantic",
        "DAFormerHead": "mmeffvit.segmentation.daformer",
    },
)
DATASETS = LazyRegistry(
    "dataset",
    parent=MMENGINE_DATASETS,
    scope=_SCOPE,
    locations=["mmeffvit.datasets.points"],
    modules={
        "DigitsDataset": "mmeffvit.demo_data.digits.detection",
        "DigitsSegDataset": "mmeffvit.demo_data.digits.segmentation",
        "DigitsPanopticDataset": "mmeffvit.demo_data.digits.panoptic",
        "DigitsClsDataset": "mmeffvit.demo_data.digits.classification",
    },
)
#: functions ``make(root, **arguments, log=...)`` that write the files of a data set
DATA_MAKERS = LazyRegistry(
    "maker of data",
    scope=_SCOPE,
    # a registry without locations makes mmengine warn that the package is not installed
    locations=[__name__],
    modules={
        "digits": "mmeffvit.demo_data.digits",
        "rooms": "mmeffvit.demo_data.rooms",
        "sweeps": "mmeffvit.demo_data.streets",
    },
)
TRANSFORMS = LazyRegistry(
    "transform",
    parent=MMENGINE_TRANSFORMS,
    scope=_SCOPE,
    locations=["mmeffvit.datasets.points"],
    modules={
        "LoadImageFromFile": "mmeffvit.datasets.transforms",
        "LoadPanopticAnnotations": "mmeffvit.datasets.panoptic",
    },
)
METRICS = Registry("metric", parent=MMENGINE_METRICS, scope=_SCOPE, locations=["mmeffvit.engine"])
HOOKS = LazyRegistry(
    "hook",
    parent=MMENGINE_HOOKS,
    scope=_SCOPE,
    locations=["mmeffvit.engine", "mmeffvit.visualization.points.hooks"],
    modules={
        "DetectionFiguresHook": "mmeffvit.visualization.hooks",
        "SegmentationFiguresHook": "mmeffvit.visualization.hooks",
        "LabelMapsHook": "mmeffvit.engine.label_maps",
        "SegmentationPicturesHook": "mmeffvit.visualization.hooks",
        "ClusterPicturesHook": "mmeffvit.visualization.clusters",
        "DetectionPicturesHook": "mmeffvit.visualization.detector_pictures",
        "ClassificationPicturesHook": "mmeffvit.visualization.classifier_pictures",
    },
)
OPTIM_WRAPPER_CONSTRUCTORS = Registry(
    "optimizer wrapper constructor",
    parent=MMENGINE_OPTIM_WRAPPER_CONSTRUCTORS,
    scope=_SCOPE,
    locations=["mmeffvit.engine"],
)
WEIGHT_INITIALIZERS = Registry(
    "weight initializer",
    parent=MMENGINE_WEIGHT_INITIALIZERS,
    scope=_SCOPE,
    locations=["mmeffvit.checkpoint"],
)

# mmengine warns, and takes its own, where a config with default_scope='mmeffvit' comes to one of
# its other registries and finds no child of that name
for _registry in tuple(vars(mmengine_registry).values()):
    if isinstance(_registry, Registry) and _SCOPE not in _registry.children:
        Registry(_registry.name, parent=_registry, scope=_SCOPE, locations=[__name__])
