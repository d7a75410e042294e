"""Processes forked from a server that has imported the stack: a fresh interpreter costs seconds."""

import multiprocessing
import os
from multiprocessing import forkserver
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def context():
    """The context of such processes. They hold :mod:`tests.preloaded`, and nothing of a test's."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.preloaded"])
    here = os.getcwd()
    os.chdir(ROOT)  # where an older Python's server looks for what it imports
    try:
        forkserver.ensure_running()
    finally:
        os.chdir(here)
    return context
