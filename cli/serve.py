"""`huifang serve` and `huifang db …`: what runs all day, and the database it stands on."""

from __future__ import annotations

import os
from typing import Annotated, Any

import typer

from cli.common import errors, out

db_app = typer.Typer(help="The database: version and upgrade.", no_args_is_help=True)


def serve(
    port: Annotated[int, typer.Option(min=1024, max=65535, help="Port of the dashboard on 127.0.0.1.")] = 4200,
) -> None:
    """Start the Prefect server and serve every flow on its schedule, until Ctrl-C."""
    from tasks.server import client_settings, prefect_server
    from tasks.settings import Settings

    with errors():
        settings = Settings()
        from tasks.store import open_store

        open_store(settings)
        with prefect_server(
            settings.home.resolve(),
            environ=os.environ,
            log=settings.home.resolve() / "log" / "prefect-server.log",
            port=port,
        ) as api_url:
            os.environ.update(client_settings(api_url, settings.home.resolve()))
            address = settings.home.resolve() / "prefect-api"
            address.write_text(api_url, encoding="ascii")
            try:
                _serve_flows(settings, api_url)
            finally:
                address.unlink(missing_ok=True)


def _serve_flows(settings: Any, api_url: str) -> None:
    from prefect import serve as serve_deployments

    from tasks import postoffice

    with postoffice.outgoing(settings) as smtp_url:
        os.environ["HUIFANG_SMTP_URL"] = smtp_url
        out.print(
            f"dashboard {api_url.removesuffix('/api')}",
            f"mail out {smtp_url}",
            f"home {settings.home.resolve()}",
            sep="\n",
        )
        serve_deployments(*_deployments(), limit=2, print_starting_message=True)


def _deployments() -> list[Any]:
    """The deployments of prefect.yaml for one process: the same names, parameters and schedules as on a work pool."""
    from importlib import import_module

    import yaml
    from prefect.client.schemas.objects import ConcurrencyLimitConfig, ConcurrencyLimitStrategy
    from prefect.client.schemas.schedules import CronSchedule
    from prefect.deployments.runner import EntrypointType

    from tasks.settings import PROJECT

    found = []
    for entry in yaml.safe_load((PROJECT / "prefect.yaml").read_text(encoding="utf-8"))["deployments"]:
        module, _, name = entry["entrypoint"].rpartition(".")
        limit = entry["concurrency_limit"]
        found.append(
            getattr(import_module(module), name).to_deployment(
                entry["name"],
                description=entry["description"],
                parameters=entry.get("parameters", {}),
                tags=entry["tags"],
                schedules=[CronSchedule(cron=s["cron"], timezone=s["timezone"]) for s in entry["schedules"]],
                concurrency_limit=ConcurrencyLimitConfig(
                    limit=limit["limit"], collision_strategy=ConcurrencyLimitStrategy(limit["collision_strategy"])
                ),
                entrypoint_type=EntrypointType.MODULE_PATH,
            )
        )
    return found


@db_app.command("upgrade")
def db_upgrade() -> None:
    """Bring the database to this version's tables."""
    from tasks.settings import Settings
    from tasks.store import connect_store, upgrade, version_of

    with errors():
        engine = connect_store(Settings()).engine
        before, head = version_of(engine)
        upgrade(engine)
        out.print(f"database: {before or 'empty'} → {head}")


@db_app.command("version")
def db_version() -> None:
    """The database's version and the one this code needs."""
    from tasks.settings import Settings
    from tasks.store import connect_store, version_of

    with errors():
        present, head = version_of(connect_store(Settings()).engine)
        out.print(f"database: {present or 'empty'}, needed: {head}")
        raise typer.Exit(0 if present == head else 1)
