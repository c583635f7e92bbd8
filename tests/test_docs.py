"""What the documents say can be typed, runs; what they point to, exists."""

import importlib.util
import re
import shlex
from pathlib import Path

import nbformat
import pytest
import typer.main
from nbclient import NotebookClient

from frostline.cli import app
from frostline.recipes import RECIPES

ROOT = Path(__file__).resolve().parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")])
NAMES = [str(page.relative_to(ROOT)) for page in PAGES]


def commands(page):
    """The lines of a page's shell blocks that call frostline, with comments cut and continued lines joined."""
    blocks = re.findall(r"^```(?:sh|bash|console)\n(.*?)^```", page.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
    return [line.removeprefix("$ ") for line in lines if line.removeprefix("$ ").startswith("frostline ")]


def parse(line):
    """Parse a command line as the program would; an unknown command or option raises."""
    name, *arguments = shlex.split(line, comments=True)[1:]
    program = typer.main.get_command(app)
    command = program.commands[name]
    return command.make_context(name, [argument.strip("[]") for argument in arguments])


LINES = [(name, line) for name, page in zip(NAMES, PAGES, strict=True) for line in commands(page)]


@pytest.mark.parametrize(("page", "line"), LINES)
def test_commands_in_the_documents_parse(page, line):
    context = parse(line)
    recipe = context.params.get("recipe")
    assert recipe is None or recipe in RECIPES


def test_the_readme_shows_every_command():
    shown = {shlex.split(line)[1] for line in commands(ROOT / "README.md")}
    assert set(typer.main.get_command(app).commands) - shown == set()


def test_the_readme_begins_with_the_two_commands():
    text = (ROOT / "README.md").read_text("utf-8")
    assert re.findall(r"^make [a-z-]+", text, re.MULTILINE)[:2] == ["make demo", "make test"]


@pytest.mark.parametrize("page", NAMES)
def test_links_lead_somewhere(page):
    text = (ROOT / page).read_text("utf-8")
    links = [link for link in re.findall(r"\]\(([^)\s]+)\)", text) if "://" not in link]
    for link in links:
        place, _, heading = link.partition("#")
        target = (ROOT / page).parent / place if place else ROOT / page
        assert target.exists(), f"{page} points to {link}"
        if heading:
            titles = re.findall(r"^#+ (.*)$", target.read_text("utf-8"), re.MULTILINE)
            assert heading in {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}, f"{page}: {link}"


@pytest.mark.parametrize("page", NAMES)
def test_make_targets_in_the_documents_exist(page):
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
    assert set(re.findall(r"`make ([a-z-]+)", (ROOT / page).read_text("utf-8"))) - targets == set()


def test_the_page_of_commands_is_the_commands_own_help():
    spec = importlib.util.spec_from_file_location("cli_docs", ROOT / "scripts" / "cli_docs.py")
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    assert (ROOT / "docs" / "cli.md").read_text("utf-8") == script.page(), "run `make docs`"


@pytest.mark.slow
def test_the_quick_start_runs(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    notebook = nbformat.read(ROOT / "docs" / "quickstart.ipynb", 4)
    assert not any(cell.get("outputs") for cell in notebook.cells), "the notebook is kept without outputs"
    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}}).execute()
    printed = "".join(output.get("text", "") for cell in notebook.cells for output in cell.get("outputs", []))
    assert "180 images of (8, 8), 10 classes" in printed
    accuracy = float(re.search(r"test accuracy ([\d.]+)%", printed)[1])
    assert accuracy > 90
    assert f"accuracy {accuracy}%, n = 180, seen in training: 0" in printed
