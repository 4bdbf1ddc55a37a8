# docker build -t majordomo .        with BuildKit, Docker's default

ARG DEBIAN=bookworm

# The same version as rust-toolchain.toml, which stays outside so that rustup fetches nothing.
FROM rust:1.95.0-slim-${DEBIAN} AS build
WORKDIR /src
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry,sharing=locked \
    cargo build --release --locked --bin majordomo


FROM debian:${DEBIAN}-slim
# The newest certificates are the ones to have.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends ca-certificates \
    && rm -rf /var/lib/apt/lists/* \
    && install --directory --owner=10001 --group=10001 --mode=0700 /data
COPY --from=build /src/target/release/majordomo /usr/local/bin/majordomo

# By number, so that a cluster can see that it is not root. Nothing but /data is ever written.
USER 10001:10001
ENV MAJORDOMO_DATA=/data HOME=/data
WORKDIR /data
VOLUME /data
EXPOSE 7717
STOPSIGNAL SIGTERM

# Asks the instance of the data folder for /healthz.
HEALTHCHECK --interval=10s --timeout=5s --start-period=20s --retries=3 \
    CMD ["majordomo", "health"]

ENTRYPOINT ["majordomo"]
# Inside a container only 0.0.0.0 can be reached, and that needs a token: the first start makes one,
# prints it once and keeps its hash in /data.
CMD ["serve", "--listen", "0.0.0.0:7717", "--first-token"]
