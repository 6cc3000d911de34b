# A worker: ONNX Runtime on the CPU, or torch with CUDA where EXTRAS names it. Not root.
#   docker build -f docker/worker.Dockerfile -t weighhouse-worker .
#   docker build -f docker/worker.Dockerfile --build-arg EXTRAS=postgres,s3,torch -t weighhouse-worker-gpu .
FROM python:3.12-slim
ARG EXTRAS=postgres,s3
RUN useradd --create-home --uid 10001 weighhouse
WORKDIR /app
COPY pyproject.toml constraints.txt README.md ./
RUN pip install --no-cache-dir --constraint constraints.txt ".[${EXTRAS}]"
COPY config config
COPY moderation moderation
COPY triage triage
COPY templates templates
COPY manage.py ./
RUN mkdir -p static /data && chown weighhouse /data
USER weighhouse
ENV WEIGHHOUSE_DATA=/data PYTHONUNBUFFERED=1
CMD ["celery", "-A", "config", "worker", "--pool", "threads", "--concurrency", "4", "-Q", "default,triage.cpu,triage.gpu,files,notices,webhooks,beat"]
