FROM python:3.12-slim AS build
WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY mq ./mq
RUN python -m venv /opt/mq && /opt/mq/bin/pip install --no-cache-dir '.[speed]'

FROM python:3.12-slim
RUN groupadd --system --gid 10001 mq \
    && useradd --system --uid 10001 --gid mq --home-dir /var/lib/mq --shell /usr/sbin/nologin mq \
    && install --directory --owner=mq --group=mq --mode=0750 /var/lib/mq
COPY --from=build /opt/mq /opt/mq
COPY tools/healthcheck.py /opt/mq/healthcheck.py
# SERVER_PORT alone listens on all of the container's addresses.
ENV PATH=/opt/mq/bin:$PATH \
    SERVER_PORT=50051 \
    WAL_DIR_PATH=/var/lib/mq \
    MQ_METRICS_LISTEN=0.0.0.0:9464
# By number, so that Kubernetes can see that it is not root.
USER 10001:10001
WORKDIR /var/lib/mq
VOLUME /var/lib/mq
EXPOSE 50051 9464
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 \
    CMD ["python", "/opt/mq/healthcheck.py"]
ENTRYPOINT ["mq"]
CMD ["serve"]
