"""Machinery: the program that every stage is: parse, then plan or run, then print the reference."""

import dataclasses
import json
import sys
from collections.abc import Sequence
from typing import Any

from pipeline.artifacts.artifact import Artifact
from pipeline.artifacts.identity import shorten
from pipeline.runtime.console import say
from pipeline.runtime.process import is_main_process, prepare_process
from pipeline.runtime.program import guarded
from pipeline.stage.command_line import Command, parse
from pipeline.stage.definition import Stage
from pipeline.stage.execution import execute_command
from pipeline.stage.planning import Plan, plan_ancestors, plan_stage, require_inputs


def main_of(stage: Stage[Any, Any], argv: Sequence[str] | None) -> int:
    """Be the program `python -m STAGE`: parse, then plan or run; return the exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    prepare_process()
    return guarded(lambda: _main(stage, arguments), debug="--debug" in arguments)


def _main(stage: Stage[Any, Any], arguments: list[str]) -> int:
    command = parse(stage, arguments)
    if command.plan:
        found = plan_stage(command, plan_ancestors(command))
        print(json.dumps(dataclasses.asdict(found)) if command.json else _plan_line(found))
        return 0
    artifact = execute_command(command, require_inputs(command))
    if artifact is not None and is_main_process():
        _announce(artifact, command)
    return 0


def _plan_line(plan: Plan) -> str:
    reference = shorten(plan.reference) if plan.reference else plan.kind
    return f"{reference}  {plan.state}{': ' if plan.why else ''}{'; '.join(plan.why)}"


def _announce(artifact: Artifact, command: Command[Any, Any]) -> None:
    """Print what was made and what to type next; the reference comes last, on stdout."""
    say(f"{artifact.short}: {command.stage.summarize(artifact)}")
    for line in command.stage.next_commands(artifact):
        say(f"  next: {line}")
    if command.json:
        page = {"reference": artifact.reference, "digest": artifact.digest, "path": str(artifact.path)}
        print(json.dumps({**page, "facts": artifact.facts}))
    else:
        print(artifact.reference)
