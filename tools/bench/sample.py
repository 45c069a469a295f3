"""What the published AWS sample (byoc-nginx-python of amazon-sagemaker-examples) does, written anew.

Its habits are the point: the model is read from disk for every request and every ping, rows go through pandas,
features leave as text, the booster's threads are not bounded, and gevent workers wait while a prediction computes.
In its favour, here: no access log, and any size of body (there it is 5 MB).
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
import xgboost
from flask import Flask, Response, request


def featurizer(model: str, names: Sequence[str], label: str) -> Flask:
    """`names`: the raw columns, which the sample has in its code; `label`: the column that may follow them."""
    app = Flask("sample", static_folder=None)

    @app.get("/ping")
    def ping() -> Response:
        return Response("\n", status=200 if joblib.load(model) else 404, mimetype="application/json")

    @app.post("/invocations")
    def invocations() -> Response:
        if request.content_type != "text/csv":
            return Response("expected text/csv\n", status=415, mimetype="text/plain")
        transformer = joblib.load(model)
        frame = pd.read_csv(io.StringIO(request.get_data().decode("utf-8")), header=None)
        labelled = len(frame.columns) == len(names) + 1
        frame.columns = [*names, label] if labelled else list(names)
        features = transformer.transform(frame)
        if labelled:
            features = np.insert(features, 0, frame[label], axis=1)
        text = io.StringIO()
        csv.writer(text).writerows(features)
        return Response(text.getvalue(), mimetype="text/csv")

    return app


def predictor(model: str) -> Flask:
    app = Flask("sample", static_folder=None)

    def load() -> xgboost.Booster:
        booster = xgboost.Booster()
        booster.load_model(model)
        return booster

    @app.get("/ping")
    def ping() -> Response:
        return Response("\n", status=200 if load() else 404, mimetype="application/json")

    @app.post("/invocations")
    def invocations() -> Response:
        if request.content_type != "text/csv; charset=utf-8":
            return Response("expected text/csv; charset=utf-8\n", status=415, mimetype="text/plain")
        booster = load()
        rows = list(csv.reader(io.StringIO(request.get_data().decode("utf-8"))))
        matrix = xgboost.DMatrix(np.array(rows, dtype=float), feature_names=booster.feature_names)
        result = [float(number) for number in booster.predict(matrix)]
        return Response(json.dumps({"result": result}), mimetype="application/json")

    return app


def nginx_config(run_dir: Path, host: str, port: int, user: str) -> str:
    """nginx in front of gunicorn's socket, as such samples configure it.

    But for how long it keeps idle connections, 5 s there: a busy machine may be longer about its next request.
    """
    return f"""\
daemon off;
user {user};
worker_processes 1;
pid {run_dir}/nginx.pid;
error_log stderr warn;
events {{ worker_connections 2048; }}
http {{
  default_type application/octet-stream;
  access_log off;
  client_body_temp_path {run_dir}/body;
  proxy_temp_path {run_dir}/proxy;
  fastcgi_temp_path {run_dir}/fastcgi;
  uwsgi_temp_path {run_dir}/uwsgi;
  scgi_temp_path {run_dir}/scgi;
  tcp_nopush on;
  upstream gunicorn {{ server unix:{run_dir}/gunicorn.sock; }}
  server {{
    listen {host}:{port} deferred;
    client_max_body_size 25m;
    keepalive_timeout 75;
    proxy_read_timeout 1200s;
    location ~ ^/(ping|invocations) {{
      proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
      proxy_set_header Host $http_host;
      proxy_redirect off;
      proxy_pass http://gunicorn;
    }}
    location / {{ return 404 "{{}}"; }}
  }}
}}
"""
