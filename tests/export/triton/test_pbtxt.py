"""Text format as its specification has it, by hand; Triton's own parser reads it in test_served."""

from edgecxr_export.triton import pbtxt
from edgecxr_export.triton.pbtxt import Name


def test_fields_lists_and_messages() -> None:
    message = {"name": "a", "kind": Name("KIND_CPU"), "dims": [64, -1], "inner": {"empty": {}, "count": 1}}
    assert pbtxt.text(message) == (
        'name: "a"\nkind: KIND_CPU\ndims: 64\ndims: -1\ninner {\n  empty {\n  }\n  count: 1\n}\n'
    )


def test_a_text_cannot_leave_its_quotes() -> None:
    assert pbtxt.text({"a": 'x"\\\n} é'}) == 'a: "x\\"\\\\\\n} é"\n'
