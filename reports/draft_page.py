"""The look and the behaviour of the HTML page of a draft, as text in Python: the page needs no other file."""

from __future__ import annotations

CSS = """
:root {
  --ink: #e8ecf1; --soft: #a3aebb; --faint: #6f7c8b; --line: #2a333e; --page: #10151b; --card: #171e26; --lift: #1e2731;
  --supported: #4cc9b0; --unsupported: #f0b54a; --contradicted: #ff7a72; --focus: #7fb4ff;
}
* { box-sizing: border-box; }
html { color-scheme: dark; background: var(--page); }
body { margin: 0; height: 100vh; display: flex; flex-direction: column; color: var(--ink);
  font: 15px/1.5 system-ui, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; }
a { color: var(--focus); }
code { font: 12px/1.5 ui-monospace, "SF Mono", Menlo, Consolas, monospace; overflow-wrap: anywhere; }
:focus-visible { outline: 2px solid var(--focus); outline-offset: 2px; }
.skip { position: absolute; left: -999px; }
.skip:focus { left: 12px; top: 12px; background: var(--card); padding: 6px 12px; z-index: 9; }
header.top { padding: 10px 24px; border-bottom: 1px solid var(--line); display: flex; flex-wrap: wrap;
  gap: 4px 28px; align-items: baseline; }
header.top h1 { font-size: 19px; font-weight: 650; margin: 0; letter-spacing: .01em; }
header.top .study { color: var(--soft); }
.banners { display: flex; flex-wrap: wrap; font-weight: 600; }
.banner { padding: 7px 24px; flex: 1 1 auto; }
.banner.draft { background: #3a2d10; color: #ffdf9e; }
.banner.simulated { background: #1c2f4d; color: #bcd7ff; }
main { flex: 1; min-height: 0; display: grid; grid-template-columns: minmax(360px, 11fr) minmax(380px, 9fr); }
.viewer { background: #000; min-height: 0; display: flex; flex-direction: column; border-right: 1px solid var(--line); }
.pane { min-height: 0; overflow-y: auto; scrollbar-color: #39444f transparent; }
.tools { display: flex; flex-wrap: wrap; gap: 6px 14px; align-items: center; padding: 8px 14px; color: var(--soft);
  font-size: 13px; border-bottom: 1px solid #1a2027; min-height: 46px; }
.tools button { font: inherit; color: var(--ink); background: #161c23; border: 1px solid var(--line);
  border-radius: 6px; padding: 3px 12px; cursor: pointer; }
.tools button[aria-pressed="true"] { background: #2b4163; border-color: #45679a; }
.tools label { display: inline-flex; gap: 6px; align-items: center; }
.tools input[type="range"] { width: 88px; accent-color: var(--focus); }
.tools .push { margin-left: auto; }
.films { flex: 1; min-height: 0; display: flex; flex-direction: column; }
figure { margin: 0; flex: 1; min-height: 0; display: flex; flex-direction: column; }
.js figure[hidden] { display: none; }
figure svg { flex: 1; min-height: 0; width: 100%; display: block; }
figcaption { padding: 6px 14px; color: var(--faint); font-size: 12.5px; }
.side { fill: #fff; opacity: .75; font-weight: 600; }
.box { cursor: pointer; }
.box rect { fill: transparent; stroke: currentColor; stroke-width: 1.6; opacity: .6;
  vector-effect: non-scaling-stroke; }
.box rect.tag { fill: currentColor; stroke: none; opacity: .85; }
.box text { fill: #06090c; font-weight: 700; text-anchor: middle; dominant-baseline: central; }
.box.expert rect { stroke-dasharray: 6 4; }
.box[data-tone="supported"] { color: var(--supported); } .box[data-tone="unsupported"] { color: var(--unsupported); }
.box[data-tone="contradicted"] { color: var(--contradicted); }
.chosen .box { opacity: .13; }
.chosen .box.on { opacity: 1; }
.box.on rect { stroke-width: 3; opacity: 1; filter: drop-shadow(0 0 5px currentColor); }
.box.on rect.tag { opacity: 1; filter: none; }
.noboxes .box:not(.on) { display: none; }
.nofilm { padding: 60px 24px; color: var(--faint); text-align: center; }
.report { padding: 18px 24px 40px; }
.summary a { text-decoration: none; }
.summary { display: flex; flex-wrap: wrap; gap: 8px; margin: 0 0 4px; padding: 0; list-style: none; }
.hint { color: var(--faint); font-size: 13px; margin: 6px 0 0; }
kbd { font: 12px ui-monospace, Menlo, monospace; border: 1px solid var(--line); border-radius: 4px; padding: 0 5px; }
h2 { font-size: 12.5px; letter-spacing: .09em; text-transform: uppercase; color: var(--soft); margin: 26px 0 8px;
  font-weight: 650; }
ol.sentences { list-style: none; margin: 0; padding: 0; }
.s { background: var(--card); border: 1px solid var(--line); border-left: 4px solid var(--tone); border-radius: 8px;
  margin: 0 0 8px; transition: background .12s; }
.s.supported { --tone: var(--supported); } .s.unsupported { --tone: var(--unsupported); }
.s.contradicted { --tone: var(--contradicted); }
.s.on { background: var(--lift); border-color: var(--tone); }
.pick { display: grid; grid-template-columns: 26px 1fr; width: 100%; text-align: left; font: inherit; color: inherit;
  background: none; border: 0; padding: 10px 12px 4px; cursor: pointer; }
.pick .n { color: var(--faint); font-variant-numeric: tabular-nums; }
.contradicted .pick .t { text-decoration: underline wavy 1px var(--contradicted); text-underline-offset: 4px; }
.unsupported .pick .t { text-decoration: underline dotted 1.5px var(--unsupported); text-underline-offset: 4px; }
.mark { color: var(--tone); font-size: .85em; letter-spacing: .03em; }
.meta { display: flex; flex-wrap: wrap; align-items: center; gap: 4px 14px; padding: 0 12px 9px 38px; font-size: 13px;
  color: var(--soft); }
.chip { display: inline-block; border: 1px solid var(--tone); color: var(--tone); border-radius: 99px; padding: 0 9px;
  font-size: 12.5px; font-weight: 600; white-space: nowrap; }
.chip.supported { --tone: var(--supported); } .chip.unsupported { --tone: var(--unsupported); }
.chip.contradicted { --tone: var(--contradicted); }
.bar { display: inline-flex; gap: 8px; align-items: center; font-variant-numeric: tabular-nums; }
.bar svg { width: 84px; height: 7px; display: block; }
.bar .track { fill: var(--line); } .bar .fill { fill: var(--tone); }
.why { flex: 1 1 260px; }
.s:not(.supported) .why { color: var(--tone); }
details { border-top: 1px solid var(--line); font-size: 13px; }
summary { padding: 4px 12px 4px 38px; color: var(--soft); cursor: pointer; }
details ul { margin: 0; padding: 0 14px 10px 38px; list-style: none; }
details li { padding: 4px 0; border-top: 1px dotted var(--line); color: var(--soft); }
details li:first-child { border-top: 0; }
.kind { color: var(--ink); font-weight: 600; margin-right: 6px; }
.by { color: var(--faint); }
blockquote { margin: 4px 0 0; padding: 2px 0 2px 12px; border-left: 2px solid var(--line); color: var(--ink); }
footer { border-top: 1px solid var(--line); padding: 18px 24px 40px; color: var(--soft); font-size: 13px;
  background: #0c1116; }
footer h2 { margin-top: 0; }
footer dl { display: grid; grid-template-columns: max-content 1fr; gap: 3px 18px; margin: 0; }
footer dt { color: var(--faint); } footer dd { margin: 0; overflow-wrap: anywhere; }
@media (max-width: 900px) {
  body { height: auto; display: block; }
  main { display: block; }
  .viewer { position: sticky; top: 0; height: 58vh; z-index: 2; border-bottom: 1px solid var(--line); }
}
@media (prefers-reduced-motion: reduce) { .s { transition: none; } }
@media print {
  :root { --ink: #111; --soft: #333; --faint: #555; --line: #bbb; --card: #fff; --lift: #fff; --page: #fff;
    --supported: #0b7a66; --unsupported: #8a5a00; --contradicted: #b3261e; }
  html { color-scheme: light; background: #fff; }
  body { height: auto; display: table; width: 100%; font-size: 10.5pt;
    print-color-adjust: exact; -webkit-print-color-adjust: exact; }
  .tools, .hint, .skip { display: none; }
  /* as the head of a table, the notices stand on every page */
  .banners { display: table-header-group; break-inside: avoid; }
  .banner.draft, .banner.simulated { background: #fff; color: #111; border: 2px solid #111; margin: 0 24px 6px; }
  header.top, main { display: table-row-group; }
  header.top > h1, header.top > span { margin: 0 24px; }
  h2 { break-after: avoid; }
  .viewer { position: static; height: auto; background: #fff; border: 0; }
  .pane { overflow: visible; }
  .films { flex-direction: row; gap: 12px; padding: 8px 24px; justify-content: center; }
  .js figure[hidden] { display: flex; }
  figure { flex: 0 1 46%; break-inside: avoid; } figure svg { max-height: 11cm; }
  .s { break-inside: avoid; } .box, .chosen .box { opacity: 1; }
  footer { background: #fff; }
}
"""

JS = """
(() => {
  const root = document.documentElement;
  root.classList.add('js');
  const all = (q, from = document) => [...from.querySelectorAll(q)];
  const items = all('.s'), boxes = all('.box'), figures = all('figure'), tabs = all('[data-tab]');
  let pinned = null;
  const showFigure = (uid) => {
    figures.forEach(f => { f.hidden = f.dataset.uid !== uid; });
    tabs.forEach(t => t.setAttribute('aria-pressed', String(t.dataset.tab === uid)));
  };
  const ids = (b) => b.dataset.i.split(' ');
  const tone = (i) => items.find(s => s.dataset.i === i).dataset.verdict;
  const light = (i) => {
    items.forEach(s => s.classList.toggle('on', s.dataset.i === i));
    let mine = [];
    boxes.forEach(b => {
      const on = ids(b).includes(i);
      b.classList.toggle('on', on);
      b.dataset.tone = on ? tone(i) : b.dataset.rest;  // at rest a shared box shows its worst verdict
      if (on) mine.push(b);
    });
    root.classList.toggle('chosen', mine.length > 0);
    const hidden = mine.length > 0 && mine.every(b => b.closest('figure').hidden);
    if (hidden) showFigure(mine[0].closest('figure').dataset.uid);
  };
  const pin = (i) => {
    pinned = pinned === i ? null : i;
    all('.pick').forEach(p => p.setAttribute('aria-pressed', String(p.closest('.s').dataset.i === pinned)));
    light(pinned);
  };
  items.forEach(s => {
    s.addEventListener('mouseenter', () => { if (pinned === null) light(s.dataset.i); });
    s.addEventListener('mouseleave', () => { if (pinned === null) light(null); });
    const pick = s.querySelector('.pick');
    pick.addEventListener('click', () => pin(s.dataset.i));
    pick.addEventListener('focus', () => {
      if (pinned === null && pick.matches(':focus-visible')) light(s.dataset.i);
    });
  });
  boxes.forEach(b => b.addEventListener('click', () => {
    const next = ids(b)[(ids(b).indexOf(pinned) + 1) % ids(b).length];  // sentences that share a box take turns
    if (next !== pinned) pin(next);
    const s = items.find(x => x.dataset.i === next);
    s.scrollIntoView({ block: 'nearest', behavior: 'smooth' });
    s.querySelector('details')?.setAttribute('open', '');
  }));
  tabs.forEach(t => t.addEventListener('click', () => showFigure(t.dataset.tab)));
  if (figures.length) showFigure(figures[0].dataset.uid);
  const level = document.getElementById('level'), contrast = document.getElementById('contrast');
  const invert = document.getElementById('invert'), shown = document.getElementById('boxes');
  const paint = () => all('figure image').forEach(m => {
    const inverted = invert.checked ? 1 : 0;
    m.style.filter = `invert(${inverted}) brightness(${level.value / 100}) contrast(${contrast.value / 100})`;
  });
  const showBoxes = () => root.classList.toggle('noboxes', !shown.checked);
  if (level) {
    [level, contrast, invert].forEach(x => x.addEventListener('input', paint));
    shown.addEventListener('change', showBoxes);
    level.ondblclick = contrast.ondblclick = (e) => { e.target.value = 100; paint(); };
  }
  document.addEventListener('keydown', (e) => {
    if (e.ctrlKey || e.metaKey || e.altKey || e.target.matches('input')) return;
    const step = { ArrowDown: 1, j: 1, ArrowUp: -1, k: -1 }[e.key];
    if (step && items.length) {
      const now = items.findIndex(s => s.dataset.i === pinned);
      const next = items[now < 0 ? (step > 0 ? 0 : items.length - 1) : (now + step + items.length) % items.length];
      e.preventDefault();
      if (next.dataset.i !== pinned) pin(next.dataset.i);
      next.querySelector('.pick').focus({ preventScroll: true });
      next.scrollIntoView({ block: 'nearest' });
    } else if (e.key === 'Escape') { pinned = pinned ?? ''; pin(pinned); }
    else if (e.key === 'b' && shown) { shown.checked = !shown.checked; showBoxes(); }
    else if (e.key === 'i' && invert) { invert.checked = !invert.checked; paint(); }
  });
  addEventListener('beforeprint', () => all('details').forEach(d => { d.open = true; }));
})();
"""
