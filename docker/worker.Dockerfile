# A worker with torch and CUDA, one process for each card. Not root.
#   docker build -f docker/worker.Dockerfile -t weighhouse-worker .
FROM python:3.11-slim
RUN useradd --create-home --uid 10001 weighhouse
WORKDIR /app
COPY pyproject.toml constraints.txt README.md ./
RUN pip install --no-cache-dir --constraint constraints.txt ".[postgres,s3,torch,learning]"
COPY config config
COPY moderation moderation
COPY triage triage
COPY templates templates
COPY manage.py ./
RUN mkdir -p static /data && chown weighhouse /data
USER weighhouse
ENV WEIGHHOUSE_DATA=/data PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
# It was told to end 30 seconds before it is killed; DRAIN_SECONDS is shorter.
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=20s --timeout=10s --start-period=60s \
  CMD ["python", "manage.py", "worker_alive"]
CMD ["celery", "-A", "config", "worker", "--pool", "threads", "--concurrency", "8", "--without-gossip", "--without-mingle", "--without-heartbeat", "-Q", "triage.gpu"]
