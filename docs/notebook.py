"""Write docs/quickstart.ipynb: execute its cells and keep what they show.

python docs/notebook.py            executes and writes the notebook
"""

from __future__ import annotations

from pathlib import Path

import nbformat
from nbclient import NotebookClient

NOTEBOOK = Path(__file__).with_name("quickstart.ipynb")
TIMEOUT_S = 600


def executed(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """The notebook with the outputs of today.

    Raises:
        CellExecutionError: A cell failed.
    """
    client = NotebookClient(
        notebook, timeout=TIMEOUT_S, kernel_name="python3", resources={"metadata": {"path": str(NOTEBOOK.parent)}}
    )
    client.execute()
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)  # times, which would differ each time
    notebook.metadata = {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}}
    return notebook


def main() -> None:
    """Execute and write."""
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.write(executed(notebook), NOTEBOOK)


if __name__ == "__main__":
    main()
