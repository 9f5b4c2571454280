/** A line of `tsvm doctor`: one thing that the host has or lacks. */
import type { HostReader } from '../../host/host-tree.js';

/** Part of tsvm that needs a thing, in the order of the report. */
export const AREAS = ['machines', 'images', 'containers', 'networks', 'limits', 'space', 'guest'] as const;
export type Area = (typeof AREAS)[number];

export interface Verdict {
  /** `no`: without it nothing of its area can be made. `note`: without it some of that does not work, or less. */
  readonly status: 'yes' | 'no' | 'note';
  readonly detail: string;
  /** Cause for which there is no KVM: a row of docs/host.md. */
  readonly cause?: string;
  /** Command or step that makes it right. */
  readonly fix?: string;
}

export interface Check extends Verdict {
  readonly area: Area;
  readonly name: string;
}

/** Host and user, as far as needs are looked for: replaced whole in tests. */
export interface NeedsHost {
  readonly files: HostReader;
  /** Path of a program along PATH; undefined if it is not installed. */
  program(name: string): string | undefined;
  readonly uid: number;
  /** Folders that tsvm writes to, by what it keeps there. */
  readonly folders: Readonly<Record<string, string>>;
}

/** A row of the table of needs. */
export interface Need {
  readonly area: Area;
  /** Name, and the row of the table in docs/host.md. */
  readonly name: string;
  examine(host: NeedsHost): Verdict;
}

export const has = (detail: string): Verdict => ({ status: 'yes', detail });
export const lacks = (detail: string, fix?: string): Verdict => ({
  status: 'note',
  detail,
  ...(fix === undefined ? {} : { fix }),
});
export const fails = (detail: string, fix: string): Verdict => ({ status: 'no', detail, fix });

export const asRoot = ({ uid }: Pick<NeedsHost, 'uid'>, command: string): string =>
  uid === 0 ? command : `sudo ${command}`;
