# One image for the service (its own command), for the exporter beside it (`python -m monitoring.exporter`) and for `python -m app.migrate`.
# It runs as any user, with a read-only root and without capabilities: docs/image.md.
ARG BASE=python:3.13-slim-trixie

FROM ${BASE} AS builder
LABEL neurectomy.stage=builder
# pip's own settings, for who has packages elsewhere: another index, or PIP_NO_INDEX=1 and a folder of wheels.
ARG PIP_INDEX_URL=
ARG PIP_NO_INDEX=
ARG PIP_FIND_LINKS=
COPY requirements-runtime.lock /tmp/
# Compiled here, since nothing can be written where it runs; checked by nothing, so that no file's time matters.
RUN python3 -m venv /opt/venv \
    && /opt/venv/bin/python -m pip install --quiet --disable-pip-version-check --no-cache-dir --no-compile --no-deps --require-hashes \
        --only-binary :all: --requirement /tmp/requirements-runtime.lock \
    && /opt/venv/bin/python -m pip uninstall --quiet --yes pip \
    && /opt/venv/bin/python -m compileall -q -j 0 --invalidation-mode unchecked-hash /opt/venv/lib
COPY app /srv/neurectomy/app
COPY monitoring /srv/neurectomy/monitoring
COPY gunicorn_conf.py LICENSE /srv/neurectomy/
RUN python3 -m compileall -q -j 0 --invalidation-mode unchecked-hash /srv/neurectomy

FROM ${BASE}
# Group 0, for platforms that run every image as a user of their own choice.
RUN install --directory --owner 10001 --group 0 --mode 0770 /data
COPY --from=builder /opt/venv /opt/venv
COPY --from=builder /srv/neurectomy /srv/neurectomy
ENV PATH=/opt/venv/bin:/usr/local/bin:/usr/bin:/bin \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    PORT=8000 \
    DATA_DIR=/data
WORKDIR /srv/neurectomy
USER 10001:10001
EXPOSE 8000 9464
# For Docker and podman; Kubernetes has its own probes and ignores this.
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s \
    CMD ["python", "-c", "import os, urllib.request; urllib.request.urlopen(f'http://127.0.0.1:{os.environ[\"PORT\"]}/health/ready', timeout=4)"]
# No shell in between: gunicorn is process 1, and signals reach it.
CMD ["gunicorn", "-c", "gunicorn_conf.py", "app.main:app"]
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="Neurectomy API" \
      org.opencontainers.image.description="The Neurectomy API under Gunicorn, and the exporter of its Prometheus metrics" \
      org.opencontainers.image.licenses="MIT" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
