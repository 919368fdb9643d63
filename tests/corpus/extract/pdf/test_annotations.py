"""Values of forms, text boxes and notes are read."""

from __future__ import annotations

from reportlab.pdfgen.canvas import Canvas

from tests.helpers.pages import lines


def test_values_of_form_fields_stand_in_their_place(drawn):
    def draw(canvas: Canvas) -> None:
        lines("Name", "Member", "Guest", "Town", "Password", y=700, pitch=40)(canvas)
        form = canvas.acroForm
        form.textfield(name="name", value="Philomena Quist", x=160, y=690, width=200, height=24)
        form.checkbox(name="member", checked=True, x=160, y=655, size=16)
        form.checkbox(name="guest", checked=False, x=160, y=615, size=16)
        form.choice(name="town", value="Zinal", options=["Arolla", "Zinal"], x=160, y=572, width=120, height=20)
        form.textfield(name="key", value="secret", x=160, y=535, width=200, height=24, fieldFlags="password")

    assert drawn(draw).text.split("\n\n") == [
        "Name\tPhilomena Quist",
        "Member\t[x]",
        "Guest",
        "Town\tZinal",
        "Password",
    ]


def test_text_boxes_and_notes_are_read(drawn):
    def draw(canvas: Canvas) -> None:
        lines("Snow is white.", "Ice is blue.")(canvas)
        canvas.freeTextAnnotation("A text box", Rect=[72, 600, 300, 640], DA="/Helv 12 Tf 0 g")
        canvas.textAnnotation("Ask Philomena", Rect=[400, 700, 420, 720])
        canvas.highlightAnnotation("Really?", Rect=[72, 740, 150, 775])

    assert drawn(draw).text == "Snow is white.\nIce is blue.\n\nA text box\n\nNote: Ask Philomena\n\nNote: Really?"
