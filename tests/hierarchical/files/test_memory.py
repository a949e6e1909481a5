"""Sizes against memory."""

import pytest

from hierarchical.files import memory


def test_what_fits_passes_and_what_does_not_is_refused(monkeypatch):
    monkeypatch.setattr(memory, "available_memory", lambda: 3 * 2**30)
    memory.check_memory(3 * 2**30, "reading it")
    with pytest.raises(ValueError, match=r"reading it needs 7 TiB of memory, 3 GiB are free"):
        memory.check_memory(7 * 2**40, "reading it")


def test_this_machine_has_memory_but_not_an_exbibyte():
    assert 2**20 < memory.available_memory() < 2**60


def test_a_container_s_limit_counts(monkeypatch, tmp_path):
    (tmp_path / "memory.max").write_text("1048576\n")
    monkeypatch.setattr(memory, "_LIMITS", (tmp_path / "memory.max", tmp_path / "absent"))
    assert memory.available_memory() == 2**20
    free = memory._of_system()
    (tmp_path / "memory.max").write_text("max\n")
    assert memory.available_memory() == pytest.approx(free, rel=0.5)


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0 bytes"), (1023, "1023 bytes"), (1536, "1.5 KiB"), (7 * 2**40, "7 TiB"), (2**80, "1.05e+06 EiB")],
)
def test_sizes_have_units(size, text):
    assert memory.in_units(size) == text


def test_a_size_beyond_any_float_has_a_text():
    assert memory.in_units(10**400).endswith(" bytes")
