# The service, its locked dependencies and the models of this repository.
#
#   docker build --target service --tag logitserve .
#   docker run --read-only --tmpfs /tmp --cap-drop ALL --publish 127.0.0.1:8000:8000 logitserve
#
# Other targets: `training` (trains and publishes models), `load` (Locust). BuildKit and the legacy
# builder both work.

ARG PYTHON_IMAGE=python:3.12-slim-bookworm

# Only the build stages contain pip and hatchling, and only `code` a compiler. Downloads are not cached.
FROM ${PYTHON_IMAGE} AS build
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
COPY requirements/build.txt /build/requirements/
RUN python -m venv /build/tools \
    && /build/tools/bin/pip install --quiet --require-hashes -r /build/requirements/build.txt \
    && python -m venv --without-pip /opt/logitserve

FROM build AS dependencies
COPY requirements/image.txt /build/requirements/
RUN /build/tools/bin/pip --python /opt/logitserve install --quiet --only-binary :all: \
    --require-hashes -r /build/requirements/image.txt

# Installed outside the environment, so that the code is a separate small layer of the runtime.
FROM build AS code
# python3-dev has the headers of Debian's Python; other Pythons have their own.
RUN apt-get update --quiet \
    && apt-get install --quiet --yes --no-install-recommends gcc libc6-dev python3-dev \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /build/source
COPY pyproject.toml hatch_build.py README.md LICENSE ./
COPY logitserve logitserve
COPY service service
COPY training training
RUN /build/tools/bin/pip wheel --quiet --no-deps --no-build-isolation --no-index \
        --wheel-dir /build/wheel . \
    && /build/tools/bin/pip --python /opt/logitserve install --quiet --no-deps --no-index \
        --prefix /build/installed /build/wheel/*.whl

FROM ${PYTHON_IMAGE} AS runtime
# As process 1, Python would ignore a SIGTERM that comes before it has set its handlers.
RUN apt-get update --quiet \
    && apt-get install --quiet --yes --no-install-recommends tini \
    && rm -rf /var/lib/apt/lists/* /var/cache/apt/* \
    && useradd --uid 10001 --user-group --no-create-home --home-dir /tmp \
    --shell /usr/sbin/nologin logitserve
ENV PATH=/opt/logitserve/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    ORT_DISABLE_TELEMETRY=1 \
    LOGITSERVE_HOST=0.0.0.0 \
    LOGITSERVE_MODELS=/models
WORKDIR /
STOPSIGNAL SIGTERM
# A stop before the handlers are set ends with status 0 too.
ENTRYPOINT ["tini", "-e", "143", "--", "logitserve"]

FROM runtime AS service
LABEL org.opencontainers.image.title="logitserve" \
      org.opencontainers.image.description="Calibrated class probabilities over HTTP" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="0.1.0"
USER 10001:10001
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 \
    CMD ["python", "-m", "logitserve.healthcheck"]
CMD ["serve"]
# Rarely changed files first: a change of the code rebuilds only the last layer.
COPY --from=dependencies /opt/logitserve /opt/logitserve
COPY models /models
COPY --from=code /build/installed /opt/logitserve

FROM build AS load-dependencies
COPY requirements/loadtest.txt /build/requirements/
RUN /build/tools/bin/pip --python /opt/logitserve install --quiet --only-binary :all: \
    --require-hashes -r /build/requirements/loadtest.txt

FROM ${PYTHON_IMAGE} AS load
COPY --from=load-dependencies /opt/logitserve /opt/logitserve
COPY training/logitserve_training/__init__.py training/logitserve_training/drawings.py /load/logitserve_training/
COPY tests/load /load/tests/load
ENV PATH=/opt/logitserve/bin:$PATH PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 PYTHONPATH=/load
WORKDIR /load
USER 10001:10001
STOPSIGNAL SIGTERM
ENTRYPOINT ["locust", "--locustfile", "tests/load/locustfile.py"]

# After the other targets: the legacy builder builds all stages before its target, here TensorFlow.
FROM build AS training-dependencies
COPY requirements/training.txt /build/requirements/
RUN /build/tools/bin/pip --python /opt/logitserve install --quiet --only-binary :all: \
    --require-hashes -r /build/requirements/training.txt

FROM runtime AS training
COPY --from=training-dependencies /opt/logitserve /opt/logitserve
COPY --from=code /build/installed /opt/logitserve
LABEL org.opencontainers.image.title="logitserve-training" \
      org.opencontainers.image.description="Trains classifiers that end in logits" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="0.1.0"
USER 10001:10001
CMD ["train", "--help"]

# The default target of `docker build .`; the legacy builder then builds all stages above.
FROM service
