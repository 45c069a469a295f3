"""The proxies that the environment names: this machine is not asked through one."""

from __future__ import annotations

from collections.abc import MutableMapping
from urllib.parse import urlsplit

_LOOPBACK = "127.0.0.1,localhost,::1,[::1]"


def spare_loopback(env: MutableMapping[str, str]) -> None:
    """Have every client of this process, and of those it starts, ask this machine itself."""
    own = env.get("no_proxy") or env.get("NO_PROXY") or ""
    if own.strip() != "*" and any(name.lower().endswith("_proxy") for name in env):
        env["no_proxy"] = env["NO_PROXY"] = f"{own},{_LOOPBACK}".lstrip(",")


def advice(url: str) -> str:
    """What to do about an address that a proxy answers for or does not reach; empty where it is asked without one."""
    from urllib.request import getproxies, proxy_bypass

    parts = urlsplit(url)
    if parts.scheme not in getproxies() or proxy_bypass(parts.netloc.rpartition("@")[2]):
        return ""
    return f"it is asked through {parts.scheme.upper()}_PROXY; to ask {parts.hostname} itself, name it in NO_PROXY"
