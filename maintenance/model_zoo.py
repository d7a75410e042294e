"""Tables of all models, made of the metafiles, between markers in Markdown files.

A block ``<!-- model-zoo: WHAT -->`` ... ``<!-- /model-zoo -->`` is filled in; WHAT is

- ``overview``: all classifiers in few columns;
- ``all``: a heading for every task and network, and the tables of their models;
- a data set and a collection, such as ``COCO RMT``: the table of these models.
"""

import os
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from maintenance.metafiles import TASKS, Collection, Model
from mmeffvit.analysis.results import markdown

_BLOCK = re.compile(r"(<!-- model-zoo: (.+?) -->\n).*?(<!-- /model-zoo -->)", re.DOTALL)

_NONE = "—"

# keys of `Model.published` that are no metrics -> heading
_SIZE_KEYS = {"Parameters (M)": "parameters (M)", "FLOPs (G)": "G"}


def has_blocks(text: str) -> bool:
    """Whether there is anything to fill in."""
    return _BLOCK.search(text) is not None


def fill_blocks(text: str, collections: list[Collection], folder: Path, root: Path) -> str:
    """Write the tables into a Markdown text.

    Args:
        text: With at least one block.
        collections: Of `read_metafiles`.
        folder: Where the text lies; links are relative to it.
        root: The folder that the paths in metafiles are relative to.

    Raises:
        ValueError: If a block asks for what there is not.
    """

    def link(label: str, path: str) -> str:
        return f"[{label}]({Path(os.path.relpath(root / path, folder)).as_posix()})"

    def replace(match: re.Match) -> str:
        return f"{match.group(1)}{_render(match.group(2), collections, link)}{match.group(3)}"

    return _BLOCK.sub(replace, text)


_Link = Callable[[str, str], str]


def _render(what: str, collections: list[Collection], link: _Link) -> str:
    if what == "overview":
        return _overview(collections, link)
    if what == "all":
        return _all(collections, link)
    data, _, name = what.partition(" ")
    for collection in collections:
        if collection.network == name and (models := _trained_on(data, collection)):
            return _table(models, link)
    known = [f"{data} {c.network}" for data in TASKS for c in collections if _trained_on(data, c)]
    raise ValueError(
        f"no models for the block 'model-zoo: {what}'; there are overview, all, {', '.join(known)}"
    )


def _trained_on(data: str, collection: Collection) -> list[Model]:
    return [model for model in collection.models if model.data == data]


def _all(collections: list[Collection], link: _Link) -> str:
    parts = []
    for data, task in TASKS.items():
        of_task = [(c, models) for c in collections if (models := _trained_on(data, c))]
        if not of_task:
            continue
        counted = "parameters are counted, MACs are not"
        if task.size is not None:
            counted = "counted at {}x{}".format(*task.size)
        parts.append(f"\n## {task.title}\n\n{data}; {counted}.\n")
        for collection, models in of_task:
            url = collection.paper["URL"]
            published = any(model.published for model in models)
            source = "No published figures at hand"
            if published:
                source = f"Published: {collection.published_in}"
            parts.append(
                f"\n### {collection.network}: {task.title[0].lower()}{task.title[1:]}\n\n"
                f"{link('Configs', collection.readme)}, [paper]({url}). {source}.\n\n"
                f"{_table(models, link)}"
            )
    return "".join(parts) + "\n"


def _overview(collections: list[Collection], link: _Link) -> str:
    rows = []
    for collection in collections:
        first = [
            f"[{collection.network}]({collection.paper['URL']})",
            link(collection.network.lower(), os.path.dirname(collection.readme)),
        ]
        for model in _trained_on("ImageNet-1K", collection):
            rows.append(
                [
                    f"`{_backbone(model)}`",
                    *first,
                    f"{model.metadata['Parameters']:,}",
                    _billions(model.metadata["FLOPs"], 2),
                    *_published(model, ("FLOPs (G)", "Top 1 Accuracy")),
                ]
            )
            first = ["", ""]
    head = ["", "paper", "configs", "parameters", "MACs at 224x224", "published G"]
    return markdown([*head, "published ImageNet-1K top-1"], rows)


def _backbone(model: Model) -> str:
    return model.name.partition("_")[0]


def _table(models: list[Model], link: _Link) -> str:
    metrics = _keys(model.published for model in models)
    metrics = [key for key in metrics if key not in _SIZE_KEYS]
    reached = _keys(model.results for model in models)
    sizes = [key for key in _SIZE_KEYS if any(key in model.published for model in models)]
    # where norms were counted, the papers use fvcore, which counts them too
    fvcore = all("Norm FLOPs" in model.metadata for model in models)
    others = ["fvcore's G", "the same, without attention"] if fvcore else ["without attention (G)"]
    costs = ["MACs (G)", "of which attention", *others]
    if not any("FLOPs" in model.metadata for model in models):
        costs = []
    head = [
        "",
        "parameters (M)",
        *costs,
        *(f"published: {_SIZE_KEYS[key]}" for key in sizes),
        *(f"published: {key}" for key in metrics),
        *(f"here: {key}" for key in reached),
    ]
    rows = []
    for model in models:
        rows.append(
            [
                link(model.name, model.config),
                f"{model.metadata['Parameters'] / 1e6:.2f}",
                *_costs(model, fvcore)[: len(costs)],
                *_published(model, (*sizes, *metrics)),
                *(str(model.results.get(key, _NONE)) for key in reached),
            ]
        )
    return markdown(head, rows)


def _costs(model: Model, fvcore: bool) -> list[str]:
    """MACs, the share of attention, and what the papers would count."""
    if "FLOPs" not in model.metadata:
        return [_NONE] * (4 if fvcore else 3)
    macs, attention = model.metadata["FLOPs"], model.metadata["Attention FLOPs"]
    share = f"{attention / macs:.0%}"
    if not fvcore:
        return [_billions(macs, 0), share, _billions(macs - attention, 0)]
    with_norms = macs + model.metadata["Norm FLOPs"]
    return [
        _billions(macs, 2),
        share,
        f"{with_norms / 2**30:.2f}",
        f"{(with_norms - attention) / 2**30:.2f}",
    ]


def _keys(mappings: Iterable[Mapping[str, object]]) -> list[str]:
    """All keys, in the order in which they first come."""
    return list(dict.fromkeys(key for mapping in mappings for key in mapping))


def _published(model: Model, keys: Iterable[str]) -> list[str]:
    return [str(model.published.get(key, _NONE)) for key in keys]


def _billions(count: int, decimals: int) -> str:
    return f"{count / 1e9:.{decimals}f}"
