"""Names of classes: what a config says against what files have."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from mmeffvit.datasets.checks.findings import Finding, error, shorten, warning
from mmeffvit.errors import did_you_mean

#: how the finding begins where config and file have no class in common
NO_CLASS = "none of the classes of the config is in it"


def check_classes(classes: Any, file: str) -> list[Finding]:
    """Whether ``metainfo['classes']`` is a list of different names.

    Args:
        classes: As the config has it.
        file: What the findings name.
    """
    if isinstance(classes, str):
        text = f"('{classes}',)"
        return [
            error(
                file,
                f"classes={classes!r} is text, of which every letter would be a class",
                todo=f"Write metainfo=dict(classes={text}); the comma makes one name a tuple",
            )
        ]
    if not isinstance(classes, Sequence) or not all(isinstance(name, str) for name in classes):
        return [error(file, f"classes={classes!r} is not a list of names")]
    if not classes:
        return [error(file, "classes is empty", todo="Name the classes in metainfo")]
    twice = [name for name, count in Counter(classes).items() if count > 1]
    if twice:
        return [error(file, "classes has names twice", twice, "Give every class a name of its own")]
    return []


def check_names(
    classes: Sequence[str],
    there: Sequence[str],
    file: str,
    in_order: bool = False,
    empty: Sequence[str] = (),
) -> list[Finding]:
    """Whether the classes of a config are those of a file.

    Args:
        classes: Names in the config, in their order.
        there: Names in the file, in their order.
        file: Its name.
        in_order: The reader gives labels in the order of the file and takes only names that the
            config has, as mmdet does with the categories of COCO's JSON: label k is then called
            ``classes[k]``, whatever the file calls it.
        empty: Names in the file of which it has no objects, so that none are lost without them.

    Returns:
        Errors for names that nothing in the file has although one is close, or that would shift
        the labels of others; warnings for the rest.
    """
    both = f"the config has {_listed(classes)}, the file {_listed(there)}"
    found = [name for name in there if name in set(classes)]
    if not found:
        close = next((hint for name in classes if (hint := close_name(name, there))), "")
        return [
            error(
                file,
                f"{NO_CLASS}: {both}",
                todo=f"Write the names of the file into metainfo=dict(classes=...){close}",
            )
        ]
    findings = []
    missing = [name for name in classes if name not in set(there)]
    unused = [name for name in there if name not in set(classes)]
    for name in missing:
        close = close_name(name, unused)
        if close:
            findings.append(
                error(
                    file,
                    f"there is no class {name!r} in it: {both}",
                    todo=f"Write the name as the file has it{close}",
                )
            )
    if in_order and found != list(classes)[: len(found)] and not findings:
        labels = [f"{own} would be called {name}" for own, name in zip(found, classes)]
        wrong = [text for text, own, name in zip(labels, found, classes) if own != name]
        findings.append(
            error(
                file,
                "its classes come in another order than those of the config, and labels follow "
                f"the file: {shorten(wrong)}; {both}",
                todo=f"Write classes={tuple(found)!r}",
            )
        )
    if missing and not findings:
        findings.append(warning(file, "classes of the config are not in it", missing))
    lost = [name for name in unused if name not in set(empty)]
    if lost and not findings:
        findings.append(
            warning(file, "has classes that the config leaves out, with their objects", lost)
        )
    return findings


def close_name(name: str, there: Sequence[str]) -> str:
    """``; did you mean 'box'?``, whatever the case, or ''."""
    same = [other for other in there if fold(other) == fold(name)]
    return f"; did you mean {same[0]!r}?" if same else did_you_mean(name, there)


def fold(name: str) -> str:
    """A name without what people write differently: case, blanks, dashes."""
    return "".join(letter for letter in name.casefold() if letter.isalnum())


def _listed(names: Sequence[str]) -> str:
    return f"{len(names)} ({shorten(names)})"
