"""Every kind of error has an exit code of its own, and an error of the system becomes one of ours."""

import errno

import pytest

from pipeline import errors
from pipeline.errors import CairnError, MissingError, StorageError, from_os_error


def test_no_two_kinds_of_error_share_an_exit_code() -> None:
    kinds = [CairnError, *CairnError.__subclasses__()]
    ours = [kind for kind in kinds if kind.__module__ == "pipeline.errors"]

    assert len({kind.exit_code for kind in ours}) == len(ours) == 9


def test_the_codes_are_those_of_the_page_above_the_classes() -> None:
    listed = dict(line.strip("├└─ ").split()[:2] for line in (errors.__doc__ or "").splitlines() if "Error" in line)

    kinds = [CairnError, *CairnError.__subclasses__()]
    assert {k.__name__: str(k.exit_code) for k in kinds if k.__module__ == "pipeline.errors"} == listed


def test_a_full_disk_says_what_to_do() -> None:
    assert "Free some space" in str(errors.from_os_error(OSError(errno.ENOSPC, "No space left on device")))


@pytest.mark.parametrize(
    ("error", "kind", "sentence"),
    [
        (FileNotFoundError(errno.ENOENT, "No such file", "a.txt"), MissingError, "a.txt: No such file"),
        (PermissionError(errno.EACCES, "Permission denied", "a.txt"), StorageError, "a.txt: Permission denied"),
        (OSError(errno.EIO, "Input/output error"), StorageError, "Input/output error"),
        (OSError("what the library says"), StorageError, "what the library says"),
    ],
)
def test_an_error_of_the_system_is_a_sentence_with_its_file(
    error: OSError, kind: type[CairnError], sentence: str
) -> None:
    found = from_os_error(error)

    assert (type(found), str(found)) == (kind, sentence)
