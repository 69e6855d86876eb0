/** Custom elements over the JavaScript client of tornado_rt. Their source, in parts, is clients/js/src/elements. */

export { TaskElement, BatchElement } from "./progress.js";
export { InboxElement } from "./inbox.js";
export { SnapshotElement } from "./snapshot.js";
export { SubmitElement } from "./submit.js";
export { ToldError, errorInWords, make, messageOfError } from "./base.js";
export {
  Message, addMessages, catalogueOf, chosenLanguage, followLanguage, followReader, joined, languageOf, languages, readMarks, setLanguage,
  showText, t, tn, wordsIn,
} from "../messages.js";
export { STATUS_ICONS, statusInWords } from "./status.js";
export { ago, agoInWords, clockOf, lengthOf, momentInWords, numberOf, percentOf, progressOf, relativeTo, roughly, sentence } from "./words.js";
export { setResultView } from "./result-views.js";
export { drawAnalysis } from "./analysis-view.js";

import { BatchElement, TaskElement } from "./progress.js";
import { InboxElement } from "./inbox.js";
import { SnapshotElement } from "./snapshot.js";
import { SubmitElement } from "./submit.js";

const ELEMENTS = {
  "rt-task": TaskElement, "rt-batch": BatchElement, "rt-inbox": InboxElement, "rt-snapshot": SnapshotElement,
  "rt-submit": SubmitElement,
};
for (const [name, element] of Object.entries(ELEMENTS)) {
  // A page may load the module twice, by two addresses.
  if (!customElements.get(name)) customElements.define(name, element);
}
