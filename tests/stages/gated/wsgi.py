"""A stage whose first worker loads at once, and every other one when the file `open` appears in the directory GATE."""

import os
import time
from pathlib import Path

from serving.payload import Payload, Stage
from serving.settings import Settings
from serving.wsgi import container_app


def load(_settings: Settings) -> Stage:
    gate = Path(os.environ["GATE"])
    try:
        (gate / "first").touch(exist_ok=False)
    except FileExistsError:
        while not (gate / "open").exists():
            time.sleep(0.02)
    return lambda payload: Payload(payload.body, payload.content_type)


app = container_app(load, os.environ)
