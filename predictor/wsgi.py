"""The predictor's container."""

import os

from flask import Flask

from predictor.model import Predictor
from serving.payload import CSV
from serving.settings import Settings
from serving.wsgi import container_app


def load(settings: Settings) -> Predictor:
    """Batch Transform puts answers together line by line, so its default is a line a row."""
    accept = settings.default_accept or (CSV if settings.batch else "")
    return Predictor.load(settings.model_dir, accept, settings.output)


app: Flask = container_app(load, os.environ)
