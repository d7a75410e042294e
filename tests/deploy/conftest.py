"""Whole models are exported here, one after the other."""

from importlib.util import find_spec

import pytest


@pytest.fixture(autouse=True)
def _quickly(request):
    if find_spec("onnxscript") is not None:
        request.getfixturevalue("quick_onnx")
