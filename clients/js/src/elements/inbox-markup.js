/** The markup of `<rt-inbox>`: constant, so that nothing of the server is read as HTML. */

export const BELL = `
<button id="bell" part="bell" class="bell" type="button" aria-expanded="false" aria-controls="inbox" aria-haspopup="dialog">
  <svg aria-hidden="true" viewBox="0 0 24 24" width="22" height="22"><path fill="none" stroke="currentColor" stroke-width="1.8"
    stroke-linecap="round" stroke-linejoin="round"
    d="M18 9a6 6 0 1 0-12 0c0 5-2 6.5-2 6.5h16S18 14 18 9M10 19.5a2.2 2.2 0 0 0 4 0"/></svg>
  <span id="unseen-badge" class="count" hidden>0</span>
  <span id="bell-name" class="sr">Notifications</span>
</button>`;

export const PANEL = `
<div class="inbox-head">
  <h2 id="inbox-title" part="title" tabindex="-1"></h2>
  <span id="unread-badge" part="badge" class="badge" hidden></span>
  <span id="inbox-count" class="sr" role="status"></span>
  <button id="inbox-close" part="button" class="quiet icon-button" type="button" aria-label="Close the notifications">✕</button>
  <div class="verbs">
    <button id="read-all" part="button" class="quiet" type="button" disabled>Mark all as read</button>
    <button id="archive-read" part="button" class="quiet" type="button">Archive read</button>
  </div>
</div>
<div id="inbox-tabs" role="tablist" aria-label="Which notifications"></div>
<form id="inbox-search" role="search">
  <label for="inbox-words" class="sr">Words of the title</label>
  <input id="inbox-words" type="search" placeholder="Search titles" maxlength="200" autocomplete="off">
</form>
<p id="inbox-error" class="error" role="alert"></p>
<div id="inbox-panel" role="tabpanel" tabindex="0" aria-busy="true">
  <ul id="notifications" part="items" class="plain" tabindex="-1" aria-label="Notifications, the newest first"></ul>
  <p id="inbox-empty" part="empty" class="nothing">Loading …</p>
  <button id="more" part="button" type="button" hidden>Older ones</button>
</div>
<div class="inbox-foot">
  <slot></slot>
  <details id="preferences">
    <summary>Preferences</summary>
    <form id="preferences-form" hidden>
      <table>
        <thead><tr><th scope="col">Tell me of</th><th scope="col">live</th><th scope="col">by e-mail</th></tr></thead>
        <tbody id="types"></tbody>
      </table>
      <div class="pref">
        <label for="least-severity">Least severity</label>
        <select id="least-severity">
          <option>info</option><option>success</option><option>warning</option><option>error</option>
        </select>
      </div>
      <label class="check"><input id="quiet" type="checkbox"> Quiet hours</label>
      <fieldset id="quiet-hours" hidden>
        <legend class="sr">Quiet hours</legend>
        <label>from <input id="quiet-from" type="time" required></label>
        <label>to <input id="quiet-to" type="time" required></label>
        <label>in <input id="quiet-zone" required maxlength="64" autocomplete="off" spellcheck="false" aria-label="Time zone"></label>
        <label class="check"><input id="quiet-errors" type="checkbox"> not for errors</label>
      </fieldset>
      <div class="pref">
        <label for="locale">Language <span class="hint">a tag such as en or de-AT; empty: the server's</span></label>
        <input id="locale" maxlength="35" autocomplete="off" spellcheck="false">
      </div>
      <label id="address-line" class="check"><input id="address-on" type="checkbox"> Write to my e-mail address</label>
      <button part="button" type="submit">Save</button>
      <span id="preferences-told" role="status"></span>
    </form>
    <p id="preferences-error" class="error" role="alert"></p>
  </details>
</div>
<div id="inbox-toast" hidden>
  <span id="toast-text" role="status"></span>
  <button id="undo" part="button" class="quiet" type="button" hidden>Undo</button>
  <button id="toast-close" part="button" class="quiet icon-button" type="button" aria-label="Close this message">✕</button>
</div>`;

/** Return the nodes of a constant markup. */
export function nodesOf(markup) {
  const template = document.createElement("template");
  template.innerHTML = markup;
  return template.content;
}
