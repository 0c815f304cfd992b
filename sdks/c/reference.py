#!/usr/bin/env python3
"""Writes docs/c-api.md, the reference of the C interface, from boxlite.h.

    sdks/c/reference.py [--check]      --check: only says whether the page is up to date
"""

import re
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
HEADER = HERE / "include/boxlite.h"
PAGE = HERE.parent.parent / "docs/c-api.md"
RULE = "-" * 90
# A word in capitals and a full stop begin a paragraph of their own in the header's first comment.
LEAD = re.compile(r"^([A-Z]{4,})([.]| )")


def text_of(comment):
    """A comment without its frame; lines that are set in by four stay code."""
    lines = [re.sub(r"^\s*/?\*+ ?", "", line) for line in comment.removesuffix("*/").rstrip().splitlines()]
    out, code = [], False
    for line in lines:
        inside = line.startswith("    ") and not line.startswith("         ")
        if inside and not code:
            out += ["", "```c"]
        if code and not inside:
            out += ["```", ""]
        code = inside
        out.append(line[4:] if inside else re.sub(r"\bboxlite_\w+\(\)", lambda m: f"`{m[0]}`", line))
    if code:
        out += ["```"]
    return "\n".join(out).strip()


def options(text):
    """The list of options in a comment as a Markdown list."""
    lines, out = text.splitlines(), []
    for line in lines:
        if match := re.match(r"^  (\S.*?)  +(.*)$", line):
            out.append(f"- `{match[1]}`: {match[2]}")
        elif line.startswith("               ") and out and out[-1].startswith("- "):
            out[-1] += " " + line.strip()
        else:
            if out and out[-1].startswith("- ") and line:
                out.append("")
            out.append(line)
    return "\n".join(out)


def page():
    source = HEADER.read_text()
    first, _, rest = source.partition("*/")
    intro = text_of(first)
    title, _, intro = intro.partition("\n")
    intro = "\n".join(LEAD.sub(r"**\1**\2", line) for line in intro.splitlines())
    parts = [
        "# " + title.split(": ", 1)[1][0].upper() + title.split(": ", 1)[1][1:],
        "<!-- Written by sdks/c/reference.py from sdks/c/include/boxlite.h. -->",
        "The reference of `boxlite.h`, as the header has it. To begin: [sdks/c](../sdks/c/README.md). "
        "What crosses as JSON: [json.md](json.md).",
        intro.strip(),
    ]
    for section in rest.split("/* " + RULE + "\n")[1:]:
        comment, _, body = section.partition("*/")
        heading, _, about = text_of(comment).partition("\n")
        parts.append(f"## {heading}")
        if about.strip():
            parts.append(about.strip())
        body = body.split("#ifdef __cplusplus")[0]
        for block in re.split(r"\n(?=/\*)", body.strip()):
            match = re.match(r"/\*(.*?)\*/\n?(.*)", block, re.S)
            said, code = (options(text_of("/*" + match[1])), match[2].strip()) if match else ("", block.strip())
            if code:
                parts.append(f"```c\n{code}\n```")
            if said:
                parts.append(said)
    return "\n\n".join(parts) + "\n"


def main():
    text = page()
    if "--check" in sys.argv:
        if not PAGE.is_file() or PAGE.read_text() != text:
            sys.exit("docs/c-api.md is not what the header says: run sdks/c/reference.py")
    else:
        PAGE.write_text(text)


main()
