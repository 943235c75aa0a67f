"""``asr-bn serve``: the posterior server."""

import sys
from pathlib import Path
from typing import Annotated, Any

import typer


def _list_settings(asked: bool) -> None:
    if asked:
        from serve.settings import environment_help

        print(environment_help())
        raise typer.Exit()


def serve(
    model: Annotated[
        Path,
        typer.Argument(
            envvar="ASR_BN_MODEL", help="an exported model.onnx, or a folder of NAME/VERSION/model.onnx"
        ),
    ],
    host: Annotated[str | None, typer.Option(help="address to listen on [default: 127.0.0.1]")] = None,
    port: Annotated[int | None, typer.Option(help="port to listen on, 0: a free one [default: 8000]")] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu or cuda [default: auto]")] = None,
    processes: Annotated[int | None, typer.Option(help="server processes [default: 1]")] = None,
    lang: Annotated[
        Path | None, typer.Option(help="lang folder, dictionary or lexicon file, for /v1/alignments")
    ] = None,
    graph: Annotated[
        Path | None, typer.Option(help="folder that make-graph left, for /v1/transcripts")
    ] = None,
    settings: Annotated[
        bool, typer.Option("--settings", is_eager=True, callback=_list_settings, help="list every setting")
    ] = False,
) -> None:
    """Serve an exported model over HTTP until SIGTERM or Ctrl-C."""
    from serve.server import serve as run
    from serve.settings import load_settings

    options: dict[str, Any] = {"host": host, "port": port, "device": device, "processes": processes}
    options |= {"lang": lang, "graph": graph}
    given = {name: value for name, value in options.items() if value is not None}
    sys.exit(run(load_settings(model=model, **given)))
