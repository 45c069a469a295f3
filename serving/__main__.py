"""`python -m serving serve | train | ping`: what the images' programs of these names run."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from serving.interrupt import exit_when_told
from serving.python import refuse_bare

if TYPE_CHECKING:
    from serving.settings import Settings

USAGE = """usage: python -m serving serve | train | ping

  serve   answer /ping and /invocations for the stage named by STAGE; in AWS Lambda, its events
  train   train that stage as SageMaker does, under /opt/ml
  ping    ask the server of this container's port for its health; exit 0 when it is ready"""


def main(arguments: list[str]) -> int:
    if arguments == ["serve"] and (runtime := os.environ.get("AWS_LAMBDA_RUNTIME_API")):
        from serving.settings import ONE_THREAD

        os.environ |= ONE_THREAD | os.environ
        from serving.lambda_runtime import run

        return run(runtime, os.environ)
    if arguments == ["serve"]:
        from serving.serve import serve

        return serve(os.environ)
    from serving.settings import Settings

    if arguments == ["train"]:
        from serving.training import main as train

        settings = Settings.from_env(os.environ)
        return train(settings.stage, settings.base_dir)
    if arguments == ["ping"]:
        return ping(Settings.from_env(os.environ))
    print(USAGE, file=sys.stderr)
    return 2


def ping(settings: Settings) -> int:
    """Ask `/ping` once. Returns 0 when it answers 200 within 2 seconds."""
    import http.client

    connection = http.client.HTTPConnection("127.0.0.1", settings.port, timeout=2)
    try:
        connection.request("GET", "/ping")
        return 0 if connection.getresponse().status == 200 else 1
    except OSError as error:
        print(f"no answer from port {settings.port}: {error}", file=sys.stderr)
        return 1
    finally:
        connection.close()


if __name__ == "__main__":
    exit_when_told(0 if sys.argv[1:] == ["serve"] else 1)
    refuse_bare("serving")
    sys.exit(main(sys.argv[1:]))
