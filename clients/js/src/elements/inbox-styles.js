/** The look of `<rt-inbox>`. */

export const INBOX_SHEET = `
:host { --_touch: 36px; }
@media (max-width: 30rem), (pointer: coarse) { :host { --_touch: 44px; } }
:host([bell]) { border: 0; padding: 0; background: none; display: inline-block; }
:host(:not([bell])) #inbox-close { display: none; }
.bell {
  position: relative; display: inline-flex; align-items: center; justify-content: center; border-color: transparent;
  color: inherit; width: var(--_touch); height: var(--_touch); padding: 0;
}
.count {
  position: absolute; top: 0; right: -2px; min-width: 1.5em; padding: 0 5px; border-radius: 1em; font-size: 11px;
  line-height: 1.5; font-weight: 700; background: var(--_bad); color: var(--_surface);
}
dialog {
  position: absolute; inset: calc(100% + 6px) 8px auto auto; margin: 0; z-index: 5; width: min(28rem, calc(100vw - 16px));
  max-height: min(44rem, calc(100dvh - 5rem)); overflow-y: auto; overscroll-behavior: contain; padding: 0 14px 14px;
  color: inherit; background: var(--_surface); border: 1px solid var(--_line); border-radius: 12px;
  box-shadow: 0 12px 40px #0003, 0 2px 8px #0002;
  /* The line that has the focus stands neither under the head nor under the message. */
  scroll-padding: 7rem 0 4rem;
}
@media (max-width: 30rem) {
  dialog { position: fixed; inset: 0; width: auto; max-width: none; max-height: none; height: 100dvh; border: 0; border-radius: 0; }
}
.inbox-head { display: flex; flex-wrap: wrap; align-items: center; gap: 4px 8px; }
dialog .inbox-head { position: sticky; z-index: 2; top: 0; margin: 0 -14px; padding: 10px 14px 6px; background: var(--_surface); }
h2 { margin: 0; font-size: 1.07em; font-weight: 650; }
h2:focus { outline: none; }
#inbox-close { margin-left: auto; }
.verbs { display: flex; flex-wrap: wrap; justify-content: space-between; margin: 0 -8px; flex: 1 0 100%; }
:host(:not([bell])) .verbs { flex: 1 1 auto; justify-content: end; }
.badge {
  min-width: 1.6em; padding: 0 6px; border-radius: 1em; text-align: center; font-size: 0.8em; font-weight: 600;
  background: var(--_accent); color: var(--_on-accent);
}
button, summary, a.button { min-height: var(--_touch); }
.quiet { border-color: transparent; padding: 0 8px; }
.icon-button, .menu-button { min-width: var(--_touch); padding: 0; }
#inbox-tabs { display: flex; overflow-x: auto; border-bottom: 1px solid var(--_line); margin: 0 -14px 10px; padding: 0 8px; scrollbar-width: none; }
[role="tab"] {
  flex: none; border: 0; border-bottom: 2px solid transparent; border-radius: 0; padding: 0 9px; color: var(--_muted);
}
[role="tab"][aria-selected="true"] { border-bottom-color: var(--_accent); color: var(--_text); font-weight: 600; }
input, select {
  font: inherit; color: inherit; background: var(--_surface); border: 1px solid var(--_line); border-radius: 8px;
  min-height: var(--_touch); padding: 0 10px;
}
#inbox-words { width: 100%; margin-bottom: 6px; }
.items, #notifications { max-height: var(--rt-inbox-height, none); overflow-y: auto; }
#notifications > li {
  display: grid; grid-template-columns: 26px minmax(0, 1fr) auto; gap: 0 10px; padding: 10px 4px; position: relative;
  border-top: 1px solid var(--_line); min-height: calc(var(--_touch) + 12px); border-radius: 4px;
}
#notifications > li:first-child { border-top: 0; }
#notifications > li[data-status="unread"] { background: color-mix(in srgb, var(--_accent) 6%, transparent); }
.heading { display: flex; flex-wrap: wrap; gap: 0 6px; align-items: baseline; }
.heading .name { flex: 0 1 auto; font-weight: 500; color: var(--_text); }
a.name { text-decoration-color: color-mix(in srgb, currentColor 35%, transparent); text-underline-offset: 3px; }
li[data-status="unread"] .heading > .name { font-weight: 650; }
.dot { width: 7px; height: 7px; border-radius: 50%; background: var(--_accent); align-self: center; }
.pin { font-size: 0.8em; }
time { color: var(--_muted); font-size: 0.8em; margin-left: auto; white-space: nowrap; }
.content { white-space: pre-line; color: var(--_muted); font-size: 0.9em; margin-top: 2px; }
.content:empty { display: none; }
.severity {
  width: 26px; height: 26px; border-radius: 50%; display: grid; place-items: center; font-size: 13px; font-weight: 700;
  background: color-mix(in srgb, var(--_tone) 14%, transparent); color: var(--_tone); --_tone: var(--_accent);
}
[data-severity="success"] .severity { --_tone: var(--_good); }
[data-severity="warning"] .severity { --_tone: var(--_warn); }
[data-severity="error"] .severity { --_tone: var(--_bad); }
.image { display: block; max-width: 100%; max-height: 12rem; border-radius: 6px; margin-top: 6px; }
.icon { width: 1.25em; height: 1.25em; object-fit: contain; align-self: center; }
.menu-button { align-self: start; margin: -6px -4px 0 0; font-weight: 700; color: var(--_muted); }
.menu, .offers { display: flex; flex-wrap: wrap; gap: 6px; margin-top: 8px; }
.menu button, .offers :is(button, a) { border-color: var(--_line); }
a.button {
  display: inline-flex; align-items: center; padding: 0 10px; color: var(--_accent); font-size: 0.87em;
  border: 1px solid var(--_line); border-radius: 6px; text-decoration: none;
}
.parts { margin: 6px 0 0 8px; padding-left: 10px; border-left: 2px solid var(--_line); }
.parts li { padding: 4px 0; }
.nothing { color: var(--_muted); text-align: center; padding: 28px 0; }
.inbox-foot { border-top: 1px solid var(--_line); margin-top: 6px; padding-top: 6px; }
summary { align-content: center; color: var(--_muted); cursor: pointer; font-size: 0.87em; border-radius: 6px; }
table { width: 100%; border-collapse: collapse; margin-bottom: 10px; font-size: 0.93em; }
th { text-align: left; font-weight: 400; }
thead th { color: var(--_muted); font-size: 0.87em; }
th .hint { display: block; }
.hint { color: var(--_muted); font-size: 0.85em; }
td, th:not(:first-child) { text-align: center; min-width: var(--_touch); height: var(--_touch); }
.check { display: flex; align-items: center; gap: 8px; min-height: var(--_touch); }
input[type="checkbox"] { width: 18px; height: 18px; min-height: 0; accent-color: var(--_accent); }
fieldset { border: 1px solid var(--_line); border-radius: 8px; display: grid; gap: 6px; margin: 0 0 10px; min-width: 0; }
.pref { display: grid; gap: 4px; margin-bottom: 10px; }
#inbox-toast {
  position: sticky; bottom: 8px; z-index: 3; display: flex; align-items: center; gap: 8px; padding: 2px 6px 2px 14px; margin-top: 8px;
  background: var(--_text); color: var(--_surface); border-radius: 10px; font-size: 0.93em; box-shadow: 0 4px 16px #0004;
}
#inbox-toast button { color: inherit; text-decoration: underline; text-underline-offset: 3px; }
#inbox-toast .icon-button { text-decoration: none; }
#toast-text { flex: 1; }
`;
