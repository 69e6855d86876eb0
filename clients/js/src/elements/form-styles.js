/** The look of `<rt-submit>`. */

export const SUBMIT_SHEET = `
:host { --_touch: 38px; }
@media (max-width: 30rem), (pointer: coarse) { :host { --_touch: 44px; } }
form, .fields { display: grid; gap: 14px; min-width: 0; }
.field { display: grid; gap: 5px; min-width: 0; }
label, legend { font-weight: 550; font-size: 0.93em; }
.optional { font-weight: 400; color: var(--_muted); font-size: 0.9em; }
.hint { color: var(--_muted); font-size: 0.87em; font-weight: 400; }
input:not([type="checkbox"]), select, textarea {
  font: inherit; color: inherit; width: 100%; min-height: var(--_touch); padding: 6px 11px; border-radius: 8px;
  border: 1px solid var(--rt-field-line, light-dark(#8c959f, #6b7480)); background: var(--_surface);
}
textarea { resize: vertical; }
:is(input, select, textarea):focus-visible { outline: 2px solid var(--_accent); outline-offset: 1px; }
[aria-invalid="true"] { border-color: var(--_bad) !important; }
.field-error, .error { color: var(--_bad); font-size: 0.87em; }
.field-error:empty, .error:empty { display: none; }
fieldset { border: 1px solid var(--_line); border-radius: 8px; padding: 6px 12px 8px; margin: 0; min-width: 0; }
fieldset:focus { outline: none; }
.object { display: grid; gap: 12px; }
.choices { display: flex; flex-wrap: wrap; gap: 0 18px; }
.check { display: inline-flex; align-items: center; gap: 8px; min-height: var(--_touch); font-weight: 400; cursor: pointer; }
input[type="checkbox"] { width: 18px; height: 18px; margin: 0; accent-color: var(--_accent); }
button.main {
  min-height: 42px; font-size: 1em; font-weight: 600; background: var(--_accent); color: var(--_on-accent); border-color: var(--_accent);
}
@media (max-width: 30rem), (pointer: coarse) { button.main { min-height: 46px; } }
button.main:disabled { background: var(--_track); color: var(--_muted); border-color: var(--_line); }
`;
