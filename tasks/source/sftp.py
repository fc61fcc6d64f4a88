"""SFTP with the server's host key checked against a file that operations keep; an unknown or changed key is refused."""

from __future__ import annotations

from typing import Any
from urllib.parse import SplitResult, unquote

import paramiko
from fsspec.implementations.sftp import SFTPFileSystem

from tasks.settings import Settings, read_secret
from tasks.source.base import SourceError, Transient


class _Refuse(paramiko.MissingHostKeyPolicy):
    def missing_host_key(self, client: paramiko.SSHClient, hostname: str, key: paramiko.PKey) -> None:
        raise SourceError(
            f"{hostname}: its host key ({key.get_name()} {key.fingerprint}) is not in HUIFANG_INBOX_KNOWN_HOSTS_FILE; "
            "compare it with what the server's owner says, then add it"
        )


class _CheckedSFTP(SFTPFileSystem):  # type: ignore[misc]
    """fsspec's own accepts any key, or knows none; and its info follows links."""

    cachable = False

    def __init__(self, host: str, known_hosts: str, **ssh: Any) -> None:
        self._known_hosts = known_hosts
        super().__init__(host, host_key_policy=_Refuse(), **ssh)

    def _connect(self) -> None:
        self.client = paramiko.SSHClient()
        self.client.load_host_keys(self._known_hosts)
        self.client.set_missing_host_key_policy(self.host_key_policy)
        try:
            self.client.connect(self.host, **self.ssh_kwargs)
            transport = self.client.get_transport()
            assert transport is not None, "it is connected"
            transport.set_keepalive(30)
            self.ftp = self.client.open_sftp()
        except BaseException:
            self.client.close()
            raise

    def info(self, path: str, **_: Any) -> dict[str, Any]:
        facts: dict[str, Any] = self._decode_stat(self.ftp.lstat(self._strip_protocol(path)))
        facts["name"] = path
        return facts


def connect(url: SplitResult, settings: Settings, *, timeout_seconds: float) -> _CheckedSFTP:
    """The server of the URL. Raises SourceError when it is not the one known, or lets us not in; else Transient."""
    host, port = url.hostname or "", url.port or 22
    shown = f"sftp://{host}:{port}"
    if settings.inbox_known_hosts_file is None:
        raise SourceError(
            f"{shown}: set HUIFANG_INBOX_KNOWN_HOSTS_FILE to a file with the server's host key, as known_hosts has it"
        )
    password = read_secret(settings.inbox_password_file, "HUIFANG_INBOX_PASSWORD_FILE")
    key_file = settings.inbox_key_file
    if not url.username or (password is None and key_file is None):
        raise SourceError(f"{shown}: needs a user in the URL and HUIFANG_INBOX_KEY_FILE or HUIFANG_INBOX_PASSWORD_FILE")
    secret = password.get_secret_value() if password else None
    try:
        server = _CheckedSFTP(
            host,
            str(settings.inbox_known_hosts_file),
            port=port,
            username=unquote(url.username),
            key_filename=str(key_file) if key_file else None,
            # Beside a key it is the key's passphrase.
            password=None if key_file else secret,
            passphrase=secret if key_file else None,
            # Neither an agent nor the service user's own keys: what is not set is not tried.
            allow_agent=False,
            look_for_keys=False,
            timeout=timeout_seconds,
            banner_timeout=timeout_seconds,
            auth_timeout=timeout_seconds,
        )
    except paramiko.BadHostKeyException as error:
        raise SourceError(
            f"{shown}: its host key has changed (now {error.key.get_name()} {error.key.fingerprint}); somebody may stand "
            "between. Ask the server's owner before you change HUIFANG_INBOX_KNOWN_HOSTS_FILE"
        ) from None
    except paramiko.PasswordRequiredException:
        raise SourceError(
            "HUIFANG_INBOX_KEY_FILE: the key is locked; its passphrase goes to HUIFANG_INBOX_PASSWORD_FILE"
        ) from None
    except paramiko.AuthenticationException:
        raise SourceError(
            f"{shown}: does not let {url.username} in; check HUIFANG_INBOX_KEY_FILE or HUIFANG_INBOX_PASSWORD_FILE"
        ) from None
    except FileNotFoundError as error:
        raise SourceError(
            f"{error.filename}: no such file; check HUIFANG_INBOX_KEY_FILE and …_KNOWN_HOSTS_FILE"
        ) from None
    except PermissionError as error:
        raise SourceError(
            f"{error.filename}: cannot be read; check HUIFANG_INBOX_KEY_FILE and …_KNOWN_HOSTS_FILE"
        ) from None
    except (OSError, EOFError, paramiko.SSHException) as error:
        raise Transient(f"{shown}: cannot be reached: {' '.join(str(error).split()) or type(error).__name__}") from None
    channel = server.ftp.get_channel()
    assert channel is not None, "it is open"
    channel.settimeout(timeout_seconds)
    return server
