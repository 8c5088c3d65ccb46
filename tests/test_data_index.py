"""The table that is kept beside a corpus is scanned again where it claims more than it holds."""

import io
import zipfile

import numpy as np
import pytest

from emojax.data import index as index_module
from emojax.data import open_corpus, read_index


def header(shape):
    written = io.BytesIO()
    fields = {"descr": "<i8", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(written, fields)
    return written.getvalue()


def with_claim(path, shape):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("num_samples.npy", header(shape) + bytes(64))


def compressed(path, _):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("num_samples.npy", header((10**6,)) + bytes(8 * 10**6))


@pytest.mark.parametrize("plant", [with_claim, compressed, lambda path, _: path.write_bytes(b"PK\x03\x04junk")])
def test_a_kept_table_that_claims_more_than_it_holds_is_scanned_again(mini_data_dir, monkeypatch, plant):
    corpus = open_corpus("mini_corpus", mini_data_dir)
    expected = read_index(corpus, "dev")
    (cached,) = (corpus.directory / ".index").glob("dev-*.npz")
    plant(cached, (2**40,))
    monkeypatch.setattr(index_module.np, "load", lambda *_, **__: pytest.fail("it was loaded"))
    np.testing.assert_array_equal(read_index(corpus, "dev").num_samples, expected.num_samples)
    monkeypatch.undo()
    np.testing.assert_array_equal(read_index(corpus, "dev").ids, expected.ids)
