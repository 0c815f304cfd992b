#!/usr/bin/env python3
"""Writes docs/json.md, the JSON of the C interface, from the types that are that JSON.

    scripts/json-docs.py [--check]      --check: only says whether the page is up to date
"""

import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs/json.md"
LIBRARY = "crates/boxlite/src"
FFI = "crates/boxlite-ffi/src"

# The page: headings, and under each the types in their order. `=` sets another name or source.
SECTIONS = [
    ("Clients", "ClientOptions RegistryOptions Credentials Accelerator TemplateUse EngineKind"),
    ("Making boxes", "BoxOptions Mount Port Protocol NetworkMode PullPolicy Security StartPreference ExtraHost LogLimits Signal"),
    ("Working with boxes", "ListFilter RemoveOptions StopOptions AttachOptions StdoutMode StderrMode LogOptions CopyOptions"),
    ("What is known about boxes",
     "BoxInfo BoxState PublishedPort RunInfo StageTiming JailInfo MissingMeasure Diagnosis ErrorCode ExitStatus "
     "Metrics HostMetrics ProcessInfo CopyReport SkippedEntry"),
    ("Executions", "ExecOptions"),
    ("Images", "PullOptions LoadOptions ImageRemoveOptions ImageInfo LayerInfo ImageConfigInfo ImageRemoval"),
    ("Progress", "Progress ProgressPhase LayerProgress LayerState RetryProgress"),
    ("Templates", "TemplateOptions TemplateInfo"),
    ("The host and the home",
     "SystemInfo EngineInfo AcceleratorInfo BundleInfo BundleOrigin BoxCounts DoctorReport Check CheckStatus "
     "DiskUsage UsageClass ImageUsage BoxUsage PruneOptions PruneReport"),
]

INTRO = """# JSON of the C interface

<!-- Written by scripts/json-docs.py from the types in crates/boxlite and crates/boxlite-ffi. -->

What the functions of [boxlite.h](../sdks/c/include/boxlite.h) take and give as JSON, type by type.

- In options, a field that is not listed is an error that names it, and a field with a default may be
  left out. *Optional* fields may also be `null`.
- In results, every field is always there; *or null* says where there may be nothing. Later versions may
  add fields: skip those that you do not know.
- Names say their unit: `_ms` milliseconds (`_at_ms`, `since_ms`, `until_ms`: since 1970), `_us`
  microseconds, `_mib` 1,048,576 bytes, `_bytes` bytes.
"""

SIGNAL = """### Signal

A string or an integer: a name with or without `SIG` in any case (`"SIGTERM"`, `"term"`, `"RTMIN+3"`), or
Linux's number. In results: the name (`"SIGTERM"`).
"""

PRIMITIVES = {"String": "string", "bool": "boolean", "PathBuf": "string, a path", "IpAddr": "string, an IP address"}
ITEM = re.compile(r"((?:^(?:///[^\n]*|#\[[^\n]*\])\n)*)^pub (struct|enum) (\w+)([^{;(]*)\{\n(.*?)^\}", re.M | re.S)


def prose(comment):
    """Rustdoc as Markdown that stands on its own."""
    lines = [line.strip()[3:].strip() for line in comment.splitlines() if line.strip().startswith("///")]
    text = "\n".join(lines).split("\n```")[0]
    text = text.split("\n\n")[0].replace("\n", " ")
    text = re.sub(r"\[`(?:Self::|crate::)?([^`\]]+)`\](?:\([^)]*\))?", r"`\1`", text)
    text = re.sub(r"\[([^\]]+)\]\((?:crate|Self)[^)]*\)", r"\1", text)
    text = re.sub(r"`(\w+)::(\w+)`", r"`\1.\2`", text)
    return text.strip()


def read_types():
    """All public structs and enums with named members, by name; the boundary's own win."""
    types, constants, defaults = {}, {}, {}
    for folder in (LIBRARY, FFI):
        for path in sorted((ROOT / folder).rglob("*.rs")):
            source = path.read_text()
            for name, value in re.findall(r"pub const (DEFAULT_\w+): \w+ = ([^;]+);", source):
                constants[name] = eval(value.replace("_", ""))  # noqa: S307 - numbers of our own source
            for name, const in re.findall(r"fn (default_\w+)\(\) -> \w+ \{\s*(\w+)\s*\}", source):
                defaults[name] = const
            for name, body in re.findall(r"impl Default for (\w+) \{.*?Self \{\n(.*?)\n        \}", source, re.S):
                for field, value in re.findall(r"(\w+): (\w+),", body):
                    defaults[f"{name}.{field}"] = value
            for match in ITEM.finditer(source):
                if folder == LIBRARY and path.name == "progress.rs" and match[3] == "Progress":
                    continue
                types[match[3]] = match
    return types, constants, defaults


TYPES, CONSTANTS, DEFAULTS = read_types()
LISTED = {name for _, names in SECTIONS for name in names.split()}


def json_type(rust):
    rust = re.sub(r"\b(?:\w+::)+", "", rust)
    if rust in PRIMITIVES:
        return PRIMITIVES[rust]
    if re.fullmatch(r"[iu](8|16|32|64)", rust):
        return "integer" if rust[0] == "i" else f"integer, 0…{2 ** int(rust[1:]) - 1}" if rust != "u64" else "integer"
    if match := re.fullmatch(r"Vec<(.*)>", rust):
        return f"array of {json_type(match[1])}"
    if match := re.fullmatch(r"BTreeMap<String, (.*)>", rust):
        return f"object of {json_type(match[1])}"
    if rust in LISTED:
        return f"[{rust}](#{rust.lower()})"
    sys.exit(f"json-docs: no JSON type is known for {rust}")


def default_of(owner, field, rust, attributes, whole):
    found = DEFAULTS.get(f"{owner}.{field}")
    if match := re.search(r'default = "(\w+)"', attributes):
        found = DEFAULTS[match[1]]
    elif not (whole or "default" in attributes):
        return None
    if found is not None:
        return f"`{CONSTANTS.get(found, found)}`"
    if rust == "bool":
        return "`false`"
    if rust.startswith("Vec<"):
        return "`[]`"
    if rust in ("u16",):
        return "`0`"
    if rust in TYPES and TYPES[rust][2] == "enum":
        word = re.search(r"#\[default\]\s*(\w+)", TYPES[rust][5])
        return f'`"{snake(word[1])}"`'
    return "`{}`"


def snake(name):
    return re.sub(r"(?<!^)([A-Z])", r"_\1", name).lower()


def members(body, pattern):
    for match in re.finditer(r"((?:^    (?:///.*|#\[.*\])\n)*)^    " + pattern, body, re.M):
        yield prose(match[1]), "\n".join(re.findall(r"#\[.*\]", match[1])), match.groups()[1:]


def document(name):
    if name == "Signal":
        return SIGNAL
    match = TYPES[name]
    lines = [f"### {name}", "", prose(match[1]), ""]
    if match[2] == "enum":
        lines += ["| value | meaning |", "|---|---|"]
        for text, attributes, (word,) in members(match[5], r"(\w+),"):
            lines.append(f'| `"{snake(word)}"` | {text}{" The default." if "default" in attributes else ""} |')
        return "\n".join(lines) + "\n"
    is_options = "deny_unknown_fields" in match[1]
    whole = bool(re.search(r"serde\([^)]*\bdefault\b", match[1]))
    lines += ["| field | type | default | meaning |", "|---|---|---|---|"] if is_options else ["| field | type | meaning |", "|---|---|---|"]
    for text, attributes, (field, rust) in members(match[5], r"(?:pub )?(\w+): (.*),$"):
        optional = re.fullmatch(r"Option<(.*)>", rust)
        kind = json_type(optional[1] if optional else rust)
        if name == "ExitStatus" and not text:
            text = {"code": "Exit code, if it exited by itself.", "signal": "Linux number of the signal that ended it, if one did.",
                    "output_cut": "Whether others held its outputs when `output_grace_ms` was over.",
                    "out_of_memory": "Whether the guest's kernel killed it for want of memory."}[field]
        if is_options:
            default = "optional" if optional else default_of(name, field, rust, attributes, whole) or "required"
            lines.append(f"| `{field}` | {kind} | {default} | {text} |")
        else:
            lines.append(f"| `{field}` | {kind}{', or null' if optional else ''} | {text} |")
    return "\n".join(lines) + "\n"


def page():
    parts = [INTRO]
    for heading, names in SECTIONS:
        parts.append(f"## {heading}\n")
        parts += [document(name) for name in names.split()]
    return "\n".join(parts)


def main():
    text = page()
    if "--check" in sys.argv:
        if not PAGE.is_file() or PAGE.read_text() != text:
            sys.exit("docs/json.md is not what the types say: run scripts/json-docs.py")
    else:
        PAGE.write_text(text)


main()
