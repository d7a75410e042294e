"""Our classifiers among those that `mmpretrain.get_model` and `mmpretrain.list_models` know."""

from pathlib import Path

import mmeffvit

#: where configs and metafiles travel, in a checkout as in a wheel
_ROOT = Path(mmeffvit.__file__).parent / ".mim"


def register_models() -> list[str]:
    """Make the ImageNet classifiers known to mmpretrain by the names of their configs.

    Calling it again changes nothing.

    Returns:
        The names, sorted.

    Raises:
        ImportError: mmpretrain is not installed.
        FileNotFoundError: The package lies there without its configs.

    Example:
        >>> import mmpretrain
        >>> from mmeffvit.classification import register_models
        >>> register_models()
        >>> model = mmpretrain.get_model('secvit-tiny_16xb128_in1k', pretrained='FILE.safetensors')
    """
    from mmpretrain.apis import ModelHub
    from modelindex.load_model_index import load

    from mmeffvit.engine import storage  # noqa: F401, lets mmengine read .safetensors

    metafiles = sorted(_ROOT.glob("configs/*/metafile_in1k.yml"))
    if not metafiles:
        raise FileNotFoundError(
            f"{_ROOT} has no configs/*/metafile_in1k.yml; install mmeffvit again with pip, from a "
            "whole checkout"
        )
    names = []
    for metafile in metafiles:
        models = [model.name for model in load(str(metafile)).models]
        if not all(map(ModelHub.has, models)):
            ModelHub.register_model_index(metafile, config_prefix=_ROOT)
        names += models
    return sorted(names)
