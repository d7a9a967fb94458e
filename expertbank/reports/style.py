"""The page's style sheet: light, dark and print, with nothing loaded from elsewhere."""

from __future__ import annotations

CSS = """
:root {
  color-scheme: light dark;
  --paper: #fbfbf9; --card: #ffffff; --ink: #1c2126; --soft: #59626c; --line: #dcdfe2;
  --accent: #1f5f8b; --mark: 48%;
  --good: #1c6b46; --good-bg: #e8f3ec; --unsure: #7a5200; --unsure-bg: #fbf2dc;
  --bad: #a3231f; --bad-bg: #fbe9e7;
}
@media (prefers-color-scheme: dark) {
  :root {
    --paper: #14171a; --card: #1b1f23; --ink: #e7eaed; --soft: #a2abb4; --line: #343a41;
    --accent: #6db3e3; --mark: 42%;
    --good: #7fd0a4; --good-bg: #16281f; --unsure: #e6bd66; --unsure-bg: #2b2413;
    --bad: #f39a92; --bad-bg: #321a19;
  }
}
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; }
body {
  margin: 0; background: var(--paper); color: var(--ink);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", sans-serif;
}
main, header, footer { max-width: 76rem; margin: 0 auto; padding: 0 1.5rem; }
header { padding-top: 2.5rem; }
.skip { position: absolute; left: -999rem; }
.skip:focus { left: 1rem; top: 1rem; padding: .5rem 1rem; background: var(--card); }
h1 { font-size: 1.05rem; font-weight: 600; letter-spacing: .01em; margin: 0; }
h2 { font-size: 1.2rem; font-weight: 600; margin: 3rem 0 .4rem; }
p { margin: .4rem 0; max-width: 44rem; }
.soft, caption, figcaption { color: var(--soft); }
.soft { font-size: .92rem; }
a { color: var(--accent); }
:focus-visible { outline: 3px solid var(--accent); outline-offset: 2px; border-radius: 2px; }
nav ul { display: flex; flex-wrap: wrap; gap: .2rem 1.2rem; list-style: none; padding: 0; }
.verdict {
  margin: 1.4rem 0 1rem; padding: 1.3rem 1.5rem; border-radius: 6px;
  border: 1px solid var(--tone); border-left-width: 8px; background: var(--tone-bg);
}
.verdict .name {
  color: var(--tone); font-size: .85rem; font-weight: 700; letter-spacing: .08em;
  text-transform: uppercase; margin: 0;
}
.verdict .head {
  font-size: 1.65rem; line-height: 1.25; font-weight: 600; margin: .15rem 0 .4rem; max-width: none;
}
.identical, .preserved { --tone: var(--good); --tone-bg: var(--good-bg); }
.inconclusive, .none { --tone: var(--unsure); --tone-bg: var(--unsure-bg); }
.lost, .changed { --tone: var(--bad); --tone-bg: var(--bad-bg); }
.facts {
  display: grid; grid-template-columns: repeat(auto-fit, minmax(9.5rem, 1fr)); gap: 1px;
  margin: 1.2rem 0 0; background: var(--line); border: 1px solid var(--line);
}
.facts div { background: var(--card); padding: .7rem .9rem; }
.facts dt { color: var(--soft); font-size: .84rem; }
.facts dd { margin: 0; font-size: 1.25rem; font-variant-numeric: tabular-nums; }
.scroll, figure {
  overflow-x: auto; margin: .8rem 0; border: 1px solid var(--line); background: var(--card);
}
table { border-collapse: collapse; font-size: .88rem; min-width: 100%; }
caption { text-align: left; padding: .6rem .8rem; font-size: .9rem; caption-side: top; }
caption span { position: sticky; left: .8rem; display: inline-block; max-width: min(56rem, 88vw); }
th, td { padding: .42rem .8rem; border-top: 1px solid var(--line); text-align: left; }
th { font-weight: 600; }
thead th { vertical-align: bottom; color: var(--soft); font-size: .84rem; }
tbody th, section[aria-labelledby=tests] td { white-space: nowrap; }
.num { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
.why td { border-top: 0; padding-top: 0; color: var(--soft); font-size: .86rem; }
.tag { color: var(--tone); font-weight: 600; white-space: nowrap; }
.tag::before { content: ""; display: inline-block; width: .6em; height: .6em;
  margin-right: .45em; background: var(--tone); border-radius: 50%; }
.lost .tag::before, .changed .tag::before { border-radius: 0; }
.inconclusive .tag::before { background: none; border: 2px solid var(--tone); }
.heat td { text-align: center; font-variant-numeric: tabular-nums; min-width: 3.6rem;
  background: color-mix(in srgb, var(--accent) calc(var(--v, 0) * var(--mark)), var(--card)); }
.heat td.empty { background: none; color: var(--soft); }
.heat .own { font-weight: 700; }
.heat thead th { text-align: center; }
.heat thead th:first-child { text-align: left; }
figure { padding: .8rem; }
figcaption { font-size: .9rem; margin-bottom: .4rem; }
svg { display: block; width: 100%; min-width: 38rem; height: auto; max-width: 56rem; }
svg text { font: 13px system-ui, "Segoe UI", Roboto, "Noto Sans", sans-serif; fill: var(--ink); }
svg .soft { fill: var(--soft); font-size: 12px; }
svg .end { text-anchor: end; }
svg .middle { text-anchor: middle; }
svg .grid { stroke: var(--line); stroke-width: 1; }
svg .zero { stroke: var(--soft); stroke-width: 1; }
svg .margin { stroke: var(--bad); stroke-width: 1.5; stroke-dasharray: 5 4; }
svg .bar { stroke: var(--tone, var(--accent)); stroke-width: 3; stroke-linecap: round; }
svg .now { fill: var(--tone, var(--accent)); }
svg .then { fill: var(--card); stroke: var(--soft); stroke-width: 2; }
svg .link { stroke: var(--soft); stroke-width: 2; }
code, .digest { font: .84rem/1.5 ui-monospace, "SF Mono", Menlo, Consolas, "DejaVu Sans Mono",
  monospace; overflow-wrap: anywhere; }
td .digest { display: inline-block; min-width: 33ch; max-width: 34ch; }
.how { display: grid; grid-template-columns: 12rem 1fr; gap: .5rem 1.5rem; }
.how dt { font-weight: 600; }
.how dd { margin: 0; max-width: 44rem; }
footer { padding: 2.5rem 1.5rem 3rem; }
@media (max-width: 40rem) {
  main, header, footer { padding-left: 1rem; padding-right: 1rem; }
  .how { grid-template-columns: 1fr; gap: .1rem; }
  .how dd { margin-bottom: .8rem; }
  .verdict .head { font-size: 1.35rem; }
}
@media print {
  :root {
    --paper: #fff; --card: #fff; --ink: #000; --soft: #444; --line: #bbb; --accent: #1f5f8b;
    --mark: 48%; --good: #14543a; --good-bg: #fff; --unsure: #634300; --unsure-bg: #fff;
    --bad: #8a1915; --bad-bg: #fff;
  }
  @page { margin: 16mm 14mm; }
  html { font-size: 9.5pt; }
  body { font-size: 1rem; }
  .facts { grid-template-columns: repeat(5, 1fr); background: none; }
  main, header, footer { max-width: none; padding-left: 0; padding-right: 0; }
  header { padding-top: 0; }
  nav, .skip { display: none; }
  .scroll, figure { overflow: visible; border: 0; }
  table { font-size: .84rem; }
  th, td { padding: .25rem .35rem; }
  .num, tbody th, section[aria-labelledby=tests] td { white-space: normal; }
  .heat td { min-width: 0; }
  .heat td, .tag::before { -webkit-print-color-adjust: exact; print-color-adjust: exact; }
  h2 { break-after: avoid; margin-top: 1.6rem; }
  svg { min-width: 0; }
  figure, .verdict, .facts, tr { break-inside: avoid; }
  td .digest { min-width: 0; font-size: 6.5pt; }
}
"""
