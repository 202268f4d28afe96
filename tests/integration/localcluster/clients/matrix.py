"""The client matrix of docs/local-cluster.md, made from the tests that prove each row.

`python tests/integration/localcluster/clients/matrix.py` writes it; test_matrix.py checks that it is current.
"""

import ast
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parents[3]
DOCUMENT = ROOT / "docs/local-cluster.md"
BEGIN, END = "<!-- client matrix: begin -->", "<!-- client matrix: end -->"


def rows() -> list[tuple[str, str, str]]:
    """(client, what works, the test that proves it), one for each `@proves(...)`, in the order of files and lines."""
    found = []
    for path in sorted(HERE.glob("test_*.py")):
        module = ast.parse(path.read_text()).body
        names = {
            target.id: node.value
            for node in module
            if isinstance(node, ast.Assign)
            for target in node.targets
            if isinstance(target, ast.Name)
        }
        for node in module:
            if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                continue
            for decorator in node.decorator_list:
                if isinstance(decorator, ast.Call) and getattr(decorator.func, "id", "") == "proves":
                    client, what = (
                        ast.literal_eval(names[argument.id] if isinstance(argument, ast.Name) else argument)
                        for argument in decorator.args
                    )
                    found.append((client, what, f"{path.relative_to(ROOT)}::{node.name}"))
    return found


def table() -> str:
    """The table in Markdown."""
    lines = ["| client | what works | proved by |", "|---|---|---|"]
    for client, what, test in rows():
        path, _, name = test.partition("::")
        escaped = what.replace("|", "\\|")
        lines.append(f"| {client} | {escaped} | [`{name}`](../{path}) |")
    return "\n".join(lines)


def updated(text: str) -> str:
    """The document with the current table. ValueError if it lacks the two marks around it."""
    before, after = text.index(BEGIN) + len(BEGIN), text.index(END)
    return f"{text[:before]}\n{table()}\n{text[after:]}"


if __name__ == "__main__":
    DOCUMENT.write_text(updated(DOCUMENT.read_text()))
