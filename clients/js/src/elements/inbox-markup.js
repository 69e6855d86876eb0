/** The markup of `<rt-inbox>`: constant, so that nothing of the server is read as HTML. Its texts are marked by `data-t`. */

import { readMarks } from "../messages.js";

export const BELL = `
<button id="bell" part="bell" class="bell" type="button" aria-expanded="false" aria-controls="inbox" aria-haspopup="dialog" aria-label="Notifications" data-t="aria-label">
  <svg aria-hidden="true" viewBox="0 0 24 24" width="22" height="22"><path fill="none" stroke="currentColor" stroke-width="1.8"
    stroke-linecap="round" stroke-linejoin="round"
    d="M18 9a6 6 0 1 0-12 0c0 5-2 6.5-2 6.5h16S18 14 18 9M10 19.5a2.2 2.2 0 0 0 4 0"/></svg>
  <span id="unseen-badge" class="count" hidden>0</span>
</button>`;

export const PANEL = `
<div class="inbox-head">
  <h2 id="inbox-title" part="title" tabindex="-1"></h2>
  <span id="unread-badge" part="badge" class="badge" hidden></span>
  <span id="inbox-count" class="sr" role="status"></span>
  <button id="inbox-close" part="button" class="quiet icon-button" type="button" aria-label="Close the notifications" data-t="aria-label">✕</button>
  <div class="verbs">
    <button id="read-all" part="button" class="quiet" type="button" disabled data-t>Mark all as read</button>
    <button id="archive-read" part="button" class="quiet" type="button" data-t>Archive read</button>
  </div>
</div>
<div id="inbox-tabs" role="tablist" aria-label="Which notifications" data-t="aria-label"></div>
<form id="inbox-search" role="search">
  <label for="inbox-words" class="sr" data-t>Words of the title</label>
  <input id="inbox-words" type="search" placeholder="Search titles" maxlength="200" autocomplete="off" data-t="placeholder">
</form>
<p id="inbox-error" class="error" role="alert"></p>
<div id="inbox-panel" role="tabpanel" tabindex="0" aria-busy="true">
  <ul id="notifications" part="items" class="plain" tabindex="-1" aria-label="Notifications, the newest first" data-t="aria-label"></ul>
  <p id="inbox-empty" part="empty" class="nothing" data-t>Loading …</p>
  <button id="more" part="button" type="button" hidden data-t>Older ones</button>
</div>
<div class="inbox-foot">
  <slot></slot>
  <details id="preferences">
    <summary data-t>Preferences</summary>
    <form id="preferences-form" hidden>
      <table>
        <thead><tr><th scope="col" data-t>Tell me of</th><th scope="col" data-t>live</th><th scope="col" data-t>by e-mail</th></tr></thead>
        <tbody id="types"></tbody>
      </table>
      <div class="pref">
        <label for="least-severity" data-t>Least severity</label>
        <select id="least-severity">
          <option value="info" data-t>info</option><option value="success" data-t>success</option>
          <option value="warning" data-t>warning</option><option value="error" data-t>error</option>
        </select>
      </div>
      <label class="check"><input id="quiet" type="checkbox"> <span data-t>Quiet hours</span></label>
      <fieldset id="quiet-hours" hidden>
        <legend class="sr" data-t>Quiet hours</legend>
        <label><span data-t>from</span> <input id="quiet-from" type="time" required></label>
        <label><span data-t>to</span> <input id="quiet-to" type="time" required></label>
        <label><span data-t>in</span> <input id="quiet-zone" required maxlength="64" autocomplete="off" spellcheck="false" aria-label="Time zone" data-t="aria-label"></label>
        <label class="check"><input id="quiet-errors" type="checkbox"> <span data-t>not for errors</span></label>
      </fieldset>
      <div class="pref">
        <label for="locale"><span data-t>Language</span> <span class="hint" data-t>a tag such as en or de-AT; empty: the server's</span></label>
        <input id="locale" maxlength="35" autocomplete="off" spellcheck="false">
      </div>
      <label id="address-line" class="check"><input id="address-on" type="checkbox"> <span data-t>Write to my e-mail address</span></label>
      <button part="button" type="submit" data-t>Save</button>
      <span id="preferences-told" role="status"></span>
    </form>
    <p id="preferences-error" class="error" role="alert"></p>
  </details>
</div>
<div id="inbox-toast" hidden>
  <span id="toast-text" role="status"></span>
  <button id="undo" part="button" class="quiet" type="button" hidden data-t>Undo</button>
  <button id="toast-close" part="button" class="quiet icon-button" type="button" aria-label="Close this message" data-t="aria-label">✕</button>
</div>`;

/** Return the nodes of a constant markup. */
export function nodesOf(markup) {
  const template = document.createElement("template");
  template.innerHTML = markup;
  readMarks(template.content);
  return template.content;
}
