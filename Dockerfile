# syntax=docker/dockerfile:1

# The image of ez-api: one program, run as a user without rights; /data is the only place that it writes to.
#
#   docker build -t ez-api \
#     --build-arg VERSION="$(git describe --tags --always)" --build-arg COMMIT="$(git rev-parse --short=12 HEAD)" \
#     --build-arg BUILD_TIME="$(git show -s --format=%cI HEAD)" .
#   docker run --read-only -p 8080:8080 -p 127.0.0.1:8081:8081 -v ez-api:/data ez-api
#
# Checked by `make lint` (hadolint); no image has been built or run from this file yet, since neither CI nor the
# machines of its authors have a container engine.

FROM rust:1.95-bookworm AS build
WORKDIR /src
COPY . .
# There is no git in here: what the program says of itself is told from outside.
ARG VERSION=""
ARG COMMIT=""
ARG BUILD_TIME=""
# The caches are no part of the layer, so what is wanted is copied out of them.
RUN --mount=type=cache,target=/usr/local/cargo/registry,sharing=locked \
    --mount=type=cache,target=/src/target,sharing=locked \
    EZ_BUILD_VERSION="$VERSION" EZ_BUILD_COMMIT="$COMMIT" EZ_BUILD_TIME="$BUILD_TIME" \
    CARGO_PROFILE_RELEASE_STRIP=debuginfo \
    cargo build --locked --release --package ez-api \
    && install -D target/release/ez-api /out/ez-api

FROM debian:bookworm-slim
# Certificate authorities for TLS to the database and to Redis.
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=build /out/ez-api /usr/local/bin/ez-api
# By number, so that a cluster can see that it is not root. A new volume at /data takes this owner.
RUN install --directory --owner=10001 --group=10001 --mode=0700 /data
USER 10001:10001
WORKDIR /data
VOLUME /data
ENV EZ_DATA_DIR=/data \
    EZ_CONTROL_LISTEN=0.0.0.0:8081 \
    EZ_GATEWAY_LISTEN=0.0.0.0:8080
# 8080: the gateway. 8081: the control plane; with `--role gateway` only health, status and metrics.
EXPOSE 8080 8081
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 CMD ["/usr/local/bin/ez-api", "health"]
ENTRYPOINT ["/usr/local/bin/ez-api"]
CMD ["serve"]
