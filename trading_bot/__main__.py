"""`python -m trading_bot` is `trading-bot`."""

from trading_bot.cli.main import main

if __name__ == "__main__":
    main()
