"""The router's process."""

import os

from local_test.endpoint import Endpoint
from local_test.router import create_router

app = create_router(
    Endpoint.parse(
        os.environ.get("ENDPOINT_NAME") or "abalone",
        os.environ.get("CONTAINERS") or "featurizer=http://127.0.0.1:8081,predictor=http://127.0.0.1:8082",
    )
)
