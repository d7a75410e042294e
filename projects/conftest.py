"""The set-up of all tests: stand-ins before mmcv is imported, one thread, a fixed seed."""

from tests.conftest import _same_start, pytest_sessionstart  # noqa: F401
