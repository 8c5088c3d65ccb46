# Image of `python -m emojax.serve` (docs/serve.md):
#   docker build -t emojax-serve .
#   docker run --read-only --tmpfs /tmp -p 127.0.0.1:8000:8000 -v "$PWD/runs/demo/mfb:/model:ro" emojax-serve
FROM python:3.12-slim AS build
WORKDIR /src
COPY . .
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /wheels .

FROM python:3.12-slim
# Without their bytecode packages would be compiled at every start, because a user cannot write there.
COPY --from=build /wheels /wheels
RUN set -- /wheels/*.whl && pip install --no-cache-dir --compile "$1[serve,media]" && rm -r /wheels \
    && useradd --uid 10001 --no-create-home --shell /usr/sbin/nologin emojax \
    && mkdir /cache && chown emojax /cache
# Compiled programs: a volume of its own makes later starts fast. The model is mounted at /model.
ENV XDG_CACHE_HOME=/cache PYTHONUNBUFFERED=1
VOLUME ["/cache"]
USER 10001
WORKDIR /tmp
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=5s --start-period=10m --retries=3 \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/health', timeout=4)"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["python", "-m", "emojax.serve", "/model", "--host=0.0.0.0", "--port=8000"]
