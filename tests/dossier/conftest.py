"""Technical files, made once."""

import pytest

import dossiers


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> dossiers.Made:
    return dossiers.make(tmp_path_factory.mktemp("dossier"))
