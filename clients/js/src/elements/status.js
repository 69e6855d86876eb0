/** The states of tasks and batches, as they are shown. */

export const STATUS_ICONS = {
  queued: "○", delayed: "◷", processing: "◐", completed: "✓", partial: "!", failed: "✕", dead: "✕", cancelled: "–",
};
