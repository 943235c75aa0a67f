"""Pages from templates, all in the same style."""

import base64
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from asr_bn.system.files import write_text

_HERE = Path(__file__).parent


def write_rendered(path: Path, template: Path, **values: object) -> None:
    """Write ``template``, filled in with ``values``, to ``path``; it may include ``style.css``."""
    environment = Environment(
        loader=FileSystemLoader([template.parent, _HERE]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    write_text(path, environment.get_template(template.name).render(**values) + "\n")


def embedded(png: bytes) -> str:
    """Return an image as pages embed it, in base64."""
    return base64.b64encode(png).decode()
