"""A made-up machine: what is predicted of it is known. Bounds of small graphs."""

import pytest

from tests.helpers.machines import made_up


@pytest.fixture(scope="session")
def machine():
    """One whose operations take the same a unit whatever the size."""
    return made_up()


@pytest.fixture
def code_that_takes_nothing(monkeypatch):
    """Of graphs so small that the code which is loaded would take more than all else."""
    monkeypatch.setattr("gnnscale.train.session._CODE", 0)
    monkeypatch.setattr("gnnscale.train.session._READING", 0)
