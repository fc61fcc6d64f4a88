"""What operations has set: the environment as frozen Settings, and the YAML files people write.

The one reader of os.environ. Knows where things lie on disk; opens no database, mailbox or extract.
"""

from __future__ import annotations

import os
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal, TypeVar

import yaml
from pydantic import BaseModel, Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from models import CallbackError
from models.calendar import Calendar, Overlay, official
from models.programme import Programme, check_versions

PROJECT = Path(__file__).resolve().parents[1]

Shape = TypeVar("Shape", bound=BaseModel)


class SettingsError(CallbackError):
    """A setting or a file that people write is missing or wrong."""


class Settings(BaseSettings):
    """Every HUIFANG_… variable; `.env.example` documents each. A secret may be given as the path of a file, in …_FILE."""

    model_config = SettingsConfigDict(env_prefix="HUIFANG_", env_ignore_empty=True, frozen=True, extra="ignore")

    home: Path = Path("var")
    database_url: str = ""
    database_password_file: Path | None = None
    smtp_url: str = ""
    smtp_password_file: Path | None = None
    smtp_ca_file: Path | None = None
    smtp_timeout_seconds: float = 30
    returns_url: str = ""
    returns_password_file: Path | None = None
    returns_ca_file: Path | None = None
    engine: str = "duckdb"
    engine_memory: str = "2GB"
    engine_threads: int = Field(default=2, ge=1)
    mail_from: str = "huifang@hq.example"
    mail_name: str = "客服中心回访组"
    language: Literal["zh_CN", "en"] = "zh_CN"
    programmes: Path = PROJECT / "programmes"
    profile: Path | None = None
    inbox: str = ""
    inbox_password_file: Path | None = None
    inbox_key_file: Path | None = None
    inbox_known_hosts_file: Path | None = None
    inbox_endpoint_url: str = ""
    roster: Path | None = None
    actor: str = ""
    key_place: str = ""

    @property
    def key_words(self) -> str:
        """Where a branch obtains its password, in words for the mail."""
        own = {
            "zh_CN": "口令函由总部另行送达，遗失请向客服中心补领",
            "en": "it comes from headquarters by another channel",
        }
        return self.key_place or own[self.language]

    @property
    def lake(self) -> Path:
        return self.home.resolve() / "lake"

    @property
    def keyring(self) -> Path:
        """Branch passwords, the row-code key and the vault key; never mailed, mode 0700."""
        return self.home.resolve() / "keys"

    @property
    def spool(self) -> Path:
        return self.home.resolve() / "spool"

    @property
    def outbox(self) -> Path:
        return self.home.resolve() / "outbox"

    @property
    def vault(self) -> Path:
        return self.home.resolve() / "vault"

    @property
    def reports(self) -> Path:
        return self.home.resolve() / "reports"

    @property
    def calendars(self) -> Path:
        return self.home.resolve() / "calendars"

    @property
    def maildir(self) -> Path:
        """The embedded mail server's Maildir; a folder below it per recipient, the root for ourselves."""
        return self.home.resolve() / "maildir"

    @property
    def store_url(self) -> str:
        return self.database_url or f"sqlite:///{self.home.resolve() / 'huifang.sqlite'}"

    @property
    def mailbox_url(self) -> str:
        return self.returns_url or f"maildir:{self.maildir}"


def bare_environment() -> dict[str, str]:
    """What a child process that opens strangers' files may see of the environment: no setting, no secret."""
    return {name: os.environ[name] for name in ("PATH", "LANG", "TMPDIR", "VIRTUAL_ENV") if name in os.environ}


def read_secret(path: Path | None, setting: str) -> SecretStr | None:
    """The content of a secret's file without its line end; None when the setting is empty."""
    if path is None:
        return None
    try:
        return SecretStr(path.read_text(encoding="utf-8").rstrip("\r\n"))
    except OSError as error:
        raise SettingsError(
            f"{setting}: cannot read {path}: {error.strerror}; give the path of a readable file"
        ) from None


def read_yaml(path: Path, shape: type[Shape]) -> Shape:
    """A file that people write, checked; an error names the file, each key and what is allowed there."""
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), Loader=_UniqueKeys)  # noqa: S506 (a safe loader)
    except FileNotFoundError:
        near = ", ".join(sorted(p.name for p in path.parent.glob("*.y*ml"))) if path.parent.is_dir() else ""
        raise SettingsError(f"{path}: no such file" + (f"; beside it lie {near}" if near else "")) from None
    except OSError as error:
        raise SettingsError(f"{path}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise SettingsError(f"{path}: not UTF-8 at byte {error.start}; save it as UTF-8") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f" line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise SettingsError(f"{path}:{place} {getattr(error, 'problem', None) or error}; this is not YAML") from None
    if not isinstance(content, dict):
        raise SettingsError(f"{path}: expected a mapping of keys, found {type(content).__name__}")
    try:
        return shape.model_validate(content)
    except ValidationError as error:
        faults = [f"  {'.'.join(str(part) for part in e['loc']) or '(top)'}: {e['msg']}" for e in error.errors()]
        raise SettingsError(f"{path}: {len(faults)} fault(s)\n" + "\n".join(faults)) from None


class _UniqueKeys(yaml.SafeLoader):
    """YAML in which a key stands once; PyYAML itself would let the last one win without a word."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if isinstance(key, str) and key in seen:
                raise yaml.MarkedYAMLError(problem=f"the key {key!r} stands twice", problem_mark=key_node.start_mark)
            if isinstance(key, str):
                seen.add(key)
        return super().construct_mapping(node, deep=deep)


def read_programmes(settings: Settings) -> list[Programme]:
    """Every programme file there is, checked; several files may hold versions of one programme, each once."""
    if not settings.programmes.is_dir():
        raise SettingsError(f"HUIFANG_PROGRAMMES: {settings.programmes} is no folder")
    found = [read_yaml(path, Programme) for path in sorted(settings.programmes.glob("*.yaml"))]
    check_versions(found)
    return found


def read_calendar(settings: Settings) -> Calendar:
    """The official calendar with the overlays that operations wrote below HUIFANG_HOME."""
    overlays = []
    for path in sorted(settings.calendars.glob("*.yaml")):
        overlay = read_yaml(path, Overlay)
        if path.stem != str(overlay.year):
            raise SettingsError(f"{path}: holds the year {overlay.year}; call the file {overlay.year}.yaml")
        overlays.append(overlay)
    return official(overlays, where=str(settings.calendars))


def code_version() -> str:
    """The commit the code runs from, or the package's version outside a checkout; recorded, never compared."""
    try:
        commit = subprocess.run(  # noqa: S603
            ["git", "-C", str(PROJECT), "rev-parse", "--short=12", "HEAD"],  # noqa: S607
            capture_output=True,
            text=True,
            timeout=5,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        try:
            return version("huifang")
        except PackageNotFoundError:
            return "unknown"
    return commit.stdout.strip()
