# PostgreSQL, Redis and Kafka in one image, for the demo of the reference backend: what it runs is a node each, and
# nothing for production. The context holds Kafka's libraries in kafka/, as `nova services` has them from Maven Central.
ARG BASE_IMAGE=debian:bookworm-slim

FROM ${BASE_IMAGE}
LABEL org.opencontainers.image.title="Stores of Nova's reference backend" \
      org.opencontainers.image.description="PostgreSQL, Redis and Kafka, for the demo"
# The base that is made without Docker has the packages already, and this step needs no network there.
RUN if ! command -v redis-server >/dev/null; then \
        apt-get update -qq \
        && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
            postgresql redis-server openjdk-17-jre-headless \
        && rm -rf /var/lib/apt/lists/* /var/lib/postgresql/*; \
    fi \
    && ln -s /usr/lib/postgresql/*/bin /opt/postgresql
# initdb asks for the name of who runs it.
RUN echo 'nova:x:65532:65532:nova:/nonexistent:/usr/sbin/nologin' >> /etc/passwd \
    && echo 'nova:x:65532:' >> /etc/group
COPY kafka /opt/kafka
ENV PATH=/opt/postgresql:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
USER 65532:65532
