"""The predictor's container."""

import os

from predictor.model import Predictor
from serving.wsgi import container_app

app = container_app(lambda settings: Predictor.load(settings.model_dir, settings.default_accept), os.environ)
