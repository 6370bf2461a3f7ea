# syntax=docker/dockerfile:1
# Two images from one file:
#   docker build --target serve -t fashion-serve .    searches and serves; no torch
#   docker build --target train -t fashion-train .    everything; takes torch's CUDA wheels
FROM python:3.11-slim-bookworm AS base
ENV PYTHONUNBUFFERED=1 PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /app
RUN useradd --create-home --uid 10001 fashion \
 && mkdir -p /catalog /app/outputs \
 && chown -R fashion /catalog /app/outputs
# What the project needs is installed beside an empty package: a change of its code then installs nothing again.
COPY pyproject.toml constraints.txt README.md LICENSE ./
RUN mkdir -p src/fashion && touch src/fashion/__init__.py

FROM base AS serve
ARG EXTRAS=serve
# What nothing here loads goes again, a sixth: Arrow's RPC, tests and headers, ONNX Runtime's library for C.
RUN pip install -c constraints.txt -e ".[${EXTRAS}]" \
 && SITE="$(python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')" \
 && rm -rf "$SITE"/pyarrow/*flight* "$SITE"/pyarrow/tests "$SITE"/pyarrow/include \
      "$SITE"/onnxruntime/capi/libonnxruntime.so.*
COPY src ./src
COPY conf ./conf
COPY run.py ./
# Its user cannot keep bytecode here, and would compile at each start.
RUN python -m compileall -q src
USER 10001
VOLUME /catalog
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=3s --start-period=10s \
  CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/readyz', timeout=2)"]
# Other machines may search; changes need FASHION_API_KEY.
ENTRYPOINT ["python", "run.py"]
CMD ["task=serve", "catalog=/catalog", "server.host=0.0.0.0", "hydra.run.dir=/tmp/run"]

FROM base AS train
RUN pip install -c constraints.txt -e '.[train,serve]'
COPY src ./src
COPY conf ./conf
COPY run.py ./
RUN python -m compileall -q src
USER 10001
VOLUME /app/outputs
ENTRYPOINT ["python", "run.py"]
CMD ["--help"]
