"""The featurizer's container."""

import os

from featurizer.model import Featurizer
from serving.wsgi import container_app

app = container_app(lambda settings: Featurizer.load(settings.model_dir, settings.default_accept), os.environ)
