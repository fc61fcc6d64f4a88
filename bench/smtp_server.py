"""A Postfix of our own on loopback, for benchmarks and tests: TLS under a CA made for it, login through Dovecot."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

from bench.imap_server import DOVECOT, free_port, make_ca

POSTFIX = shutil.which("postfix", path="/usr/sbin:/usr/local/sbin")
DAEMONS = Path("/usr/lib/postfix/sbin")
USER, PASSWORD = "huifang@hq.example", "s3cret word"
IS_THERE = bool(POSTFIX and DOVECOT and (DAEMONS / "master").exists() and os.getuid() == 0)
"""Postfix's master changes to users of its own, which only root can."""


class Postfix:
    """One Postfix that takes mail for every address from whoever logs in, and keeps it in one Maildir."""

    def __init__(self, folder: Path, host: str = "localhost", settings: str = "") -> None:
        self.folder, self.port, self.tls_port, login_port = folder, free_port(), free_port(), free_port()
        self.ca = folder / "ca.pem"
        self.password_file = folder / "password"
        self.kept = folder / "kept"
        for path in (folder, *folder.parents):
            if path != Path("/") and path.stat().st_uid == 0:
                path.chmod(path.stat().st_mode | 0o011)  # its daemons run as another user
        make_ca(folder, host)
        self.password_file.write_text(f"{PASSWORD}\n", encoding="utf-8")
        (folder / "users").write_text(f"{USER}:{{PLAIN}}{PASSWORD}\n", encoding="utf-8")
        owner = pwd.getpwnam("postfix")
        for name in ("queue", "data", "kept", "login"):
            (folder / name).mkdir()
        os.chown(folder / "data", owner.pw_uid, owner.pw_gid)
        os.chown(folder / "kept", owner.pw_uid, owner.pw_gid)
        (folder / "domains").write_text("/./ ok\n", encoding="ascii")
        (folder / "main.cf").write_text(
            f"""
compatibility_level = 3.6
queue_directory = {folder}/queue
data_directory = {folder}/data
command_directory = /usr/sbin
daemon_directory = {DAEMONS}
mail_owner = postfix
setgid_group = postdrop
maillog_file = {folder}/log
maillog_file_prefixes = {folder}
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
myhostname = {host}
mydestination =
local_recipient_maps =
alias_maps =
alias_database =
virtual_mailbox_domains = regexp:{folder}/domains
virtual_mailbox_maps = static:all/
virtual_mailbox_base = {folder}/kept
virtual_minimum_uid = 1
virtual_uid_maps = static:{owner.pw_uid}
virtual_gid_maps = static:{owner.pw_gid}
smtpd_tls_security_level = encrypt
smtpd_tls_cert_file = {folder}/cert.pem
smtpd_tls_key_file = {folder}/key.pem
smtpd_sasl_auth_enable = yes
smtpd_tls_auth_only = yes
smtpd_sasl_type = dovecot
smtpd_sasl_path = inet:127.0.0.1:{login_port}
smtpd_relay_restrictions = permit_sasl_authenticated, reject
smtpd_recipient_restrictions = permit_sasl_authenticated, reject
mynetworks =
{settings}
""",
            encoding="utf-8",
        )
        (folder / "master.cf").write_text(
            f"""
127.0.0.1:{self.port} inet n - n - - smtpd
127.0.0.1:{self.tls_port} inet n - n - - smtpd
  -o smtpd_tls_wrappermode=yes
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
tlsmgr unix - - n 1000? 1 tlsmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
error unix - - n - - error
retry unix - - n - - error
proxymap unix - - n - - proxymap
virtual unix - n n - - virtual
discard unix - - n - - discard
anvil unix - - n - 1 anvil
postlog unix-dgram n - n - 1 postlogd
""",
            encoding="utf-8",
        )
        (folder / "login.conf").write_text(
            f"""
base_dir = {folder}/login/run
state_dir = {folder}/login/state
log_path = {folder}/login/log
protocols =
listen = 127.0.0.1
ssl = no
default_login_user = nobody
default_internal_user = nobody
default_internal_group = nogroup
service anvil {{
  chroot =
  # It lets a right login wait, after a wrong one, for longer than Postfix does.
  unix_listener anvil-auth-penalty {{
    mode = 0
  }}
}}
service auth {{
  inet_listener {{
    address = 127.0.0.1
    port = {login_port}
  }}
}}
auth_mechanisms = plain login
auth_failure_delay = 0
passdb {{
  driver = passwd-file
  args = scheme=PLAIN {folder}/users
}}
userdb {{
  driver = static
  args = uid=nobody gid=nogroup home={folder}
}}
""",
            encoding="utf-8",
        )
        subprocess.run([str(POSTFIX), "-c", str(folder), "check"], check=True, capture_output=True, timeout=60)
        self._processes = [
            subprocess.Popen(words, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL, start_new_session=True)
            for words in (
                [str(DOVECOT), "-F", "-c", str(folder / "login.conf")],
                [str(DAEMONS / "master"), "-d", "-c", str(folder)],
            )
        ]
        for port in (login_port, self.port, self.tls_port):
            self._await(port)

    def _await(self, port: int) -> None:
        for _ in range(400):
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
            except OSError:
                time.sleep(0.05)
            else:
                return
        self.stop()
        log = self.folder / "log"
        raise RuntimeError(f"Postfix did not start: {log.read_text() if log.exists() else 'no log'}")

    @property
    def url(self) -> str:
        return f"smtp+starttls://{USER.replace('@', '%40')}@localhost:{self.port}"

    @property
    def tls_url(self) -> str:
        return f"smtps://{USER.replace('@', '%40')}@localhost:{self.tls_port}"

    def mails(self) -> list[Path]:
        """Every mail that has been put into the mailbox; Delivered-To says for whom."""
        return sorted(self.kept.glob("all/new/*"))

    def stop(self) -> None:
        for process in self._processes:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGTERM)
        for process in self._processes:
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait(10)
