"""Loading the weights that a library publishes."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager

from mmengine import dist
from mmengine.logging import print_log
from torch import Tensor, nn

from mmeffvit.models.libraries.base import Library
from mmeffvit.models.libraries.offline import fetching_if_allowed
from mmeffvit.models.network import COUNTER

#: where models of the toolboxes have it
_BACKBONE = "backbone."


def load_published(network: nn.Module, library: Library, name: str) -> None:
    """Load them; of the processes of a machine the first one downloads.

    Args:
        network: Of the library.
        library: What knows it.
        name: What messages call it.

    Raises:
        RuntimeError: They cannot be had, or lack a part of the network.
    """
    try:
        with _first_of_machine(), fetching_if_allowed():
            published = library.weights()
    except Exception as error:  # whatever hubs and files raise
        raise RuntimeError(
            f"the weights of {name} could not be loaded: {type(error).__name__}: {error}\n"
            "They are downloaded when first used; without a network give a file on disk, by "
            "init_cfg=dict(type='Pretrained', checkpoint=FILE), or pretrained=False."
        ) from error
    own = network.state_dict()
    missing = [key for key in own if key not in published and may_be_missing(key) is None]
    if missing:
        raise RuntimeError(
            f"the weights of {name} lack {', '.join(missing[:4])}"
            + (f" and {len(missing) - 4} more" if len(missing) > 4 else "")
        )
    found = {key: value for key, value in published.items() if key in own}
    network.load_state_dict(found, strict=False)
    print_log(f"{name}: {len(found)} tensors loaded", logger="current")


def inner(weights: Mapping[str, Tensor], names: Collection[str]) -> Mapping[str, Tensor]:
    """Weights of the backbone in a whole model of a toolbox; others as they are.

    Args:
        weights: Of a file.
        names: Of the backbone's weights.
    """
    found = {k.removeprefix(_BACKBONE): v for k, v in weights.items() if k.startswith(_BACKBONE)}
    return found if set(names).isdisjoint(weights) and found else weights


def may_be_missing(name: str) -> str | None:
    """Why published weights need not have this one; None if they must."""
    if "hidden_states_norms" in name:
        return "a new norm on an output, which starts as the identity affine"
    return COUNTER if name.endswith("num_batches_tracked") else None


@contextmanager
def _first_of_machine() -> Iterator[None]:
    """The first process of a machine goes ahead, so that a download is made once."""
    first = dist.get_local_rank() == 0 if dist.is_distributed() else True
    if not first:
        dist.barrier()
    try:
        yield
    finally:
        if first:
            dist.barrier()
