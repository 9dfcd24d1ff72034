"""Machinery: run a stage and publish what it makes; a long one under a lease, with a status."""

import contextlib
import dataclasses
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread

from pipeline.artifacts.artifact import Artifact
from pipeline.artifacts.identity import shorten
from pipeline.artifacts.lease import Lease
from pipeline.artifacts.store import Request, Store
from pipeline.errors import StoppedError
from pipeline.executors.resumable import DoneElsewhereError
from pipeline.runtime.console import say
from pipeline.runtime.files import remove_folder, write_json
from pipeline.runtime.process import is_main_process
from pipeline.runtime.program import as_known
from pipeline.runtime.provenance import installation
from pipeline.stage.command_line import Command
from pipeline.stage.definition import C, Job, Stage, X
from pipeline.stage.planning import request_for


def execute_command(command: Command[C, X], inputs: dict[str, Artifact]) -> Artifact | None:
    """Make what a command asks for, unless it is there; only the main process of a launch gets it."""
    stage, store = command.stage, command.store
    config = stage.resolve(command.options, store)
    request = request_for(stage, config, inputs)
    artifact = store.get(request.kind, request.id)
    if artifact is not None:
        artifact.verify()
        say(f"{artifact.short} is up to date")
        return artifact
    return execute(stage, store, request, config, command.execution, inputs)


def execute(
    stage: Stage[C, X],
    store: Store,
    request: Request,
    config: C,
    execution: X,
    inputs: dict[str, Artifact],
) -> Artifact | None:
    """Run a stage and return what it published; only the main process of a launch gets it."""
    job = Job(
        stage=stage,
        store=store,
        config=config,
        execution=execution,
        inputs=inputs,
        request=request,
        started=time.time(),
    )
    if not stage.launchable:
        return _run_parts(job)
    if not is_main_process():
        return stage.run(job)
    lease = Lease.acquire(job.run_folder)
    try:
        request.leave_in(job.run_folder)
        artifact = store.get(request.kind, request.id)  # whoever had the lease before may have published
        if artifact is None:
            with _status(job.run_folder):
                artifact = stage.run(dataclasses.replace(job, lease=lease))
        lease.check()
        remove_folder(job.run_folder)  # published: nobody will resume it
    finally:
        lease.release()
    return artifact


def _run_parts(job: Job[C, X]) -> Artifact | None:
    """Run a stage of parts; if somebody else publishes it meanwhile, theirs is what we would have made."""
    Thread(target=installation, daemon=True).start()
    try:
        artifact = job.stage.run(job)
    except DoneElsewhereError:
        say(f"the parts of this task are done; task 0 publishes {shorten(job.request.reference)}")
        return job.store.get(job.request.kind, job.request.id)
    except OSError:
        if (artifact := job.store.get(job.request.kind, job.request.id)) is None:
            raise
    remove_folder(job.run_folder)
    return artifact


@contextmanager
def _status(folder: Path) -> Iterator[None]:
    """Keep status.json: `accelerate launch` turns every failure into exit 1, this says what it was."""

    def write(state: str, exit_code: int | None = None, message: str = "") -> None:
        write_json(folder / "status.json", {"state": state, "exit_code": exit_code, "message": message})

    write("running")
    try:
        yield
    except BaseException as error:
        known = as_known(error)
        with contextlib.suppress(OSError):
            state = "stopped" if known.exit_code == StoppedError.exit_code else "failed"
            write(state, known.exit_code, str(known))
        raise
    write("done", 0)
