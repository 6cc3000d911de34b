# The web process: no torch, not root. Build from the repository's root:
#   docker build -f docker/web.Dockerfile -t weighhouse-web .
FROM python:3.11-slim
RUN useradd --create-home --uid 10001 weighhouse
WORKDIR /app
COPY pyproject.toml constraints.txt README.md ./
RUN pip install --no-cache-dir --constraint constraints.txt ".[postgres,s3]"
COPY config config
COPY moderation moderation
COPY triage triage
COPY templates templates
COPY static static
COPY manage.py ./
RUN mkdir /data && chown weighhouse /data
USER weighhouse
ENV WEIGHHOUSE_DATA=/data PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
# Static files belong to the image; the data folder, with all else, is a volume.
RUN WEIGHHOUSE_DATA=/home/weighhouse python manage.py collectstatic --noinput
ENV STATIC_FOLDER=/home/weighhouse/static
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=5s --start-period=20s \
  CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/healthz', timeout=4)"]
CMD ["granian", "--interface", "wsgi", "--host", "0.0.0.0", "--port", "8000", "--workers", "2", "--blocking-threads", "20", "--no-ws", "config.wsgi:application"]
