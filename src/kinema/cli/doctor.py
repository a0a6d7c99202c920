"""``kinema doctor``: what is installed, what is missing, what to type."""

from __future__ import annotations

from dataclasses import asdict

from kinema.cli.output import put_record, put_table
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
    else:
        put_table([line for finding in findings for line in _lines(finding)])


def _lines(finding: Finding) -> list[list[str]]:
    line = ["ok" if finding.fine else "--", finding.subject, finding.found]
    return [line, ["", "", finding.remedy]] if finding.remedy else [line]
