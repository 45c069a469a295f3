"""What the integration tests share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.servers import Server, free_ports, running


@pytest.fixture(params=["on", "off"], ids=["nginx", "gunicorn alone"])
def front(request: pytest.FixtureRequest) -> dict[str, str]:
    """The environment with nginx in front, and without."""
    return {"MODEL_SERVER_NGINX": request.param}


@pytest.fixture(scope="session")
def chain(artifacts: Path) -> Iterator[tuple[Server, Server]]:
    """Featurizer and predictor of one training run, as neighbours on one range of ports."""
    first, second = free_ports(2)
    env = {"SAGEMAKER_SAFE_PORT_RANGE": f"{first}-{second}", "MODEL_SERVER_WORKERS": "1"}
    with (
        running("featurizer", env | _model(artifacts, "featurizer"), port=first) as featurizer,
        running("predictor", env | _model(artifacts, "predictor"), port=second) as predictor,
    ):
        yield featurizer, predictor


def _model(artifacts: Path, stage: str) -> dict[str, str]:
    return {"SM_MODEL_DIR": str(artifacts / stage / "model")}
