"""doc/dev/safety.md says what the core does."""

from .document import PAGE, generated, with_parts


def test_generated_parts_of_the_page_are_those_of_the_core():
    """Otherwise: python -m search.document --update, and read what has changed."""
    page = PAGE.read_text(encoding="utf-8")
    parts = generated()
    assert {name: text for name, text in parts.items() if text not in page} == {}
    assert with_parts(page, parts) == page
    assert "sometimes: " not in page, "observation() in document.py lacks what decides"
