/** The states of tasks and batches, as they are shown. */

import { t } from "../messages.js";

export const STATUS_ICONS = {
  queued: "○", delayed: "◷", processing: "◐", completed: "✓", partial: "!", failed: "✕", dead: "✕", cancelled: "–",
};

const STATUS_WORDS = {
  queued: t("queued"), delayed: t("delayed"), processing: t("processing"), completed: t("completed"), partial: t("partial"),
  failed: t("failed"), dead: t("dead"), cancelled: t("cancelled"), running: t("running"),
};

/** Return a state in words. */
export function statusInWords(status) {
  return STATUS_WORDS[status] ?? status;
}
