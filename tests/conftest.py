"""Shared set-up: stand-ins before mmcv is imported, one thread per worker, no stray state."""

import copy
import functools
import gc
import logging
import os
from collections import Counter
from types import SimpleNamespace

import pytest
from _pytest import runner

os.environ.setdefault("MPLBACKEND", "Agg")


def _hands_out_tests(session):
    """Whether this is the process that hands tests to workers, and runs none."""
    distributes = session.config.getoption("dist", "no") != "no"
    return distributes and "PYTEST_XDIST_WORKER" not in os.environ


def pytest_sessionstart(session):
    if _hands_out_tests(session):  # the stack takes seconds
        return
    # a stack of toolboxes has millions of objects: looking through them took a tenth of an export
    gc.set_threshold(50_000, 20, 20)
    import torch

    from mmeffvit import compat

    # pytest listens to every logger that hands nothing on, as torch makes this one; its compiler
    # writes down graphs and stacks as soon as anybody listens: a third of compiling and exporting
    logging.getLogger("torch.__trace").propagate = True
    compat.setup()
    _leave_meta_weights_alone(torch.nn.init)
    from mmengine.dataset import base_dataset

    # a data set lets all garbage be collected when it is built: half a second with this stack
    base_dataset.gc = SimpleNamespace(collect=lambda: 0)
    torch.set_num_threads(
        max(1, (os.cpu_count() or 1) // int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", 1)))
    )


def _leave_meta_weights_alone(init):
    """Numbers for weights without memory are drawn nowhere, in half of the time of a network."""
    names = ("kaiming_normal_", "kaiming_uniform_", "normal_", "trunc_normal_", "uniform_")
    for name in (*names, "constant_", "ones_", "zeros_"):
        function = getattr(init, name)

        @functools.wraps(function)
        def on_real_ones(tensor, *args, function=function, **kwargs):
            return tensor if tensor.is_meta else function(tensor, *args, **kwargs)

        setattr(init, name, on_real_ones)


def pytest_collection_modifyitems(items):
    """Files with slow tests first, then those with most tests: no worker ends long after others."""

    def file(item):
        return item.nodeid.partition("::")[0]

    slow = Counter(file(item) for item in items if item.get_closest_marker("slow"))
    count = Counter(file(item) for item in items)
    items.sort(key=lambda item: (-slow[file(item)], -count[file(item)], file(item)))


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop(session):
    if not _hands_out_tests(session):
        from tests import processes

        processes.start_server()


def _call(function, *args):
    return function(*args)


# CPython maps 16 KiB of memory whenever calls go beyond the piece of stack that they are in, and
# gives them back on return: a tenth of compiling, whose calls are deep. A frame as large as this
# one gets a piece of its own, of 2 MiB, half of which is for the calls inside.
_call.__code__ = _call.__code__.replace(co_stacksize=2**17)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_protocol(item, nextitem):
    return _call(runner.pytest_runtest_protocol, item, nextitem)


@pytest.fixture(scope="module")
def bases_read_once():
    from mmengine.config import Config

    from tests.configs.common import parsed_once

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Config, "_file2dict", staticmethod(parsed_once))
        yield


@pytest.fixture(scope="session")
def quick_onnx():
    """Exports of half the time: what follows is the same for all, or changes no file."""
    pytest.importorskip("onnxscript")
    from onnxscript.rewriter import MatchResult
    from onnxscript.rewriter._matcher import SimplePatternMatcher
    from torch.onnx._internal.exporter._registration import ONNXRegistry

    filled = functools.cache(ONNXRegistry.from_torchlib)

    def from_torchlib(*args, **kwargs):
        # filled once; an export adds forms of its own
        registry = copy.copy(filled(*args, **kwargs))
        registry.functions = {op: [*forms] for op, forms in registry.functions.items()}
        return registry

    match_anywhere = SimplePatternMatcher.match

    def match(self, model, graph, node, **kwargs):
        # a pattern of several outputs lists all nodes of the graph at each of them
        first, *others = self.pattern.output_nodes
        if others and first.op_identifier() not in (None, node.op_identifier()):
            return MatchResult().fail("another operator")
        return match_anywhere(self, model, graph, node, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SimplePatternMatcher, "match", match)
        patch.setattr(ONNXRegistry, "from_torchlib", staticmethod(from_torchlib))
        yield


@pytest.fixture(autouse=True)
def _same_start():
    import torch

    # torch.manual_seed also writes down the stack for each kind of GPU that is not there
    torch.default_generator.manual_seed(0)
    yield
    assert torch.is_grad_enabled(), "the test left gradients switched off"
