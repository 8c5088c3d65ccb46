"""Files at URLs that fsspec opens (gs:// with gcsfs, s3:// with s3fs, ...), and corpora built into a bucket."""

import os
import secrets
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from emojax.errors import CorpusError, reason
from tfds_builders.utterance import is_url

INFO = "dataset_info.json"
"""File without which a folder is no corpus: it is written last, and removed first."""

_LOCAL = ("file:", "local:")
"""URLs of folders of this machine, which are created as needed; a bucket has no folders."""


def read_file(path: str) -> bytes:
    """Reads a file of this machine, or of a bucket.

    Args:
      path: path or URL.
    """
    if not is_url(path):
        return Path(path).read_bytes()
    files, name = _open(path)
    return bytes(files.cat_file(name))


def put_file(written: Path, target: str) -> None:
    """Copies a file to its target, where it appears complete.

    Args:
      written: file of this machine.
      target: path or URL; an existing file is replaced.
    """
    if is_url(target):  # an object of a bucket appears when all of it was received
        files, name = _open(target)
        files.put_file(str(written), name)
        return
    temporary = f"{target}.{secrets.token_hex(8)}.tmp"
    try:
        shutil.copyfile(written, temporary)
        os.replace(temporary, target)
    finally:
        Path(temporary).unlink(missing_ok=True)


def local_files(paths: Iterable[str]) -> Iterator[Path]:
    """Yields files one after the other: those of a bucket as a copy, which exists until the next one is taken.

    Args:
      paths: paths or URLs.
    """
    for path in paths:
        if not is_url(path):
            yield Path(path)
            continue
        with tempfile.TemporaryDirectory() as own:
            files, name = _open(path)
            copy = Path(own) / name.rpartition("/")[2]
            files.get_file(name, str(copy))
            yield copy


def remove_folder(path: str) -> None:
    """Removes a folder with its files, if there is one.

    Args:
      path: path or URL.
    """
    if not is_url(path):
        shutil.rmtree(path, ignore_errors=True)
        return
    files, name = _open(path)
    if files.exists(name):
        files.rm(name, recursive=True)


class CorpusBucket:
    """Folder of corpora in a bucket."""

    def __init__(self, url: str):
        """Accesses the bucket.

        Args:
          url: `--data_dir`.

        Raises:
          CorpusError: the package of its file system is not installed, or the bucket cannot be accessed.
        """
        self.url = url.rstrip("/")
        self._guarded(lambda: _open(self.url)[0].exists(_open(self.url)[1]))

    def fetch_metadata(self, corpus: str, folder: Path) -> bool:
        """Copies the metadata of a corpus, without shards; returns whether the corpus is there.

        Args:
          corpus: its folder, `NAME/CONFIG/VERSION`.
          folder: local folder that the same path is created in.
        """

        def fetch() -> bool:
            files, root = _open(f"{self.url}/{corpus}")
            if not files.exists(f"{root}/{INFO}"):
                return False
            (folder / corpus).mkdir(parents=True)
            for path in files.ls(root, detail=False):
                if path.endswith(".json"):
                    files.get_file(path, str(folder / corpus / path.rpartition("/")[2]))
            return True

        return bool(self._guarded(fetch))

    def remove(self, corpus: str) -> None:
        """Removes a corpus.

        Args:
          corpus: its folder, `NAME/CONFIG/VERSION`.
        """

        def remove() -> None:
            files, info = _open(f"{self.url}/{corpus}/{INFO}")
            if files.exists(info):
                files.rm_file(info)
            remove_folder(f"{self.url}/{corpus}")

        self._guarded(remove)

    def put(self, folder: Path) -> None:
        """Copies a built corpus: the corpus is there when its last file is.

        Args:
          folder: local folder of corpora, with one corpus.
        """

        def put() -> None:
            paths = [path for path in folder.rglob("*") if path.is_file()]
            for path in sorted(paths, key=lambda path: (path.name == INFO, path)):
                put_file(path, f"{self.url}/{path.relative_to(folder).as_posix()}")

        self._guarded(put)

    def _guarded(self, action: Any) -> Any:
        try:
            return action()
        except CorpusError:
            raise
        except Exception as error:  # of the file system's package and of the client below it
            raise CorpusError(f"--data_dir={self.url}: cannot be accessed ({reason(error)})") from error


def _open(url: str) -> tuple[Any, str]:
    import fsspec  # type: ignore[import-untyped]

    options = {"auto_mkdir": True} if url.startswith(_LOCAL) else {}
    files, name = fsspec.url_to_fs(url, **options)
    return files, name
