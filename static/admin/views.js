/** The views by their names in the address, in the order of the navigation. */

import { BroadcastView } from "./broadcast.js";
import { ConnectionsView } from "./connections.js";
import { KindView } from "./kind.js";
import { KindsView } from "./kinds.js";
import { LogView } from "./log.js";
import { OverviewView } from "./overview.js";
import { RunningView } from "./running.js";
import { SchedulesView } from "./schedules.js";
import { SettingsView } from "./settings.js";
import { TaskView } from "./task.js";
import { TasksView } from "./tasks.js";
import { WebhooksView } from "./webhooks.js";
import { WorkersView } from "./workers.js";

export const VIEWS = {
  overview: OverviewView,
  tasks: TasksView,
  task: TaskView,
  running: RunningView,
  kinds: KindsView,
  kind: KindView,
  workers: WorkersView,
  connections: ConnectionsView,
  schedules: SchedulesView,
  webhooks: WebhooksView,
  broadcast: BroadcastView,
  settings: SettingsView,
  log: LogView,
};
