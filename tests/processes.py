"""Processes that have imported the stack already: a fresh interpreter takes seconds to do so."""

import multiprocessing
import os
from importlib import import_module
from multiprocessing import forkserver
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parents[1]


def context():
    """The context of such processes, which hold :mod:`tests.preloaded`.

    They are forked from this one. Where it may have used a GPU, no process that is forked from it
    can do so: there a server that uses none forks them.
    """
    if not torch.cuda.is_available():
        import_module("tests.preloaded")
        return multiprocessing.get_context("fork")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.preloaded"])
    here = os.getcwd()
    os.chdir(ROOT)  # where an older Python's server looks for what it imports
    try:
        forkserver.ensure_running()
    finally:
        os.chdir(here)
    return context
