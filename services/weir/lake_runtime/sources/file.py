"""Local files: only under the import root, or a root named with the dataset, after links are followed."""

import os
from pathlib import Path
from urllib.parse import quote

from weir.lake_runtime.faults import SourceError
from weir.lake_runtime.sources.listing import Location
from weir.lake_runtime.wire import Dataset

_SAMPLE = 1_000
_MAX_ENTRIES = 100_000


def locate(dataset: Dataset, import_root: Path) -> Location:
    """The file or folder of a dataset, or `SourceError` when it lies outside every root."""
    roots = [Path(os.path.realpath(root)) for root in (import_root, *dataset.roots)]
    path = _jailed(dataset, roots)
    if not path.exists():
        raise SourceError(dataset.name, f"nothing was found at {dataset.location}")
    if path.is_file():
        return Location(url=_url(path), shown=dataset.location, is_folder=False, sample=None)
    sample, is_whole = _walk(dataset, path, roots)
    return Location(
        url=_url(path) + "/",
        shown=dataset.location,
        is_folder=True,
        sample=sample,
        sample_is_whole=is_whole,
    )


def locate_upload(dataset: Dataset) -> Location:
    """A file that the tenant has uploaded: it lies in the directory that is named with it, and is no link."""
    path = Path(dataset.location)
    if str(path.parent) not in dataset.roots or path.is_symlink() or "\0" in dataset.location:
        raise _refused(dataset)
    if not path.is_file():
        raise SourceError(dataset.name, "the uploaded file is gone")
    return Location(url=_url(path), shown=path.name, is_folder=False, sample=None)


def jailed_file(dataset: Dataset, location: str, import_root: Path) -> Path:
    """A file that a driver will open by its path; a relative one lies in the import root."""
    if "\0" in location or not location:
        raise _refused(dataset)
    path = Path(os.path.realpath(import_root / location))
    if not _is_under(path, [Path(os.path.realpath(root)) for root in (import_root, *dataset.roots)]):
        raise _refused(dataset)
    if not path.is_file():
        raise SourceError(dataset.name, f"no file was found at {location}")
    return path


def _jailed(dataset: Dataset, roots: list[Path]) -> Path:
    location = dataset.location
    if not location.startswith("/") or "\0" in location:
        raise _refused(dataset)
    path = Path(os.path.realpath(location))
    if not _is_under(path, roots):
        raise _refused(dataset)
    return path


def _walk(dataset: Dataset, folder: Path, roots: list[Path]) -> tuple[list[str], bool]:
    """Some files of a folder; a link inside it that leads out of every root refuses the dataset."""
    sample: list[str] = []
    entries = 0
    for parent, folders, files in os.walk(folder):
        folders.sort()
        for name in (*folders, *sorted(files)):
            entries += 1
            entry = Path(parent) / name
            if entry.is_symlink() and not _is_under(Path(os.path.realpath(entry)), roots):
                raise _refused(dataset)
        sample.extend(str((Path(parent) / name).relative_to(folder)) for name in sorted(files))
        if entries > _MAX_ENTRIES:
            raise SourceError(dataset.name, f"the folder holds more than {_MAX_ENTRIES} entries")
    return sample[:_SAMPLE], len(sample) <= _SAMPLE


def _is_under(path: Path, roots: list[Path]) -> bool:
    return any(path == root or root in path.parents for root in roots)


def _refused(dataset: Dataset) -> SourceError:
    return SourceError(dataset.name, "path_not_allowed: the path lies outside the import directory")


def _url(path: Path) -> str:
    # As a URL with everything quoted: the engine would read `*` and `[` in a plain path as a glob.
    return "file://" + quote(str(path))
