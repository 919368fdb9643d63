# docker build --tag ragx .                             for CPUs
# docker build --tag ragx --build-arg DEVICE=cuda .     for NVIDIA GPUs: docker run --gpus all …
# With --build-arg TORCH_INDEX=…, PyTorch's own index of CPU wheels, the image for CPUs is several gigabytes smaller.
ARG DEVICE=cpu

FROM python:3.11-slim-bookworm AS python
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
COPY constraints.txt /etc/ragx/

FROM python AS wheel
WORKDIR /src
COPY . .
RUN pip install --no-cache-dir --constraint constraints.txt hatchling \
    && pip wheel --no-cache-dir --no-deps --no-build-isolation --wheel-dir /wheels .

FROM python AS cpu
ARG TORCH_INDEX
RUN pip install --no-cache-dir --constraint /etc/ragx/constraints.txt \
      ${TORCH_INDEX:+--extra-index-url "${TORCH_INDEX}"} torch

FROM python AS cuda
# Triton needs a C compiler when kernels are first used; Debian's mirrors keep no older versions to pin
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends gcc libc6-dev \
    && rm -rf /var/lib/apt/lists/*
RUN pip install --no-cache-dir --constraint /etc/ragx/constraints.txt torch

FROM ${DEVICE}
ARG EXTRAS=chat,code,serve,watch
RUN --mount=type=bind,from=wheel,source=/wheels,target=/wheels \
    pip install --no-cache-dir --constraint /etc/ragx/constraints.txt "$(echo /wheels/ragx-*.whl)[${EXTRAS}]"
RUN useradd --create-home --uid 1000 ragx && install --directory --owner=ragx --group=ragx /var/lib/ragx
USER 1000:1000
WORKDIR /home/ragx
# models, indexes and encodings
ENV RAGX_HOME=/var/lib/ragx HF_HOME=/var/lib/ragx/huggingface
VOLUME /var/lib/ragx
EXPOSE 8000
HEALTHCHECK --interval=30s --timeout=5s --start-period=10m CMD ["python", "-c", "\
from http.client import HTTPConnection as Connection; \
server = Connection('127.0.0.1', 8000, timeout=4); \
server.request('GET', '/healthz'); \
raise SystemExit(server.getresponse().status != 200)"]
ENTRYPOINT ["ragx"]
CMD ["serve", "--host", "0.0.0.0"]
