/** Walls that are put up by a command of a shell's: each has a process of tsvm's to itself. */
import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TimelineEntry } from '../machine/report/timeline.js';
import { collectOutput } from './output.js';
import { machinePhases } from './phases.js';
import { descendants } from './process-tree.js';
import type { Instance, Phase, ProbeMode, Subject } from './subject.js';

export interface ShellCommand {
  readonly name: string;
  readonly wall: Subject['wall'];
  readonly alone?: boolean;
  /** tsvm's arguments before `-- /probe MODE`; `timelinePath` is where it may write when what happened. */
  arguments(timelinePath: string): readonly string[];
}

/** `cli` is the command's file, which Node runs. */
export function shellSubject(
  cli: string,
  { name, wall, alone, arguments: argumentsFor }: ShellCommand,
): Subject {
  const scratch = mkdtempSync(join(tmpdir(), 'tsvm-compare-'));
  const running = new Set<ChildProcess>();
  let count = 0;
  return {
    name,
    wall,
    from: 'shell',
    ...(alone === undefined ? {} : { alone }),
    async start(mode) {
      const timelinePath = join(scratch, `timeline-${count++}`);
      return await startShell(cli, argumentsFor(timelinePath), mode, timelinePath, running);
    },
    async [Symbol.asyncDispose]() {
      for (const child of running) child.kill('SIGKILL');
      rmSync(scratch, { recursive: true, force: true });
    },
  };
}

async function startShell(
  cli: string,
  args: readonly string[],
  mode: ProbeMode,
  timelinePath: string,
  running: Set<ChildProcess>,
): Promise<Instance> {
  const begun = performance.now();
  const since = (): number => performance.now() - begun;
  const child = spawn(process.execPath, [cli, ...args, '--', '/probe', mode], {
    stdio: ['pipe', 'pipe', 'pipe'],
  });
  running.add(child);
  let complaint = '';
  child.stdin.on('error', () => {}); // it ended before it was told to
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    complaint += text;
  });
  const ended = new Promise<number>((resolve, reject) => {
    child.once('error', reject);
    child.once('close', (code) => {
      running.delete(child);
      if (code === 0) resolve(since());
      else reject(new Error(`tsvm ${args.join(' ')} ended with ${code}: ${complaint.trim()}`));
    });
  });
  const output = collectOutput(child.stdout, since);
  ended.catch(() => {}); // whoever waits is told
  const firstMs = await Promise.race([output.firstMs, ended]);
  return {
    firstMs,
    get phases() {
      return phasesOf(timelinePath, firstMs);
    },
    processes: () => (child.pid === undefined ? [] : descendants(child.pid)),
    cgroupBytes: () => undefined,
    async ended() {
      child.stdin.end();
      return { ms: await ended, output: output.text() };
    },
    async stop() {
      child.stdin.end();
      child.kill('SIGKILL');
      await ended.catch(() => {});
    },
  };
}

/** Its timeline counts from the start of its process; without one, all of the time is the process's. */
function phasesOf(path: string, firstMs: number): readonly Phase[] {
  if (!existsSync(path)) return [{ name: 'process', ms: firstMs }];
  const { phases } = JSON.parse(readFileSync(path, 'utf8')) as { phases: TimelineEntry[] };
  return machinePhases(phases, 0, firstMs);
}
