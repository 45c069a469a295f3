"""nginx's configuration for one container."""

from __future__ import annotations

import getpass
import os
import re
import resource
import shutil
from pathlib import Path

from serving.settings import Settings

TEMPLATE = Path(__file__).with_name("nginx.conf.template")
CONNECTIONS = 4096


def find_nginx(path: str) -> str | None:
    """nginx's program. Debian keeps it in a directory that is not on a plain user's PATH."""
    return shutil.which("nginx", path=f"{path}:/usr/local/sbin:/usr/sbin:/sbin")


def write_config(settings: Settings, run_dir: Path) -> Path:
    """Fill in the template. Returns the path of the configuration."""
    open_files = min(resource.getrlimit(resource.RLIMIT_NOFILE)[1], 65536)
    values = {
        "connections": str(min(CONNECTIONS, max(64, open_files // 2))),
        "listen": f"{settings.host}:{settings.port}",
        "max_body": str(settings.max_body),
        "open_files": str(open_files),
        # A little less than the platform waits: our JSON 504 arrives before its own.
        "read_timeout": str(max(1, settings.timeout - 2)),
        "run_dir": str(run_dir),
        "user": getpass.getuser() if os.getuid() == 0 else "nobody",
    }
    config = run_dir / "nginx.conf"
    config.write_text(re.sub(r"\{\{(\w+)\}\}", lambda found: values[found[1]], TEMPLATE.read_text()))
    return config
