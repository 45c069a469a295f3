"""Every environment variable the containers understand, with its default. Read once, by entry points only."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

MIB = 1024 * 1024
MOST_HEADERS = 100  # of a request
MOST_WORKERS = 500  # a reload has twice as many for a moment, and each has its place in what they share
LOG_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
LAMBDA_LIMIT = 6 * MIB  # of an event, and of its answer: a body with what is around it, in base64 if it is no text
# The workers share the cores already. xgboost and numpy read these when they are imported.
ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
BATCH_ROWS = 4_000_000  # what the slowest stage answers within its time; 100 MiB of rows of 26 bytes
MOST_FIELD = 131_072  # characters, which is what Python's csv module takes
OUTPUTS = ("score", "label", "probabilities")
ENGINES = ("auto", "compiled", "sklearn")
METRICS = ("off", "emf")
WORKER_CLASSES = ("sync", "gthread", "gevent")
# More digits are no number that anything here may have, and thousands are an error of int().
_DIGITS = re.compile("[0-9]{1,18}")
_HOST = re.compile(r"[A-Za-z0-9.-]{0,253}|\[[0-9A-Fa-f:.]{2,45}\]")


class BadSetting(ValueError):
    """An environment variable holds something it must not."""


@dataclass(frozen=True)
class Settings:
    """What the environment says. `docs/operations.md` lists the variable behind each field."""

    stage: str = ""  # the package whose wsgi.py is served
    model_dir: Path = Path("/opt/ml/model")
    base_dir: Path = Path("/opt/ml")
    host: str = "0.0.0.0"  # noqa: S104 - a container is reached from outside; the local chain sets 127.0.0.1
    port: int = 8080
    safe_port_range: tuple[int, int] | None = None
    workers: int = 1
    worker_class: str = "sync"
    threads: int = 8  # of a gthread worker
    timeout: int = 60  # seconds a request may take
    queue: int = 256  # requests that wait for a worker or are computed; more are refused
    nginx: bool = True
    default_accept: str = ""
    output: str = "score"  # of a predictor
    engine: str = "auto"  # of a featurizer
    batch: bool = False
    max_body: int = 25 * MIB  # bytes
    max_rows: int = 200_000  # of a request; 0: no limit
    max_response: int = 0  # bytes; 0: no limit
    max_field: int = 1024  # characters of a category
    log_level: str = "INFO"
    metrics: str = "off"
    metrics_port: int = 0  # of the loopback; 0: none
    endpoint: str = ""  # what CloudWatch's metrics are told apart by
    user: int = 0  # whom root becomes before it listens; 0: nobody
    run_dir: Path | None = None  # sockets, pid files, nginx's spool; None: a fresh temporary directory

    @classmethod
    def from_env(cls, env: Mapping[str, str]) -> Settings:
        """Read the settings. Raises `BadSetting` naming the variable, what was expected and what came."""
        batch = env.get("SAGEMAKER_BATCH", "").lower() == "true"
        limit = LAMBDA_LIMIT if env.get("AWS_LAMBDA_RUNTIME_API") else 0
        return cls(
            stage=env.get("STAGE", ""),
            model_dir=Path(env.get("SM_MODEL_DIR") or "/opt/ml/model"),
            base_dir=Path(env.get("SAGEMAKER_BASE_DIR") or "/opt/ml"),
            host=_host(env) or cls.host,
            # SageMaker gives every container of a pipeline its own port; App Runner uses PORT.
            port=_number(env, "SAGEMAKER_BIND_TO_PORT", "PORT", default=8080, least=1, most=65535),
            safe_port_range=_port_range(env.get("SAGEMAKER_SAFE_PORT_RANGE", "")),
            workers=_number(
                env,
                "MODEL_SERVER_WORKERS",
                "SAGEMAKER_MODEL_SERVER_WORKERS",
                default=min(usable_cpus(), MOST_WORKERS),
                most=MOST_WORKERS,
            ),
            worker_class=_choice(env, "MODEL_SERVER_WORKER_CLASS", WORKER_CLASSES, cls.worker_class),
            threads=_number(env, "MODEL_SERVER_THREADS", default=cls.threads),
            timeout=_number(env, "MODEL_SERVER_TIMEOUT", "SAGEMAKER_MODEL_SERVER_TIMEOUT", default=60, most=3600),
            queue=_number(env, "MODEL_SERVER_QUEUE", default=cls.queue, most=2048),
            nginx=_choice(env, "MODEL_SERVER_NGINX", ("on", "off"), "on") == "on",
            # Batch Transform puts answers together line by line.
            default_accept=env.get("SAGEMAKER_DEFAULT_INVOCATIONS_ACCEPT") or ("text/csv" if batch else ""),
            output=_choice(env, "SAGEMAKER_INFERENCE_OUTPUT", OUTPUTS, cls.output),
            engine=_choice(env, "FEATURIZER_ENGINE", ENGINES, cls.engine),
            batch=batch,
            max_body=_max_body(env, limit or (100 if batch else 25) * MIB),
            max_rows=_number(
                env, "MODEL_SERVER_MAX_ROWS", default=BATCH_ROWS if batch else cls.max_rows, least=0, most=10**9
            ),
            max_response=_number(env, "MODEL_SERVER_MAX_RESPONSE", default=limit, least=0, most=1024 * MIB),
            max_field=_number(env, "MODEL_SERVER_MAX_FIELD", default=cls.max_field, most=MOST_FIELD),
            log_level=_log_level(env),
            metrics=_choice(env, "MODEL_SERVER_METRICS", METRICS, cls.metrics),
            metrics_port=_metrics_port(env),
            endpoint=_endpoint(env),
            user=_user(env),
            run_dir=Path(env["MODEL_SERVER_RUN_DIR"]) if env.get("MODEL_SERVER_RUN_DIR") else None,
        )


def usable_cpus(cgroup: Path = Path("/sys/fs/cgroup")) -> int:
    """CPUs this container may use: its affinity, and its cgroup's quota rounded up. At least one."""
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota, period = _cgroup_quota(cgroup)
    return max(1, affinity if quota <= 0 else min(affinity, -(-quota // period)))


def _cgroup_quota(cgroup: Path) -> tuple[int, int]:
    """Quota and period in microseconds; a quota of -1 means none."""
    try:
        if (v2 := cgroup / "cpu.max").exists():
            quota, period = v2.read_text().split()
        else:
            quota = (cgroup / "cpu/cpu.cfs_quota_us").read_text()
            period = (cgroup / "cpu/cpu.cfs_period_us").read_text()
        return (-1, 1) if quota == "max" else (int(quota), int(period))
    except (OSError, ValueError):
        return -1, 1


def _number(env: Mapping[str, str], *names: str, default: int, least: int = 1, most: int = 1024) -> int:
    for name in names:
        if text := env.get(name, ""):
            if not (_DIGITS.fullmatch(text) and least <= int(text) <= most):
                raise BadSetting(f"{name}: expected a whole number from {least} to {most}, got {text!r}")
            return int(text)
    return default


def _choice(env: Mapping[str, str], name: str, choices: tuple[str, ...], default: str) -> str:
    if (text := env.get(name) or default) not in choices:
        raise BadSetting(f"{name}: expected one of {', '.join(choices)}, got {text!r}")
    return text


def _host(env: Mapping[str, str]) -> str:
    """It becomes a word of nginx's configuration, so nothing that could end one may stand in it."""
    if not _HOST.fullmatch(text := env.get("MODEL_SERVER_HOST", "")):
        raise BadSetting(f"MODEL_SERVER_HOST: expected an address, in brackets if it is IPv6, or a name; got {text!r}")
    return text


def _user(env: Mapping[str, str]) -> int:
    """The number of an unprivileged user; 0 for `root`."""
    if env.get("MODEL_SERVER_USER") == "root":
        return 0
    return _number(env, "MODEL_SERVER_USER", default=0, most=2**31 - 1)


def _port_range(text: str) -> tuple[int, int] | None:
    if not text:
        return None
    first, _, last = text.partition("-")
    if not (_DIGITS.fullmatch(first) and _DIGITS.fullmatch(last) and int(first) <= int(last)):
        raise BadSetting(f"SAGEMAKER_SAFE_PORT_RANGE: expected FIRST-LAST, got {text!r}")
    return int(first), int(last)


def _metrics_port(env: Mapping[str, str]) -> int:
    """A second port, which SageMaker wants in the range that it gives."""
    port = _number(env, "MODEL_SERVER_METRICS_PORT", default=0, most=65535)
    safe = _port_range(env.get("SAGEMAKER_SAFE_PORT_RANGE", ""))
    if port and safe and not safe[0] <= port <= safe[1]:
        expected = f"a port of SAGEMAKER_SAFE_PORT_RANGE, {safe[0]}-{safe[1]}"
        raise BadSetting(f"MODEL_SERVER_METRICS_PORT: expected {expected}, got {port}")
    return port


def _endpoint(env: Mapping[str, str]) -> str:
    """Who serves, as far as the environment says: SageMaker does not tell a container."""
    name = env.get("ENDPOINT_NAME") or env.get("AWS_LAMBDA_FUNCTION_NAME") or ""
    if not re.fullmatch(r"[\w.-]{0,128}", name, re.ASCII):
        raise BadSetting(f"ENDPOINT_NAME: expected at most 128 letters, digits, dots and hyphens, got {name!r}")
    return name


def _max_body(env: Mapping[str, str], default: int) -> int:
    """Never less than what the platform says it will send."""
    promised = _number(env, "SAGEMAKER_MAX_PAYLOAD_IN_MB", default=0, least=0, most=1024) * MIB
    return _number(env, "MAX_CONTENT_LENGTH", default=max(default, promised), most=1024 * MIB)


def _log_level(env: Mapping[str, str]) -> str:
    """LOG_LEVEL by name, or SAGEMAKER_CONTAINER_LOG_LEVEL as the SageMaker SDK sets it: a number such as 20."""
    by_number = {"10": "DEBUG", "20": "INFO", "30": "WARNING", "40": "ERROR", "50": "CRITICAL"}
    number = env.get("SAGEMAKER_CONTAINER_LOG_LEVEL", "")
    return _choice(
        {"LOG_LEVEL": env.get("LOG_LEVEL", "").upper()}, "LOG_LEVEL", LOG_LEVELS, by_number.get(number, "INFO")
    )
