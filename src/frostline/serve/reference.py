"""The page at /docs: every route of the OpenAPI description as plain HTML, which needs no script and asks no other host.

FastAPI's own page loads Swagger's program from a public network, and stays blank where there is none. ``/openapi.json`` is there
for programs that draw such pages.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from html import escape
from typing import Any

_STYLE = """
:root {
  color-scheme: light dark;
  --text: #1b2733; --quiet: #4d5f70; --line: #d5dde4; --back: #fff; --code: #f1f5f8; --accent: #00609b;
}
@media (prefers-color-scheme: dark) {
  :root { --text: #e6edf3; --quiet: #a9b7c4; --line: #37444f; --back: #12181e; --code: #1d262e; --accent: #6cb8f0; }
}
body {
  max-width: 60rem; margin: 2rem auto; padding: 0 1rem;
  font: 1rem/1.5 system-ui, sans-serif; color: var(--text); background: var(--back);
}
a { color: var(--accent); }
section { border-top: 1px solid var(--line); padding: .5rem 0; }
h2 { margin-top: 2rem; }
h3 { font: 600 1rem ui-monospace, monospace; overflow-wrap: anywhere; }
.method { color: var(--accent); }
.quiet { color: var(--quiet); }
table { border-collapse: collapse; width: 100%; margin-bottom: .7rem; }
th, td { text-align: left; vertical-align: top; padding: .3rem .8rem .3rem 0; }
th { font-weight: 600; }
th:first-child { width: 9rem; }
td { border-top: 1px solid var(--line); overflow-wrap: anywhere; }
code, pre { font-family: ui-monospace, monospace; font-size: .9rem; }
pre { background: var(--code); padding: .7rem; overflow-x: auto; }
"""
_HEADINGS = {"model": "Models and predictions", "state": "State of the service", "v2": "Open Inference Protocol v2"}


def page(description: Mapping[str, Any]) -> str:
    """The whole page for an OpenAPI description."""
    groups: dict[str, list[str]] = {}
    for path, methods in description["paths"].items():
        for method, route in methods.items():
            groups.setdefault((route.get("tags") or ["other"])[0], []).append("".join(_route(path, method, route)))
    about = description["info"]
    title = escape(f"{about['title']} {about['version']}")
    order = sorted(groups.items(), key=lambda item: list(_HEADINGS).index(item[0]) if item[0] in _HEADINGS else len(_HEADINGS))
    routes = "".join(f"<h2>{escape(_HEADINGS.get(tag, tag))}</h2>{''.join(found)}" for tag, found in order)
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}: the service</title>'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><style>{_STYLE}</style></head><body><main>'
        f"<h1>{title}</h1><p>{_text(about.get('description', ''))}</p>"
        f'<p>For programs: <a href="openapi.json">openapi.json</a>.</p>{routes}</main></body></html>'
    )


def _route(path: str, method: str, route: Mapping[str, Any]) -> Iterator[str]:
    yield f'<section><h3><span class="method">{method.upper()}</span> {escape(path)}</h3>'
    yield f"<p>{_text(route.get('description', ''))}</p>"
    if parameters := route.get("parameters"):
        rows = ((each["name"], each["in"], each.get("description", "")) for each in parameters)
        yield _table(("parameter", "in", "meaning"), rows)
    if content := route.get("requestBody", {}).get("content"):
        yield f'<p class="quiet">Body: {", ".join(f"<code>{escape(kind)}</code>" for kind in content)}</p>'
        yield from map(_example, content.values())
    answers = route["responses"]
    yield _table(("answer", "meaning"), ((status, told["description"]) for status, told in answers.items()))
    yield from (_example(kind) for status, told in answers.items() if status == "200" for kind in told.get("content", {}).values())
    yield "</section>"


def _table(head: tuple[str, ...], rows: Any) -> str:
    top = "".join(f'<th scope="col">{escape(name)}</th>' for name in head)
    body = "".join(f"<tr>{''.join(f'<td>{_text(str(cell))}</td>' for cell in row)}</tr>" for row in rows)
    return f"<table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table>"


def _example(content: Mapping[str, Any]) -> str:
    if "example" not in content:
        return ""
    value = content["example"]
    return f'<pre tabindex="0">{escape(value if isinstance(value, str) else json.dumps(value, indent=2, ensure_ascii=False))}</pre>'


def _text(words: str) -> str:
    """Paragraphs and `code` as HTML."""
    parts = escape(words).replace("\n\n", "</p><p>").split("`")
    return "".join(f"<code>{part}</code>" if number % 2 else part for number, part in enumerate(parts))
