"""What operations has set: the environment as frozen Settings, and the YAML files people write.

The one reader of os.environ. Knows where things lie on disk; opens no database, mailbox or extract.
"""

from __future__ import annotations

import difflib
import os
import re
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal, TypeVar

import yaml
from pydantic import BaseModel, Field, SecretStr, ValidationError, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from models import CallbackError
from models.calendar import Calendar, Overlay, official
from models.faults import FULL_WIDTH, found_words, keys_of, tell_faults
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
    mails_per_minute: int = Field(default=0, ge=0)
    """0: as fast as the server takes them."""
    mails_per_day: int = Field(default=0, ge=0)
    """0: no limit."""
    mail_retry_seconds: float = Field(default=30, ge=0)
    """How long one mail that the server puts off is tried again within a run."""
    returns_url: str = ""
    returns_password_file: Path | None = None
    returns_ca_file: Path | None = None
    drop: Path | None = None
    drop_by: Literal["folder", "name"] = "folder"
    drop_quiet_seconds: float = Field(default=60, ge=0)
    drop_marker: str = ""
    authserv_id: str = ""
    authserv_received_above: int = Field(default=1, ge=0)
    receipts_per_day: int = Field(default=20, ge=1)
    clamd: str = Field(default="", pattern=r"^$|^tcp://[^:/\s]+:\d{1,5}$|^unix:/.+$")
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
    roster_domains: str = ""
    actor: str = ""
    key_place: str = ""
    sheet_rows: int = Field(default=1000, ge=1)
    sheet_bytes: int = Field(default=8_000_000, ge=50_000)

    @model_validator(mode="after")
    def _know_every_name(self) -> Settings:
        """Raises SettingsError where a variable is all but a setting: a list must not go to the wrong server for a typo."""
        known = {f"HUIFANG_{field.upper()}" for field in type(self).model_fields}
        for name in sorted(os.environ):
            if name.upper().startswith("HUIFANG_") and name.upper() not in known:
                meant = difflib.get_close_matches(name.upper(), known, n=1, cutoff=0.8)
                if meant:
                    raise SettingsError(f"{name} is no setting: did you mean {meant[0]}? Rename it or take it away")
        return self

    @property
    def key_words(self) -> str:
        """Where a branch obtains its password, in words for the mail."""
        own = {
            "zh_CN": "口令函由总部另行送达，遗失请向客服中心补领",
            "en": "it comes from headquarters by another channel",
        }
        return self.key_place or own[self.language]

    @property
    def authserv_ids(self) -> frozenset[str]:
        """What our own mail servers call themselves in Authentication-Results; none given, none are asked for."""
        return frozenset(name.casefold() for name in re.split(r"[,\s]+", self.authserv_id) if name)

    @property
    def company_domains(self) -> tuple[str, ...]:
        """The domains that a roster's addresses may lie in; none given, any will do."""
        return tuple(domain.casefold() for domain in re.split(r"[,\s]+", self.roster_domains) if domain)

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
        text = path.read_text(encoding="utf-8")
        content = yaml.load(text, Loader=_UniqueKeys)  # noqa: S506 (a safe loader)
    except FileNotFoundError:
        near = ", ".join(sorted(p.name for p in path.parent.glob("*.y*ml"))) if path.parent.is_dir() else ""
        raise SettingsError(f"{path}: no such file" + (f"; beside it lie {near}" if near else "")) from None
    except OSError as error:
        raise SettingsError(f"{path}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise SettingsError(f"{path}: not UTF-8 at byte {error.start}; save it as UTF-8") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f" line {mark.line + 1}, column {mark.column + 1}:" if mark else ""
        problem = getattr(error, "problem", None) or str(error)
        hint = "" if isinstance(error, _Refused) else f"; this is not YAML; {_hint(problem, text, mark)}"
        raise SettingsError(f"{path}:{place} {problem}{hint}") from None
    if content is None:
        raise SettingsError(f"{path}: holds no key; needed are {', '.join(keys_of(shape, is_required=True))}")
    if not isinstance(content, dict):
        raise SettingsError(f"{path}: expected a mapping of keys, found {found_words(content)}")
    try:
        return shape.model_validate(content)
    except ValidationError as error:
        root = yaml.compose(text, Loader=_UniqueKeys)
        faults = [
            f"  {_line_of(root, fault.path)}{'.'.join(fault.path) or '(top)'}: {fault.text}"
            for fault in tell_faults(error, shape, content)
        ]
        raise SettingsError(f"{path}: {len(faults)} fault(s)\n" + "\n".join(faults)) from None


def _line_of(root: yaml.Node | None, path: tuple[str, ...]) -> str:
    """`line 7: ` where a key stands; of a missing one that of the key it is missing below, at the top nothing."""
    node, line = root, 0
    for part in path:
        entries: dict[str, tuple[yaml.Node, yaml.Node]] = {}
        if isinstance(node, yaml.MappingNode):
            entries = {str(key.value): (key, value) for key, value in node.value}
        elif isinstance(node, yaml.SequenceNode):
            entries = {str(number): (entry, entry) for number, entry in enumerate(node.value)}
        if part not in entries:
            break
        key, node = entries[part]
        line = key.start_mark.line + 1
    return f"line {line}: " if line else ""


def _hint(problem: str, text: str, mark: yaml.Mark | None) -> str:
    """What is often behind what YAML cannot read; often it is the line before that is to blame."""
    line = mark.line if mark else 0
    near = "\n".join(text.splitlines()[max(0, line - 1) : line + 1])
    if "\t" in near:
        return "indent with spaces, not with tabs"
    if any(sign in near for sign in FULL_WIDTH):
        return "a full-width sign such as ： ， “ stands there, where YAML knows only : , and straight quotes"
    if problem.startswith("expected ','"):
        return "a [ or { is not closed, or a text that holds a colon, comma or bracket is not in quotes"
    if problem.startswith("expected <block end>"):
        return "lines of one mapping begin in the same column, and every quote that is opened is closed"
    return "a key is written `key: value`, with a space after the colon"


class _Refused(yaml.MarkedYAMLError):
    """Good YAML that we do not take."""


class _UniqueKeys(yaml.SafeLoader):
    """YAML in which a key stands once and what is written is what is read.

    PyYAML itself lets the last of two keys win without a word, and reads 17:30 as 1050, 017 as 15 and no as false, as
    YAML 1.1 says.
    """

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if isinstance(key, str) and key in seen:
                raise _Refused(problem=f"the key {key!r} stands twice; keep one", problem_mark=key_node.start_mark)
            if isinstance(key, str):
                seen.add(key)
        return super().construct_mapping(node, deep=deep)

    def construct_day(self, node: yaml.ScalarNode) -> Any:
        try:
            return self.construct_yaml_timestamp(node)
        except ValueError:
            raise _Refused(problem=f"{node.value} is no day of the calendar", problem_mark=node.start_mark) from None


_TAG = "tag:yaml.org,2002:"
_UniqueKeys.add_constructor(f"{_TAG}timestamp", _UniqueKeys.construct_day)
_PLAIN = {
    f"{_TAG}int": (r"^[-+]?(0|[1-9][0-9]*)$", "-+0123456789"),
    f"{_TAG}float": (r"^[-+]?[0-9]*\.[0-9]+([eE][-+]?[0-9]+)?$", "-+.0123456789"),
    f"{_TAG}bool": (r"^(true|True|TRUE|false|False|FALSE)$", "tTfF"),
}
_UniqueKeys.yaml_implicit_resolvers = {
    first: [(tag, form) for tag, form in forms if tag not in _PLAIN]
    for first, forms in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
for _tag, (_form, _first) in _PLAIN.items():
    _UniqueKeys.add_implicit_resolver(_tag, re.compile(_form), list(_first))


def programme_files(settings: Settings) -> list[Path]:
    """The programme files there are, by name."""
    if not settings.programmes.is_dir():
        raise SettingsError(f"HUIFANG_PROGRAMMES: {settings.programmes} is no folder")
    return sorted(settings.programmes.glob("*.yaml"))


def read_programmes(settings: Settings) -> list[Programme]:
    """Every programme file there is, checked; several files may hold versions of one programme, each once."""
    found = [read_yaml(path, Programme) for path in programme_files(settings)]
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
