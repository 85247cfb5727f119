# robis in a container: docs/running.md, "Containers". Without TORCH_INDEX it has the CUDA build of torch.
ARG BASE=python:3.12.12-slim-bookworm

FROM ${BASE} AS wheel
WORKDIR /src
COPY . .
RUN python3 -m venv /build \
    && /build/bin/pip install --no-cache-dir -c constraints.txt hatchling \
    && /build/bin/python -m hatchling build --target wheel --directory /dist

FROM ${BASE}
# An index whose torch and torchvision replace the usual ones, such as that of the builds for CPUs.
ARG TORCH_INDEX=""
# Triton and torch.compile, which only a GPU needs, call a C compiler.
# hadolint ignore=DL3008
RUN if [ -z "${TORCH_INDEX}" ]; then \
        apt-get update \
        && apt-get install -y --no-install-recommends gcc libc6-dev \
        && rm -rf /var/lib/apt/lists/*; \
    fi
# Any user id may run it: HOME and USER replace an entry in /etc/passwd.
ENV PATH=/opt/robis/bin:${PATH} HOME=/tmp USER=robis
COPY constraints.txt /opt/constraints.txt
COPY --from=wheel /dist /dist
RUN python3 -m venv /opt/robis \
    && if [ -n "${TORCH_INDEX}" ]; then \
        pip install --no-cache-dir --no-deps -c /opt/constraints.txt --index-url "${TORCH_INDEX}" torch torchvision; \
    fi \
    && pip install --no-cache-dir -c /opt/constraints.txt /dist/*.whl
USER 1000
WORKDIR /workspace
ENTRYPOINT ["robis"]
CMD ["--help"]
