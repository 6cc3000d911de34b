# The web process: no torch, not root. Build from the repository's root:
#   docker build -f docker/web.Dockerfile -t weighhouse-web .
FROM python:3.12-slim
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
ENV WEIGHHOUSE_DATA=/data PYTHONUNBUFFERED=1
RUN python manage.py collectstatic --noinput
EXPOSE 8000
CMD ["granian", "--interface", "wsgi", "--host", "0.0.0.0", "--port", "8000", "--blocking-threads", "4", "--no-ws", "config.wsgi:application"]
