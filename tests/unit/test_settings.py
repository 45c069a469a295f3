"""The table of environment variables."""

from __future__ import annotations

import os
from dataclasses import asdict
from pathlib import Path

import pytest

from serving.settings import MIB, BadSetting, Settings, usable_cpus


def test_an_empty_environment_gives_the_documented_defaults() -> None:
    assert asdict(Settings.from_env({})) == {
        "stage": "",
        "model_dir": Path("/opt/ml/model"),
        "base_dir": Path("/opt/ml"),
        "host": "0.0.0.0",
        "port": 8080,
        "safe_port_range": None,
        "workers": usable_cpus(),
        "worker_class": "sync",
        "threads": 8,
        "timeout": 60,
        "queue": 256,
        "nginx": True,
        "default_accept": "",
        "batch": False,
        "output": "score",
        "engine": "auto",
        "max_body": 25 * MIB,
        "max_rows": 200_000,
        "max_response": 0,
        "max_field": 1024,
        "log_level": "INFO",
        "metrics": "off",
        "metrics_port": 0,
        "endpoint": "",
        "user": 0,
        "run_dir": None,
    }


@pytest.mark.parametrize(
    ("env", "field", "value"),
    [
        ({"STAGE": "featurizer"}, "stage", "featurizer"),
        ({"SM_MODEL_DIR": "/m"}, "model_dir", Path("/m")),
        ({"SAGEMAKER_INFERENCE_OUTPUT": "label"}, "output", "label"),
        ({"FEATURIZER_ENGINE": "sklearn"}, "engine", "sklearn"),
        ({"MODEL_SERVER_MAX_ROWS": "7"}, "max_rows", 7),
        ({"SAGEMAKER_BATCH": "true"}, "max_rows", 4_000_000),
        ({"SAGEMAKER_BATCH": "true", "MODEL_SERVER_MAX_ROWS": "0"}, "max_rows", 0),
        ({"MODEL_SERVER_MAX_RESPONSE": "5242880"}, "max_response", 5 * MIB),
        ({"MODEL_SERVER_MAX_FIELD": "9000"}, "max_field", 9000),
        ({"SAGEMAKER_BASE_DIR": "/b"}, "base_dir", Path("/b")),
        ({"MODEL_SERVER_HOST": "127.0.0.1"}, "host", "127.0.0.1"),
        ({"MODEL_SERVER_HOST": "[::]"}, "host", "[::]"),
        ({"PORT": "9000"}, "port", 9000),
        ({"SAGEMAKER_BIND_TO_PORT": "9001", "PORT": "9000"}, "port", 9001),
        ({"SAGEMAKER_BIND_TO_PORT": "", "PORT": "9000"}, "port", 9000),
        ({"SAGEMAKER_SAFE_PORT_RANGE": "21000-21999"}, "safe_port_range", (21000, 21999)),
        ({"MODEL_SERVER_WORKERS": "3"}, "workers", 3),
        ({"MODEL_SERVER_METRICS": "emf"}, "metrics", "emf"),
        ({"MODEL_SERVER_METRICS_PORT": "9100"}, "metrics_port", 9100),
        ({"ENDPOINT_NAME": "abalone"}, "endpoint", "abalone"),
        ({"AWS_LAMBDA_FUNCTION_NAME": "score"}, "endpoint", "score"),
        ({"SAGEMAKER_MODEL_SERVER_WORKERS": "4"}, "workers", 4),
        ({"MODEL_SERVER_WORKERS": "3", "SAGEMAKER_MODEL_SERVER_WORKERS": "4"}, "workers", 3),
        ({"MODEL_SERVER_WORKER_CLASS": "gevent"}, "worker_class", "gevent"),
        ({"MODEL_SERVER_THREADS": "2"}, "threads", 2),
        ({"MODEL_SERVER_TIMEOUT": "3600"}, "timeout", 3600),
        ({"SAGEMAKER_MODEL_SERVER_TIMEOUT": "30"}, "timeout", 30),
        ({"MODEL_SERVER_NGINX": "off"}, "nginx", False),
        ({"SAGEMAKER_DEFAULT_INVOCATIONS_ACCEPT": "application/x-npy"}, "default_accept", "application/x-npy"),
        ({"SAGEMAKER_BATCH": "true"}, "batch", True),
        ({"SAGEMAKER_BATCH": "True"}, "batch", True),
        ({"SAGEMAKER_BATCH": "false"}, "batch", False),
        ({"SAGEMAKER_BATCH": "true"}, "max_body", 100 * MIB),
        ({"SAGEMAKER_MAX_PAYLOAD_IN_MB": "50"}, "max_body", 50 * MIB),
        ({"SAGEMAKER_MAX_PAYLOAD_IN_MB": "6"}, "max_body", 25 * MIB),
        ({"SAGEMAKER_MAX_PAYLOAD_IN_MB": "0", "SAGEMAKER_BATCH": "true"}, "max_body", 100 * MIB),
        ({"MAX_CONTENT_LENGTH": "1000", "SAGEMAKER_BATCH": "true"}, "max_body", 1000),
        ({"LOG_LEVEL": "debug"}, "log_level", "DEBUG"),
        ({"SAGEMAKER_CONTAINER_LOG_LEVEL": "40"}, "log_level", "ERROR"),
        ({"SAGEMAKER_CONTAINER_LOG_LEVEL": "40", "LOG_LEVEL": "WARNING"}, "log_level", "WARNING"),
        ({"SAGEMAKER_CONTAINER_LOG_LEVEL": "17"}, "log_level", "INFO"),
        ({"MODEL_SERVER_USER": "10001"}, "user", 10001),
        ({"MODEL_SERVER_USER": "root"}, "user", 0),
        ({"MODEL_SERVER_RUN_DIR": "/run/x"}, "run_dir", Path("/run/x")),
        ({"MODEL_SERVER_RUN_DIR": ""}, "run_dir", None),
    ],
)
def test_a_variable_sets_its_field(env: dict[str, str], field: str, value: object) -> None:
    assert getattr(Settings.from_env(env), field) == value


@pytest.mark.parametrize(
    ("variable", "text", "expected"),
    [
        *(
            ("PORT", text, "from 1 to 65535")
            for text in ("0", "65536", "-1", "+80", "8_0", "٨٠", "http", "80.0", " 80")
        ),
        ("SAGEMAKER_BIND_TO_PORT", "99999", "from 1 to 65535"),
        *(("SAGEMAKER_SAFE_PORT_RANGE", text, "FIRST-LAST") for text in ("21000", "a-b", "2-1", "-1-2", "1-2-3")),
        ("MODEL_SERVER_WORKERS", "0", "from 1 to 500"),
        ("MODEL_SERVER_WORKERS", "auto", "from 1 to 500"),
        ("MODEL_SERVER_WORKERS", "9" * 5000, "from 1 to 500"),
        ("MODEL_SERVER_WORKERS", "\u0663", "from 1 to 500"),
        ("SAGEMAKER_SAFE_PORT_RANGE", f"1-{'9' * 5000}", "FIRST-LAST"),
        ("MODEL_SERVER_HOST", "127.0.0.1:80; include /etc/passwd", "an address"),
        ("MODEL_SERVER_HOST", "0.0.0.0\n", "an address"),
        ("MODEL_SERVER_HOST", "::", "in brackets"),
        ("SAGEMAKER_MODEL_SERVER_WORKERS", "501", "from 1 to 500"),
        ("MODEL_SERVER_WORKER_CLASS", "eventlet", "sync, gthread, gevent"),
        ("MODEL_SERVER_THREADS", "0", "from 1 to 1024"),
        ("MODEL_SERVER_TIMEOUT", "3601", "from 1 to 3600"),
        ("SAGEMAKER_MODEL_SERVER_TIMEOUT", "1m", "from 1 to 3600"),
        ("MODEL_SERVER_NGINX", "yes", "on, off"),
        *(("MODEL_SERVER_USER", text, "from 1 to 2147483647") for text in ("0", "-1", "nobody", "2147483648")),
        ("SAGEMAKER_MAX_PAYLOAD_IN_MB", "6MB", "from 0 to 1024"),
        ("MAX_CONTENT_LENGTH", "0", "from 1 to 1073741824"),
        ("LOG_LEVEL", "LOUD", "DEBUG, INFO, WARNING, ERROR, CRITICAL"),
    ],
)
def test_a_wrong_value_is_refused_by_name(variable: str, text: str, expected: str) -> None:
    with pytest.raises(BadSetting) as caught:
        Settings.from_env({variable: text})

    assert variable in str(caught.value)
    assert expected in str(caught.value)
    assert repr(text).upper() in str(caught.value).upper()


@pytest.mark.parametrize(
    ("files", "cpus"),
    [
        pytest.param({"cpu.max": "150000 100000\n"}, 2, id="a part counts as a whole"),
        pytest.param({"cpu.max": "400000 100000\n"}, 4, id="whole CPUs"),
        pytest.param({"cpu.max": "5000 100000\n"}, 1, id="less than one"),
        pytest.param({"cpu.max": "1600000 100000\n"}, 8, id="more than the affinity"),
        pytest.param({"cpu.max": "max 100000\n"}, 8, id="no quota"),
        pytest.param({"cpu.max": "nonsense\n"}, 8, id="unreadable"),
        pytest.param({"cpu/cpu.cfs_quota_us": "300000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 3, id="version 1"),
        pytest.param(
            {"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, 8, id="version 1, no quota"
        ),
        pytest.param({}, 8, id="no cgroup"),
    ],
)
def test_a_container_counts_the_cpus_of_its_quota(
    files: dict[str, str], cpus: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: set(range(8)), raising=False)
    (tmp_path / "cpu").mkdir()
    for name, text in files.items():
        (tmp_path / name).write_text(text)

    assert usable_cpus(tmp_path) == cpus


@pytest.mark.parametrize(
    ("variable", "field", "most"),
    [
        ("PORT", "port", 65535),
        ("MODEL_SERVER_WORKERS", "workers", 500),
        ("MODEL_SERVER_THREADS", "threads", 1024),
        ("MODEL_SERVER_TIMEOUT", "timeout", 3600),
        ("MODEL_SERVER_QUEUE", "queue", 2048),
        ("MODEL_SERVER_MAX_ROWS", "max_rows", 10**9),
        ("MODEL_SERVER_MAX_RESPONSE", "max_response", 1024 * MIB),
        ("MODEL_SERVER_MAX_FIELD", "max_field", 131_072),
        ("MODEL_SERVER_METRICS_PORT", "metrics_port", 65535),
        ("MODEL_SERVER_USER", "user", 2**31 - 1),
        ("MAX_CONTENT_LENGTH", "max_body", 1024 * MIB),
    ],
)
def test_a_number_is_taken_up_to_its_limit(variable: str, field: str, most: int) -> None:
    assert getattr(Settings.from_env({variable: str(most)}), field) == most
    with pytest.raises(
        BadSetting, match=rf"^{variable}: expected a whole number from [01] to {most}, got '{most + 1}'$"
    ):
        Settings.from_env({variable: str(most + 1)})


@pytest.mark.parametrize(
    "variable", ["MODEL_SERVER_MAX_ROWS", "MODEL_SERVER_MAX_RESPONSE", "SAGEMAKER_MAX_PAYLOAD_IN_MB"]
)
def test_none_is_a_number_where_it_means_no_limit(variable: str) -> None:
    Settings.from_env({variable: "0"})
    with pytest.raises(BadSetting, match=f"{variable}: expected a whole number from 0 to "):
        Settings.from_env({variable: "-1"})


@pytest.mark.parametrize(
    "variable",
    [
        "MODEL_SERVER_WORKERS",
        "MODEL_SERVER_THREADS",
        "MODEL_SERVER_TIMEOUT",
        "MODEL_SERVER_QUEUE",
        "MODEL_SERVER_METRICS_PORT",
        "MAX_CONTENT_LENGTH",
    ],
)
def test_one_is_the_least_of_what_there_must_be(variable: str) -> None:
    Settings.from_env({variable: "1"})
    with pytest.raises(BadSetting, match=f"{variable}: expected a whole number from 1 to "):
        Settings.from_env({variable: "0"})


@pytest.mark.parametrize("megabytes", [1024, 1025])
def test_a_platform_may_promise_bodies_of_up_to_a_gibibyte(megabytes: int) -> None:
    env = {"SAGEMAKER_MAX_PAYLOAD_IN_MB": str(megabytes)}
    if megabytes <= 1024:
        assert Settings.from_env(env).max_body == megabytes * MIB
    else:
        with pytest.raises(BadSetting, match="from 0 to 1024, got '1025'"):
            Settings.from_env(env)


@pytest.mark.parametrize(
    ("variable", "field", "longest", "more"),
    [
        ("MODEL_SERVER_HOST", "host", "h" * 253, "h" * 254),
        ("MODEL_SERVER_HOST", "host", f"[{'f' * 45}]", f"[{'f' * 46}]"),
        ("MODEL_SERVER_HOST", "host", "[::]", "[:]"),
        ("ENDPOINT_NAME", "endpoint", "n" * 128, "n" * 129),
    ],
)
def test_a_name_has_bounds(variable: str, field: str, longest: str, more: str) -> None:
    assert getattr(Settings.from_env({variable: longest}), field) == longest
    with pytest.raises(BadSetting, match=f"^{variable}: expected "):
        Settings.from_env({variable: more})


@pytest.mark.parametrize(("port", "fits"), [(7999, False), (8000, True), (8999, True), (9000, False)])
def test_the_port_of_the_metrics_is_one_of_those_that_the_platform_gives(port: int, fits: bool) -> None:
    env = {"MODEL_SERVER_METRICS_PORT": str(port), "SAGEMAKER_SAFE_PORT_RANGE": "8000-8999"}
    if fits:
        assert Settings.from_env(env).metrics_port == port
    else:
        with pytest.raises(BadSetting, match=f"expected a port of SAGEMAKER_SAFE_PORT_RANGE, 8000-8999, got {port}"):
            Settings.from_env(env)


def test_a_range_may_be_of_one_port() -> None:
    assert Settings.from_env({"SAGEMAKER_SAFE_PORT_RANGE": "21000-21000"}).safe_port_range == (21000, 21000)


@pytest.mark.parametrize(("cpus", "workers"), [(499, 499), (501, 500)])
def test_a_large_machine_has_no_more_workers_than_there_may_be(
    monkeypatch: pytest.MonkeyPatch, cpus: int, workers: int
) -> None:
    monkeypatch.setattr("serving.settings.usable_cpus", lambda: cpus)

    assert Settings.from_env({}).workers == workers


@pytest.mark.parametrize(
    ("number", "level"), [("10", "DEBUG"), ("20", "INFO"), ("30", "WARNING"), ("40", "ERROR"), ("50", "CRITICAL")]
)
def test_a_level_is_known_by_its_number_too(number: str, level: str) -> None:
    assert Settings.from_env({"SAGEMAKER_CONTAINER_LOG_LEVEL": number}).log_level == level


def test_a_batch_is_answered_as_csv_unless_something_else_is_asked_for() -> None:
    batch = {"SAGEMAKER_BATCH": "true"}

    assert Settings.from_env(batch).default_accept == "text/csv"
    assert Settings.from_env(batch | {"SAGEMAKER_DEFAULT_INVOCATIONS_ACCEPT": "a/b"}).default_accept == "a/b"
