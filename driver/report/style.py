"""The page's look: a palette in light and dark, the style sheet, and the little script that sorts and filters."""

from __future__ import annotations

# token: (light, dark). Every text colour has a contrast of at least 4.5 to each surface it is used on (WCAG 2 AA).
PALETTE: dict[str, tuple[str, str]] = {
    "paper": ("#f7f6f2", "#121416"),
    "card": ("#ffffff", "#1a1d20"),
    "ink": ("#1c1c1a", "#e8e6e1"),
    "muted": ("#5e5c56", "#a4a29b"),
    "line": ("#e3e0d9", "#2d3135"),
    "track": ("#f1efea", "#22262a"),
    "solid": ("#2f6690", "#66a3d2"),
    "pale": ("#c5d7e4", "#2b4357"),
    "grown": ("#c4851a", "#c4933c"),
    "accent": ("#23577f", "#8fc1e6"),
    "accent-tint": ("#e7f0f6", "#1c2e3c"),
    "good": ("#1f6539", "#7fca98"),
    "good-tint": ("#e3f1e7", "#18301f"),
    "bad": ("#9d2a22", "#f29c91"),
    "bad-tint": ("#fbe9e6", "#3d201d"),
    "care": ("#7a4d00", "#e5b868"),
    "care-tint": ("#fbf1dc", "#352a13"),
    "plain-tint": ("#eeece6", "#292d31"),
}


def _tokens(column: int) -> str:
    return "".join(f"--{token}:{colours[column]};" for token, colours in PALETTE.items())


_RULES = """
*{box-sizing:border-box}
[hidden]{display:none!important}
html{-webkit-text-size-adjust:100%;scroll-behavior:smooth}
body{margin:0;background:var(--paper);color:var(--ink);
 font:15px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,"Noto Sans","Liberation Sans",sans-serif;
 font-variant-numeric:tabular-nums;overflow-wrap:anywhere}
main,.top,footer{max-width:1280px;margin:0 auto;padding:0 28px}
a{color:var(--accent);text-underline-offset:3px;text-decoration-thickness:1px}
:focus-visible{outline:2px solid var(--accent);outline-offset:2px;border-radius:3px}
h1,h2,h3,p,ul,ol,dl,dd,figure,pre{margin:0;padding:0}
h1{font-size:30px;line-height:1.2;font-weight:650;letter-spacing:-.015em}
h2{font-size:19px;line-height:1.3;font-weight:650;letter-spacing:-.01em}
h3{font-size:14px;font-weight:650}
section{margin-top:44px;scroll-margin-top:16px}
.lead{color:var(--muted);max-width:74ch;margin-top:4px}
.muted,.sub{color:var(--muted)}
.sub{font-size:13px}
.name{overflow-wrap:anywhere}
.name,pre{font-family:ui-monospace,
 "SF Mono","Cascadia Code",Menlo,Consolas,"DejaVu Sans Mono","Liberation Mono",monospace;
 font-size:.9em;font-variant-ligatures:none}
h1 .name{font-family:inherit;font-size:inherit}

.top{display:flex;flex-wrap:wrap;gap:6px 20px;align-items:baseline;padding-top:22px;font-size:13.5px}
.brand{font-weight:700;letter-spacing:-.01em;font-size:15px;margin-right:auto}
.top nav{display:flex;flex-wrap:wrap;gap:2px 16px}
.top nav a{color:var(--muted);text-decoration:none}
.top nav a:hover{color:var(--ink);text-decoration:underline}
.title{margin-top:34px}
.title .sub{margin-top:8px}

.card{background:var(--card);border:1px solid var(--line);border-radius:10px}
.verdict{margin-top:22px;padding:24px 26px 26px}
.outcome{display:flex;gap:14px;align-items:flex-start}
.outcome h2{font-size:24px}
.outcome .mark{flex:none;width:30px;height:30px;margin-top:1px}
.mark{fill:none;stroke-width:2.2;stroke-linecap:round;stroke-linejoin:round}
.mark circle{stroke:none}
.yes .mark circle{fill:var(--good-tint)}.yes .mark path{stroke:var(--good)}.yes h2{color:var(--good)}
.no .mark circle{fill:var(--bad-tint)}.no .mark path{stroke:var(--bad)}.no h2{color:var(--bad)}
.open .mark circle{fill:var(--plain-tint)}.open .mark path{stroke:var(--muted)}
.facts{display:flex;flex-wrap:wrap;gap:6px 8px;margin:16px 0 0;list-style:none}
.facts a{text-decoration:none}
.figures{display:grid;grid-template-columns:repeat(auto-fit,minmax(160px,1fr));gap:26px 32px;margin-top:26px;
 padding-top:24px;border-top:1px solid var(--line)}
.figure dt{font-size:13px;color:var(--muted);font-weight:550}
.figure .from{font-size:13.5px;color:var(--muted);margin-top:5px}
.figure .to{font-size:27px;line-height:1.2;font-weight:620;letter-spacing:-.02em}
.figure .by{font-size:13px;color:var(--muted);margin-top:6px}
.figure .by b{color:var(--ink);font-weight:600}
.figure .meter{height:5px;margin-top:8px}
.verdict .scroll{margin-top:24px}

.pill{display:inline-block;padding:1px 8px;border-radius:11px;font-size:12.5px;line-height:1.55;font-weight:550;
 background:var(--plain-tint);color:var(--ink);border:0}
.pill.yes{background:var(--good-tint);color:var(--good)}
.pill.no{background:var(--bad-tint);color:var(--bad)}
.pill.care{background:var(--care-tint);color:var(--care)}
.pill.changed{background:var(--accent-tint);color:var(--accent)}

.panels{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,300px),1fr));gap:16px;margin-top:16px}
.panel{padding:16px 18px 18px;min-width:0}
.panel figcaption{display:flex;justify-content:space-between;gap:12px;align-items:baseline}
.panel ol{list-style:none;margin-top:10px;display:grid;grid-template-columns:minmax(0,1fr);gap:9px}
.panel .row{display:flex;gap:10px;align-items:baseline;font-size:13.5px}
.panel .row .step{flex:1 1 auto;min-width:0;overflow:hidden;text-overflow:ellipsis;white-space:nowrap}
.panel .row .value{font-weight:600;white-space:nowrap}
.panel .row .rel{color:var(--muted);white-space:nowrap;font-size:12.5px}
.chart{display:block;overflow:visible}
.panel .chart{margin-top:3px}
.track{fill:var(--track)}.remaining{fill:var(--solid)}.removed{fill:var(--pale)}.grown{fill:var(--grown)}
.whisker{stroke:var(--ink);stroke-width:1.5}.halo{stroke:var(--card);stroke-width:4.5}
.clip{stroke:var(--bad);stroke-width:1.5}
.axis{stroke:var(--line);stroke-width:2}.point{fill:var(--solid);stroke:var(--card);stroke-width:1.5}
.legend{display:flex;flex-wrap:wrap;gap:4px 20px;margin-top:12px;font-size:13px;color:var(--muted);list-style:none}
.legend svg{width:18px;height:10px;margin-right:7px}

.scroll{overflow-x:auto;margin-top:14px;border:1px solid var(--line);border-radius:10px;background:var(--card)}
table{border-collapse:collapse;width:100%;font-size:13.5px;line-height:1.45}
th,td{padding:8px 12px;text-align:left;vertical-align:top;border-bottom:1px solid var(--line);
 overflow-wrap:break-word}
tbody tr:last-child>*{border-bottom:0}
thead th{font-size:12.5px;font-weight:600;color:var(--muted);white-space:nowrap;vertical-align:bottom;
 background:var(--track)}
tbody th{font-weight:400}
th:first-child,td:first-child{padding-left:16px}
th:last-child,td:last-child{padding-right:16px}
.num{text-align:right;white-space:nowrap}
.num .chart{margin-top:4px;min-width:84px}
.wide{min-width:200px}
.mid{min-width:130px}
.shape{min-width:172px}
.tight{min-width:166px}
.arrow{color:var(--muted);padding:0 .3em}
td .sub,th .sub{font-size:12.5px}
th .sub{font-weight:400}
tr.note td{padding-top:0;color:var(--muted);font-size:13px}
tr.noted>*{border-bottom:0}
tr.note ul{padding-left:17px;position:sticky;left:16px;max-width:min(80ch,calc(100vw - 72px))}
tr.note li::marker{color:var(--line)}
thead button{all:unset;position:relative;cursor:pointer;font:inherit;color:inherit}
thead button:hover{color:var(--ink)}
thead button:focus-visible{outline:2px solid var(--accent);outline-offset:2px;border-radius:3px}
thead button::after{content:"";position:absolute;left:100%;padding-left:2px;color:var(--accent)}
th[aria-sort=ascending] button::after{content:"\\2191"}
th[aria-sort=descending] button::after{content:"\\2193"}
.filter{display:flex;flex-wrap:wrap;gap:6px 12px;align-items:center;margin-top:14px;font-size:13.5px}
.filter input{font:inherit;color:inherit;background:var(--card);border:1px solid var(--muted);border-radius:7px;
 padding:5px 10px;width:260px;max-width:100%}
.filter output{color:var(--muted)}
.none{margin-top:12px;color:var(--muted)}

details{margin-top:14px}
summary{cursor:pointer;font-weight:550;padding:3px 0}
summary .sub{font-weight:400}
details .scroll{margin-top:8px}
.warnings{list-style:none;margin-top:14px;display:grid;gap:8px}
.warnings li{padding:11px 16px;display:grid;grid-template-columns:auto 1fr;gap:2px 14px;align-items:baseline}
.warnings .sub{grid-column:2}
.facing{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,420px),1fr));gap:16px;margin-top:16px}
.facing .card{padding:16px 20px 18px;min-width:0}
.facing .card:nth-child(odd):last-child{grid-column:1/-1}
.pairs{display:grid;grid-template-columns:minmax(90px,auto) 1fr;gap:4px 18px;margin-top:10px;font-size:13.5px}
.pairs dt{color:var(--muted)}
pre{white-space:pre-wrap;padding:13px 16px;margin-top:14px;font-size:13px;line-height:1.6}
footer{margin-top:56px;padding-bottom:44px;color:var(--muted);font-size:13px}
footer p{border-top:1px solid var(--line);padding-top:16px}

@media (max-width:640px){
 main,.top,footer{padding-left:16px;padding-right:16px}
 h1{font-size:24px}
 section{margin-top:36px}
 .title{margin-top:24px}
 .verdict{padding:18px 16px 20px}
 .outcome h2{font-size:21px}
 .figures{grid-template-columns:repeat(auto-fit,minmax(130px,1fr));gap:22px 20px}
 .figure .to{font-size:23px}
 th,td{padding:8px 10px}
 .verdict .scroll :is(th,td){padding-left:8px;padding-right:8px}
 .verdict .scroll .mid{min-width:104px}
}
@page{size:A4 landscape;margin:12mm}
@media print{
 :root{color-scheme:light}
 body{background:#fff;font-size:10.5pt}
 main,.top,footer{max-width:none;padding-left:0;padding-right:0}
 .top nav,.filter{display:none}
 section{margin-top:26px}
 .scroll{overflow:visible}
 table{font-size:8pt}
 th,td{padding:4px 6px}
 .wide,.shape,.tight{min-width:120px}
 .mid{min-width:80px}
 td .sub,th .sub,tr.note td{font-size:7pt}
 th:first-child,td:first-child{padding-left:6px}
 th:last-child,td:last-child{padding-right:6px}
 thead th{font-size:7.5pt;white-space:normal}
 .pill{font-size:7.5pt}
 .num .chart{min-width:40px}
 tr,.panel,.figure,.facing .card{break-inside:avoid}
 h2{break-after:avoid}
 .pill,thead th{print-color-adjust:exact;-webkit-print-color-adjust:exact}
}
@media (prefers-reduced-motion:reduce){html{scroll-behavior:auto}}
"""

STYLE = (
    f":root{{color-scheme:light dark;{_tokens(0)}}}"
    f"@media screen and (prefers-color-scheme:dark){{:root{{{_tokens(1)}}}}}" + _RULES
)

# Without it the tables are complete, in the model's order; with it they sort and filter, and details open to print.
SCRIPT = """
"use strict";
for (const table of document.querySelectorAll("table[data-sortable]")) {
  const body = table.tBodies[0], rows = [...body.rows], heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const now = head.getAttribute("aria-sort");
      const first = head.classList.contains("num") ? "descending" : "ascending";
      const next = now === null ? first : now === first ? (first === "ascending" ? "descending" : "ascending") : null;
      heads.forEach(other => other.removeAttribute("aria-sort"));
      if (next) head.setAttribute("aria-sort", next);
      const key = row => row.cells[column].dataset.v;
      const sign = next === "descending" ? -1 : 1;
      const numeric = head.classList.contains("num");
      body.append(...(next ? [...rows].sort((a, b) => {
        const x = key(a), y = key(b);
        if (x === undefined || y === undefined) return (x === undefined) - (y === undefined);
        return sign * (numeric ? x - y : x.localeCompare(y, undefined, {numeric: true}));
      }) : rows));
    });
  });
  const box = document.createElement("div"), input = document.createElement("input");
  const label = document.createElement("label"), shown = document.createElement("output");
  box.className = "filter";
  label.textContent = "Filter";
  label.htmlFor = input.id = "filter-" + table.dataset.sortable;
  input.type = "search";
  input.placeholder = "name, operator, decision, reason";
  const filter = () => {
    const words = input.value.toLowerCase().split(/\\s+/).filter(Boolean);
    let visible = 0;
    for (const row of rows) {
      const text = row.textContent.toLowerCase();
      row.hidden = !words.every(word => text.includes(word));
      visible += !row.hidden;
    }
    shown.textContent = visible + " of " + rows.length;
  };
  input.addEventListener("input", filter);
  box.append(label, input, shown);
  table.parentElement.before(box);
  filter();
}
addEventListener("beforeprint", () => document.querySelectorAll("details").forEach(item => { item.open = true; }));
"""
