"""What a person sees in a terminal: a version, plain words of a run, a projection that fits, a link that leaves no trace."""

import json
import re
import shutil
import subprocess
import sys

import pytest
import yaml
from house import House, at
from typer.testing import CliRunner

from cli import app
from models.sampling import make_chain
from tasks.settings import PROJECT

pytestmark = pytest.mark.slow

CHAIN = {
    "kind": "chain",
    "public": {"name": {"zh_CN": "上证综指", "en": "SSE close"}, "available_at": "15:30", "pattern": r"[0-9]+\.[0-9]{2}"},
}
CAMPAIGN = "daily_risk-2026-01"


@pytest.fixture(scope="module")
def pulled(prefect_client, tmp_path_factory):
    house = House.build(tmp_path_factory.mktemp("terminal") / "home", prefect_client, customers=300, branches=2)
    house.pull()
    return house


def test_the_version_is_said():
    result = CliRunner().invoke(app, ["--version"])
    assert result.exit_code == 0
    assert re.fullmatch(r"huifang [0-9]+\.[0-9]+\.[0-9]+ \(\S+\)\n", result.output)


def test_a_run_speaks_in_words_and_names_no_address_that_is_gone_at_its_end(pulled, tmp_path):
    house = pulled.copy(tmp_path / "home")
    words = ("run", "draw", "--programme", "daily_risk", "--period", "2026-03", *at("2026-03-02", "07:30"))
    result = subprocess.run(
        [sys.executable, "-m", "cli", *words], env=house.environment | {"PREFECT_LOGGING_LEVEL": "INFO"}, cwd=PROJECT,
        capture_output=True, text=True, encoding="utf-8", timeout=180,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert "daily_risk-2026-03: drawn " in result.stderr
    assert "http://" not in result.stderr
    assert "{" not in result.stderr


def test_a_projection_fits_eighty_columns_and_judges_nothing_before_an_answer(pulled, tmp_path):
    house = pulled.copy(tmp_path / "home")
    house.draw("daily_risk", period="2026-03")
    narrow = house.having(COLUMNS="80")
    page = narrow.call("projection", "--as-of", "2026-03-03", exits=(0,)).output
    table = page[: page.index("expected: calls")].splitlines()
    assert max(len(line.rstrip()) for line in table) <= 80
    assert "…" not in page
    assert [line.split()[-3:] for line in table[2:]] == [["no", "answer", "yet"]] * 3
    (found,) = json.loads(narrow.call("projection", "--json", "--as-of", "2026-03-03", exits=(0,)).stdout)
    for row in (found["company"], *found["groups"]):
        assert (row["verdict"], row["expected"], row["high"]) == ("no_answer_yet", None, None)


@pytest.fixture
def asked(pulled, tmp_path):
    """A month of which the public number is entered and the link is not, and the file of its chain."""
    folder = tmp_path / "programmes"
    shutil.copytree(PROJECT / "programmes", folder)
    content = yaml.safe_load((folder / "daily_risk.yaml").read_text(encoding="utf-8"))
    (folder / "daily_risk.yaml").write_text(yaml.safe_dump(content | {"seed": CHAIN}, allow_unicode=True), "utf-8")
    house = pulled.copy(tmp_path / "home").having(HUIFANG_PROGRAMMES=str(folder))
    draw = ("run", "draw", "--programme", "daily_risk", "--period", "2026-01", *at("2026-01-04", "10:00"))
    house.call(*draw, exits=(1,))
    file = tmp_path / "chain.txt"
    made = ("--by", "合规甲", "--now", "2026-01-04T09:00+0800")
    house.call("chain", "daily_risk", "2026", "--out", str(file), *made, exits=(0,))
    house.call(*draw, exits=(1,))
    number = ("--public", "4023.42", "--on", "2026-01-05", "--by", "运营乙", "--now", "2026-01-05T16:00+0800")
    house.call("reveal", CAMPAIGN, *number, exits=(0,))
    return house, file


def enter(house, *words, typed="", exits=0):
    by = ("--by", "合规甲", "--now", "2026-01-05T16:30+0800")
    result = CliRunner().invoke(app, ["reveal", CAMPAIGN, *words, *by], env=house.environment, input=typed)
    assert result.exit_code == exits, result.output
    return " ".join(result.output.split())


def link_line(file):
    return next(line for line in file.read_text(encoding="ascii").splitlines() if line.startswith("K1 "))


@pytest.mark.parametrize("way", ["the pasted line", "typed", "typed as a line", "the file of the chain", "a file alone"])
def test_a_link_is_taken_as_it_stands_in_the_file_typed_unseen_or_from_a_file(asked, tmp_path, way):
    house, file = asked
    line = link_line(file)
    alone = tmp_path / "k1.txt"
    alone.write_text(line.split()[1] + "\n", encoding="ascii")
    words, typed = {
        "the pasted line": (("--link", f"  {line.upper()} "), ""),
        "typed": ((), line.split()[1] + "\n"),
        "typed as a line": ((), line + "\n"),
        "the file of the chain": (("--link-file", str(file)), ""),
        "a file alone": (("--link-file", str(alone)), ""),
    }[way]
    said = enter(house, *words, typed=typed)
    assert "link entered by 合规甲" in said
    assert line.split()[1] not in said
    assert house.rows("select value from reveal where kind = 'link'") == [(line.split()[1],)]


def test_what_is_no_link_of_the_month_is_refused_before_it_is_entered(asked, tmp_path):
    house, file = asked
    other = next(line for line in file.read_text(encoding="ascii").splitlines() if line.startswith("K2 "))
    assert "takes K1" in enter(house, "--link", other, exits=2)
    assert "this is no link" in enter(house, "--link", "abc", exits=2)
    assert "cannot be read" in enter(house, "--link-file", str(tmp_path / "none"), exits=2)
    strangers = tmp_path / "strangers.txt"
    strangers.write_text("\n".join(make_chain("ab" * 32, 3)), encoding="ascii")
    assert "holds 4 lines and none is K1" in enter(house, "--link-file", str(strangers), exits=2)
    assert "give it alone" in enter(house, "--link-file", str(file), "--link", "x", exits=2)
    assert house.rows("select kind from reveal") == [("public",)]
