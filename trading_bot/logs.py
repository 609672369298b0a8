"""The log people follow: one event a line, the same order of facts every time, and never a secret in it."""

from __future__ import annotations

import json
import logging
import re
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from loguru import logger

from trading_bot.errors import ConfigurationError

if TYPE_CHECKING:
    from loguru import Record

Level = Literal["TRACE", "DEBUG", "INFO", "WARNING", "ERROR"]
MASK = "***"
LINK = Path("bot_debug.log")  # in the folder the user starts in, so that `tail -f bot_debug.log` works there

_secrets: set[str] = set()
_PATTERNS = (  # what stands before a secret, in a URL, a header or a printed mapping; the rest is masked
    re.compile(r"(?i)((?:signature|api[-_]?key|secret|passw(?:or)?d|pwd|token)=)[^\s&\"',;]+"),
    re.compile(
        r"(?i)([\"'](?:x-mbx-apikey|signature|api[-_]?key|secret|passw(?:or)?d|token)[\"']\s*[:=]\s*[\"'])[^\"']+"
    ),
    re.compile(r"(?i)(\b(?:x-mbx-apikey|authorization)[\"']?\s*[:=]\s*[\"']?(?:(?:basic|bearer)\s+)?)[^\s\"',;]+"),
    re.compile(r"([\w+.-]+://[^\s/:@]*:)[^\s@/]+(?=@)"),
)
_CONTROL = {code: f"\\x{code:02x}" for code in (*range(32), 127) if chr(code) != "\t"} | {10: "\\n", 13: "\\r"}


@dataclass(frozen=True, kw_only=True)
class LoggingConfig:
    """How much is written, and how long it is kept."""

    level: Level = "DEBUG"  # of the file
    console_level: Level = "INFO"
    rotation_mb: float = 20.0  # a file that has grown this large is put aside …
    retention_files: int = 20  # … and so many of these are kept …
    retention_days: int = 60  # … for so long
    json: bool = False  # one JSON object a line instead of text

    def __post_init__(self) -> None:
        for name, low, high in (
            ("rotation_mb", 0.01, 10_000),
            ("retention_files", 0, 10_000),
            ("retention_days", 1, 10_000),
        ):
            if not low <= getattr(self, name) <= high:
                raise ValueError(f"logging.{name} should be between {low} and {high}, is {getattr(self, name):g}")


def event(kind: str, subject: str, text: str = "", *, level: str = "INFO", **facts: Any) -> None:
    """Write one line: kind, what it is about (usually "SYMBOL TIMEFRAME"), words, then `key=value` facts.

    Floats are shown with four significant digits; pass strings or Decimals where every digit matters.
    """
    tail = "  ".join(f"{key}={_show(value)}" for key, value in facts.items())
    line = "  ".join(part for part in (f"{kind:<9} {subject:<12}".rstrip(), text, tail) if part)
    logger.opt(depth=1).log(level, "{}", line)


def register_secret(value: str) -> None:
    """Keep `value` out of everything written from now on. Fewer than four characters would mask innocent text."""
    if len(value) >= 4:
        _secrets.add(value)


def redact(text: str) -> str:
    """`text` without registered secrets, signatures, keys and passwords in URLs."""
    for secret in sorted(_secrets, key=len, reverse=True):  # a secret that contains another is masked whole
        text = text.replace(secret, MASK)
    for pattern in _PATTERNS:
        text = pattern.sub(rf"\g<1>{MASK}", text)
    return text


def setup(config: LoggingConfig, logfile: Path, *, console: bool = True, link: bool = True) -> None:
    """Send the log to `logfile` and, at its own level, to the terminal (standard error).

    With `link`, ./bot_debug.log leads to it, so that `tail -f bot_debug.log` works where the user starts.

    Raises
    ------
    ConfigurationError
        If the file cannot be written.
    """
    _check_writable(logfile)
    logger.remove()
    logger.configure(patcher=_clean)
    safe: dict[str, Any] = {"catch": True, "backtrace": False, "diagnose": False}
    logger.add(
        logfile,
        level=config.level,
        format=_json_line if config.json else _text_line,
        rotation=int(config.rotation_mb * 1_000_000),
        retention=_keep(config.retention_files, timedelta(days=config.retention_days)),
        encoding="utf-8",
        filter=_Repeats(),
        **safe,
    )
    if console:
        logger.add(sys.stderr, level=config.console_level, format=_console_line, filter=_Console(), **safe)
    _route_standard_logging()
    if link:
        _link(logfile)


def console_only(level: str = "WARNING") -> None:
    """What verbs other than the daemon need: warnings on the terminal, redacted, nothing in a file."""
    logger.remove()
    logger.configure(patcher=_clean)
    logger.add(
        sys.stderr, level=level, format=_console_line, filter=_Console(), catch=True, backtrace=False, diagnose=False
    )


def last_words(text: str, defect: BaseException | None = None) -> None:
    """Write why the program ends to the log file alone: the terminal is told by whoever ends it."""
    logger.bind(console=False).opt(exception=defect).error("{}", text)


class _Repeats:
    """Lets a warning through `allowed` times within `seconds`; the next one says how many were held back."""

    def __init__(self, allowed: int = 5, seconds: float = 60.0) -> None:
        self._allowed = allowed
        self._span = timedelta(seconds=seconds)
        self._seen: dict[str, tuple[datetime, int]] = {}

    def __call__(self, record: Record) -> bool:
        if record["level"].name != "WARNING":
            return True
        text, now = record["message"], record["time"]
        if len(self._seen) > 1000:
            self._seen = {key: seen for key, seen in self._seen.items() if now - seen[0] <= self._span}
        first, count = self._seen.get(text, (now, 0))
        record["extra"]["held_back"] = ""
        if now - first > self._span:
            if count > self._allowed:
                record["extra"]["held_back"] = f"  held_back={count - self._allowed}"
            first, count = now, 0
        self._seen[text] = (first, count + 1)
        return count < self._allowed


class _Console(_Repeats):
    """What the terminal is spared besides repeats: lines meant for the file alone."""

    def __call__(self, record: Record) -> bool:
        return bool(record["extra"].get("console", True)) and super().__call__(record)


def _clean(record: Record) -> None:
    """Redact, keep to one line, and write the traceback out ourselves: loguru's own would show values."""
    record["message"] = redact(record["message"]).translate(_CONTROL)
    trouble = record["exception"]
    record["extra"].update(traceback="", held_back="")
    if trouble is not None:
        record["exception"] = None
        if trouble.type is not None:
            lines = traceback.format_exception(trouble.type, trouble.value, trouble.traceback)
            record["extra"]["traceback"] = "\n    " + redact("".join(lines)).rstrip().replace("\n", "\n    ")


def _text_line(record: Record) -> str:
    return "{time:YYYY-MM-DD HH:mm:ss.SSS!UTC} {level:<7} {message}{extra[held_back]}{extra[traceback]}\n"


def _console_line(record: Record) -> str:
    return "<dim>{time:HH:mm:ss.SSS!UTC}</dim> <level>{level:<7}</level> {message}{extra[held_back]}\n"


def _json_line(record: Record) -> str:
    line = {
        "time": record["time"].astimezone(UTC).isoformat(timespec="milliseconds"),
        "level": record["level"].name,
        "message": record["message"] + record["extra"]["held_back"],
    }
    if record["extra"]["traceback"]:
        line["traceback"] = record["extra"]["traceback"]
    record["extra"]["json"] = json.dumps(line, ensure_ascii=False)
    return "{extra[json]}\n"


def _keep(files: int, age: timedelta) -> Callable[[list[str]], None]:
    """A loguru retention, asked at each rotation: of the files put aside the newest `files`, none older than `age`."""

    def remove(paths: list[str]) -> None:
        written = sorted(((Path(path).stat().st_mtime, path) for path in paths), reverse=True)
        oldest = (datetime.now(UTC) - age).timestamp()
        for position, (time, path) in enumerate(written):
            if position >= files or time < oldest:
                Path(path).unlink(missing_ok=True)

    return remove


def _check_writable(logfile: Path) -> None:
    try:
        logfile.parent.mkdir(parents=True, exist_ok=True)
        with logfile.open("a", encoding="utf-8"):
            pass
    except OSError as error:
        raise ConfigurationError(
            f"logfile: cannot write {logfile}: {error.strerror}; make its folder writable or choose another place "
            "with `logfile:` or --logfile"
        ) from None


def _link(logfile: Path) -> None:
    """Point ./bot_debug.log at the log, unless a real file stands there or the place cannot hold a link."""
    try:
        if LINK.is_symlink() and LINK.resolve() != logfile.resolve():
            LINK.unlink()
        if not LINK.is_symlink() and not LINK.exists() and LINK.absolute() != logfile.absolute():
            LINK.symlink_to(logfile)
    except OSError:
        pass  # the log itself is fine; a shortcut to it is a courtesy


class _ToLoguru(logging.Handler):
    """Brings what libraries log the standard way into our log."""

    def emit(self, record: logging.LogRecord) -> None:
        level = record.levelname if record.levelname in ("WARNING", "ERROR", "CRITICAL") else "WARNING"
        logger.opt(exception=record.exc_info).log(level, "{}", f"{record.name:<9} {record.getMessage()}")


def _route_standard_logging() -> None:
    logging.basicConfig(handlers=[_ToLoguru()], level=logging.WARNING, force=True)
    for name in ("apscheduler", "uvicorn", "alembic"):
        library = logging.getLogger(name)
        library.handlers.clear()
        library.propagate = True
        library.setLevel(logging.WARNING)
    logging.captureWarnings(True)


def _show(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
