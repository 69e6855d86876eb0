/** The look of the full views of tasks and batches. */

export const DETAILS_SHEET = `
:host([full]) { padding: 20px; border-radius: 12px; }
:host([full]) h2.title { font-size: 1.35em; font-weight: 650; letter-spacing: -0.01em; flex: 1 1 auto; }
:host([full]) header { align-items: center; }
:host([full]) .bar { margin-top: 12px; }
:host([full]) .status, .attempts .status {
  border-radius: 1em; padding: 1px 10px; font-size: 0.8em; font-weight: 600; color: var(--_tone);
  background: color-mix(in srgb, var(--_tone) 13%, transparent);
}
.status { --_tone: var(--_muted); }
.status[data-status="processing"], .status[data-status="running"] { --_tone: var(--_accent); }
.status[data-status="completed"] { --_tone: var(--_good); }
.status[data-status="failed"], .status[data-status="dead"] { --_tone: var(--_bad); }
.status[data-status="partial"] { --_tone: var(--_warn); }
:host([full]) button { min-height: 36px; padding: 4px 14px; }
button.main { background: var(--_accent); color: var(--_on-accent); border-color: var(--_accent); }
@media (max-width: 30rem), (pointer: coarse) { :host([full]) button, .cell { min-height: 44px !important; } }
:host([full][state="offline"]) :is(.bar, .times, .steps) { opacity: 0.55; }
:host([state="error"]) :is(.tab-row, .view, .grid) { display: none; }
.facts-line { color: var(--_muted); font-size: 0.87em; margin-top: 2px; }
.facts-line:empty, .callout:empty { display: none; }
.callout {
  margin-top: 12px; padding: 10px 14px; border-radius: 8px; border: 1px solid color-mix(in srgb, var(--_bad) 35%, transparent);
  background: color-mix(in srgb, var(--_bad) 8%, transparent);
}
.question {
  border-color: color-mix(in srgb, var(--_accent) 40%, transparent); background: color-mix(in srgb, var(--_accent) 8%, transparent);
  display: grid; gap: 8px;
}
.tab-row { display: flex; overflow-x: auto; scrollbar-width: none; gap: 2px; margin-top: 16px; border-bottom: 1px solid var(--_line); }
.tab-row [role="tab"] {
  flex: none; border: 0; border-bottom: 2px solid transparent; border-radius: 0; padding: 6px 12px; color: var(--_muted); background: none;
}
.tab-row [role="tab"][aria-selected="true"] { color: var(--_text); border-bottom-color: var(--_accent); font-weight: 600; }
.view { padding-top: 12px; max-height: var(--rt-view-height, 36rem); overflow-y: auto; }
.view .steps { max-height: none; margin: 0; }
.view:focus-visible, pre:focus-visible { outline: 2px solid var(--_accent); outline-offset: 2px; }
.muted { color: var(--_muted); }
h3 { font-size: 1em; margin: 16px 0 6px; }
.pairs { display: grid; grid-template-columns: minmax(7em, max-content) minmax(0, 1fr); gap: 4px 16px; margin: 0; }
.pairs dt { color: var(--_muted); }
dd { margin: 0; }
.values { display: grid; gap: 6px; }
.value { white-space: pre-line; }
pre {
  margin: 8px 0 0; padding: 10px; border-radius: 8px; background: color-mix(in srgb, var(--_track) 50%, transparent);
  font-size: 0.8em; overflow-x: auto; white-space: pre-wrap;
}
.json { margin-top: 14px; }
.json summary { color: var(--_muted); cursor: pointer; font-size: 0.87em; }
.output { list-style: none; margin: 0; padding: 0; font: 0.85em/1.6 ui-monospace, monospace; }
.output li { display: grid; grid-template-columns: max-content minmax(0, 1fr); gap: 12px; }
.output time { color: var(--_muted); }
.attempts li { border-top: 1px solid var(--_line); padding: 8px 0; }
.attempts li:first-child { border: 0; }
.cause { font-weight: 600; margin-bottom: 10px; }
.chain { margin: 0; padding: 0; list-style: none; }
.chain li { display: flex; gap: 12px; justify-content: space-between; padding: 0 0 12px 18px; position: relative; border-left: 2px solid var(--_line); margin-left: 5px; }
.chain li::before { content: ""; position: absolute; left: -6px; top: 6px; width: 10px; height: 10px; border-radius: 50%; background: var(--_accent); }
.chain li:last-child { border-color: transparent; }
.chain time { color: var(--_muted); font-size: 0.85em; white-space: nowrap; }
.grid { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 13rem), 1fr)); gap: 8px; margin-top: 16px; }
.cell {
  display: grid; grid-template-columns: 22px minmax(0, 1fr) auto; gap: 2px 8px; align-items: baseline; height: 100%; color: inherit;
  text-decoration: none; border: 1px solid var(--_line); border-radius: 8px; padding: 8px 10px; --_tone: var(--_muted);
}
a.cell:hover { border-color: var(--_tone); }
.cell .icon { color: var(--_tone); font-weight: 700; text-align: center; }
.cell .name { font-weight: 600; }
.cell .state { color: var(--_tone); font-size: 0.85em; font-weight: 600; }
.cell .why { grid-column: 2 / -1; color: var(--_bad); font-size: 0.85em; }
.cell .why:empty { display: none; }
li[data-status="processing"] .cell { --_tone: var(--_accent); }
li[data-status="completed"] .cell { --_tone: var(--_good); }
li:is([data-status="failed"], [data-status="dead"]) .cell { --_tone: var(--_bad); border-color: color-mix(in srgb, var(--_bad) 45%, transparent); }
.analysis { display: grid; gap: 14px; }
.decision-line { display: flex; align-items: center; gap: 10px; margin-bottom: 6px; }
.decision { font-size: 1.05em; letter-spacing: 0.04em; border-radius: 8px; padding: 3px 14px; color: var(--_surface); background: var(--_muted); }
.decision[data-decision="buy"] { background: var(--_good); }
.decision[data-decision="sell"] { background: var(--_bad); }
figure { margin: 0; }
.chart { width: 100%; height: auto; display: block; }
.chart text { fill: var(--_muted); font: 11px system-ui, sans-serif; }
.chart .grid { stroke: var(--_line); stroke-width: 1; }
.chart path { fill: none; stroke-width: 1.6; stroke-linejoin: round; stroke-linecap: round; vector-effect: non-scaling-stroke; }
.chart .price { stroke: var(--_accent); stroke-width: 2; }
.chart .price-area { fill: color-mix(in srgb, var(--_accent) 12%, transparent); stroke: none; }
.chart .average-0 { stroke: var(--_warn); }
.chart .average-1 { stroke: var(--_bad); stroke-dasharray: 5 4; }
.legend { display: flex; flex-wrap: wrap; gap: 2px 16px; font-size: 0.82em; color: var(--_muted); padding-left: 0; }
.legend li::before { content: ""; display: inline-block; width: 16px; border-top: 2px solid var(--_tone); vertical-align: middle; margin-right: 6px; }
.legend .price { --_tone: var(--_accent); }
.legend .average-0 { --_tone: var(--_warn); }
.legend .average-1 { --_tone: var(--_bad); }
.legend .average-1::before { border-top-style: dashed; }
.scores { display: grid; gap: 6px; }
.scores li { display: grid; grid-template-columns: minmax(6em, 9em) minmax(0, 1fr) 3.2em; gap: 10px; align-items: center; font-size: 0.93em; }
.score-track { position: relative; height: 10px; border-radius: 5px; background: linear-gradient(to right, transparent calc(50% - 1px), var(--_line) 0 calc(50% + 1px), transparent 0), var(--_track); overflow: hidden; }
.score-bar { position: absolute; inset-block: 0; background: var(--_good); }
.score-bar[data-sign="bad"] { background: var(--_bad); }
.score { text-align: right; font-variant-numeric: tabular-nums; }
.facts { display: grid; grid-template-columns: repeat(auto-fit, minmax(8.5rem, 1fr)); gap: 8px; margin: 0; }
.facts div { border: 1px solid var(--_line); border-radius: 8px; padding: 8px 10px; }
.facts dt { color: var(--_muted); font-size: 0.8em; }
.facts dd { font-weight: 600; }
`;
