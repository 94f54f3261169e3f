# One image for every role: `scrapesaga worker intake`, `scrapesaga worker coordinator`, `scrapesaga worker fetch` ...
#
#   make image                 build it with docker, podman or buildah, whichever answers
#   make sbom                  write its bill of materials, CycloneDX JSON, to dist/
#
# Everything that is installed comes from the package index as wheels whose hashes are in the lock files.
ARG PYTHON_IMAGE=python:3.12-slim

FROM ${PYTHON_IMAGE} AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /build
# Dependencies first: a change of the engine's own code leaves this layer, by far the largest, as it is.
COPY requirements-runtime.lock ./
RUN python3 -m venv --without-pip /opt/scrapesaga \
 && python3 -m pip --python /opt/scrapesaga/bin/python install --no-compile --require-hashes --only-binary :all: -r requirements-runtime.lock
COPY requirements-image.lock ./
RUN python3 -m venv /opt/tools \
 && /opt/tools/bin/pip install --quiet --require-hashes --only-binary :all: -r requirements-image.lock
COPY pyproject.toml README.md LICENSE ./
COPY processors processors
COPY schemas schemas
COPY topics topics
RUN /opt/tools/bin/pip wheel --quiet --no-deps --no-build-isolation --wheel-dir /build/wheel . \
 && python3 -m pip --python /opt/scrapesaga/bin/python install --no-compile --no-deps --no-index /build/wheel/*.whl \
 # Compiled here, as the root file system is read-only later; by content, so that a copied file's time doesn't matter.
 && python3 -m compileall -q --invalidation-mode unchecked-hash /opt/scrapesaga/lib

FROM build AS bill
RUN mkdir /bill && /opt/tools/bin/cyclonedx-py environment --pyproject pyproject.toml --output-reproducible --of JSON -o /bill/scrapesaga.cdx.json /opt/scrapesaga/bin/python

FROM scratch AS sbom
COPY --from=bill /bill/ /

FROM ${PYTHON_IMAGE} AS image
ARG VERSION=0.0.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="scrapesaga" \
      org.opencontainers.image.description="A Kafka-native saga engine for scraping pipelines" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
# A number that no user of a host has by chance. The working directory is empty on purpose: Python imports what lies
# in it first. The data directory is where the chart mounts the coordinator's volume.
RUN groupadd --gid 10001 scrapesaga \
 && useradd --uid 10001 --gid 10001 --home-dir /home/scrapesaga --create-home --skel /dev/null --shell /usr/sbin/nologin scrapesaga \
 && install --directory --owner 10001 --group 10001 /var/lib/scrapesaga
COPY --from=build /opt/scrapesaga /opt/scrapesaga
ENV PATH=/opt/scrapesaga/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    SCRAPESAGA_DATA_DIR=/var/lib/scrapesaga
WORKDIR /home/scrapesaga
USER 10001:10001
# No HEALTHCHECK: what a role has to answer differs, and the orchestrator asks /live and /ready itself.
ENTRYPOINT ["scrapesaga"]
CMD ["--help"]
