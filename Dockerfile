# docker build -t trading-bot .        (docker-compose.yml runs it with PostgreSQL)
FROM python:3.11-slim AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
WORKDIR /src
RUN python -m venv /opt/venv
COPY constraints.txt pyproject.toml README.md LICENSE ./
COPY trading_bot ./trading_bot
RUN /opt/venv/bin/pip install -c constraints.txt ".[postgres]"

FROM python:3.11-slim
RUN groupadd --gid 10001 bot && useradd --uid 10001 --gid bot --no-create-home --shell /usr/sbin/nologin bot \
 && install -d -o bot -g bot /var/lib/trading-bot /var/log/trading-bot
ENV PATH=/opt/venv/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 \
    TRADING_BOT__DATA_DIR=/var/lib/trading-bot TRADING_BOT__LOGFILE=/var/log/trading-bot/bot_debug.log
COPY --from=build /opt/venv /opt/venv
WORKDIR /app
COPY config ./config
COPY strategies ./strategies
USER 10001:10001
HEALTHCHECK --interval=60s --timeout=10s --start-period=90s CMD ["trading-bot", "status"]
ENTRYPOINT ["trading-bot"]
CMD ["run", "-c", "config/paper.yaml"]
