/** Machine or container below a sandbox: what both can do, each in its own way. */
import type { Agent } from '../agent/agent.js';
import type { MachineControls } from '../machine/machine.js';
import type { Abortable } from '../util/abort.js';
import type { CommandDefaults } from './command.js';

/** Wall around a sandbox. */
export type Isolation = 'machine' | 'container';
export const ISOLATIONS: readonly Isolation[] = ['machine', 'container'];

/** What a sandbox is made over. */
export interface Backing {
  /** Name of the machine or container, also for messages. */
  readonly name: string;
  readonly isolation: Isolation;
  readonly agent: Agent;
  readonly defaults: CommandDefaults;
  /** Machine below; undefined of a container. */
  readonly machine: MachineControls | undefined;
  pause(options: Abortable): Promise<void>;
  resume(options: Abortable): Promise<void>;
  /** Makes running copies. */
  fork(count: number, options: Abortable): Promise<readonly Backing[]>;
  /** Keeps it as it is now, under a name. */
  snapshot(name: string, options: Abortable): Promise<void>;
  /** Ends it, and waits until nothing of it is left. */
  kill(): Promise<void>;
}
