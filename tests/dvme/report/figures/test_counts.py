from dvme.report import class_counts


def test_class_counts__sides_are_stacked() -> None:
    figure = class_counts({"train + validation": {"a": 3, "b": 1_000}, "test": {"b": 2, "c": 7}})
    train, test = figure.data
    assert list(train.x) == [3, 1_000, 0]
    assert list(test.x) == [0, 2, 7]
    assert figure.layout.barmode == "stack"
    assert list(figure.layout.yaxis.ticktext) == ["a", "b", "c"]
    assert figure.layout.yaxis.range[0] > figure.layout.yaxis.range[1]  # the first on top
    assert test.hovertext[1] == "<b>b</b><br>test: 2 of 1,002 images"
    assert figure.layout.title.subtitle.text == "1,012 images of 3 classes"


def test_class_counts__many_classes() -> None:
    figure = class_counts({"test": {f"class {index}": index for index in range(200)}})
    assert len(figure.data[0].x) == 200
    assert figure.layout.height < 1400
    assert len(figure.layout.yaxis.ticktext) <= 61


def test_class_counts__few_images_have_whole_ticks() -> None:
    assert class_counts({"test": {"a": 3}}).layout.xaxis.dtick == 1
    assert class_counts({"test": {"a": 11}}).layout.xaxis.dtick is None


def test_class_counts__names_are_text() -> None:
    figure = class_counts({"<i>": {"<script>": 1, "x" * 300: 2}})
    assert figure.data[0].name == "&lt;i&gt;"
    assert figure.layout.yaxis.ticktext[0] == "&lt;script&gt;"
    assert len(figure.layout.yaxis.ticktext[1]) < 40
    assert "x" * 300 in figure.data[0].hovertext[1].replace("<br>", "")


def test_class_counts__nothing() -> None:
    assert class_counts({}).layout.title.subtitle.text == "0 images of 0 classes"
