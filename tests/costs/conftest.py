"""A made-up machine: what is predicted of it is known."""

import pytest

from tests.helpers.machines import made_up


@pytest.fixture(scope="session")
def machine():
    """One whose operations take the same a unit whatever the size."""
    return made_up()
