"""The documentation is true: its code runs and prints what it says, its commands parse, its links and paths exist."""

from __future__ import annotations

import contextlib
import dataclasses
import doctest
import inspect
import io
import re
import runpy
import shlex
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from types import ModuleType

import onnx
import pytest
from tersor.driver import goals
from tersor.driver.cli import main, parser
from tersor.driver.report import schema

ROOT = Path(__file__).resolve().parent.parent
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").glob("*.md"))]
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
FOLDERS = ("backends", "benchmarks", "docs", "driver", "examples", "frontends", "ir", "testing", "tests", "transforms")

FENCE = re.compile(r"^```(?P<info>[^\n`]*)\n(?P<body>.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\[[^\]]*\]\((?P<target>[^)\s]+)\)")
PATH = re.compile(rf"`((?:{'|'.join(FOLDERS)})/[\w./-]*)`")
SAME = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


@dataclass(frozen=True)
class Block:
    """A fenced block: its info string, its text, the line of its first row, and the block right behind it."""

    info: str
    body: str
    line: int
    following: str = ""


def by_name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def blocks(page: Path) -> list[Block]:
    text = page.read_text(encoding="utf-8")
    found = list(FENCE.finditer(text))
    out: list[Block] = []
    for match, after in zip_longest(found, found[1:]):
        is_output = after is not None and after["info"] == "text" and not text[match.end() : after.start()].strip()
        line = text.count("\n", 0, match.start()) + 2
        out.append(Block(match["info"].strip(), match["body"], line, after["body"] if is_output else ""))
    return out


def prose(page: Path) -> str:
    """A page without its fenced blocks."""
    return FENCE.sub("", page.read_text(encoding="utf-8"))


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A temporary working directory in which the paths of the examples are those of the repository root."""
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def namespace(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The module that the code of one page runs in."""
    module = ModuleType("page")
    monkeypatch.setitem(sys.modules, "page", module)
    return module


WITH_CODE = [page for page in PAGES if any(b.info == "python" for b in blocks(page))]


@pytest.mark.parametrize("page", WITH_CODE, ids=by_name)
def test_python_blocks_of_a_page_run_and_print_what_the_page_says(page: Path, workspace: Path, namespace: ModuleType):
    """A block ```text right behind a block ```python is its output, with `...` for what differs between machines."""
    for block in (b for b in blocks(page) if b.info == "python"):
        code = compile("\n" * (block.line - 1) + block.body, str(page), "exec")
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(code, namespace.__dict__)
        if block.following:
            said, found = block.following, printed.getvalue()
            where = f"{by_name(page)}:{block.line} prints\n{found}"
            assert doctest.OutputChecker().check_output(said, found, SAME), where


@pytest.mark.parametrize("example", EXAMPLES, ids=by_name)
def test_an_example_runs_as_a_script(example: Path, workspace: Path, capsys: pytest.CaptureFixture[str]):
    runpy.run_path(f"examples/{example.name}", run_name="__main__")
    assert capsys.readouterr().out.strip()


def test_the_package_of_the_tutorial_works_by_name_once_it_is_installed(
    workspace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    """Its module is the page's last version of the rule; its metadata is what its pyproject.toml says."""
    page = ROOT / "docs" / "tutorial.md"
    module = [b.body for b in blocks(page) if b.info == "python" and "def relu_into_conv" in b.body][-1]
    project = tomllib.loads(next(b.body for b in blocks(page) if b.info == "toml"))
    about, (group, entries) = project["project"], next(iter(project["project"]["entry-points"].items()))
    info = workspace / f"{about['name'].replace('-', '_')}-{about['version']}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {about['name']}\nVersion: {about['version']}\n")
    (info / "entry_points.txt").write_text(f"[{group}]\n" + "".join(f"{k} = {v}\n" for k, v in entries.items()))
    (name,) = project["tool"]["setuptools"]["py-modules"]
    (workspace / f"{name}.py").write_text(module.replace("print(check_rule(relu_into_conv))\n", ""))
    monkeypatch.syspath_prepend(str(workspace))
    monkeypatch.delitem(sys.modules, name, raising=False)
    for command in commands(page):
        assert main(shlex.split(command)[1:]) == 0
    shown = capsys.readouterr().out
    assert f"{about['name']} {about['version']}" in shown
    assert "relu_into_conv" in shown
    assert "com.microsoft" in {n.domain for n in onnx.load("fused/model.onnx").graph.node}


def commands(page: Path) -> Iterator[str]:
    """The `tersor` command lines of a page's console and sh blocks, continued lines joined."""
    for block in blocks(page):
        if block.info in ("console", "sh"):
            for line in block.body.replace("\\\n", " ").splitlines():
                text = line.strip().removeprefix("$ ")
                if text.startswith("tersor "):
                    yield text


COMMANDS = list(dict.fromkeys(command for page in PAGES for command in commands(page)))


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_line_of_the_documentation_parses(command: str):
    parser().parse_args(shlex.split(command, comments=True)[1:])


@pytest.mark.parametrize("page", PAGES, ids=by_name)
def test_links_lead_to_files_and_headings_that_exist(page: Path):
    missing = []
    for match in LINK.finditer(prose(page)):
        target, _, anchor = match["target"].partition("#")
        if target.startswith(("http:", "https:", "mailto:")):
            continue
        place = (page.parent / target).resolve() if target else page
        if not place.exists() or (anchor and anchor not in headings(place)):
            missing.append(match["target"])
    assert not missing


def headings(page: Path) -> set[str]:
    """The anchors of a page, as they are made from its headings."""
    titles = re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=by_name)
def test_files_and_folders_that_a_page_names_exist(page: Path):
    assert [path for path in PATH.findall(prose(page)) if not (ROOT / path).exists()] == []


def options() -> list[tuple[str, str]]:
    """Every verb, and every option with its verb."""
    (verbs,) = (action.choices for action in parser()._actions if isinstance(action.choices, dict))
    actions = [(verb, action) for verb, made in verbs.items() for action in made._actions if action.dest != "help"]
    flags = [(verb, flag) for verb, action in actions for flag in action.option_strings]
    return [(verb, f"tersor {verb}") for verb in verbs] + flags


def test_every_verb_option_and_goal_is_described():
    text = (ROOT / "docs" / "cli.md").read_text(encoding="utf-8")
    missing = [(verb, option) for verb, option in options() if option not in text]
    missing += [("goal", name) for name in goals.MEASURES if f"`{name}`" not in text]
    assert not missing


def test_every_field_of_the_report_is_described():
    text = (ROOT / "docs" / "report.md").read_text(encoding="utf-8")
    records = [r for _, r in inspect.getmembers(schema, dataclasses.is_dataclass) if r.__module__ == schema.__name__]
    assert schema.SCHEMA in text
    assert [f"{r.__name__}.{f.name}" for r in records for f in dataclasses.fields(r) if f"`{f.name}`" not in text] == []
