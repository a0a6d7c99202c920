"""``kinema doctor``: what is installed, what is missing, what to type."""

from __future__ import annotations

from dataclasses import asdict

from rich.console import Console
from rich.table import Table

from kinema.cli.output import put_record
from kinema.tasks.doctor import Finding, examine


def doctor(*, json: bool = False) -> None:
    """Check versions, engines, devices, the built-in model and the model hub.

    Args:
        json: Print one JSON record per finding.
    """
    findings = examine()
    if json:
        for finding in findings:
            put_record(asdict(finding))
        return
    Console().print(_table(findings))


def _table(findings: list[Finding]) -> Table:
    table = Table(box=None, show_header=False, pad_edge=False)
    for finding in findings:
        mark = "[green]ok[/]" if finding.fine else "[red]--[/]"
        remedy = f"\n[bold]{finding.remedy}[/]" if finding.remedy else ""
        table.add_row(mark, finding.subject, finding.found + remedy)
    return table
