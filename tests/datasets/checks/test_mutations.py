"""Whatever happens to a data set: an error that names the cause, or labels that are right.

There is no third way: no traceback without a cause, and no success with wrong labels.
"""

import re
import shutil

import pytest

from mmeffvit.engine.preflight import find_problems
from tests.datasets.checks import sets
from tests.datasets.checks.mutations import MUTATIONS


@pytest.fixture(scope="module")
def originals(tmp_path_factory):
    """A valid set of every layout."""
    roots = {}
    for layout, (write, _) in sets.LAYOUTS.items():
        roots[layout] = tmp_path_factory.mktemp(layout.replace(" ", "_"))
        write(roots[layout])
    return roots


@pytest.mark.parametrize("layout", sets.LAYOUTS)
def test_valid_sets_pass(layout, originals):
    cfg = sets.LAYOUTS[layout][1](originals[layout])
    assert find_problems(cfg, ("train", "val")) == []
    assert sets.wrong_labels(layout, cfg) == []


def test_there_are_enough_of_them():
    assert len(MUTATIONS) >= 150
    assert len({str(mutation) for mutation in MUTATIONS}) == len(MUTATIONS)


@pytest.mark.parametrize("mutation", MUTATIONS, ids=str)
def test_mutation(mutation, originals, tmp_path):
    root = tmp_path / "data"
    shutil.copytree(originals[mutation.layout], root)
    cfg = sets.LAYOUTS[mutation.layout][1](root)
    mutation.apply(root, cfg)
    found = find_problems(cfg, ("train", "val"))
    assert not any("could not be checked" in finding.what for finding in found), found
    errors = [str(finding) for finding in found if finding.level == "error"]
    warnings = [str(finding) for finding in found if finding.level == "warning"]
    if mutation.level == "error":
        assert any(re.search(mutation.words, text) for text in errors), (errors, warnings)
        return
    assert errors == []
    if mutation.level == "warning":
        assert any(re.search(mutation.words, text) for text in warnings), warnings
    assert sets.wrong_labels(mutation.layout, cfg) == []
