"""Programme files: what a person may write wrong, which version holds, and how a file is read back."""

import shutil
from datetime import date
from pathlib import Path

import ibis
import pytest
import yaml
from typer.testing import CliRunner

from cli import app
from models import frame
from models.explain import default_keys, explain, timeline
from models.programme import Programme, UnknownProgramme, version_on
from tasks.settings import PROJECT, SettingsError, read_yaml

DAILY = yaml.safe_load((PROJECT / "programmes" / "daily_risk.yaml").read_text(encoding="utf-8"))
CONDUCT = yaml.safe_load((PROJECT / "programmes" / "marketer_conduct.yaml").read_text(encoding="utf-8"))
SOURCE = {"text": "本公司", "holds_from": date(2020, 1, 1)}


def programme(base=DAILY, /, **changes) -> Programme:
    return Programme.model_validate(base | changes)


def written(tmp_path: Path, content) -> Path:
    path = tmp_path / "mine.yaml"
    text = content if isinstance(content, str) else yaml.safe_dump(content, allow_unicode=True, sort_keys=False)
    path.write_text(text, encoding="utf-8")
    return path


def text_with(old: str, new: str) -> str:
    text = (PROJECT / "programmes" / "daily_risk.yaml").read_text(encoding="utf-8")
    assert old in text
    return text.replace(old, new, 1)


MISTAKES = {
    "an unquoted rate": (text_with('rate: "0.10" ', "rate: 0.10 "), ("goal", "rate", "0.10")),
    "a rate above one": (text_with('rate: "0.10" ', 'rate: "1.10" '), ("rate", "at most 1")),
    "a rate in percent": (text_with('rate: "0.10" ', 'rate: "10%" '), ("rate", "0.10")),
    "an unknown key": (DAILY | {"capasity": 3}, ("capasity", "capacity")),
    "a key that stands twice": (text_with("minimum: 1 ", "minimum: 2\nminimum: 1 "), ("minimum", "twice")),
    "a role that is none": (DAILY | {"list_to": "director"}, ("list_to", "operations_director")),
    "a stratum of a column that cannot be one": (DAILY | {"strata": ["branch"]}, ("strata", "segment", "risk_level")),
    "strata named twice": (DAILY | {"strata": ["segment", "segment"]}, ("strata", "twice")),
    "a caller that is none": (DAILY | {"caller": "headquarters"}, ("caller", "branch", "hq")),
    "eleven monthly weights": (
        DAILY | {"monthly_plan": {"by": "weights", "weights": [1] * 11}},
        ("monthly_plan", "twelve"),
    ),
    "a cut-off that is no day": (DAILY | {"monthly_plan": {"by": "workdays", "cut_off": "02-30"}}, ("monthly_plan",)),
    "weights without strata": (DAILY | {"strata": [], "weights": {"C5": "2"}}, ("weights need strata",)),
    "a weight of nothing": (DAILY | {"strata": ["risk_level"], "weights": {"C5": "0"}}, ("weights", "above 0")),
    "an exclusion of both kinds": (
        DAILY
        | {"exclusions": [{"reason": "x", "by_hand": True, "column": "status", "values": ["a"], "source": SOURCE}]},
        ("exclusions", "by_hand"),
    ),
    "an exclusion of no kind": (DAILY | {"exclusions": [{"reason": "x", "source": SOURCE}]}, ("exclusions", "column")),
    "a built-in reason": (
        DAILY | {"exclusions": [{"reason": "closed_before_base", "by_hand": True, "source": SOURCE}]},
        ("closed_before_base",),
    ),
    "a chain without its public number": (DAILY | {"seed": {"kind": "chain"}}, ("seed", "public")),
    "a seed that is none": (DAILY | {"seed": "fixed"}, ("seed", "random")),
    "a pattern that is none": (
        DAILY
        | {
            "seed": {
                "kind": "chain",
                "public": {"name": {"zh_CN": "a", "en": "b"}, "available_at": "15:30", "pattern": "("},
            }
        },
        ("pattern",),
    ),
    "a questionnaire that is none": (DAILY | {"sheet": {"questionnaire": "1999.1"}}, ("questionnaire", "2026.1")),
    "an end before the beginning": (DAILY | {"valid_to": date(2010, 1, 1)}, ("valid_to", "before valid_from")),
    "a capacity of nobody": (DAILY | {"capacity": {"per_workday": 0}}, ("capacity", "per_workday")),
    "a table that every programme reads left out": (DAILY | {"needs": ["customers", "branches"]}, ("needs", "roster")),
    "coverage with strata": (CONDUCT | {"strata": ["segment"]}, ("strata",)),
    "coverage without relations": (CONDUCT | {"needs": ["customers", "branches", "roster"]}, ("needs", "relations")),
    "more days than attempts": (
        DAILY | {"attempts": {"count": 2, "days": 3, "source": SOURCE}},
        ("line", "attempts", "days 3 is more than count 2", "lower days"),
    ),
    "full-width signs": (text_with("minimum: 1 ", "minimum：1 "), ("mine.yaml", "full-width")),
    "a tab": (text_with("  kind: rate", "\tkind: rate"), ("mine.yaml", "tabs")),
    "an empty file": ("", ("mine.yaml", "no key")),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_named_with_file_key_and_what_is_allowed(tmp_path, mistake):
    content, words = MISTAKES[mistake]
    path = written(tmp_path, content)
    with pytest.raises(SettingsError) as refused:
        read_yaml(path, Programme)
    said = str(refused.value)
    assert str(path) in said
    for word in words:
        assert word in said, said
    result = CliRunner().invoke(app, ["programme", "check", str(path)], env={"COLUMNS": "300"})
    assert result.exit_code == 2
    assert "Traceback" not in result.output


def test_a_status_that_no_customer_has_is_found_by_the_check(tmp_path):
    exclusions = [{"reason": "asleep", "column": "status", "values": ["sleeping"], "source": SOURCE}]
    path = written(tmp_path, DAILY | {"exclusions": exclusions})
    result = CliRunner().invoke(app, ["programme", "check", str(path)], env={"COLUMNS": "300"})
    assert result.exit_code == 2
    assert "'sleeping' is no status" in result.output


def test_of_two_versions_that_overlap_the_higher_is_used_while_it_holds():
    stricter = programme(version=2, valid_from=date(2026, 6, 1), valid_to=date(2026, 8, 31))
    both = [programme(), stricter]
    used = {
        day: version_on(both, "daily_risk", day).version
        for day in (date(2026, 5, 31), date(2026, 6, 1), date(2026, 9, 1))
    }
    assert list(used.values()) == [1, 2, 1]
    spans = [(span.first, span.last, span.version) for span in timeline(both, "daily_risk")]
    assert spans == [
        (date(2011, 1, 1), date(2026, 5, 31), 1),
        (date(2026, 6, 1), date(2026, 8, 31), 2),
        (date(2026, 9, 1), None, 1),
    ]
    with pytest.raises(UnknownProgramme, match="does not hold on 2010"):
        version_on(both, "daily_risk", date(2010, 12, 31))


def test_two_files_with_one_version_are_refused(tmp_path):
    shutil.copy(PROJECT / "programmes" / "daily_risk.yaml", tmp_path / "one.yaml")
    shutil.copy(PROJECT / "programmes" / "daily_risk.yaml", tmp_path / "two.yaml")
    result = CliRunner().invoke(app, ["programme", "list"], env={"HUIFANG_PROGRAMMES": str(tmp_path), "COLUMNS": "200"})
    assert result.exit_code == 2
    assert "two files say version 1" in result.output


def said(rules, language):
    return "\n".join(
        line for section in explain([rules], rules.programme, date(2026, 3, 1), language) for line in section.lines
    )


def test_every_figure_of_a_file_is_read_back_in_both_languages():
    rules = programme(
        goal={"kind": "rate", "rate": "0.125", "source": {"text": "某规定", "holds_from": date(2026, 1, 1)}},
        strata=["risk_level"], weights={"C5": "2.5"}, minimum=3, due_workdays=17, caller="hq",
        capacity={"per_workday": 23, "branches": {"0007": 41}}, no_recontact={"days": 45, "source": SOURCE},
        seed={"kind": "chain", "public": {"name": {"zh_CN": "上证综指", "en": "SSE close"}, "available_at": "15:30"}},
        exclusions=[*DAILY["exclusions"], {"reason": "litigation", "by_hand": True, "source": SOURCE}],
    )  # fmt: skip
    for language, words in (
        (
            "zh_CN",
            (
                "12.5%",
                "2.5",
                "17 个工作日",
                "23",
                "41",
                "0007",
                "45",
                "上证综指",
                "15:30",
                "litigation",
                "某规定",
                "合规法务部",
            ),
        ),
        ("en", ("12.5%", "2.5", "17 workdays", "23", "41", "0007", "45", "SSE close", "15:30", "litigation", "某规定")),
    ):
        text = said(rules, language)
        for word in words:
            assert word in text, (language, word)
    assert said(programme(), "en") != said(rules, "en")


def test_explain_of_an_unknown_programme_or_a_day_before_it_says_what_there_is():
    runner = CliRunner()
    unknown = runner.invoke(app, ["programme", "explain", "nightly"], env={"COLUMNS": "200"})
    assert (unknown.exit_code, "daily_risk, marketer_conduct" in unknown.output) == (2, True)
    early = runner.invoke(app, ["programme", "explain", "daily_risk", "--on", "2009-01-01"], env={"COLUMNS": "200"})
    assert (early.exit_code, "does not hold on 2009-01-01" in early.output) == (2, True)


@pytest.mark.parametrize("name", ["daily_risk", "marketer_conduct"])
@pytest.mark.parametrize("language", ["zh_CN", "en"])
def test_the_shipped_programmes_are_explained(name, language):
    result = CliRunner().invoke(app, ["programme", "explain", name, "--language", language, "--on", "2026-03-01"])
    assert result.exit_code == 0
    assert len(result.output.splitlines()) > 40


def test_the_check_names_doubled_files_strange_endings_and_the_line_of_each_fault(tmp_path):
    text = (PROJECT / "programmes" / "daily_risk.yaml").read_text(encoding="utf-8")
    (tmp_path / "one.yaml").write_text(text, encoding="utf-8")
    (tmp_path / "two.yaml").write_text(text, encoding="utf-8")
    (tmp_path / "late.yml").write_text(text, encoding="utf-8")
    broken = text.replace('rate: "0.10" ', "rate: 0.10 ").replace("list_to:", "lst_to:")
    (tmp_path / "wrong.yaml").write_text(broken, encoding="utf-8")
    line = next(n for n, line in enumerate(text.splitlines(), 1) if "rate:" in line)
    result = CliRunner().invoke(app, ["programme", "check"], env={"HUIFANG_PROGRAMMES": str(tmp_path), "COLUMNS": "200"})
    assert result.exit_code == 2
    for words in (
        "one.yaml and two.yaml: both are version 1 of daily_risk",
        "late.yml: is not read; call it late.yaml",
        f"line {line}: goal.rate: 0.1 is no decimal in quotes",
        "lst_to: unknown key; did you mean list_to?",
        "list_to: is missing",
    ):
        assert words in result.output


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ("capacity: many", "expected a whole number or a mapping with the keys per_workday, branches; found 'many'"),
        ("capacity: {per_day: 3}", "did you mean per_workday?"),
        ("capacity: {per_workday: 3, branches: {1001: 5}}", "capacity.branches.1001: this key is read as no text"),
        ("capacity: 400\nper_workday: 20", "it belongs below capacity"),
        ("capacity: yes", "found 'yes'"),
        ("capacity: 0", "0 is too small; at least 1"),
    ],
)
def test_a_key_of_two_forms_says_which_is_wrong(tmp_path, wrong, said):
    with pytest.raises(SettingsError) as refused:
        read_yaml(written(tmp_path, text_with("capacity: 400 ", wrong + " ")), Programme)
    assert said in str(refused.value)
    assert "Capacity" not in str(refused.value)


def test_what_is_written_without_quotes_is_what_is_read(tmp_path):
    text = text_with('closing_hour: "17:30"', "closing_hour: 17:30").replace("cut_off: \"12-31\"", "cut_off: 11-30")
    rules = read_yaml(written(tmp_path, text), Programme)
    assert (f"{rules.closing_hour:%H:%M}", rules.monthly_plan.cut_off) == ("17:30", "11-30")
    with pytest.raises(SettingsError, match=r"line 7, column 13: 2011-02-30 is no day of the calendar"):
        read_yaml(written(tmp_path, text_with("valid_from: 2011-01-01", "valid_from: 2011-02-30")), Programme)


def test_a_draft_is_read_back_in_place_of_its_version(tmp_path):
    file = written(tmp_path, DAILY | {"due_workdays": 19})
    result = CliRunner().invoke(app, ["programme", "explain", "daily_risk", "--file", str(file)], env={"COLUMNS": "120"})
    assert result.exit_code == 0
    assert "19 个工作日" in result.output
    assert max(sum(2 if ord(sign) > 0x2E80 else 1 for sign in line) for line in result.output.splitlines()) <= 104
    other = CliRunner().invoke(app, ["programme", "explain", "marketer_conduct", "--file", str(file)])
    assert other.exit_code == 2


def test_the_shipped_files_say_where_each_rule_comes_from_and_leave_little_to_defaults():
    for content in (DAILY, CONDUCT):
        rules = programme(content)
        assert {text.text for text in rules.rules}
        assert all(e.source.holds_from == date(2010, 5, 1) for e in rules.exclusions)  # the day No. 11 came into force
        idle = {"valid_to", "population", "strata", "weights", "monthly_plan", "no_recontact", "approval", "evidence"}
        assert set(default_keys(rules)) <= idle


def explained(file, *words, **settings):
    result = CliRunner().invoke(
        app, ["programme", "explain", "daily_risk", "--file", str(file), "--language", "en", *words],
        env={"COLUMNS": "120", **settings},
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    return " ".join(result.output.split())


def test_the_given_file_is_explained_though_a_higher_version_holds_and_that_is_said(tmp_path):
    folder = tmp_path / "programmes"
    folder.mkdir()
    for number, days in ((1, 10), (3, 13)):
        content = DAILY | {"version": number, "due_workdays": days}
        (folder / f"v{number}.yaml").write_text(yaml.safe_dump(content, allow_unicode=True), encoding="utf-8")
    file = written(tmp_path, DAILY | {"version": 2, "due_workdays": 19})
    said = explained(file, "--on", "2026-03-01", HUIFANG_PROGRAMMES=str(folder))
    assert "due 19 workdays" in said
    assert "On 2026-03-01 the draw uses version 3 of the programmes folder" in said
    of_folder = explained(folder / "v1.yaml", "--on", "2026-03-01", HUIFANG_PROGRAMMES=str(folder))
    assert "due 10 workdays" in of_folder
    assert "the draw uses version 3" in of_folder
    in_use = explained(folder / "v3.yaml", "--on", "2026-03-01", HUIFANG_PROGRAMMES=str(folder))
    assert "the draw uses" not in in_use.split("2. Rules")[0]


def test_a_file_that_does_not_hold_yet_is_explained_all_the_same(tmp_path):
    file = written(tmp_path, DAILY | {"version": 2, "due_workdays": 19, "valid_from": date(2027, 1, 1)})
    said = explained(file, "--on", "2026-03-01")
    assert "due 19 workdays" in said
    assert "On 2026-03-01 the draw uses version 1" in said
    assert "No version holds on 2009-03-01" in explained(file, "--on", "2009-03-01")


def test_another_content_under_the_same_version_is_told(tmp_path):
    assert "says something else" in explained(written(tmp_path, DAILY | {"due_workdays": 19}), "--on", "2026-03-01")


def test_a_version_that_begins_within_a_month_is_said_to_take_effect_with_the_next(tmp_path):
    file = written(tmp_path, DAILY | {"version": 2, "valid_from": date(2026, 12, 15)})
    assert "drawn by this version is 2027-01" in explained(file)
    assert "within a month" not in explained(written(tmp_path, DAILY | {"version": 2, "valid_from": date(2026, 12, 1)}))


def test_a_segment_named_like_the_missing_one_is_a_stratum_of_its_own():
    segments = [None, "-", "--", "retail"]
    customers = ibis.memtable(
        {
            "customer_id": ["a", "b", "c", "d"], "branch_no": ["1"] * 4, "segment": segments, "status": ["active"] * 4,
            "open_on": [date(2020, 1, 1)] * 4, "close_on": [None] * 4,
        },
        schema={
            "customer_id": "string", "branch_no": "string", "segment": "string", "status": "string", "open_on": "date",
            "close_on": "date",
        },
    )  # fmt: skip
    judged = frame.judge(frame.Base(customers, None, None), programme(strata=["segment"]), date(2025, 12, 31))
    assert dict(judged.order_by("customer_id").select("customer_id", "segment").execute().itertuples(index=False)) == {
        "a": "-", "b": "--", "c": "---", "d": "retail",
    }  # fmt: skip


def test_what_evidence_a_programme_asks_for_is_read_back_in_both_languages(tmp_path):
    file = written(tmp_path, DAILY | {"version": 2, "evidence": {"calls": ["recording"], "self_check": ["interview"]}})
    assert "A completed call needs evidence: of a phone call its recording." in explained(file, "--language", "en")
    assert "自查须附佐证：三方签字的访谈记录扫描件。" in explained(file, "--language", "zh_CN")
    assert "须附佐证" not in explained(written(tmp_path, DAILY), "--language", "zh_CN")
