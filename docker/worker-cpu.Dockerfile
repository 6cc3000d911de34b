# A worker with ONNX Runtime on the CPU: files, notices, webhooks, and previews where there is no card.
#   docker build -f docker/worker-cpu.Dockerfile -t weighhouse-worker-cpu .
FROM python:3.11-slim
RUN useradd --create-home --uid 10001 weighhouse
WORKDIR /app
COPY pyproject.toml constraints.txt README.md ./
RUN pip install --no-cache-dir --constraint constraints.txt ".[postgres,s3,learning]"
COPY config config
COPY moderation moderation
COPY triage triage
COPY templates templates
COPY manage.py ./
RUN mkdir -p static /data && chown weighhouse /data
USER weighhouse
ENV WEIGHHOUSE_DATA=/data PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=20s --timeout=10s --start-period=60s \
  CMD ["python", "manage.py", "worker_alive"]
CMD ["celery", "-A", "config", "worker", "--pool", "threads", "--concurrency", "4", "--without-gossip", "--without-mingle", "--without-heartbeat", "-Q", "default,triage.cpu,triage.gpu,files,notices,webhooks,beat"]
