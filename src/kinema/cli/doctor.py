"""``kinema doctor``: what is installed, what is missing, what to type."""

from __future__ import annotations

from dataclasses import asdict

from kinema.cli.output import put_record, put_table
from kinema.tasks.doctor import examine


def doctor(*, json: bool = False) -> None:
    """Check versions, engines, devices, the built-in spotter and the model hub.

    Args:
        json: Print one JSON record per finding.
    """
    findings = examine()
    if json:
        for finding in findings:
            put_record(asdict(finding))
    else:
        lines = []
        for finding in findings:
            lines.append(["ok" if finding.fine else "--", finding.subject, finding.found])
            if finding.remedy:
                lines.append(["", "", finding.remedy])
        put_table(lines)
