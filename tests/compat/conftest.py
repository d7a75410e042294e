"""Repairs are tested in interpreters of their own, where nothing has been set up yet."""

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def run_python(tmp_path):
    """Run a script in a fresh interpreter.

    Returns the JSON value that it prints last, or the last line of its error.
    """

    def run(script, pythonpath=ROOT):  # this repository is found also where it is not installed
        process = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", textwrap.dedent(script)],
            capture_output=True,
            text=True,
            timeout=200,
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(pythonpath), "OMP_NUM_THREADS": "1"},
        )
        if process.returncode:
            return process.stderr.strip().splitlines()[-1]
        return json.loads(process.stdout.strip().splitlines()[-1])

    return run
