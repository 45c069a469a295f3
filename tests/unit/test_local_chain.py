"""What the chain starts and with which environment; what the command line makes of files and refusals."""

from __future__ import annotations

import argparse
import json
import os
import socket
from pathlib import Path

import pytest

from local_test import chain, chain_command, images, opt_ml, predict
from local_test.__main__ import main, parser
from local_test.chain_command import command_env
from local_test.plan import PORTS, Ports, endpoint_name, plan
from local_test.ports import free_ports
from local_test.process import CHECKOUT, Process
from local_test.state import ChainError, State
from pipeline.cli import main as pipeline
from serving.contract import Column, ColumnType, Contract, Task
from tests.servers import started


def write_models(directory: Path, dataset: str = "abalone") -> Path:
    column = Column("length", ColumnType.NUMERIC)
    contract = Contract(dataset, Task.REGRESSION, (column,), ("length",), {})
    for stage in ("featurizer", "predictor"):
        (directory / stage / "model").mkdir(parents=True)
        (directory / stage / "model" / "contract.json").write_text(contract.to_json())
    return directory


def test_the_chain_is_two_stages_on_loopback_and_a_router_that_knows_them(tmp_path):
    given = {
        "PATH": "/bin",
        "PORT": "9",
        "STAGE": "x",
        "MODEL_SERVER_RUN_DIR": "/run/x",
        "MODEL_SERVER_HOST": "0.0.0.0",
    }

    endpoint, (featurizer, predictor, router) = plan(write_models(tmp_path), Ports(80, 82, 81), given)

    assert endpoint == router.env["ENDPOINT_NAME"] == "abalone"
    assert [p.name for p in (featurizer, predictor, router)] == ["featurizer", "predictor", "router"]
    assert [p.env["STAGE"] for p in (featurizer, predictor, router)] == ["featurizer", "predictor", "local_test"]
    assert featurizer.env["SAGEMAKER_DEFAULT_INVOCATIONS_ACCEPT"] == "application/x-npy"
    assert "SAGEMAKER_DEFAULT_INVOCATIONS_ACCEPT" not in predictor.env
    assert featurizer.env["SAGEMAKER_SAFE_PORT_RANGE"] == predictor.env["SAGEMAKER_SAFE_PORT_RANGE"] == "81-82"
    assert router.env["CONTAINERS"] == "featurizer=http://127.0.0.1:82,predictor=http://127.0.0.1:81"
    assert featurizer.env["MODEL_SERVER_MAX_RESPONSE"] == "5000000"
    assert "MODEL_SERVER_MAX_RESPONSE" not in predictor.env
    assert [p.env["SM_MODEL_DIR"] for p in (featurizer, predictor)] == [
        f"{tmp_path}/featurizer/model",
        f"{tmp_path}/predictor/model",
    ]
    one_server = {"WORKERS": "1", "WORKER_CLASS": "gthread", "THREADS": "64", "NGINX": "off"}
    assert {f"MODEL_SERVER_{name}": value for name, value in one_server.items()}.items() <= router.env.items()
    assert (router.env["PAGE_ARTIFACTS"], "PAGE_LOGS" in router.env) == (str(tmp_path), False)
    _, (*_, with_logs) = plan(tmp_path, Ports(80, 82, 81), given, tmp_path / "logs")
    assert with_logs.env["PAGE_LOGS"] == f"{tmp_path}/logs"
    for planned in (featurizer, predictor, router):
        assert planned.env["PATH"] == "/bin"
        assert planned.env["MODEL_SERVER_HOST"] == "127.0.0.1"
        assert planned.env["SAGEMAKER_BIND_TO_PORT"] == str(planned.port)
        assert not planned.env.keys() & {"PORT", "MODEL_SERVER_RUN_DIR"}


@pytest.mark.parametrize(
    ("dataset", "name"),
    [
        ("abalone", "abalone"),
        ("my_own data!", "my-own-data"),
        ("_" * 3, "endpoint"),
        ("a" * 70, "a" * 63),
        ("a" * 62 + "_b", "a" * 62),
    ],
)
def test_the_endpoint_has_the_data_sets_name_as_far_as_sagemaker_allows_it(tmp_path, dataset, name):
    assert endpoint_name(write_models(tmp_path, dataset)) == name


@pytest.mark.parametrize("stage", ["featurizer", "predictor"])
def test_a_missing_model_is_refused_with_the_next_step(tmp_path, stage):
    (write_models(tmp_path) / stage / "model" / "contract.json").unlink()

    with pytest.raises(ChainError, match=f"no model in .*{stage}/model: run `python -m pipeline train`"):
        endpoint_name(tmp_path)


def test_models_of_two_training_runs_make_no_chain(tmp_path):
    write_models(tmp_path)
    other = write_models(tmp_path / "other", "penguins") / "predictor" / "model" / "contract.json"
    other.rename(tmp_path / "predictor" / "model" / "contract.json")

    with pytest.raises(ChainError, match="of two training runs: run `python -m pipeline train`"):
        endpoint_name(tmp_path)


def test_a_demo_without_chain_or_models_says_what_to_start(tmp_path, capsys, artifacts):
    nobody = ["--url", "http://127.0.0.1:9"]

    codes = [pipeline(["demo", "--artifacts", str(where), *nobody]) for where in (artifacts, tmp_path)]

    assert codes == [2, 2]
    refused, missing = capsys.readouterr().err.splitlines()
    assert refused.endswith("is started with `make up`")
    assert missing.endswith("run `python -m pipeline train`")


@pytest.mark.parametrize(
    ("env", "reason"),
    [
        ({"ROUTER_PORT": "http"}, "ROUTER_PORT: expected a port from 1 to 65535, got 'http'"),
        ({"PREDICTOR_PORT": "65536"}, "PREDICTOR_PORT: expected a port"),
        ({"FEATURIZER_PORT": "0"}, "FEATURIZER_PORT: expected a port"),
        ({"FEATURIZER_PORT": "8080"}, "expected three different ports, got ROUTER_PORT=8080, FEATURIZER_PORT=8080"),
    ],
)
def test_unusable_ports_are_refused(env, reason):
    with pytest.raises(ChainError, match=reason):
        Ports.from_env(env)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, {"AWS_DEFAULT_REGION": "us-east-1", "AWS_ACCESS_KEY_ID": "local", "AWS_SECRET_ACCESS_KEY": "local"}),
        ({"AWS_REGION": "eu-west-1", "AWS_PROFILE": "mine"}, {"AWS_REGION": "eu-west-1", "AWS_PROFILE": "mine"}),
        (
            {"AWS_DEFAULT_REGION": "eu-west-1", "AWS_ACCESS_KEY_ID": "A"},
            {"AWS_DEFAULT_REGION": "eu-west-1", "AWS_ACCESS_KEY_ID": "A"},
        ),
    ],
)
def test_a_command_finds_the_chain_and_keeps_its_own_region_and_credentials(given, expected):
    env = command_env(given, "abalone", 8080)

    assert env == expected | {
        "AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME": "http://127.0.0.1:8080",
        "ENDPOINT_NAME": "abalone",
    }


def test_the_reason_of_an_end_is_shown_however_often_the_stage_was_pinged(tmp_path):
    state = State(tmp_path)
    with started(["true"], start_new_session=True) as ended:
        ended.wait()
    state.save("abalone", [Process("predictor", ended.pid, "1", 1)])
    ping = json.dumps({"message": "request", "method": "GET", "path": "/ping", "status": 503})
    lines = [*(f"line {number}" for number in range(25)), "the reason", *[ping] * 30, "the end"]
    state.log("predictor").write_text("\n".join(lines))

    with pytest.raises(ChainError, match="predictor ended while starting") as refused:
        chain._wait_until_healthy(state, 60)

    assert str(refused.value).splitlines()[1:] == [
        *(f"line {number}" for number in range(7, 25)),
        "the reason",
        "the end",
    ]


def test_a_damaged_state_is_not_taken_for_an_empty_one(tmp_path):
    (tmp_path / "chain.json").write_text("{")

    with pytest.raises(ChainError, match="damaged"):
        State(tmp_path).load()


def test_down_leaves_a_process_alone_that_got_the_id_of_one_of_ours(tmp_path):
    with started(["sleep", "600"], start_new_session=True) as stranger:
        State(tmp_path).save("abalone", [Process("router", stranger.pid, "1", 1)])

        assert chain.down(State(tmp_path)) == (False, [])
        assert stranger.poll() is None


@pytest.mark.parametrize("verb", ["up", "ports"])
@pytest.mark.parametrize("variable", ["ROUTER_PORT", "FEATURIZER_PORT", "PREDICTOR_PORT"])
def test_a_port_in_use_is_named_with_its_variable_and_nothing_started(tmp_path, monkeypatch, capsys, variable, verb):
    for name, port in zip(PORTS, free_ports(3), strict=True):
        monkeypatch.setenv(name, str(port))
    port = int(os.environ[variable])

    with socket.create_server(("127.0.0.1", port)):
        more = ["--artifacts", str(write_models(tmp_path))] if verb == "up" else []
        code = main(["chain", verb, "--state", str(tmp_path / "run"), *more])

    assert code == 1
    assert f"port {port} of 127.0.0.1 is in use" in (said := capsys.readouterr().err)
    assert f"set {variable} to another port" in said
    assert not (tmp_path / "run" / "chain.json").exists()


def test_up_without_artifacts_says_how_to_make_them(tmp_path, capsys):
    code = main(["chain", "up", "--state", str(tmp_path / "run"), "--artifacts", str(tmp_path)])

    assert code == 1
    assert capsys.readouterr().err == (
        f"there is no model in {tmp_path}/featurizer/model: run `python -m pipeline train`\n"
    )


def test_two_commands_cannot_change_the_chain_at_once(tmp_path):
    with State(tmp_path).locked(), pytest.raises(ChainError, match="another command"), State(tmp_path).locked():
        pass


def test_a_training_job_has_a_tree_of_its_images_name_unless_another_is_given(tmp_path):
    def tree(given):
        return images._tree(argparse.Namespace(image="127.0.0.1:5000/team/featurizer:1.0-a", tree=given))

    assert tree(None) == CHECKOUT / ".local_test/opt_ml/127.0.0.1_5000_team_featurizer_1.0-a"
    assert tree(tmp_path / "mine") == tmp_path / "mine"


def test_the_tree_of_a_training_job_is_that_of_sagemaker(tmp_path):
    (tmp_path / "rows.csv").write_text("1\n")
    (tmp_path / "schemas").mkdir()
    (tmp_path / "schemas" / "a.toml").write_text("")
    tree = tmp_path / "opt_ml"
    (tree / "output").mkdir(parents=True)
    (tree / "output" / "failure").write_text("of an earlier job")

    opt_ml.prepare(tree, {"train": str(tmp_path / "rows.csv"), "schema": str(tmp_path / "schemas")}, {"rounds": "5"})

    files = sorted(str(path.relative_to(tree)) for path in tree.rglob("*") if path.is_file())
    assert files == [
        "input/config/hyperparameters.json",
        "input/config/inputdataconfig.json",
        "input/config/resourceconfig.json",
        "input/data/schema/a.toml",
        "input/data/train/rows.csv",
    ]
    assert json.loads((tree / "input/config/hyperparameters.json").read_text()) == {"rounds": "5"}
    channel = {"TrainingInputMode": "File", "S3DistributionType": "FullyReplicated", "RecordWrapperType": "None"}
    channels = json.loads((tree / "input/config/inputdataconfig.json").read_text())
    assert list(channels.items()) == [("train", channel), ("schema", channel)]
    assert (tree / "output" / "data").is_dir()


def test_a_channel_without_its_file_is_refused(tmp_path):
    with pytest.raises(ChainError, match="channel train: there is no file or directory"):
        opt_ml.prepare(tmp_path / "tree", {"train": str(tmp_path / "absent.csv")}, {})


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"<html>", "502: <html>"),
        (b"[1]", "502: [1]"),
        (b'{"code": "not_ready", "message": "wait"}', "502 not_ready: wait"),
        (b'{"Message": "no such endpoint"}', "502 ValidationError: no such endpoint"),
    ],
)
def test_a_refusal_is_explained_whoever_refused(body, expected):
    assert predict.explain(502, "ValidationError", body) == expected


def test_a_file_of_an_unknown_kind_needs_a_content_type(tmp_path, capsys):
    arguments = argparse.Namespace(file=tmp_path / "rows.txt", content_type=None)

    assert predict.run(arguments, {}) == 2
    assert "--content-type" in capsys.readouterr().err


def test_images_without_docker_are_refused_with_the_way_without_it(monkeypatch, capsys):
    monkeypatch.setenv("PATH", "")

    assert main(["train_local", "featurizer"]) == 1
    assert "python -m local_test chain up" in capsys.readouterr().err


@pytest.mark.parametrize("verb", [
    "chain up", "chain run", "chain down", "chain logs", "predict", "train_local", "serve_local", "up", "down",
    "status", "check", "record", "replay",
])  # fmt: skip
def test_every_verb_explains_itself(verb, capsys):
    with pytest.raises(SystemExit) as exit_:
        parser().parse_args([*verb.split(), "--help"])

    assert exit_.value.code == 0
    assert verb in capsys.readouterr().out


def test_the_first_and_the_last_port_are_ports():
    assert Ports.from_env({"ROUTER_PORT": "1", "PREDICTOR_PORT": "65535"}) == Ports(1, 8081, 65535)


def test_an_interrupted_command_ends_with_130_as_a_shell_has_it(monkeypatch):
    def interrupted(*_: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(predict, "run", interrupted)

    assert main(["predict", "rows.csv"]) == 130


@pytest.mark.parametrize("arguments", [[], ["chain"]])
def test_a_command_is_required(arguments, capsys):
    with pytest.raises(SystemExit) as exit_:
        main(arguments)

    assert exit_.value.code == 2
    assert "the following arguments are required" in capsys.readouterr().err


@pytest.mark.parametrize(("options", "shown"), [([], ["50"]), (["--lines", "3", "--follow"], ["3", "-F"])])
def test_logs_shows_the_last_50_lines_of_each_unless_told_otherwise(tmp_path, monkeypatch, options, shown):
    ran = []
    monkeypatch.setattr(chain_command, "run_command", lambda command: ran.append(command) or 0)
    for name in ("router", "predictor"):
        (tmp_path / f"{name}.log").touch()

    assert main(["chain", "logs", "--state", str(tmp_path), *options]) == 0
    assert ran == [["tail", "-n", *shown, str(tmp_path / "predictor.log"), str(tmp_path / "router.log")]]


@pytest.mark.parametrize("fresh", [True, False])
@pytest.mark.parametrize(("ended", "code"), [(0, 0), (7, 7), (-15, 143), (None, 127)])
def test_run_ends_as_its_command_did_and_stops_only_a_chain_that_it_started(
    tmp_path, monkeypatch, capsys, fresh, ended, code
):
    state, ran, stopped = State(tmp_path), [], []
    state.save("e", [Process("featurizer", 1, "", 81), Process("router", 2, "", 80)])

    def run_command(command, env):
        ran.append((command, env["ENDPOINT_NAME"]))
        if ended is None:
            raise FileNotFoundError
        return ended

    monkeypatch.setattr(chain_command, "run_command", run_command)
    monkeypatch.setattr(chain_command, "_start", lambda *_: 2.0 if fresh else None)
    monkeypatch.setattr(chain, "down", stopped.append)

    assert main(["chain", "run", "--state", str(tmp_path), "--", "it", "--flag"]) == code

    printed = capsys.readouterr()
    assert ran == [(["it", "--flag"], "e")]
    assert stopped == [state] * fresh
    assert printed.err == ("there is no program it\n" if ended is None else "")
    assert printed.out == (
        f"The chain {'is healthy after 2.0 s' if fresh else 'is already running'}: endpoint e on http://127.0.0.1:80 "
        "(featurizer 81, router 80).\n"
    )


@pytest.mark.parametrize(("switch", "said"), [("", True), ("off", False)])
def test_up_says_that_there_is_no_nginx(tmp_path, monkeypatch, capsys, switch, said):
    models = write_models(tmp_path)
    monkeypatch.setattr(chain_command, "find_nginx", lambda _path: "")
    monkeypatch.setattr(chain, "up", lambda *_: False)
    State(tmp_path).save("abalone", [Process("router", 2, "", 80)])
    monkeypatch.setenv("MODEL_SERVER_NGINX", switch)

    assert main(["chain", "up", "--state", str(tmp_path), "--artifacts", str(models)]) == 0

    printed = capsys.readouterr()
    assert (printed.err == "nginx is not on this machine: the stages are served by gunicorn alone\n") is said
    assert "--data-binary @local_test/payloads/rows.csv\n" in printed.out
