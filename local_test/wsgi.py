"""The router as the model server runs it: `STAGE=local_test python -m serving serve`."""

from __future__ import annotations

import logging
import os
import sys

from local_test.config import RouterConfig
from local_test.router import create_app
from serving.settings import BadSetting
from serving.wsgi import BOOT_ERROR

try:
    app = create_app(RouterConfig.from_env(os.environ).endpoint())
except BadSetting as error:
    logging.getLogger("local_test").critical("%s", error)
    sys.exit(BOOT_ERROR)
