"""The report: what its JSON keeps and refuses, what its HTML shows, and what hostile names do to either."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import json
import math
import re
import typing
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pytest
from tersor.driver import report as rp
from tersor.driver.report import style
from tersor.ir.errors import TersorError


def sample_layer(index: int) -> rp.Layer:
    """A layer of a residual network on 8x8 images."""
    op = ("Conv", "BatchNormalization", "Conv", "Relu", "Add")[index % 5]
    width = 16 << (index // 14)
    scope = f"features.{index // 5}"
    parameters = {"Conv": width * width * 9 + width, "BatchNormalization": 4 * width}.get(op, 0)
    flops = parameters * 2 * (64 >> (index // 14)) or 64 * width
    shape = f"f32[{width},{width},3,3]" if op == "Conv" else f"f32[N,{width},8,8]"
    layer = rp.Layer(
        name=f"{scope}.{op.lower()}{index}",
        op=op,
        scope=scope,
        source=f"network.py:{31 + index}",
        decision="kept",
        shape_before=shape,
        shape_after=shape,
        parameters_before=parameters,
        parameters_after=parameters,
        flops_before=flops,
        flops_after=flops,
        bytes_before=4 * parameters,
        bytes_after=4 * parameters,
    )
    gone = {"shape_after": None, "parameters_after": None, "flops_after": None, "bytes_after": None}
    if op == "BatchNormalization":
        return replace(layer, decision="folded", reason="into the convolution before it", **gone)
    if op != "Conv":
        return layer
    if index in (0, 25):
        return replace(layer, decision="fp32", reason="int8 is 1.1× slower here; fp32 saves 6.3 dB")
    return replace(
        layer,
        decision="int8, pruned 30 %",
        reason="2.41× faster; 30 % of channels carry little",
        shape_after=f"f32[{round(width * 0.7)},{round(width * 0.7)},3,3]",
        parameters_after=parameters // 2,
        flops_after=flops // 2,
        bytes_after=parameters // 2,
        sqnr_db=31.5 + index % 7,
    )


def sample_step(name: str, median: float, top1: float, **more: Any) -> rp.Step:
    """A step whose latency is `median` ms where the baseline took 0.412."""
    ratio = median / 0.412
    latency = rp.Latency(
        median_ms=median,
        low_ms=median * 0.985,
        high_ms=median * 1.03,
        ratio=ratio,
        ratio_low=ratio * 0.98,
        ratio_high=ratio * 1.02,
        runs=300,
    )
    metrics = {"top1": rp.Metric(value=top1, low=top1 - 0.011, high=top1 + 0.008)}
    return rp.Step(name=name, seconds=0.31, latency=latency, metrics=metrics, **more)


def sample_parity(kind: str, against: str, **more: Any) -> rp.Parity:
    common = {"inputs": "given", "cosine": 0.999987, "argmax_agreement": 0.9972, "values_compared": 3600}
    return rp.Parity(kind=kind, against=against, **(common | more))


def sample_run() -> rp.Run:
    return rp.Run(
        tool=rp.Tool(tersor="0.1.0", onnx="1.23.2", onnxruntime="1.31.1", numpy="2.4.0", python="3.11.7"),
        platform=rp.Platform(cpu="AMD EPYC 7R13", threads=1, runtime="ort-cpu", system="Linux 6.1 x86_64"),
        seed=0,
        command='tersor compress digits.onnx -o out/ --goal "latency<=0.6x, size<=100kB" --data digits.npz --seed 0',
        options={"methods": "simplify, prune(ratio=0.3), int8", "only": "()", "target": "ort-cpu"},
        inputs=(
            rp.File(role="model", name="digits.onnx", sha256="9f86d081884c7d65" * 4, bytes=281_344),
            rp.File(role="data", name="digits.npz", sha256="60303ae22b998861" * 4, bytes=115_208),
        ),
        outputs=(rp.File(role="onnx", name="out/model.onnx", sha256="fd61a03af4f77d87" * 4, bytes=79_112),),
    )


def sample_steps() -> tuple[rp.Step, ...]:
    fold = rp.Rule(name="fold_batchnorm_into_conv", tries=14, hits=14, seconds=0.021)
    pads = rp.Rule(name="merge_pads", tries=9, declined={"mode is reflect": 2, "negative pad": 7})
    return (
        sample_step(
            "baseline", 0.412, 0.9833, contract="baseline", nodes=96, parameters=68_458, bytes=281_344, flops=5_812_224
        ),
        sample_step(
            "simplify",
            0.371,
            0.9833,
            transform="simplify()",
            contract="exact",
            nodes=64,
            parameters=67_690,
            bytes=276_910,
            flops=5_724_160,
            parity=sample_parity(
                "outputs",
                "previous step",
                inputs="synthetic",
                max_error=2.1e-7,
                tolerance=1e-5,
                sqnr_db=128.4,
                passed=True,
            ),
            rules=(fold, pads),
        ),
        sample_step(
            "prune",
            0.268,
            0.9722,
            transform="prune(ratio=0.3, importance='l1', multiple=4)",
            contract="masked",
            nodes=64,
            parameters=34_118,
            bytes=141_070,
            flops=2_901_504,
            parity=sample_parity("mask oracle", "masked original", max_error=8.8e-7, tolerance=1e-5, passed=True),
            notes=(
                "30 % of channels removed from 18 of 20 groups.",
                "Every intermediate value equals the masked original.",
            ),
        ),
        sample_step(
            "int8",
            0.186,
            0.9777,
            transform="int8(mode='static', per_channel=True)",
            contract="approximate",
            nodes=121,
            parameters=34_118,
            bytes=79_112,
            flops=2_901_504,
            parity=sample_parity("outputs", "original", max_error=0.031, sqnr_db=33.9),
        ),
    )


def sample_report() -> rp.Report:
    """What compressing a small network for handwritten digits reports: a baseline, three steps, forty layers."""
    return rp.Report(
        model=rp.Model(
            name="digits",
            opset=21,
            inputs=(rp.Port(name="image", type="f32[N,1,8,8]"),),
            outputs=(rp.Port(name="logits", type="f32[N,10]"),),
        ),
        run=sample_run(),
        goal=rp.Goal(
            met=True,
            verdict="All three clauses hold for the file that was written.",
            clauses=(
                rp.Clause(text="latency<=0.6x", metric="latency", limit=0.6, value=0.4515, unit="x", met=True),
                rp.Clause(text="drop(top1)<=1%", metric="top1", limit=1, value=0.56, unit="%", met=True),
                rp.Clause(text="size<=100kB", metric="size", limit=100_000, value=79_112, unit="B", met=True),
            ),
        ),
        steps=sample_steps(),
        layers=tuple(map(sample_layer, range(40))),
        declined=(
            rp.Declined(what="axis 1 of the output", where="logits", reason="a graph output keeps its shape"),
            rp.Declined(what="channels", where="features.0.conv0", reason="named in skip"),
        ),
        warnings=(
            rp.ReportWarning(code="TSR204", message="not faster in int8 on this CPU", where="features.0.conv0"),
            rp.ReportWarning(code="TSR311", message="18 calibration samples are few; 128 or more are recommended"),
        ),
    )


def empty_report() -> rp.Report:
    """The least a report can say: a step whose every measurement is absent."""
    run = rp.Run(
        tool=rp.Tool(tersor="0.1.0", onnx="1", onnxruntime="1", numpy="2"),
        platform=rp.Platform(cpu="unknown"),
        command="-",
    )
    layer = rp.Layer(name="stem", op="Conv", decision="kept")
    clause = rp.Clause(text="latency<=0.6x", metric="latency")
    parity = rp.Parity(kind="outputs", against="original", inputs="given")
    step = rp.Step(
        name="baseline", contract="baseline", latency=rp.Latency(), metrics={"top1": rp.Metric()}, parity=parity
    )
    return rp.Report(
        model=rp.Model(name="empty"), run=run, goal=rp.Goal(clauses=(clause,)), steps=(step, step), layers=(layer,)
    )


HOSTILE = "</style></script><script>alert('x')</script><img src=x onerror=\"y\"> \u202egnp.exe\u2066\x00\ud800 & é"


def prefixed(value: Any, prefix: str) -> Any:
    """`value` with `prefix` before every free text in it, keys included."""
    if isinstance(value, str):
        return prefix + value
    if isinstance(value, tuple):
        return tuple(prefixed(item, prefix) for item in value)
    if isinstance(value, dict):
        return {prefixed(key, prefix): prefixed(item, prefix) for key, item in value.items()}
    if not dataclasses.is_dataclass(value) or isinstance(value, type):
        return value
    hints = typing.get_type_hints(type(value))
    free = [
        field.name for field in dataclasses.fields(value) if typing.get_origin(hints[field.name]) is not typing.Literal
    ]
    return replace(value, **{field: prefixed(getattr(value, field), prefix) for field in free})


def hostile_report() -> rp.Report:
    """The sample with names that attack the page, long enough to have to wrap."""
    return prefixed(sample_report(), HOSTILE + "x" * 300)


class Page(HTMLParser):
    """The elements of a page with their attributes, and its visible text."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.parts: list[str] = []
        self.raw: dict[str, str] = {}
        self.inside = ""
        self.feed(html)
        self.close()
        self.text = " ".join(" ".join(self.parts).split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self.inside = tag

    def handle_endtag(self, tag: str) -> None:
        self.inside = ""

    def handle_data(self, data: str) -> None:
        if self.inside in ("style", "script"):
            self.raw[self.inside] = data
        else:
            self.parts.append(data)

    def structure(self) -> list[tuple[str, list[str]]]:
        return [(tag, sorted(attributes)) for tag, attributes in self.elements]


def page(report: rp.Report) -> Page:
    return Page(rp.render(report))


# JSON


@pytest.mark.parametrize("make", [sample_report, empty_report, hostile_report])
def test_a_report_reads_back_from_its_json_as_it_was(make):
    report = make()
    assert rp.Report.from_json(report.to_json()) == report


def test_the_json_is_deterministic_sorted_ascii_and_names_its_schema():
    text = hostile_report().to_json()
    assert text == rp.Report.from_json(text).to_json()
    assert text.isascii()
    assert text.endswith("}\n")
    values = json.loads(text)
    assert values["schema"] == rp.SCHEMA == "tersor.report/1"
    assert json.dumps(values, sort_keys=True) == json.dumps(values)


def test_numbers_that_json_lacks_become_null():
    metric = rp.Metric(value=math.nan, low=-math.inf, high=math.inf)
    assert metric == rp.Metric()
    text = replace(sample_report(), steps=(sample_step("baseline", math.inf, math.nan, contract="baseline"),)).to_json()
    assert "NaN" not in text
    assert "Infinity" not in text
    assert json.loads(text)["steps"][0]["latency"]["median_ms"] is None


def test_numpy_scalars_are_kept_as_python_s():
    scalars: Any = {"nodes": np.int64(7), "seconds": np.float32(0.5)}
    step = rp.Step(name="baseline", contract="baseline", **scalars)
    clause = rp.Clause(text="size<=1", metric="size", met=np.bool_(True), limit=1)  # pyright: ignore[reportArgumentType]
    assert (type(step.nodes), type(step.seconds), clause.met, type(clause.limit)) == (int, float, True, float)
    report = replace(sample_report(), steps=(step,), goal=rp.Goal(clauses=(clause,)))
    assert rp.Report.from_json(report.to_json()) == report


def test_lists_are_kept_as_tuples():
    assert replace(sample_report(), layers=[sample_layer(0)]).layers == (sample_layer(0),)


def edited(**changes: Any) -> str:
    return json.dumps(json.loads(sample_report().to_json()) | changes)


STEP = {"name": "baseline", "contract": "baseline"}


@pytest.mark.parametrize(
    ("text", "where", "expected", "found"),
    [
        (edited(schema="tersor.report/2"), "schema", "'tersor.report/1'", "'tersor.report/2'"),
        ("{}", "schema", "'tersor.report/1'", "none"),
        ("[]", "schema", "'tersor.report/1'", "none"),
        ("not json", "line 1, column 1", "JSON", "something else"),
        (sample_report().to_json()[:-40], "line", "JSON", "something else"),
        (edited(model=7), "report.model", "an object", "7"),
        (edited(model={}), "report.model.name", "a value", "no such field"),
        (edited(model={"name": None}), "report.model.name", "text", "None"),
        (edited(steps={}), "report.steps", "a list", "{}"),
        (edited(steps=[STEP | {"nodes": "9"}]), "report.steps[0].nodes", "an integer", "'9'"),
        (edited(steps=[STEP | {"nodes": True}]), "report.steps[0].nodes", "an integer", "True"),
        (edited(steps=[STEP | {"seconds": "1"}]), "report.steps[0].seconds", "a number", "'1'"),
        (edited(steps=[STEP | {"contract": "lossy"}]), "report.steps[0].contract", "'masked'", "'lossy'"),
        (edited(steps=[STEP | {"contract": []}]), "report.steps[0].contract", "'masked'", "[]"),
        (edited(steps=[STEP, STEP | {"metrics": {"top1": 0.9}}]), "report.steps[1].metrics.top1", "an object", "0.9"),
        (edited(colour="red"), "report", "layers", "'colour'"),
        ('{"schema": "tersor.report/1", "schema": 1}', "report", "each key once", "'schema' twice"),
        ('{"schema": NaN}', "report", "finite numbers or null", "NaN"),
        ('{"schema": 1e999}', "report", "finite numbers or null", "1e999"),
        ('{"schema": ' + "9" * 5000 + "}", "report", "numbers of a sensible size", "thousands of digits"),
        (edited(steps=[STEP | {"seconds": 10**400}]), "report.steps[0].seconds", "a number", "1000"),
        ("[" * 100_000, "report", "a few levels of nesting", "more"),
    ],
)
def test_what_is_not_a_report_of_this_version_is_refused_with_place_expected_and_found(text, where, expected, found):
    with pytest.raises(rp.ReportFormatError) as caught:
        rp.Report.from_json(text)
    error = caught.value
    assert isinstance(error, TersorError)
    assert isinstance(error, ValueError)
    assert error.where.startswith(where)
    wanted, _, got = error.why.partition(", found ")
    assert expected in wanted
    assert found in got
    assert len(str(error)) < 400


def test_a_report_that_could_not_be_read_back_is_not_written():
    wrong: Any = {"contract": "lossy"}
    with pytest.raises(rp.ReportFormatError, match=r"steps\[0\]\.contract"):
        replace(sample_report(), steps=(rp.Step(name="baseline", **wrong),)).to_json()


# HTML


@pytest.mark.parametrize("make", [sample_report, empty_report, hostile_report])
def test_the_page_is_the_same_for_a_report_read_from_its_json(make):
    assert rp.render(make()) == rp.render(rp.Report.from_json(make().to_json()))


def test_every_step_layer_reason_warning_and_rule_is_on_the_page():
    report = sample_report()
    text = page(report).text
    said = [part for step in report.steps for part in (step.name, step.transform, step.contract, *step.notes)]
    said += [part for layer in report.layers for part in (layer.name, layer.decision, layer.reason, layer.source)]
    said += [part for item in report.declined for part in (item.what, item.where, item.reason)]
    said += [part for item in report.warnings for part in (item.code, item.message, item.where)]
    said += ["fold_batchnorm_into_conv", "merge_pads", "negative pad", "mode is reflect", report.run.command]
    said += [file.sha256 for file in (*report.run.inputs, *report.run.outputs)]
    assert [part for part in said if part and part not in text] == []


def test_the_verdict_gives_each_figure_before_and_after():
    text = page(sample_report()).text.replace("\u202f", " ")
    for figure in (
        "Goal met",
        "281 kB → 79.1 kB 0.28× −72 %",
        "68.5 k → 34.1 k 0.50× −50 %",
        "5.81 M → 2.90 M",
        "0.412 ms → 0.186 ms 0.45× [0.442, 0.460]",
        "0.9833 → 0.9777 −0.0056 absolute",
    ):
        assert figure in text


@pytest.mark.parametrize(
    ("goal", "title"),
    [
        (None, "No goal was set"),
        (rp.Goal(met=True), "Goal met"),
        (rp.Goal(met=False), "Goal not met"),
        (rp.Goal(met=None), "Goal not measured"),
    ],
)
def test_the_verdict_names_the_outcome(goal, title):
    headings = re.findall(r"<h2>(.*?)</h2>", rp.render(replace(sample_report(), goal=goal)))
    assert headings[0] == title


def test_a_failed_parity_check_is_said_beside_the_verdict():
    first, second, *rest = sample_report().steps
    assert second.parity
    failed = replace(second, parity=replace(second.parity, passed=False))
    text = page(replace(sample_report(), steps=(first, failed, *rest))).text
    assert "parity failed in 1 of 2 checks" in text
    assert "parity passed" not in text


def test_synthetic_inputs_are_said_beside_the_verdict():
    verdict = rp.render(sample_report()).partition('id="steps"')[0]
    assert "synthetic inputs" in verdict


def test_hostile_names_leave_the_structure_of_the_page_as_it_is():
    assert page(hostile_report()).structure() == page(prefixed(sample_report(), "plain ")).structure()


def test_hostile_names_reach_the_page_only_as_text():
    html = rp.render(hostile_report())
    assert html.count("<script") == html.count("</script") == 1
    assert html.count("</style") == 1
    assert "<img" not in html
    assert "<script>alert('x')</script>" in page(hostile_report()).text
    for _, attributes in page(hostile_report()).elements:
        assert not [name for name in attributes if name.startswith("on")]
        assert (attributes.get("href") or "#").startswith(("#", "data:,"))


def test_characters_without_a_glyph_are_shown_as_code_points():
    html = rp.render(hostile_report())
    assert not set(html) & {"\u202e", "\u2066", "\x00", "\ud800"}
    assert "⟨U+202E⟩gnp.exe⟨U+2066⟩⟨U+0000⟩⟨U+D800⟩ &amp; é" in html
    assert html.encode()


@pytest.mark.parametrize("make", [sample_report, empty_report])
def test_the_page_refers_to_nothing_outside_itself(make):
    html = rp.render(make()).lower()
    for reference in ("http:", "https:", "//", "src=", "url(", "@import", '<link rel="style', "<iframe", "xlink"):
        assert reference not in html


def test_the_security_policy_admits_only_the_page_s_own_style_and_script():
    parsed = page(sample_report())
    policies = [a["content"] for _, a in parsed.elements if a.get("http-equiv") == "Content-Security-Policy"]
    digest = base64.b64encode(hashlib.sha256(parsed.raw["script"].encode()).digest()).decode()
    assert policies == [
        "default-src 'none'; style-src 'unsafe-inline'; img-src data:; "
        f"script-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    ]


def test_what_was_not_measured_is_a_dash_and_never_none_or_nan():
    parsed = page(empty_report())
    assert not re.search(r"\b(None|nan|inf|null)\b", parsed.text)
    rows = re.findall(r"<tr>(.*?)</tr>", rp.render(empty_report()))
    cells = [re.sub("<.*?>", "", cell) for cell in re.findall(r"<td.*?</td>", "".join(rows))]
    assert set(cells) == {"–", "outputs", "original", "given", "kept"}
    assert "baseline" in parsed.text
    assert "– → –" in parsed.text


def test_a_report_without_any_step_is_still_a_page():
    text = page(replace(empty_report(), steps=(), layers=(), goal=None)).text
    assert "No goal was set" in text
    assert "– → –" in text


def test_sorted_columns_have_a_key_for_every_value_that_was_measured():
    html = rp.render(sample_report())
    table = html[html.index('data-sortable="layers"') :].partition("</table>")[0]
    rows = table.partition("<tbody>")[2].split("</tr>")[:-1]
    assert len(rows) == 40
    for row, layer in zip(rows, sample_report().layers, strict=True):
        assert f'data-v="{layer.name}"' in row
        assert (f'data-v="{layer.parameters_before}"' in row) == (layer.parameters_before is not None)


def luminance(colour: str) -> float:
    """Relative luminance of "#rrggbb" (WCAG 2.2)."""
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
@pytest.mark.parametrize(
    ("text", "surfaces"),
    [
        ("ink", ("paper", "card", "track", "plain-tint")),
        ("muted", ("paper", "card", "track")),
        ("accent", ("paper", "card", "accent-tint", "track")),
        ("good", ("card", "good-tint")),
        ("bad", ("card", "bad-tint")),
        ("care", ("card", "care-tint")),
    ],
)
def test_text_has_the_contrast_that_wcag_aa_asks_for(scheme, text, surfaces):
    for surface in surfaces:
        pair = sorted(luminance(style.PALETTE[token][scheme]) for token in (text, surface))
        assert (pair[1] + 0.05) / (pair[0] + 0.05) >= 4.5, (text, surface)


def rounded_report() -> rp.Report:
    """A report with a layer in int8 whose input was counted."""
    rounding = rp.Rounding(
        scheme="u8 x i8 per channel",
        low=0.0,
        high=6.0,
        weight_sqnr_db=44.1,
        alone_sqnr_db=38.6,
        before_us=105.0,
        after_us=39.0,
        counts=(900, 40, 0, 2),
        seen_low=0.0,
        seen_high=8.0,
    )
    layer = rp.Layer(name="<body>", op="Conv", decision="int8", sqnr_db=33.3, rounding=rounding)
    return replace(sample_report(), layers=(layer, sample_layer(0)))


def test_quantized_layers_have_a_table_and_the_worst_a_histogram_with_its_clip_points():
    page = rp.render(rounded_report())
    section = page[page.index('id="rounding"') : page.index('id="parity"')]
    for shown in ("u8 x i8 per channel", "44.1", "38.6", "33.3", "0.105", "0.0390", "&lt;body&gt;"):
        assert shown in section
    assert section.count('class="grown"') == 1
    assert section.count('class="remaining"') == 3
    assert section.count('class="clip"') == 1
    assert "kept from 0 to 6" in section


def test_without_quantized_layers_there_is_no_such_section():
    assert 'id="rounding"' not in rp.render(sample_report())


def test_rounding_survives_the_file():
    assert rp.Report.from_json(rounded_report().to_json()) == rounded_report()
