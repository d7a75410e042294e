import pytest
from mmengine.registry import DefaultScope


@pytest.fixture(autouse=True)
def _own_scope():
    """A Runner makes the scope of its config the default one of the process, for good."""
    with DefaultScope.overwrite_default_scope("mmengine"):
        yield
