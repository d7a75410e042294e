"""The set-up of all tests: stand-ins before mmcv is imported, one thread, a fixed seed."""

from tests.conftest import (  # noqa: F401
    _same_start,
    pytest_collection_finish,
    pytest_sessionfinish,
    pytest_sessionstart,
)
