"""What a flow run shows in Prefect: the table of methods, the synthesized pairs, the way to MLflow."""

import base64
import io
from pathlib import Path

from PIL import Image
from prefect.artifacts import create_markdown_artifact

MAX_WIDTH = 900  # pixels; the picture travels inside the artifact's text


def publish_results(root: Path, mlflow_run: dict[str, str | None]) -> None:
    """Make the artifacts `results` and `pairs` of this flow run, from what the report stage wrote.

    Args:
        root: the checkout.
        mlflow_run: run_id and url of the pipeline's MLflow run.
    """
    table = results_table(root)
    if table:
        text = f"{table}\n\n{mlflow_link(mlflow_run)}\n"
        create_markdown_artifact(text, key="results", description="Methods of the pipeline, on the test images")
    picture = root / "reports" / "pairs.png"
    if picture.is_file():
        # Prefect's image artifacts hold an address; a picture inside Markdown needs no server behind it.
        text = f"![original, decoded, perturbed]({data_uri(picture)})"
        create_markdown_artifact(text, key="pairs", description="Photographs and their synthesized partners")


def results_table(root: Path) -> str | None:
    """The report's table as Markdown, or None before there is a report."""
    table = root / "reports" / "table.md"
    return table.read_text(encoding="utf-8").strip() if table.is_file() else None


def mlflow_link(run: dict[str, str | None]) -> str:
    """Where the pipeline's MLflow run is, as Markdown."""
    if run.get("url"):
        return f"[MLflow run]({run['url']})"
    if run.get("run_id"):
        return f"MLflow run `{run['run_id']}`: `mlflow server --backend-store-uri sqlite:///mlflow.db`"
    return "No MLflow run was recorded."


def data_uri(path: Path) -> str:
    """A picture as a `data:` address, at most MAX_WIDTH pixels wide."""
    with Image.open(path) as opened:
        picture = opened.convert("RGB")
    picture.thumbnail((MAX_WIDTH, 4 * MAX_WIDTH))
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"
