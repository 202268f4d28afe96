"""The table of clients in the documentation is the one that the tests prove."""

from pathlib import Path

import matrix


def test_the_table_in_the_documentation_is_current() -> None:
    text = matrix.DOCUMENT.read_text()

    assert matrix.updated(text) == text, (
        f"the client matrix is not current; write it with: python {Path(matrix.__file__).relative_to(matrix.ROOT)}"
    )


def test_every_client_test_proves_a_row() -> None:
    proved = {test.partition("::")[0] for _, _, test in matrix.rows()}
    modules = {str(path.relative_to(matrix.ROOT)) for path in matrix.HERE.glob("test_client_*.py")}

    assert proved == modules
