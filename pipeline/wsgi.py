"""The single container: both stages behind one port."""

import os

from flask import Flask

from pipeline.model import Pipeline
from serving.wsgi import container_app

app: Flask = container_app(Pipeline.load, os.environ)
