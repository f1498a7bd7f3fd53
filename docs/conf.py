"""How Sphinx builds these pages: `make docs`. Warnings are errors, links that lead nowhere among them.

Why Sphinx: decisions/0008-sphinx-builds-the-pages.md. The tests of tests/docs run what the pages show.
"""

from __future__ import annotations

import re
from importlib.metadata import version as installed_version

import quorumlog.client

project = "quorumlog"
author = "The quorumlog maintainers"
copyright = "The quorumlog maintainers, Apache-2.0"
version = release = installed_version("quorumlog")

extensions = ["myst_parser", "sphinx.ext.autodoc"]
exclude_patterns = ["_build"]
default_role = "code"  # docstrings say `name`, as Markdown does

# Markdown. Links to headings are checked, down to the third level.
myst_heading_anchors = 3
myst_enable_extensions = ["colon_fence"]

# Docstrings. Signatures wrap, a parameter to a line, where they are long.
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autoclass_content = "both"  # what __init__ says of its arguments stands with the class
autodoc_inherit_docstrings = False
maximum_signature_line_length = 72
add_module_names = False
python_use_unqualified_type_names = True

# HTML. Everything that a page needs lies beside it: it can be read from a disk, without a network.
html_theme = "furo"
html_title = f"quorumlog {release}"
html_static_path = ["_static"]
html_css_files = ["pages.css"]
html_copy_source = False
html_show_sourcelink = False
html_theme_options = {
    "light_css_variables": {"color-brand-primary": "#0b5c6b", "color-brand-content": "#0b5c6b"},
    "dark_css_variables": {"color-brand-primary": "#6cc6d6", "color-brand-content": "#6cc6d6"},
}
pygments_style = "friendly"
pygments_dark_style = "github-dark"


# Our docstrings are plain text, with two habits that reStructuredText would not understand.
_MARKUP = re.compile(r"\*|(?<=\w)_(?!\w)")  # `wait_*` is no reference and no emphasis
_MADE_BY_NAMEDTUPLE = re.compile(r"Create new instance of |Alias for field number \d")
_PARAMETER = re.compile(r"`\w+`(, `\w+`)*: ")
_AFTER_PARAMETERS = re.compile(r"$|Raises |Returns ")


# Names with two capitals at least: "Record" and "Busy" are also words.
_CLASS = re.compile(r"(?<![\w`.])(?:[A-Z][a-z]+){2,}(?![\w`(])")


def _as_markup(_app: object, _what: str, _name: str, _of: object, _options: object, lines: list[str]) -> None:
    said = [line for line in lines if not _MADE_BY_NAMEDTUPLE.match(line)]
    lines[:] = _parameters_as_list(_indented_as_code(said))


# Classes that programs make themselves; of the others the arguments are nobody's business.
_MADE_BY_PROGRAMS = ("Client", "AsyncClient", "Tls", "LocalCluster", "ProducerRecord", "TopicPartition")


def _without_arguments(
    _app: object, what: str, name: str, _of: object, _options: object, signature: str, annotation: str
) -> tuple[str, str] | None:
    made = name.rpartition(".")[2]
    if what not in ("class", "exception") or made in _MADE_BY_PROGRAMS or made.endswith("Serializer"):
        return None
    return "", ""


def _linked(match: re.Match[str]) -> str:
    """Return a link to what `quorumlog.client` exports under this name."""
    name = match[0]
    if name not in quorumlog.client.__all__:
        return name
    of_errors = issubclass(getattr(quorumlog.client, name), Exception) or name == "Attempt"
    return f":py:obj:`~quorumlog.client.{'errors.' if of_errors else ''}{name}`"


def _prose(line: str) -> str:
    """Return a line that is neither code nor markup as reStructuredText."""
    return _CLASS.sub(_linked, _MARKUP.sub(r"\\\g<0>", line))


def _indented_as_code(lines: list[str]) -> list[str]:
    """Show what is indented as code."""
    shown: list[str] = []
    in_code = False
    for line in lines:
        if line.startswith("    ") and not in_code:
            shown += ["::", ""]
        in_code = line.startswith("    ") or (in_code and not line)
        shown.append(line if in_code else _prose(line))
    return shown


def _parameters_as_list(lines: list[str]) -> list[str]:
    """Give each "`name`: what it is" a line of its own."""
    shown: list[str] = []
    in_list = False
    for line in lines:
        if _PARAMETER.match(line):
            shown += [""] if not in_list else []
            in_list = True
            shown.append(f"- {line}")
            continue
        if in_list and _AFTER_PARAMETERS.match(line):
            shown.append("")
            in_list = False
        shown.append(f"  {line}" if in_list else line)
    return shown


def setup(app: object) -> None:
    """Called by Sphinx."""
    app.connect("autodoc-process-docstring", _as_markup)  # type: ignore[attr-defined]
    app.connect("autodoc-process-signature", _without_arguments)  # type: ignore[attr-defined]
