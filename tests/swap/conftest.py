"""What old backbones have now is measured once for each file of tests, not for every swap."""

import pytest

from maintenance.swap_zoo.measured import measured_once


@pytest.fixture(scope="module", autouse=True)
def _measured_once():
    with measured_once({}):
        yield
