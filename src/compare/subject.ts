/** What is compared: a kind of wall, and a way to put one and the same program behind it. */

/** What the program does (kvm-addon/probe/probe.c). */
export type ProbeMode = 'start' | 'idle' | 'look';

/** Some of the time from a request to the program's end, in order: `process`, `create`, `memory`, `kernel`, `program`. */
export interface Phase {
  readonly name: string;
  readonly ms: number;
}

/** The program, behind one wall. */
export interface Instance {
  /** From the request to the first byte that it wrote, which is as good as its first instruction. */
  readonly firstMs: number;
  readonly phases: readonly Phase[];
  /** Processes that belong to it, besides this one. */
  processes(): readonly number[];
  /** What its cgroup counts of memory, where it has one. */
  cgroupBytes(): number | undefined;
  /** All that it wrote, once it has ended; from the request until then. */
  ended(): Promise<{ readonly output: string; readonly ms: number }>;
  /** Ends it, whatever it does. */
  stop(): Promise<void>;
}

export interface Subject extends AsyncDisposable {
  readonly name: string;
  readonly wall: 'machine' | 'container';
  /** A process of its own for each, or many in this one. */
  readonly from: 'shell' | 'process';
  /** Too slow to be asked for many at once, or the same as another one then. */
  readonly alone?: boolean;
  start(mode: ProbeMode): Promise<Instance>;
}
