"""The predictor's container."""

import os

from flask import Flask

from predictor.model import Predictor
from serving.settings import Settings
from serving.wsgi import container_app


def load(settings: Settings) -> Predictor:
    return Predictor.load(
        settings.model_dir,
        settings.default_accept,
        settings.output,
        settings.max_rows,
        settings.batch,
        settings.max_response,
    )


app: Flask = container_app(load, os.environ)
