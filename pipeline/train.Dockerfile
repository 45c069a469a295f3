# Trains both stages: docker build -f pipeline/train.Dockerfile -t trainer . && docker run -v "$PWD/artifacts:/artifacts" trainer
ARG BASE=python:3.13-slim-trixie

FROM ${BASE} AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1
COPY requirements/trainer.txt /build/
RUN python -m venv --without-pip /opt/venv \
 && python -m pip --python /opt/venv/bin/python install --no-cache-dir --require-hashes -r /build/trainer.txt

FROM ${BASE}
COPY --from=build /opt/venv /opt/venv
COPY serving /opt/program/serving
COPY featurizer /opt/program/featurizer
COPY predictor /opt/program/predictor
COPY pipeline /opt/program/pipeline
COPY aws /opt/program/aws
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONPATH=/opt/program \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    MPLCONFIGDIR=/tmp
# COPY keeps the modes of a checkout, which under umask 077 nobody else may read.
RUN chmod -R a+rX /opt/program
CMD ["python", "-m", "pipeline", "train", "--keep", "--out", "/artifacts"]
