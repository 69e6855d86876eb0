/** Custom elements over the JavaScript client of tornado_rt. Their source, in parts, is clients/js/src/elements. */

export { TaskElement, BatchElement } from "./progress.js";
export { InboxElement } from "./inbox.js";
export { SnapshotElement } from "./snapshot.js";

import { BatchElement, TaskElement } from "./progress.js";
import { InboxElement } from "./inbox.js";
import { SnapshotElement } from "./snapshot.js";

const ELEMENTS = {
  "rt-task": TaskElement, "rt-batch": BatchElement, "rt-inbox": InboxElement, "rt-snapshot": SnapshotElement,
};
for (const [name, element] of Object.entries(ELEMENTS)) {
  // A page may load the module twice, by two addresses.
  if (!customElements.get(name)) customElements.define(name, element);
}
