"""A stage that answers what it is sent, after doing what the body's first word says. It has abalone's contract."""

import hashlib
import os
import time
from pathlib import Path
from uuid import uuid4

from serving.interface import Interface
from serving.payload import CSV, Payload
from serving.wsgi import container_app
from tests.unit.abalone import CONTRACT


def obey(payload: Payload) -> Payload:
    """Obey `hold DIRECTORY ...`, `sleep SECONDS ...`, `spin SECONDS`, `grind`, `grow MIB`, `die` or `fail`.

    A held request is answered when the file `open` appears in the directory. Any other body is answered at once.
    """
    word, _, rest = payload.body[:512].partition(b" ")
    if word == b"hold":
        gate = Path(os.fsdecode(rest.split()[0]))
        (gate / f"held-{uuid4().hex}").touch()
        while not (gate / "open").exists():
            time.sleep(0.02)
    elif word == b"sleep":
        time.sleep(float(rest.split()[0]))
    elif word == b"spin":
        until = time.monotonic() + float(rest.split()[0])
        while time.monotonic() < until:
            pass
    elif word == b"grind":  # minutes in C, where no signal of Python's is heard
        hashlib.pbkdf2_hmac("sha256", b"", b"", 500_000_000)
    elif word == b"grow":
        bytearray(int(rest.split()[0]) << 20)
    elif word == b"die":
        os._exit(7)
    elif word == b"fail":
        raise RuntimeError("the stage failed")
    return Payload(payload.body, payload.content_type)


obey.interface = Interface(CONTRACT, CONTRACT.inputs, (CSV,), (CSV,))  # type: ignore[attr-defined]
app = container_app(lambda _settings: obey, os.environ)
