"""`python -m trading_bot.experiments.executors --output docs/evidence` measures what each executor saves.

It does so in `executor_speed`. Nothing is imported here but by the command itself: a process that is started for a
training imports this file anew, and would be charged for PyTorch where its model is linear.
"""

if __name__ == "__main__":
    from loguru import logger

    from trading_bot.experiments.executor_speed import main

    logger.remove()  # a line for every epoch of hundreds of trainings
    main()
