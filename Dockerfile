FROM python:3.13-slim AS build
WORKDIR /src
RUN python -m venv /opt/hub
COPY pyproject.toml README.md LICENSE ./
COPY hub hub
COPY persistence persistence
RUN --mount=type=cache,target=/root/.cache/pip /opt/hub/bin/pip install .

FROM python:3.13-slim
RUN useradd --system --uid 10001 --no-create-home --shell /usr/sbin/nologin hub
COPY --from=build /opt/hub /opt/hub
ENV PATH=/opt/hub/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    HUB_LOG_FORMAT=json
USER hub
WORKDIR /tmp
EXPOSE 8000
HEALTHCHECK --interval=5s --timeout=3s --start-period=10s --retries=3 \
    CMD ["python", "-c", "from urllib.request import urlopen; urlopen('http://127.0.0.1:8000/readyz', timeout=2)"]
ENTRYPOINT ["hub"]
CMD ["serve", "--host", "0.0.0.0", "--port", "8000"]
