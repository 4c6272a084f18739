"""The package as a whole: imports go one way, and the documents say what is there."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import typer

import pointsense
from pointsense.cli import app

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")])
COMMANDS = typer.main.get_command(app).commands
OPTION = re.compile(r"(?<![\w-])--[a-z][a-z-]*")


def options_of(command):
    return {option for parameter in command.params for option in parameter.opts} | {"--help"}


def code_lines(page):
    """Lines of a page that are code, without comments and with continued lines joined."""
    blocks = re.findall(r"^```\w*\n(.*?)^```|((?:^    \S.*\n)+)", page.read_text(), re.MULTILINE | re.DOTALL)
    text = "\n".join(fenced or indented for fenced, indented in blocks).replace("\\\n", " ")
    return [line.split("#")[0].strip() for line in text.splitlines()]


def test_imports_go_one_way():
    linter = Path(sys.executable).with_name("lint-imports")
    if not linter.exists():
        pytest.skip("import-linter is not installed")
    done = subprocess.run([linter], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_the_version_is_the_same_everywhere():
    declared = re.search(r'^version = "(.+)"', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)[1]
    assert pointsense.__version__ == declared
    assert f"## [{declared}]" in (ROOT / "CHANGELOG.md").read_text()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_in_the_documents_exist(page):
    targets = re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    for line in code_lines(page):
        words = line.split()
        if words[:1] == ["pointsense"] and words[1] != "COMMAND":
            assert words[1] in COMMANDS, f"{page.name}: {line}"
            unknown = set(OPTION.findall(line)) - options_of(COMMANDS[words[1]])
            assert not unknown, f"{page.name}: {line}"
        elif words[:1] == ["make"]:
            assert words[1] in targets, f"{page.name}: {line}"
        elif words[:1] == ["python"] and words[1].endswith(".py"):
            assert (ROOT / words[1]).is_file(), f"{page.name}: {line}"


def test_the_readme_shows_the_verbs_and_names_no_option_that_is_not_there():
    text = (ROOT / "README.md").read_text()
    for verb in ("check", "train", "predict", "evaluate"):
        assert any(line.startswith(f"pointsense {verb} ") for line in code_lines(ROOT / "README.md"))
    known = set().union(*map(options_of, COMMANDS.values()))
    assert set(OPTION.findall(text)) <= known
    for script in re.findall(r"python (\S+\.py)", text):
        assert (ROOT / script).is_file()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_in_the_documents_lead_somewhere(page):
    links = re.findall(r'\]\(([^)\s]+)\)|href="([^"]+)"', page.read_text())
    for link in (markdown or html for markdown, html in links):
        if not link.startswith(("https:", "#")):
            assert (page.parent / link.split("#")[0]).exists(), f"{page.name} links to {link}"


def test_python_in_the_readme_names_what_the_package_has():
    blocks = re.findall(r"^```python\n(.*?)^```", (ROOT / "README.md").read_text(), re.MULTILINE | re.DOTALL)
    assert blocks
    for block in blocks:
        compile(block, "README.md", "exec")
        for names in re.findall(r"^from pointsense import (.+)$", block, re.MULTILINE):
            assert set(names.split(", ")) <= set(pointsense.__all__)


def test_contributing_is_short():
    assert len((ROOT / "CONTRIBUTING.md").read_text().splitlines()) <= 50


def test_no_tracked_file_names_a_place_on_one_machine():
    try:
        listed = subprocess.run(
            ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True
        ).stdout
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("not a git checkout")
    place = re.compile(r"(?<![\w.}/-])(?:/(?:home|Users|root|work|tmp|mnt|opt|var)/\w|[A-Z]:\\\\?Users)")
    for name in listed.splitlines():
        path = ROOT / name
        if not path.is_file():
            continue
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        found = place.search(text)
        assert not found, f"{name}: {text[max(0, found.start() - 30) : found.end() + 30]!r}"
