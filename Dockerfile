# The service and its page; no torch. Build: docker build -t frostline . Run: docker run -p 127.0.0.1:8000:8000 frostline
FROM python:3.12-slim AS build
WORKDIR /build
RUN python -m venv /opt/frostline
COPY pyproject.toml README.md LICENSE requirements.lock ./
COPY src ./src
RUN /opt/frostline/bin/pip install --no-cache-dir --constraint requirements.lock ".[page]"

FROM python:3.12-slim
RUN useradd --create-home --uid 1000 frostline
COPY --from=build /opt/frostline /opt/frostline
COPY app.py /app/app.py
USER frostline
WORKDIR /app
ENV PATH=/opt/frostline/bin:$PATH PYTHONUNBUFFERED=1 HOST=0.0.0.0 PORT=8000 FROSTLINE_HOME=/tmp/frostline
EXPOSE 8000
# What a balancer asks: whether it takes requests.
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s \
  CMD ["python", "-c", "import os, urllib.request as u; u.urlopen('http://127.0.0.1:' + os.environ['PORT'] + '/readyz', timeout=4)"]
# SIGTERM answers what was accepted first.
STOPSIGNAL SIGTERM
CMD ["python", "app.py"]
