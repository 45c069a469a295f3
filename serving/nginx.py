"""nginx's configuration for one container."""

from __future__ import annotations

import os
import pwd
import re
import resource
import shutil
from pathlib import Path

from serving.settings import MIB, Settings

TEMPLATE = Path(__file__).with_name("nginx.conf.template")
CONNECTIONS = 16384
_BUFFER = 64 * 1024  # bytes, as in the template
_LEAST_MEMORY = 64 * MIB
_SMALL, _HEAD = 128 * 1024, 40 * 1024  # bytes of a small body, and of a connection with the longest head


def find_nginx(path: str) -> str | None:
    """nginx's program. Debian keeps it in a directory that is not on a plain user's PATH."""
    return shutil.which("nginx", path=f"{path}:/usr/local/sbin:/usr/sbin:/sbin")


def read_timeout(settings: Settings) -> int:
    """Seconds for an answer. A little less than the platform waits: our JSON 504 arrives before its own."""
    return max(1, settings.timeout - 2)


def nginx_memory(memory: int) -> int:
    """Bytes for all that nginx holds of requests and answers: half of the container's `memory`.

    Who comes when they are in use is refused; otherwise the kernel would end nginx, and everybody's requests with it.
    """
    return max(_LEAST_MEMORY, memory // 2)


def write_config(settings: Settings, run_dir: Path, memory: int) -> Path:
    """Fill in the template. Returns the path of the configuration. `memory`: bytes that nginx may have."""
    open_files = min(resource.getrlimit(resource.RLIMIT_NOFILE)[1], 65536)
    values = {
        # a quarter of the memory for heads, a quarter for small bodies
        "connections": str(min(CONNECTIONS, max(64, open_files // 2), memory // 4 // _HEAD)),
        "requests": str(min(CONNECTIONS, memory // 4 // _SMALL)),
        "answer_buffers": str(max(16, 4 * settings.max_body // _BUFFER)),
        "listen": f"{settings.host}:{settings.port}",
        "max_body": str(settings.max_body),
        "open_files": str(open_files),
        # Each of the two servers in the configuration takes half.
        "queue": str(-(-settings.queue // 2)),
        "read_timeout": str(read_timeout(settings)),
        "run_dir": str(run_dir),
        # nginx's workers are whom its master is; only a root is asked, and only a root may say.
        "user": f"user {pwd.getpwuid(0).pw_name};" if os.getuid() == 0 else "",
    }
    config = run_dir / "nginx.conf"
    config.write_text(re.sub(r"\{\{(\w+)\}\}", lambda found: values[found[1]], TEMPLATE.read_text()))
    return config
