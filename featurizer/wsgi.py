"""The featurizer's container."""

import os

from featurizer.model import Featurizer
from serving.settings import Settings
from serving.wsgi import container_app


def load(settings: Settings) -> Featurizer:
    return Featurizer.load(
        settings.model_dir,
        settings.default_accept,
        settings.engine,
        settings.max_rows,
        settings.batch,
        settings.max_response,
        settings.max_field,
    )


app = container_app(load, os.environ)
