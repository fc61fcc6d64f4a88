"""`huifang mail preview`: a mail of every kind with invented facts, as files for a mail program or a browser."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Literal

import typer

from cli.common import errors, out


def preview(
    folder: Annotated[Path, typer.Option("--out", help="New folder for the files.")],
    language: Annotated[
        Literal["zh_CN", "en"] | None, typer.Option(help="zh_CN or en; HUIFANG_LANGUAGE when not given.")
    ] = None,
) -> None:
    """Write each mail as .eml, .html and .txt, with invented facts: to look at in your own mail program. Sends nothing."""
    from demo.specimens import specimens
    from tasks import mail
    from tasks.settings import Settings

    with errors():
        settings = Settings()
        written = specimens(language or settings.language)
        try:
            folder.mkdir(parents=True)
        except OSError as error:
            raise typer.BadParameter(f"--out {folder}: {error.strerror}; name a new folder") from None
        for name, specimen in written.items():
            words = specimen.rendered()
            own_id = mail.message_id("preview", name, "0001", "reader", 1, settings.mail_from.rpartition("@")[2])
            letter = mail.Letter(
                "reader@branch.example", words.subject, words.html, words.text, (), own_id, datetime.now(UTC)
            )
            content = mail.compose(letter, from_address=settings.mail_from, from_name=settings.mail_name)
            (folder / f"{name}.eml").write_bytes(content)
            (folder / f"{name}.html").write_text(words.html, encoding="utf-8")
            (folder / f"{name}.txt").write_text(words.text, encoding="utf-8")
        out.print(f"{len(written)} mails in {folder}, each as .eml, .html and .txt", highlight=False)
