"""Who is compared: the floors, the AWS sample as it is published, and the containers of this project."""

from __future__ import annotations

import contextlib
import csv
import getpass
import io
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import orjson

from serving.memory import usable_memory
from serving.nginx import nginx_memory, write_config
from serving.payload import CSV, JSON, NPY
from serving.settings import Settings
from tools.bench import sample
from tools.bench.processes import HOST, Command, Container, Payload, free_ports, running
from tools.bench.truth import Truth

STAGES = ("featurizer", "predictor")
SINGLE = "single"  # both stages in one container
# Of the shell that starts the benchmark, and not meant for the servers.
_NOT_INHERITED = (
    *("SAGEMAKER_", "SM_", "MODEL_SERVER_", "PORT", "STAGE", "MAX_CONTENT_LENGTH", "LOG_LEVEL"),
    *("OMP_", "OPENBLAS_"),
)


@dataclass(frozen=True)
class Setting:
    """What all contenders share.

    `env`: what they inherit, `ours`: what our containers get besides, `scratch`: a directory for their files.
    """

    truth: Truth
    nginx: str
    workers: int
    env: Mapping[str, str]
    ours: Mapping[str, str]
    scratch: Path

    @property
    def defaults(self) -> Settings:
        """The settings of our containers, which the floor shares."""
        return replace(Settings.from_env({**self.env, **self.ours}), host=HOST, workers=self.workers)


@dataclass(frozen=True)
class Contender:
    """`commands`: the programs of one stage's container, given its port and a directory of its own.

    `hop`: what the featurizer is asked for; `hop_type`: the Content-Type that the predictor gets with it.
    """

    name: str
    commands: Callable[[Setting, str, int, Path], Sequence[Command]]
    hop: str = NPY
    hop_type: str = NPY
    accept: str = JSON
    accept_many: str = CSV  # of a body of many rows
    constant: bool = False
    exact: bool = True  # the answers are those of the libraries to the bit
    pings: bool = True
    single: bool = False  # has a container of both stages too

    def request(self, stage: str, truth: Truth, body: bytes) -> Payload:
        """What the stage's container is sent for these raw rows."""
        if stage == "featurizer":
            return Payload(body, CSV, self.hop)
        accept = self.accept_many if body.count(b"\n") > 1 else self.accept
        if stage == SINGLE:
            return Payload(body, CSV, accept)
        return Payload(_features(truth, body, self.hop), self.hop_type, accept)

    @contextlib.contextmanager
    def start(self, setting: Setting, stage: str) -> Iterator[Container]:
        port = free_ports(1)[0]
        with tempfile.TemporaryDirectory(prefix="c-", dir=setting.scratch) as directory:
            run_dir = Path(directory)
            first = self.request(stage, setting.truth, setting.truth.body(1))
            commands = self.commands(setting, stage, port, run_dir)
            with running(f"{self.name} {stage}", commands, port, run_dir / "log", first, pings=self.pings) as container:
                yield container


def inherited(env: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in env.items() if not name.startswith(_NOT_INHERITED)}


def constant_of(stage: str, truth: Truth) -> Payload:
    """What the floor answers: as many bytes as our container for one row."""
    if stage == "featurizer":
        return Payload(_features(truth, truth.body(1), NPY), NPY)
    predictions = truth.predictions(truth.features(truth.body(1)))
    return Payload(orjson.dumps({"result": predictions}, option=orjson.OPT_SERIALIZE_NUMPY), JSON)


def _ours(setting: Setting, stage: str, port: int, _run_dir: Path) -> list[Command]:
    """As `make up` starts them, and the single container."""
    artifacts = setting.truth.artifacts
    env = {
        "STAGE": "pipeline" if stage == SINGLE else stage,
        "SM_MODEL_DIR": str(artifacts if stage == SINGLE else artifacts / stage / "model"),
        "SAGEMAKER_BIND_TO_PORT": str(port),
        "MODEL_SERVER_HOST": HOST,
        "MODEL_SERVER_WORKERS": str(setting.workers),
    }
    if stage == "featurizer":
        env |= {"SAGEMAKER_DEFAULT_INVOCATIONS_ACCEPT": NPY, "MODEL_SERVER_MAX_RESPONSE": "5000000"}
    return [Command([sys.executable, "-m", "serving", "serve"], {**setting.env, **env, **setting.ours})]


def _floor(worker_class: str | None) -> Callable[[Setting, str, int, Path], list[Command]]:
    """Our nginx.conf and our number and class of workers, or another class."""

    def commands(setting: Setting, stage: str, port: int, run_dir: Path) -> list[Command]:
        settings = replace(setting.defaults, port=port)
        constant = constant_of(stage, setting.truth)
        (run_dir / "constant").write_bytes(constant.body)
        app = f"tools.bench.floor:app({str(run_dir / 'constant')!r}, {constant.content_type!r})"
        options = ["--worker-class", worker_class or settings.worker_class, "--keep-alive", "65"]
        if (worker_class or settings.worker_class) == "gthread":
            options += ["--threads", str(settings.threads)]
        return [
            _gunicorn(setting, run_dir, app, options),
            _nginx(setting, run_dir, write_config(settings, run_dir, nginx_memory(usable_memory()))),
        ]

    return commands


def _sample(setting: Setting, stage: str, port: int, run_dir: Path) -> list[Command]:
    contract, truth = setting.truth.contract, setting.truth
    if stage == "featurizer":
        names, label = [column.name for column in contract.inputs], contract.label
        app = f"featurizer({str(truth.transformer_file)!r}, {names!r}, {label.name if label else 'label'!r})"
    else:
        app = f"predictor({str(truth.booster_file)!r})"
    config = run_dir / "nginx.conf"
    user = getpass.getuser() if os.getuid() == 0 else "nobody"
    config.write_text(sample.nginx_config(run_dir, HOST, port, user))
    options = ["--worker-class", "gevent", "--timeout", "60"]
    return [_gunicorn(setting, run_dir, f"tools.bench.sample:{app}", options), _nginx(setting, run_dir, config)]


def _gunicorn(setting: Setting, run_dir: Path, app: str, options: Sequence[str]) -> Command:
    memory = ["--worker-tmp-dir", "/dev/shm"] if os.access("/dev/shm", os.W_OK) else []  # noqa: S108
    arguments = [
        *(sys.executable, "-m", "gunicorn", "--bind", f"unix:{run_dir}/gunicorn.sock", "--no-control-socket"),
        *("--workers", str(setting.workers), "--log-level", "warning", *options, *memory, app),
    ]
    return Command(arguments, setting.env)


def _nginx(setting: Setting, run_dir: Path, config: Path) -> Command:
    return Command([setting.nginx, "-p", str(run_dir), "-e", "stderr", "-c", str(config)], setting.env)


def _features(truth: Truth, body: bytes, media: str) -> bytes:
    features = truth.features(body)
    if media == CSV:
        text = io.StringIO()
        csv.writer(text).writerows(features.tolist())
        return text.getvalue().encode()
    buffer = io.BytesIO()
    np.save(buffer, features.astype(np.float32), allow_pickle=False)
    return buffer.getvalue()


FLOOR = Contender("floor", _floor(None), constant=True, pings=False, single=True)
SYNC_FLOOR = Contender("sync floor", _floor("sync"), constant=True, pings=False)
OURS = Contender("ours", _ours, single=True)
SAMPLE = Contender(
    "sample", _sample, hop=CSV, hop_type="text/csv; charset=utf-8", accept_many=JSON, exact=False
)  # fmt: skip
CONTENDERS = (FLOOR, SYNC_FLOOR, SAMPLE, OURS)
