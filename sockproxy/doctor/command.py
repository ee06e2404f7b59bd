"""Run the checks and print what they found."""

from __future__ import annotations

import argparse
import json
from typing import NamedTuple

from sockproxy.doctor.machine import Finding, Machine, Unknown
from sockproxy.doctor.table import CHECKS, Check
from sockproxy.http.answer import printable
from sockproxy.supervise.table import Settings

FOUND = 1


class Result(NamedTuple):
    """Hold what came of one check."""

    check: Check
    facts: list[str]
    findings: list[Finding]
    unknown: str

    @property
    def word(self) -> str:
        """Say it in a word."""
        return "FOUND" if self.findings else "unknown" if self.unknown else "ok"


def main(options: argparse.Namespace) -> int:
    """Check this machine; give the exit code.

    Args:
        options: those of `up`, and format ("text" or "json").
    """
    results = [examine(check, Machine(Settings.of(options))) for check in CHECKS]
    print(_json(results) if options.format == "json" else "\n".join(map(printable, _text(results))))
    return FOUND if any(result.findings for result in results) else 0


def examine(check: Check, machine: Machine) -> Result:
    """Run one check."""
    result = Result(check, [], [], "")
    try:
        for finding in check.find(machine):
            result.findings.append(finding) if finding.remedy else result.facts.append(finding.text)
    except Unknown as error:
        return result._replace(unknown=str(error))
    return result


def _text(results: list[Result]) -> list[str]:
    lines = []
    for result in results:
        facts = f": {'; '.join(result.facts)}" if result.facts else ""
        head = {"ok": result.check.good + facts, "unknown": result.unknown, "FOUND": ""}[result.word]
        if head:
            lines.append(f"{result.word:8}{result.check.name:15}{head}")
        for finding in result.findings:
            lines += [f"{'FOUND':8}{result.check.name:15}{finding.text}", f"{'':8}{'':15}-> {finding.remedy}"]
        if result.findings and result.unknown:
            lines.append(f"{'unknown':8}{result.check.name:15}{result.unknown}")
    found, unknown = sum(len(result.findings) for result in results), sum(bool(result.unknown) for result in results)
    lines.append(f"{found} findings, {unknown} checks could not tell{' all' if unknown else ''}")
    return lines


def _json(results: list[Result]) -> str:
    return json.dumps(
        [
            {
                "check": result.check.name,
                "result": result.word,
                "facts": result.facts,
                "findings": [finding._asdict() for finding in result.findings],
                "unknown": result.unknown,
            }
            for result in results
        ],
        indent=2,
    )
