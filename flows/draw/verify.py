"""Verify: recompute every month of a programme year up to a campaign, and write what a stranger needs to do the same."""

import json
from pathlib import Path
from typing import Any, NamedTuple

import ibis
import pandas as pd
from sqlalchemy.orm import Session

from models import CallbackError, assignment, campaign, frame, sampling
from models.calendar import period as read_period
from models.programme import CoverageGoal, Programme
from models.tables import Campaign, Chain, Draw, ProgrammeYear, Seed
from tasks import export, lake, records
from tasks.settings import Settings, SettingsError
from tasks.store import Store, hash_payload


class Check(NamedTuple):
    """One thing recomputed: what, whether it is the same, and what was found."""

    name: str
    is_same: bool
    found: str


def verify(settings: Settings, store: Store, campaign_id: str) -> list[Check]:
    """Everything recomputed about a campaign and the months before it, in order of period."""
    with store.begin() as session:
        issued, year, _ = records.campaign_of(session, campaign_id)
        versions = records.programme_years(session, year.programme, year.year)
        months = _drawn_until(session, year, issued.period)
        chain = records.chain_of(session, year)
    con = lake.connect(settings)
    checks: list[Check] = []
    if chain is not None:
        first = versions[0]
        is_same = (chain.frame_sha256, chain.plan_sha256) == (first.frame_sha256, first.plan_sha256)
        checks.append(Check("K₀ committed with this frame and plan", is_same, chain.k0))
    used = {month.programme_year_id for month in months}
    for one in versions:
        if one.id in used:
            checks += check_year(settings, store, con, one, label="" if len(used) == 1 else f"{one.id}: ")
    if not all(check.is_same for check in checks if check.name.endswith(": frame") or check.name == "frame"):
        return checks
    before: set[str] = set()
    for month in months:
        label = "" if month.id == campaign_id else f"{month.period}: "
        found, before = check_month(settings, store, con, month, chain, before, label=label)
        checks += found
    return checks


def _drawn_until(session: Session, year: ProgrammeYear, period: str) -> list[Campaign]:
    drawn = set(records.drawn_campaigns(session))
    return [c for c in records.campaigns_of_year(session, year.id) if c.period <= period and c.id in drawn]


def check_year(settings: Settings, store: Store, con: Any, year: ProgrammeYear, *, label: str) -> list[Check]:
    """Plan, frame, ledger, goals and strata of a programme year under one plan."""
    with store.begin() as session:
        quota, strata = records.quota_of(session, year.id), records.strata_of(session, year.id)
        exclusions = records.exclusions_of(session, year.id)
    plan_sha256 = campaign.text_sha256(year.plan)
    found = [Check(f"{label}plan", plan_sha256 == year.plan_sha256, plan_sha256)]
    try:
        frozen = lake.open_file(settings, year.frame_path, con)
        frame_sha256 = lake.text_sha256(con, frozen)
    except Exception as error:  # noqa: BLE001 (each engine has its own word for a damaged file)
        return [*found, Check(f"{label}frame", False, f"unreadable: {error}")]
    found.append(Check(f"{label}frame", frame_sha256 == year.frame_sha256, frame_sha256))
    if frame_sha256 != year.frame_sha256:
        return found
    if year.ledger_sha256:
        try:
            ledger = lake.open_file(settings, _beside(year, "ledger"), con)
            ledger_sha256 = lake.text_sha256(con, ledger)
            counted = ledger.group_by(["branch_no", "reason"]).aggregate(customers=ledger.count()).execute()
        except Exception as error:  # noqa: BLE001
            return [*found, Check(f"{label}ledger", False, f"unreadable: {error}")]
        keys = ["branch_no", "reason"]
        same_counts = (
            counted.set_index(keys)["customers"].astype(int).to_dict()
            == exclusions.set_index(keys)["customers"].astype(int).to_dict()
        )
        whole = year.eligible + int(exclusions["customers"].sum()) + year.waived
        found.append(Check(f"{label}ledger", ledger_sha256 == year.ledger_sha256 and same_counts, ledger_sha256))
        found.append(
            Check(f"{label}base = eligible + excluded + waived", whole == year.base, f"{year.base} and {whole}")
        )
    rules = Programme.model_validate_json(year.plan)
    if isinstance(rules.goal, CoverageGoal) or "segment" not in frozen.columns:
        counted = frozen.group_by(["group_key", "stratum"]).aggregate(customers=frozen.count()).execute()
        held = strata.merge(counted, on=["group_key", "stratum"], how="left", suffixes=("", "_frame"))
        is_same = bool((held["customers"] == held["customers_frame"]).all())
        found.append(Check(f"{label}sizes of strata", is_same, f"{len(held)} strata"))
        return found
    sizes = frozen.group_by(["group_key", "branch_no", "segment"]).aggregate(customers=frozen.count()).execute()
    again = frame.plan_year(sizes, rules)
    same_quota = _rows(again.quota) == _rows(quota)
    same_strata = _rows(again.strata) == _rows(strata)
    eligible = int(again.quota["eligible"].sum()) == year.eligible
    found.append(Check(f"{label}goals", same_quota and eligible, f"{len(quota)} groups"))
    found.append(Check(f"{label}strata and the year's places", same_strata, f"{len(strata)} strata"))
    return found


def _beside(year: ProgrammeYear, name: str) -> str:
    return str(Path(year.frame_path).with_name(f"{name}.parquet"))


def _rows(table: pd.DataFrame) -> list[tuple[Any, ...]]:
    return sorted(tuple(row) for row in table.astype(object).itertuples(index=False))


def check_month(
    settings: Settings, store: Store, con: Any, issued: Campaign, chain: Chain | None, before: set[str], *, label: str
) -> tuple[list[Check], set[str]]:
    """Commitment, seed and sample of one month; before: who was taken in earlier months. Gives who is taken after it."""
    with store.begin() as session:
        year, draw = session.get_one(ProgrammeYear, issued.programme_year_id), session.get_one(Draw, issued.id)
        groups, strata = records.groups_of(session, issued.id), records.campaign_strata_of(session, issued.id)
        earlier = records.taken_of(session, year.id, before=issued.id)
        called = set(records.calls_of(session, issued.id)["customer_id"])
        rows = records.rows_as_of(session, year.id, issued.rows_until)
        ends = records.ends(session)
        stored, seed = records.drawn_of(session, issued.id), records.seed_of(session, issued.id)
    if seed is None:
        raise SettingsError(f"{issued.id}: its seed is missing from the store")
    rules = Programme.model_validate_json(year.plan)
    found: list[Check] = []
    taken = list(earlier["customer_id"])
    if not issued.state_path:
        state_sha256 = campaign.text_sha256(campaign.old_state_text(groups, strata, taken))
        found.append(Check(f"{label}state", state_sha256 == issued.state_sha256, state_sha256))
        kept_back, developers, k0 = taken, None, ""
    else:
        try:
            text = lake.read_text(settings, issued.state_path)
            state = json.loads(text)
        except (lake.LakeError, ValueError) as error:
            return [Check(f"{label}state", False, f"unreadable: {error}")], before
        state_sha256 = campaign.text_sha256(text)
        found.append(Check(f"{label}state", state_sha256 == issued.state_sha256, state_sha256))
        found.append(check_header(state, issued, year, chain, label=label))
        found.append(check_counts(rules, year, state, groups, strata, label=label))
        found.append(check_taken(state, earlier, rows, ends, issued, label=label))
        kept_back, k0 = campaign.blocked(text), str(state["k0"])
        developers = None
        if issued.developers_path:
            try:
                developers = lake.open_file(settings, issued.developers_path, con)
                sha256 = lake.text_sha256(con, developers)
            except Exception as error:  # noqa: BLE001 (each engine has its own word for a damaged file)
                return [*found, Check(f"{label}developers", False, f"unreadable: {error}")], before
            found.append(Check(f"{label}developers", sha256 == state["developers_sha256"], sha256))
    found.append(check_seed(store, issued, seed, chain, rules, k0, label=label))
    frozen = lake.open_file(settings, year.frame_path, con)
    again = sampling.draw(
        frame.drawing_frame(frozen, developers), frame.customer_ids(kept_back),
        ibis.memtable(strata[["group_key", "stratum", "places", "reserve"]]), seed.seed,
    ).execute()  # fmt: skip
    tickets = all(
        sampling.ticket(seed.seed, str(i)) == t for i, t in zip(again["customer_id"], again["ticket"], strict=True)
    )
    again_sha256 = campaign.text_sha256(campaign.sample_text(again))
    stored_sha256 = campaign.text_sha256(campaign.sample_text(stored))
    found += [
        Check(f"{label}tickets by hashlib", tickets, f"{len(again)} tickets"),
        Check(f"{label}sample drawn again", again_sha256 == draw.sample_sha256, again_sha256),
        Check(f"{label}sample in the store", stored_sha256 == draw.sample_sha256, stored_sha256),
        check_calls(again, called, before, taken, label=label),
        check_forms(stored, draw, seed, label=label),
        check_decisions(store, issued, draw, seed, label=label),
    ]
    return found, before | called


def check_header(
    state: dict[str, Any], issued: Campaign, year: ProgrammeYear, chain: Chain | None, *, label: str
) -> Check:
    """What the committed text says of its day, plan, calendar and chain beside the rows of the store."""
    told = {
        "campaign": issued.id,
        "period": issued.period,
        "programme_year": f"{year.programme}-{year.year}",
        "version": year.version,
        "as_of": issued.as_of.isoformat(),
        "calendar_version": issued.calendar_version,
        "k0": chain.k0 if chain else "",
    }
    wrong = sorted(key for key, value in told.items() if state.get(key) != value)
    return Check(f"{label}day, plan, calendar and K₀", not wrong, ", ".join(wrong) or str(issued.as_of))


def check_forms(stored: pd.DataFrame, draw: Draw, seed: Seed, *, label: str) -> Check:
    """How many were drawn, by which attempt, and that the form is conduct where somebody developed the customer."""
    counts = (int(stored["kind"].eq("sample").sum()), int(stored["kind"].eq("reserve").sum()))
    forms = stored["form"].eq("conduct") == stored["developer_id"].ne("")
    is_same = counts == (draw.drawn, draw.reserve) and bool(forms.all()) and draw.attempt == seed.attempt
    return Check(f"{label}counts, attempt and forms", is_same, f"{counts[0]} + {counts[1]}")


def check_decisions(store: Store, issued: Campaign, draw: Draw, seed: Seed, *, label: str) -> Check:
    """Commitment, seed and draw as the audit chain kept them."""
    with store.begin() as session:
        said, is_chained = records.decisions_on(session, issued.id), records.is_chained(session)
    expected = {
        ("commit", hash_payload({"state": issued.state_sha256})),
        ("seed", hash_payload({"seed": seed.seed})),
        ("draw", hash_payload({"sample": draw.sample_sha256})),
    }
    # A second seed or draw of one campaign is as wrong as a missing one.
    missing = sorted(action for action, payload in expected if [p for a, p in said if a == action] != [payload])
    found = ", ".join(missing) + " otherwise" if missing else "chained" if is_chained else "the chain is broken"
    return Check(f"{label}audit chain", not missing and is_chained, found)


def check_counts(
    rules: Programme,
    year: ProgrammeYear,
    state: dict[str, Any],
    groups: pd.DataFrame,
    strata: pd.DataFrame,
    *,
    label: str,
) -> Check:
    """What every group and stratum was dealt, dealt again from the committed counts."""
    span = read_period(state["period"])
    listed = pd.DataFrame(state["taken"], columns=["customer_id", "status"]).astype("str")
    told_groups, told_strata = pd.DataFrame(state["groups"]), pd.DataFrame(state["strata"])
    if told_groups.empty:
        told_groups = groups.iloc[:0]
    same = (
        _rows(told_groups[list(campaign.GROUPS.columns)]) == _rows(groups[list(campaign.GROUPS.columns)])
        and _rows(told_strata[list(campaign.STRATA.columns)] if len(told_strata) else strata.iloc[:0])
        == _rows(strata[list(campaign.STRATA.columns)])
        and state["frame_sha256"] == year.frame_sha256
        and state["plan_sha256"] == year.plan_sha256
    )
    pace = campaign.Pace(state["weight"], state["weight_left"], 0)
    again = campaign.deal_counted(rules, groups, strata, pace, month=span.first.month)
    same_places = _rows(again.groups) == _rows(groups[list(campaign.GROUPS.columns)]) and _rows(again.strata) == _rows(
        strata[list(campaign.STRATA.columns)]
    )
    whole = int(groups["completed"].sum() + groups["open"].sum() + groups["failed"].sum())
    counted = len(listed) - int(listed["status"].eq("outside").sum())
    # A marketer who left takes his calls out of the groups, not out of the taken list.
    balanced = whole == counted or (isinstance(rules.goal, CoverageGoal) and whole <= counted)
    return Check(
        f"{label}places dealt again", same and same_places and balanced, f"{int(groups['places'].sum())} places"
    )


def check_taken(
    state: dict[str, Any],
    earlier: pd.DataFrame,
    rows: pd.DataFrame,
    ends: pd.DataFrame,
    issued: Campaign,
    *,
    label: str,
) -> Check:
    """The committed taken list beside the calls and returns of the store as they stood at the commitment."""
    told = {customer: "failed" if status == "reopened" else status for customer, status in state["taken"]}

    def status_with(ended: pd.Series) -> pd.Series:
        state = assignment.progress(earlier, rows, ends[ended], issued.as_of)["state"]
        return campaign.status_of(earlier.assign(state=state.to_numpy()))

    # An end of the very day may have come before the commitment or after it.
    ended_on, day = pd.to_datetime(ends["ended_on"]), pd.Timestamp(issued.as_of)
    before, after = status_with(ended_on < day), status_with(ended_on <= day)
    wrong = [
        customer
        for customer, status in told.items()
        if status != "outside" and status not in (before.get(customer), after.get(customer))
    ]
    missing = set(before.index) ^ set(told)
    return Check(
        f"{label}taken list beside calls and returns", not wrong and not missing,
        f"{len(told)} customers" + (f", {len(wrong)} with another status" if wrong else "")
        + (f", {len(missing)} missing or too many" if missing else ""),
    )  # fmt: skip


def check_seed(
    store: Store, issued: Campaign, seed: Seed, chain: Chain | None, rules: Programme, k0: str, *, label: str
) -> Check:
    """The seed: one row, and where it comes from a chain, made again from link and public number."""
    if seed.origin != "chain":
        return Check(
            f"{label}seed",
            len(seed.seed) > 0 and seed.attempt == 1,
            f"{seed.origin}, stored {seed.stored_at:%Y-%m-%d %H:%M}",
        )
    with store.begin() as session:
        attempt = records.attempts_of(session, issued.id)[-1]
        year = session.get_one(ProgrammeYear, issued.programme_year_id)
    if chain is None:
        return Check(f"{label}seed", False, "the commitment K₀ is missing")
    if chain.k0 != k0:
        return Check(
            f"{label}seed", False, f"the month was committed under K₀ {k0[:12]}…, the store has {chain.k0[:12]}…"
        )
    try:
        again = campaign.chain_seed(year.programme, read_period(issued.period), attempt, chain.k0)
    except CallbackError as error:
        return Check(f"{label}seed", False, str(error))
    is_same = again == seed.seed and attempt.number == seed.attempt
    return Check(f"{label}seed of K₀, link and public number", is_same, again)


def check_calls(again: pd.DataFrame, called: set[str], before: set[str], taken: list[str], *, label: str) -> Check:
    """Who is called: the whole sample, and of the reserve in each stratum those with the smallest tickets."""
    sample = set(again.loc[again["kind"] == "sample", "customer_id"])
    reserve = again[again["kind"] == "reserve"].sort_values("rank")
    moved_up = reserve["customer_id"].isin(called)
    # In each stratum nobody who moved up stands behind one who did not.
    skipped = (~moved_up).groupby([reserve["group_key"], reserve["stratum"]]).cumsum().gt(0) & moved_up
    strangers = called - set(again["customer_id"])
    is_same = sample <= called and not skipped.any() and not strangers and before == set(taken)
    return Check(
        f"{label}calls = sample + reserve in order", is_same, f"{len(sample)} + {int(moved_up.sum())} customers"
    )


def export_proof(settings: Settings, store: Store, campaign_id: str, folder: Path) -> dict[str, str]:
    """The files that a stranger needs to replay a campaign without the product; their hashes by name.

    Holds revealed months only: every month up to the campaign's, with link and public number.
    """
    with store.begin() as session:
        issued, year, _ = records.campaign_of(session, campaign_id)
        months = _drawn_until(session, year, issued.period)
        versions = [
            one
            for one in records.programme_years(session, year.programme, year.year)
            if any(month.programme_year_id == one.id for month in months)
        ]
        chain = records.chain_of(session, year)
        told_versions = [_version_told(session, one, is_last=one.id == year.id) for one in versions]
        told_months = [_month_told(session, settings, month) for month in months]
        sample = campaign.sample_text(records.drawn_of(session, campaign_id))
    old = [one.id for one in versions if not one.ledger_sha256] + [m.id for m in months if not m.state_path]
    if old:
        raise export.ExportError(
            f"{campaign_id}: {', '.join(old)} was frozen or committed by a version that kept no segments and states; "
            "`huifang verify` checks it, an export cannot be made of it"
        )
    con = lake.connect(settings)
    tables = {
        told["frame_file"]: lake.text_pieces(con, lake.open_file(settings, one.frame_path, con), is_sorted=True)
        for told, one in zip(told_versions, versions, strict=True)
    }
    tables |= {
        told["developers_file"]: lake.text_pieces(
            con, lake.open_file(settings, month.developers_path, con), is_sorted=True
        )
        for told, month in zip(told_months, months, strict=True)
        if month.developers_path
    }
    proof = {
        "campaign": campaign_id,
        "programme": year.programme,
        "year": year.year,
        "versions": told_versions,
        "chain": {"links": chain.links, "k0": chain.k0} if chain else None,
        "months": told_months,
    }
    return export.write_export(folder, proof, tables, sample)


def _version_told(session: Session, year: ProgrammeYear, *, is_last: bool) -> dict[str, Any]:
    return {
        "version": year.version,
        "plan": year.plan,
        "plan_sha256": year.plan_sha256,
        "frame_file": "frame.csv.gz" if is_last else f"frame-{year.version}.csv.gz",
        "frame_sha256": year.frame_sha256,
        "base": year.base,
        "waived": year.waived,
        "ledger": _told(records.exclusions_of(session, year.id), ["branch_no", "reason", "customers"]),
        "quota": _told(records.quota_of(session, year.id), ["group_key", "branch_no", "eligible", "goal"]),
        "strata": _told(
            records.strata_of(session, year.id), ["group_key", "stratum", "customers", "minimum", "places"]
        ),
    }


def _told(table: pd.DataFrame, columns: list[str]) -> list[dict[str, Any]]:
    ordered = table[columns].astype(object).sort_values(columns[:2])
    return [{str(k): v if isinstance(v, str) else int(v) for k, v in row.items()} for row in ordered.to_dict("records")]


def _month_told(session: Session, settings: Settings, issued: Campaign) -> dict[str, Any]:
    year, draw = session.get_one(ProgrammeYear, issued.programme_year_id), session.get_one(Draw, issued.id)
    seed = records.seed_of(session, issued.id)
    assert seed is not None, "a drawn campaign has its seed"
    attempts = records.attempts_of(session, issued.id) if seed.origin == "chain" else []
    return {
        "campaign": issued.id,
        "period": issued.period,
        "version": year.version,
        "state": lake.read_text(settings, issued.state_path) if issued.state_path else "",
        "state_sha256": issued.state_sha256,
        "developers_file": f"developers-{issued.period}.csv.gz" if issued.developers_path else "",
        "attempts": [
            {
                "attempt": one.number,
                "period": one.period(issued.period),
                "public": one.public,
                "public_on": one.public_on.isoformat() if one.public_on else "",
                "link": one.link,
                "aborted": one.aborted,
            }
            for one in attempts
        ],
        "origin": seed.origin,
        "seed": seed.seed,
        "sample_sha256": draw.sample_sha256,
    }
