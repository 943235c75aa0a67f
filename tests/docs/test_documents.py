"""README and docs: examples in Python and ``console`` blocks run, other commands parse, files named exist."""

import doctest
import importlib.util
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.main import get_command

from asr_bn.cli.main import app
from tests.helpers.graphs import lexicon_dir
from tests.helpers.serving import ROOT, running_server, write_model, write_phone_model

DOCUMENTS = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md")]
DOCUMENTS += sorted((ROOT / "docs").glob("*.md")) + sorted((ROOT / "recipes").glob("*/README.md"))
VERBS = get_command(app).commands  # type: ignore[attr-defined]
FENCE = re.compile(r"^( *)```(\w+)\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)
NUM_PDFS = 146  # as the embedded corpus has, whose output the documents print


def blocks(language: str) -> list[tuple[str, str]]:
    """Every block of code of a language, with the name of its document."""
    found = [(path, match) for path in DOCUMENTS for match in FENCE.finditer(path.read_text())]
    return [(str(path.relative_to(ROOT)), match[3]) for path, match in found if match[2] == language]


def commands() -> list[str]:
    """Every command of the ``bash`` blocks, without comments."""
    joined = [code.replace("\\\n", " ") for _, code in blocks("bash")]
    lines = [line.strip() for code in joined for line in code.splitlines()]
    return sorted({line for line in lines if line and not line.startswith("#")})


@pytest.fixture(scope="module")
def url(folder: Path) -> Iterator[str]:
    with running_server(folder / "model.onnx") as (url, _):
        yield url


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with the files that the examples name."""
    folder = tmp_path_factory.mktemp("documents")
    write_model(folder / "model.onnx", num_pdfs=NUM_PDFS)
    write_phone_model(folder / "tri4b.onnx")
    lexicon_dir(folder / "dict")
    shutil.copy(ROOT / "serve/protocols/static/sample.flac", folder / "speech.flac")
    (folder / "asr-bn").write_text(f'#!/bin/sh\nexec {sys.executable} -m asr_bn.cli "$@"\n')
    (folder / "asr-bn").chmod(0o755)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
        yield folder


@pytest.fixture(scope="module")
def tri4b_url(folder: Path) -> Iterator[str]:
    with running_server(folder / "tri4b.onnx", "--lang", str(folder / "dict")) as (url, _):
        yield url


@pytest.mark.parametrize("document", sorted({name for name, _ in blocks("python")}))
def test_python_examples_print_what_they_show(
    document: str, folder: Path, url: str, tri4b_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    names: dict[str, object] = {"url": url, "tri4b_url": tri4b_url}
    runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE)
    if document != "README.md":  # the archive that its command line has made
        subprocess.run(["asr-bn", "posteriors", "model.onnx", "speech.flac", "ark:post.ark"], check=True)
    for number, code in enumerate(code for name, code in blocks("python") if name == document):
        test = doctest.DocTestParser().get_doctest(code, names, f"{document}, block {number}", document, 0)
        assert test.examples, code
        test.globs = names  # names live on from block to block
        assert runner.run(test, clear_globs=False).failed == 0


@pytest.mark.parametrize("code", sorted({code for _, code in blocks("console")}))
def test_console_examples_print_what_they_show(code: str, folder: Path, url: str) -> None:
    command, _, shown = code.removeprefix("$ ").partition("\n")
    if " serve " in command:  # it runs already, on a free port
        assert shown == "asr-bn: ready at http://127.0.0.1:8000\n"
        return
    command = command.replace("localhost:8000", url.removeprefix("http://"))
    done = subprocess.run(["bash", "-c", command], cwd=folder, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert (done.stdout + done.stderr).strip() == shown.strip()


@pytest.mark.parametrize("command", [line for line in commands() if re.search("asr-bn |asr_bn.cli", line)])
def test_verbs_and_their_options_parse(command: str) -> None:
    words = shlex.split(command, comments=True)
    words = words[: words.index("|")] if "|" in words else words
    if "asr_bn.cli" in words:
        arguments = words[words.index("asr_bn.cli") + 1 :]
    elif "asr-bn" in words:
        arguments = words[words.index("asr-bn") + 1 :]
    else:
        assert words[0] == "pip"
        return
    verb = VERBS[arguments[0]]
    context = verb.context_class(verb, info_name=arguments[0], resilient_parsing=True)
    _, rest, _ = verb.make_parser(context).parse_args(arguments[1:])
    assert rest == []


@pytest.mark.parametrize("command", [line for line in commands() if "run.sh" in line])
def test_options_of_the_recipe_are_in_its_help(command: str) -> None:
    script = (ROOT / "recipes/wsj/run.sh").read_text()
    for option in re.findall(r"--[\w-]+", command.partition(" #")[0]):
        assert f"#   {option} " in script or f"  {option} " in script or option == "--help"


@pytest.mark.parametrize("command", [line for line in commands() if re.match(r"python |bash ", line)])
def test_scripts_and_modules_exist_and_have_the_options(command: str) -> None:
    words = shlex.split(command, comments=True)
    if words[1] == "-m":
        spec = importlib.util.find_spec(words[2])
        assert spec is not None, words[2]
    else:
        assert (ROOT / words[1]).is_file(), words[1]
    if words[1] == "recipes/ptb/run.py":
        source = "".join((ROOT / "recipes/ptb" / name).read_text() for name in ("run.py", "local/command.py"))
        for option in (word[2:] for word in words if word.startswith("--")):
            assert re.search(rf"\b{option.replace('-', '_')}_?\b|--{option}\b", source), option


NAMED = re.compile(r"`((?:asr_bn|serve|recipes|bench|tests|scripts|deploy|docs|fuzz)/[\w./-]*\w)`")
LINK = re.compile(r"\]\(([^)#:]*)(?:#([\w-]+))?\)")


def anchors(path: Path) -> set[str]:
    """The headings of a document as links name them."""
    headings = re.findall(r"^#+ (.*)$", path.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("path", [*DOCUMENTS, ROOT / "RESULTS.md"], ids=lambda path: path.name)
def test_files_and_headings_that_a_document_names_exist(path: Path) -> None:
    text = path.read_text()
    missing = [name for name in NAMED.findall(text) if not (ROOT / name).exists()]
    for name, anchor in LINK.findall(text):
        target = path.parent / name if name else path
        if not target.exists() or (anchor and anchor not in anchors(target)):
            missing.append(f"{name}#{anchor}")
    assert missing == []


def test_readme_is_short() -> None:
    text = (ROOT / "README.md").read_text()
    assert len(text.split()) <= 800
    prose = re.sub(r"^ *[|!#].*$", "\n\n", FENCE.sub("\n\n", text), flags=re.MULTILINE)
    prose = re.sub(r"\]\([^)]*\)", "]", prose)
    sentences = re.split(r"[.:;?](?=\s)|\n\s*\n|\n\* ", prose)
    assert [sentence for sentence in sentences if len(sentence.split()) > 30] == []


def test_readme_shows_every_package() -> None:
    shown = (ROOT / "README.md").read_text()
    for package in (ROOT / "asr_bn").glob("*/__init__.py"):
        assert f"    {package.parent.name}/ " in shown
