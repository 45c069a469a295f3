"""The router as the model server runs it: `STAGE=local_test python -m serving serve`."""

from __future__ import annotations

import logging
import os
import sys

from local_test.config import RouterConfig
from local_test.page.files import Files
from local_test.page.history import History
from local_test.page.views import Page
from local_test.router import create_app
from serving.settings import BadSetting
from serving.wsgi import BOOT_ERROR

try:
    config = RouterConfig.from_env(os.environ)
except BadSetting as error:
    logging.getLogger("local_test").critical("%s", error)
    sys.exit(BOOT_ERROR)

endpoint = config.endpoint()
app = create_app(endpoint)
if config.kept_requests:
    Page(endpoint, History(config.kept_requests), Files(config.artifacts, config.logs)).install(app)
