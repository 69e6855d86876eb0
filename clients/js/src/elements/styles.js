/**
 * The look of the elements. Each colour and size is a custom property, which a page may set. They are light or
 * dark as the `color-scheme` of the page is.
 */

const SHEET = `
:host {
  --_text: var(--rt-text, light-dark(#1c2024, #e8eaed));
  --_muted: var(--rt-muted, light-dark(#5b6370, #a4abb6));
  --_surface: var(--rt-surface, light-dark(#ffffff, #1b1e23));
  --_line: var(--rt-line, light-dark(#d9dde3, #3a404a));
  --_track: var(--rt-track, light-dark(#e6e9ee, #2b3038));
  --_accent: var(--rt-accent, light-dark(#1a5fd0, #7db0ff));
  --_on-accent: var(--rt-on-accent, light-dark(#ffffff, #10141a));
  --_good: var(--rt-good, light-dark(#1a7a3c, #67d391));
  --_bad: var(--rt-bad, light-dark(#b3261e, #ff9b93));
  --_warn: var(--rt-warn, light-dark(#8a5a00, #ffcc66));
  --_radius: var(--rt-radius, 8px);
  --_gap: var(--rt-gap, 12px);
  display: block;
  color: var(--_text);
  background: var(--_surface);
  border: 1px solid var(--_line);
  border-radius: var(--_radius);
  padding: var(--_gap);
  font: var(--rt-font, 15px/1.45 system-ui, sans-serif);
  overflow-wrap: anywhere;
}
:host([hidden]), [hidden] { display: none !important; }
* { box-sizing: border-box; }
p, ul { margin: 0; padding: 0; }
ul, .plain { list-style: none; margin: 0; padding: 0; }
header { display: flex; flex-wrap: wrap; gap: 4px var(--_gap); align-items: baseline; }
.title { font-weight: 600; flex: 1 1 8em; margin: 0; font-size: inherit; }
.status, .detail, .empty, time { color: var(--_muted); font-size: 0.87em; }
.status[data-status="completed"] { color: var(--_good); }
.status[data-status="failed"], .status[data-status="dead"], .error { color: var(--_bad); }
.status[data-status="partial"], .notice { color: var(--_warn); }
.notice, .error { font-size: 0.87em; margin-top: 6px; }
.bar { position: relative; height: 10px; margin: 8px 0 6px; border-radius: 5px; background: var(--_track); overflow: hidden; }
.fill { position: relative; height: 100%; width: 0; border-radius: inherit; background: var(--_accent); transition: width 0.25s ease-out; }
/* Where the end is expected: from the left edge of the band on, most probably at the mark. */
.band { position: absolute; inset: 0 0 0 auto; background: color-mix(in srgb, var(--_accent) 30%, transparent); }
.likely { position: absolute; inset-block: 0; width: 2px; margin-left: -1px; background: color-mix(in srgb, var(--_accent) 75%, transparent); }
.bar[data-status="completed"] .fill { background: var(--_good); }
.bar[data-status="partial"] .fill { background: var(--_warn); }
.bar[data-status="failed"] .fill, .bar[data-status="dead"] .fill { background: var(--_bad); }
.bar.unknown .fill { width: 35% !important; animation: slide 1.4s ease-in-out infinite; }
@keyframes slide { from { translate: -100% 0; } to { translate: 300% 0; } }
.row { display: flex; flex-wrap: wrap; gap: 4px var(--_gap); align-items: center; }
.row > .detail { flex: 1 1 8em; }
.times { display: flex; flex-wrap: wrap; gap: 0 var(--_gap); justify-content: space-between; font-variant-numeric: tabular-nums; }
.percent, .time, .reason, .steps { font-size: 0.87em; }
.percent, .step-time { color: var(--_muted); }
.reason { color: var(--_warn); margin-top: 2px; }
.reason:empty, .times:not(:has(:not(:empty))) { display: none; }
.steps { list-style: none; margin: 8px 0 0; padding: 0; max-height: var(--rt-steps-height, 24rem); overflow-y: auto; }
.steps li {
  display: grid; grid-template-columns: 1.2em minmax(0, 1fr) auto; gap: 0 6px; padding: 3px 0; border: 0; color: var(--_muted);
}
.steps li::before { content: "·"; text-align: center; }
.steps li[data-state="completed"]::before { content: "✓"; color: var(--_good); }
.steps li[data-state="failed"]::before { content: "✗"; color: var(--_bad); }
.steps li[data-state="skipped"]::before { content: "–"; }
.steps li[data-state="current"]::before { content: "▸"; color: var(--_accent); }
.steps li[data-state="current"], .steps li[data-state="completed"] { color: var(--_text); }
.steps li[data-state="current"] .step-name { font-weight: 600; }
.steps li[data-state="failed"] { color: var(--_bad); }
.step-time { font-variant-numeric: tabular-nums; white-space: nowrap; }
.line { display: none; grid-column: 2 / -1; position: relative; height: 8px; border-radius: 2px; background: var(--_track); }
.timed .line { display: block; }
.usual, .real {
  position: absolute; left: calc(var(--_from) / var(--_total) * 100%); min-width: 2px;
  width: min(calc(var(--_length) / var(--_total) * 100%), calc(100% - var(--_from) / var(--_total) * 100%));
}
.usual { inset-block: 0; border-radius: 2px; background: color-mix(in srgb, var(--_accent) 30%, transparent); }
.real { inset-block: 2px; border-radius: 2px; background: var(--_accent); }
[data-state="failed"] .real { background: var(--_bad); }
button, .actions a {
  font: inherit; font-size: 0.87em; color: var(--_accent); background: none; cursor: pointer;
  border: 1px solid var(--_line); border-radius: calc(var(--_radius) - 2px); padding: 4px 10px; min-height: 32px;
}
.actions a { text-decoration: none; display: inline-flex; align-items: center; }
.more { margin-top: 8px; }
:host([state="error"]) .bar { display: none; }
button:hover, .actions a:hover { border-color: var(--_accent); }
button:disabled { color: var(--_muted); cursor: default; border-color: var(--_line); }
button:focus-visible, a:focus-visible, li:focus-visible { outline: 2px solid var(--_accent); outline-offset: 2px; }
.sr { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); white-space: nowrap; }
@media (prefers-reduced-motion: reduce) {
  .fill { transition: none; }
  .bar.unknown .fill { animation: none; width: 100% !important; opacity: 0.4; }
}
@media (forced-colors: active) {
  .bar { border: 1px solid CanvasText; }
  .fill, .real { background: Highlight; forced-color-adjust: none; }
  .band, .usual { background: none; border: 1px dashed CanvasText; }
  .likely { background: CanvasText; forced-color-adjust: none; }
}
`;

const made = new Map();

/** Return the style sheet of a text, made once. One that a script has made is allowed by any policy of contents. */
export function sheetOf(text) {
  if (!made.has(text)) {
    made.set(text, new CSSStyleSheet());
    made.get(text).replaceSync(text);
  }
  return made.get(text);
}

/** Return the style sheet that all elements have. */
export function styleSheet() {
  return sheetOf(SHEET);
}
